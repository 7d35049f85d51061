"""``python -m kvopt.warmup``: compile the kernels into numba's on-disk cache, so that no later run pays for it.

The commands of ``kvopt`` do so by themselves before their clock starts. In a program, the first call in a fresh
installation compiles within its time limit, unless :func:`warm_up` was called before.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np

from kvopt import interrupts, jit, policies
from kvopt.instance import Instance, Rules
from kvopt.objective import is_custom, latency
from kvopt.platform import Platform
from kvopt.result import Termination
from kvopt.solve import bound as bound_of
from kvopt.solve import solve
from kvopt.trace import Trace
from kvopt.workers import is_worker

_PATIENCE_S = 3.0


_warmed: set[tuple] = set()


def warm_up_once(say: Callable[[str], None], instance: Instance, *, bound_only: bool = False) -> None:
    """Compile what an instance needs and is not in the cache yet; say so when it takes more than a moment.

    Kernels differ by the number of states, and by whether single steps count.
    """
    if not jit.COMPILES:
        return
    kind = (len(instance.states), instance.prices.stepwise, instance.rules.balanced, instance.custom)
    if (*kind, False) in _warmed or (*kind, bound_only) in _warmed:
        return
    _warmed.add((*kind, bound_only))
    with _compiling(say):
        warm_up(instance, bound_only=bound_only)


def load_kernels(instance: Instance) -> None:
    """In a process that was spawned to work, load what an instance needs before any clock starts.

    Kernels are in the cache, but to load all of them takes seconds: as much as some limits of time.

    Parameters
    ----------
    instance : Instance
    """
    if is_worker():
        warm_up_once(lambda text: None, instance)


@contextlib.contextmanager
def _compiling(say: Callable[[str], None]) -> Iterator[None]:
    """Say that kernels are compiled, if any is: those that the cache has are only loaded."""
    from numba.core import event

    notice = threading.Timer(_PATIENCE_S, say, ["compiling the numerical kernels, once (about six minutes) ..."])
    notice.daemon = True

    class Starting(event.Listener):
        def on_start(self, event) -> None:
            if notice.ident is None:
                notice.start()

        def on_end(self, event) -> None:
            pass

    with event.install_listener("numba:compile", Starting()):
        try:
            yield
        finally:
            notice.cancel()


@interrupts.interruptible
def warm_up(like: Instance | None = None, *, bound_only: bool = False) -> None:
    """Bound and anneal tiny instances, simulate every policy that kvopt ships, and count hits of a plain cache.

    Blocks are of one size and of several, to meet every kernel.

    Parameters
    ----------
    like : Instance, optional
        Whose platform, rules and objective they have; two tiers, exclusive, unless given.
    bound_only : bool
        Leave out what anneals and simulates: most of it.
    """
    platform = Platform.preset("gh200") if like is None else like.platform
    for tier in range(len(platform.tiers) - 1):
        platform = platform.with_capacity(8192, tier)
    platform = platform.with_capacity(math.inf, -1)
    rules = Rules() if like is None else like.rules
    wanted = latency() if like is None else like.objective
    for size_bytes in (np.full(8, 4096), np.arange(1, 9) * 512):
        instance = Instance(_trace(size_bytes), platform, rules)
        # Compiling counts against a time limit, so a coarse tolerance is what keeps this short.
        bound = _whole(bound_of(instance, tolerance=1.0))
        if bound_only:
            continue
        _whole(solve(instance, "anneal", bound=bound))
        if like is None or not (like.prices.stepwise or like.custom):
            _whole(solve(instance, "anneal", bound=bound, windows=True))
        for method in policies.shipped():
            solve(instance, method)
        if wanted != latency() and not is_custom(wanted):
            _whole(solve(instance, "anneal", bound=bound, objective=wanted))
    if like is None and not bound_only:
        _count_hits()


def _count_hits() -> None:
    """Count hits of a cache with room for all, and of one so small that Belady's rule evicts what is read on."""
    blocks = np.full(8, 4096)
    trace = _read(np.ones((len(blocks), 6), bool), blocks)
    for policy in ("lru", "belady"):
        for room in (trace.n_blocks, 1):
            policies.hits(trace, room, policy)


def _whole(found):
    """What came of an engine, unless Ctrl-C cut it short."""
    if found is not None and found.termination is Termination.INTERRUPTED:
        raise KeyboardInterrupt
    return found


def _trace(size_bytes: np.ndarray) -> Trace:
    block, step = np.indices((len(size_bytes), 6))
    return _read((block + step) % 3 == 0, size_bytes)


def _read(reads: np.ndarray, size_bytes: np.ndarray) -> Trace:
    n_blocks, n_lanes = len(size_bytes), 2
    return Trace.from_accesses(
        *np.nonzero(reads),
        n_steps=reads.shape[1],
        n_lanes=n_lanes,
        lane=np.arange(n_blocks) * n_lanes // n_blocks,
        size_bytes=size_bytes,
        write_step=np.full(n_blocks, -1),
    )


if __name__ == "__main__":
    print("compiling the numerical kernels, once (about six minutes) ...", end=" ", flush=True)
    began = time.perf_counter()
    warm_up()
    print(f"done in {time.perf_counter() - began:.0f} s")
