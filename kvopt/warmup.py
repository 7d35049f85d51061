"""``python -m kvopt.warmup``: compile the kernels into numba's on-disk cache, so that no later run pays for it."""

from __future__ import annotations

import time

import numpy as np

import kvopt


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
