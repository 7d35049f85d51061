"""Staggered copies against the union of shifted reads."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.errors import TraceError
from kvopt.sources.batch import staggered
from tests.test_trace import accesses, build


@settings(max_examples=60, deadline=None)
@given(accesses(), st.integers(1, 4), st.integers(1, 5), st.data())
def test_copies_are_shifted_and_cut(drawn, copies, every, data):
    one = build(*drawn).with_size_bytes(7)
    last = (copies - 1) * every
    n_steps = data.draw(st.integers(last + 1, last + one.n_steps))
    if one.write_step.min() >= n_steps:
        with pytest.raises(TraceError, match="none were added"):
            staggered(one, copies, every, n_steps=n_steps)
        return
    made = staggered(one, copies, every, n_steps=n_steps)
    want = []
    for lane in range(one.n_lanes):
        for copy in range(copies):
            shift = copy * every
            for block in np.flatnonzero((one.lane == lane) & (one.write_step < n_steps - shift)):
                runs = slice(one.run_ptr[block], one.run_ptr[block + 1])
                steps = {
                    step + shift
                    for start, stop in zip(one.run_start[runs], one.run_stop[runs], strict=True)
                    for step in range(start, stop)
                }
                written = one.write_step[block] + shift if one.write_step[block] >= 0 else shift if copy else -1
                free = min(one.free_step[block] + shift, n_steps)
                want.append((lane, int(written), int(free), {s for s in steps if s < n_steps}))
    got = []
    for block in range(made.n_blocks):
        runs = slice(made.run_ptr[block], made.run_ptr[block + 1])
        steps = {
            step
            for start, stop in zip(made.run_start[runs], made.run_stop[runs], strict=True)
            for step in range(start, stop)
        }
        got.append((int(made.lane[block]), int(made.write_step[block]), int(made.free_step[block]), steps))
    assert got == want


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"copies": 0, "every_steps": 1}, "copies"),
        ({"copies": 1, "every_steps": 0}, "every_steps"),
        ({"copies": 3, "every_steps": 2, "n_steps": 4}, "n_steps"),
        ({"copies": 3, "every_steps": 2, "n_steps": 9}, "n_steps"),
    ],
)
def test_numbers_out_of_range_are_named(arguments, field):
    one = build(
        {"n_steps": 4, "n_lanes": 1, "lane": [0], "size_bytes": [1], "write_step": [-1], "free_step": [4]}, [(0, 1)]
    )
    with pytest.raises(TraceError) as caught:
        staggered(one, **arguments)
    assert caught.value.field == field


def test_blocks_of_several_sizes_are_refused():
    columns = {
        "n_steps": 4,
        "n_lanes": 1,
        "lane": [0, 0],
        "size_bytes": [1, 2],
        "write_step": [-1, -1],
        "free_step": [4, 4],
    }
    with pytest.raises(TraceError, match="size_bytes: differ"):
        staggered(build(columns, [(0, 1)]), 2, 1)
