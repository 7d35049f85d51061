"""``python -m kvopt.warmup``: compile the kernels into numba's on-disk cache, so that no later run pays for it.

The commands of ``kvopt`` do so by themselves before their clock starts. In a program, the first call in a fresh
installation compiles within its time limit, unless :func:`warm_up` was called before.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
from numba.core import event

from kvopt import interrupts, jit, policies, preload
from kvopt.instance import Instance, Rules
from kvopt.objective import is_custom, latency
from kvopt.platform import Platform
from kvopt.result import Bound, Termination
from kvopt.solve import bound as bound_of
from kvopt.solve import solve
from kvopt.trace import Trace
from kvopt.trellis import rng
from kvopt.workers import is_worker, run_each

_PATIENCE_S = 3.0
_EVERY_S = 10.0
_NOTICE = "compiling the numerical kernels, once (two to four minutes) ..."
_SIZES = np.full(8, 4096), np.arange(1, 9) * 512
"""Sizes of the blocks of tiny instances: one and several, to meet every kernel."""

_warmed: set[tuple] = set()


def warm_up_once(say: Callable[[str], None], instance: Instance, *, bound_only: bool = False) -> None:
    """Load what an instance needs, and compile what is not in the cache yet; say so when it takes more than a moment.

    Kernels differ by the number of states, and by whether single steps count.
    """
    if not jit.COMPILES:
        return
    kind = _kind(instance)
    if (*kind, False) in _warmed or (*kind, bound_only) in _warmed:
        return
    _warmed.add((*kind, bound_only))
    with _compiling(say):
        missing = [part for part in _parts(instance, bound_only) if not preload.load((*kind, part))]
        if not missing:
            return
        if instance.custom or is_worker() or rng.draw.stats.cache_path is None:
            _run(instance, missing, lambda: None)
            return
        _run_side_by_side(instance, missing, say)
        for part in missing:
            preload.load((*kind, part))


def _kind(instance: Instance) -> tuple:
    return len(instance.states), instance.prices.stepwise, instance.rules.balanced, instance.custom


def _parts(like: Instance, bound_only: bool) -> list[str]:
    """Names of what an instance can need, in :data:`_PARTS`."""
    if bound_only:
        return ["bound"]
    windows = not (like.prices.stepwise or like.custom)
    return ["bound", *(["windows"] if windows else []), "policies", "moves"]


def load_kernels(instance: Instance) -> None:
    """In a process that was spawned to work, load what an instance needs before any clock starts.

    Parameters
    ----------
    instance : Instance
    """
    if is_worker():
        warm_up_once(lambda text: None, instance)


@contextlib.contextmanager
def _compiling(say: Callable[[str], None]) -> Iterator[None]:
    """Say that kernels are compiled, if any is: those that the cache has are only loaded."""
    notice = threading.Timer(_PATIENCE_S, say, [_NOTICE])
    notice.daemon = True

    def begin(_: object) -> None:
        if notice.ident is None:
            notice.start()

    with event.install_listener("numba:compile", _Compilations(begin)):
        try:
            yield
        finally:
            notice.cancel()


class _Compilations(event.Listener):
    """Tells of kernels of kvopt's: when one begins to be compiled."""

    def __init__(self, tell: Callable[[object], None]) -> None:
        self._tell = tell

    def on_start(self, event: event.Event) -> None:
        self._tell(event)

    def on_end(self, event: event.Event) -> None:
        """Nothing to tell."""


@interrupts.interruptible
def warm_up(like: Instance | None = None, *, bound_only: bool = False) -> None:
    """Bound and anneal tiny instances, simulate every policy that kvopt ships, and count hits of a plain cache.

    What that compiled is listed for :mod:`kvopt.preload`.

    Parameters
    ----------
    like : Instance, optional
        Whose platform, rules and objective they have; two tiers, exclusive, unless given.
    bound_only : bool
        Leave out what anneals and simulates: most of it.
    """
    instance = _example() if like is None else like
    _run(instance, _parts(instance, bound_only) + (["hits"] if like is None and not bound_only else []), lambda: None)


def _example() -> Instance:
    return Instance(_trace(_SIZES[0]), Platform.preset("gh200"), Rules())


def _run(like: Instance, parts: list[str], told: Callable[[], None]) -> None:
    """Run parts, and list what each needs; ``told`` is called as each kernel begins to be compiled."""
    listed: set = set()
    with _without_collections(), event.install_listener("numba:compile", _Compilations(lambda _: told())):
        for part in parts:
            for size_bytes in _SIZES:
                _PARTS[part](_tiny(like, size_bytes), like)
            if not like.custom:
                preload.keep((*_kind(like), part), listed)


def _run_side_by_side(like: Instance, parts: list[str], say: Callable[[str], None]) -> None:
    """Run parts in two processes. What both need, the one that comes second mostly finds in numba's cache."""
    halves = [half for half in (parts[: len(parts) // 2], parts[len(parts) // 2 :]) if half]
    count, last_s = 0, time.monotonic()

    def tell(_: object) -> None:
        nonlocal count, last_s
        count += 1
        if time.monotonic() - last_s > _EVERY_S:
            last_s = time.monotonic()
            say(f"compiling the numerical kernels, once: {count} so far ...")

    small = _tiny(like, _SIZES[0]).with_objective(like.objective)
    run_each(_half, small, halves, processes=len(halves), on_event=tell, on_done=lambda _: None)


def _half(like: Instance, parts: list[str], tell: Callable[[object], None]) -> None:
    _run(like, parts, lambda: tell(None))


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Compiling makes much that lives to its end: to look for what does not takes a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _tiny(like: Instance, size_bytes: np.ndarray) -> Instance:
    """An instance with platform and rules like another's, and blocks of these sizes."""
    platform = like.platform
    for tier in range(len(platform.tiers) - 1):
        platform = platform.with_capacity(8192, tier)
    return Instance(_trace(size_bytes), platform.with_capacity(math.inf, -1), like.rules)


def _bound(instance: Instance, like: Instance) -> Bound:
    # Compiling counts against a time limit, so a coarse tolerance is what keeps this short.
    return _whole(bound_of(instance, tolerance=1.0))


def _anneal(instance: Instance, like: Instance) -> None:
    bound, wanted = _bound(instance, like), like.objective
    _whole(solve(instance, "anneal", bound=bound))
    if wanted != latency() and not is_custom(wanted):
        _whole(solve(instance, "anneal", bound=bound, objective=wanted))


def _anneal_windows(instance: Instance, like: Instance) -> None:
    _whole(solve(instance, "anneal", bound=_bound(instance, like), windows=True))


def _simulate(instance: Instance, like: Instance) -> None:
    for method in policies.shipped():
        solve(instance, method)


def _count_hits_of(instance: Instance, like: Instance) -> None:
    _count_hits()


_PARTS: dict[str, Callable[[Instance, Instance], object]] = {
    "bound": _bound,
    "windows": _anneal_windows,
    "policies": _simulate,
    "moves": _anneal,
    "hits": _count_hits_of,
}
"""Runs of the kernels of each part on a tiny instance, given the one that it is to be like."""


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


def main() -> None:
    """Compile what two exclusive tiers need, in two processes where there are two processors."""
    began, example = time.perf_counter(), _example()
    parts = [*_parts(example, False), "hits"]

    def say(text: str) -> None:
        print(text, flush=True)

    say(_NOTICE)
    if (os.cpu_count() or 1) > 1 and rng.draw.stats.cache_path is not None:
        _run_side_by_side(example, parts, say)
    else:
        _run(example, parts, lambda: None)
    say(f"done in {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
