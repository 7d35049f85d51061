"""Which entries of the table lives use, and how far from the middles its levels are needed."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.lowering import lower
from kvopt.trellis import Trellis
from kvopt.trellis.ranges import entries_of_life, full_reach, n_levels, reach_of_lane
from tests.kernels import called_from_python


def used(blocks, n_steps: int) -> np.ndarray:
    """bool[2, levels, N]: the entries that some life uses."""
    found = np.zeros((2, n_levels(n_steps), n_steps), bool)
    entries = tuple(np.empty(blocks.room, np.int64) for _ in range(3))
    for i in range(len(blocks.block)):
        runs = slice(blocks.run_ptr[i], blocks.run_ptr[i + 1])
        life = blocks.first_step[i], blocks.last_step[i], blocks.run_start[runs], blocks.run_stop[runs]
        n, _ = called_from_python(entries_of_life)(*life, *entries)
        found[tuple(column[:n] for column in entries)] = True
    return found


def test_reach_is_the_least_that_holds_all_entries_used(long_instance):
    low = lower(long_instance)
    for blocks in Trellis(low).lanes:
        lives = blocks.first_step, blocks.last_step, blocks.run_ptr, blocks.run_start, blocks.run_stop
        reach = reach_of_lane(*lives, blocks.room, low.n_steps, n_levels(low.n_steps))
        found = used(blocks, low.n_steps)
        for k in range(1, n_levels(low.n_steps)):
            for middle in range(1 << k, low.n_steps, 2 << k):
                for kind in range(2):
                    block = np.flatnonzero(found[kind, k, middle - (1 << k) : middle + (1 << k)]) + middle - (1 << k)
                    start, stop = reach[kind, k, middle >> (k + 1)]
                    assert start == min(block.min(initial=middle), middle)
                    assert stop == max(block.max(initial=middle - 1) + 1, middle)


@settings(deadline=None)
@given(n_steps=st.integers(1, 300))
def test_full_reach_is_every_entry(n_steps):
    reach = full_reach(n_steps)
    for k in range(1, n_levels(n_steps)):
        middles = np.arange(1 << k, n_steps, 2 << k)
        start, stop = reach[0, k, middles >> (k + 1)].T
        assert (start == middles - (1 << k)).all()
        assert (stop == np.minimum(middles + (1 << k), n_steps)).all()
    assert (reach[0] == reach[1]).all()
