"""Traces put together from parts against the same trace built at once."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.sources.lanes import LaneRuns, Recorder, TraceBuilder, decoded_tokens, without_repeats
from kvopt.trace import Trace


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=12, max_size=12), min_size=1, max_size=5), st.integers(0, 99))
def test_parts_make_the_trace_of_their_reads(grids, seed):
    """Each part is three blocks over four steps; its runs are handed over block by block in random order."""
    rng = np.random.default_rng(seed)
    builder, reads, block_reads = TraceBuilder(4, len(grids)), [], []
    for lane, grid in enumerate(grids):
        read = np.array(grid).reshape(3, 4)
        edges = np.diff(np.pad(read.astype(int), ((0, 0), (1, 1))), axis=1)
        block, start = np.nonzero(edges == 1)
        stop = np.nonzero(edges == -1)[1]
        order = np.argsort(rng.permutation(3)[block], kind="stable")
        builder.add(
            lane, LaneRuns(block[order], start[order], stop[order]), size_bytes=lane + 1, write_step=np.full(3, -1)
        )
        found, step = np.nonzero(read)
        reads.append(step)
        block_reads.append(found + 3 * lane)
    n = len(grids)
    whole = Trace.from_accesses(
        np.concatenate(block_reads),
        np.concatenate(reads),
        n_steps=4,
        n_lanes=n,
        lane=np.repeat(np.arange(n), 3),
        size_bytes=np.repeat(np.arange(n) + 1, 3),
        write_step=np.full(3 * n, -1),
    )
    made = builder.finish(name="x")
    for column in ("lane", "size_bytes", "write_step", "free_step", "run_ptr", "run_start", "run_stop"):
        assert getattr(made, column).tolist() == getattr(whole, column).tolist()


def test_a_recorder_remembers_when_runs_began():
    recorder = Recorder(np.array([0, 0, 2]))
    recorder.begin(np.array([1]), 3)
    recorder.end(np.array([0, 1]), 4)
    recorder.begin(np.array([0]), 5)
    recorder.end(np.array([2, 0]), 6)
    runs = recorder.runs()
    assert list(zip(runs.block, runs.start, runs.stop, strict=True)) == [(0, 0, 4), (1, 3, 4), (2, 2, 6), (0, 5, 6)]


def test_tokens_are_written_by_prefill_and_then_one_a_step():
    assert decoded_tokens(2, 3).tolist() == [-1, -1, 0, 1, 2]


@given(st.lists(st.integers(0, 9)))
def test_repeats_are_left_out_in_order(values):
    kept = without_repeats(np.array(values, np.int32), np.full(10, 7, np.int32))
    assert kept.tolist() == list(dict.fromkeys(values))
