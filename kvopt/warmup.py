"""``python -m kvopt.warmup``: compile the kernels into numba's on-disk cache, so that no later run pays for it.

The commands of ``kvopt`` do so by themselves before their clock starts. In a program, the first call in a fresh
installation compiles within its time limit, unless :func:`warm_up` was called before.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable

import numpy as np

import kvopt

_PATIENCE_S = 3.0


@functools.cache
def warm_up_once(say: Callable[[str], None]) -> None:
    """Compile what is not in the cache yet; say so when it takes more than a moment."""
    notice = threading.Timer(_PATIENCE_S, say, ["compiling the numerical kernels, once (about a minute) ..."])
    notice.daemon = True
    notice.start()
    try:
        warm_up()
    finally:
        notice.cancel()


def warm_up() -> None:
    """Bound and anneal tiny instances: blocks of one size and of several, so that every kernel is met."""
    for size_bytes in (np.full(8, 4096), np.arange(1, 9) * 512):
        for rules in (kvopt.Rules(), kvopt.Rules("inclusive", "read-through")):
            instance = kvopt.Instance(_trace(size_bytes), kvopt.Platform.preset("gh200").with_capacity(8192), rules)
            # Compiling counts against a time limit, so a coarse tolerance is what keeps this short.
            kvopt.solve(instance, "anneal", bound=kvopt.bound(instance, tolerance=1.0))


def _trace(size_bytes: np.ndarray) -> kvopt.Trace:
    n_blocks, n_steps, n_lanes = len(size_bytes), 6, 2
    block, step = np.divmod(np.arange(n_blocks * n_steps), n_steps)
    read = (block + step) % 3 == 0
    return kvopt.Trace.from_accesses(
        block[read],
        step[read],
        n_steps=n_steps,
        n_lanes=n_lanes,
        lane=np.arange(n_blocks) % n_lanes,
        size_bytes=size_bytes,
        write_step=np.full(n_blocks, -1),
    )


if __name__ == "__main__":
    print("compiling the numerical kernels, once (about a minute) ...", end=" ", flush=True)
    began = time.perf_counter()
    warm_up()
    print(f"done in {time.perf_counter() - began:.0f} s")
