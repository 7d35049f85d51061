"""An instance whose blocks live for many steps, unlike the tiny ones."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt import Instance, Platform, Rules, Trace


@pytest.fixture(params=[1, 3], ids=["one lane", "three lanes"])
def long_instance(request) -> Instance:
    """40 blocks over 130 steps: more than 2^7, so that the last half-block of every table level is ragged."""
    rng = np.random.default_rng(7)
    n_blocks, n_steps, n_lanes = 40, 130, request.param
    write_step = np.where(rng.random(n_blocks) < 0.5, -1, rng.integers(0, n_steps, n_blocks))
    free_step = np.where(rng.random(n_blocks) < 0.5, n_steps, rng.integers(np.maximum(write_step, 0) + 1, n_steps + 1))
    block, step = rng.integers(0, n_blocks, 2000), rng.integers(0, n_steps, 2000)
    real = (step >= write_step[block]) & (step < free_step[block])
    trace = Trace.from_accesses(
        block[real],
        step[real],
        n_steps=n_steps,
        n_lanes=n_lanes,
        lane=rng.integers(0, n_lanes, n_blocks),
        size_bytes=rng.integers(1, 9, n_blocks) * 1000,
        write_step=write_step,
        free_step=free_step,
    )
    return Instance(trace, Platform.preset("gh200").with_capacity(60_000.0), Rules("exclusive", "read-through"))
