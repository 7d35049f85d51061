"""Traces: what is refused, windows against a plain reimplementation, runs from accesses against sets."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvopt import trace_checks
from kvopt.errors import TraceError
from kvopt.trace import PREFILL, Trace

# Blocks: 0 and 1 after prefill, 2 written at step 1 of lane 1, freed at step 3.
GOOD = {
    "n_steps": 4,
    "n_lanes": 2,
    "lane": [0, 1, 1],
    "size_bytes": [10, 20, 30],
    "write_step": [-1, -1, 1],
    "free_step": [4, 4, 3],
    "run_ptr": [0, 2, 2, 3],
    "run_start": [0, 2, 1],
    "run_stop": [1, 4, 3],
}


def trace(**changes):
    return Trace(**{**GOOD, **changes})


def test_counts():
    good = trace()
    assert (good.n_blocks, good.n_runs, good.n_slots, good.n_accesses) == (3, 3, 8, 5)
    assert good.run_block.tolist() == [0, 0, 2]
    assert good.first_step.tolist() == [0, 0, 1]
    summary = good.summary()
    assert summary["read_bytes"] == 3 * 10 + 2 * 30
    assert summary["peak_live_bytes"] == 60
    assert summary["n_prefill_blocks"] == 2
    assert (summary["n_accesses"], summary["n_block_requests"]) == (5, 5)
    later = trace(run_start=[0, 2, 2])  # Block 2 is written in step 1 and read in step 2 alone.
    assert later.written_unread.tolist() == [False, False, True]
    assert (later.n_accesses, later.n_block_requests) == (4, 5)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"n_steps": 0}, "n_steps, n_lanes", "at least 1"),
        ({"n_lanes": 0}, "n_steps, n_lanes", "at least 1"),
        ({"lane": [0, 1, 2]}, "lane", r"block 2 has lane 2, outside 0\.\.1\. Number the lanes from 0"),
        ({"lane": [0, -1, 1]}, "lane", "block 1 has lane -1"),
        ({"lane": [0, 1]}, "size_bytes", "another length than lane"),
        ({"size_bytes": [10, 0, 30]}, "size_bytes", "block 1 has 0 bytes.*greater than 0"),
        ({"size_bytes": [10, 20, -30]}, "size_bytes", "block 2 has -30 bytes"),
        ({"size_bytes": [10, np.nan, 30]}, "size_bytes", "entry 1 is nan.*Remove NaN"),
        ({"size_bytes": [10, 20, 30.5]}, "size_bytes", "entry 2 is 30.5, not a whole number"),
        ({"size_bytes": [10, 20, np.inf]}, "size_bytes", "entry 2 is inf"),
        ({"size_bytes": ["a", "b", "c"]}, "size_bytes", "dtype .*Convert the column to integers"),
        ({"lane": [0, 1, 2**40]}, "lane", "does not fit int32"),
        ({"write_step": [-1, -2, 1]}, "write_step", "block 1 is written at step -2.*Use -1"),
        ({"write_step": [-1, -1, 4]}, "write_step", r"block 2 is written at step 4, outside -1\.\.3"),
        ({"free_step": [4, 5, 3]}, "free_step", "block 1 is freed at step 5.*Use 4"),
        ({"free_step": [4, 0, 3]}, "free_step", "block 1 is freed at step 0"),
        ({"free_step": [4, 4, 1]}, "free_step", "block 2 is freed at step 1, written at 1"),
        ({"run_ptr": [0, 2, 2]}, "run_ptr", "does not index the runs.*ascend"),
        ({"run_ptr": [0, 2, 2, 4]}, "run_ptr", "does not index the runs"),
        ({"run_ptr": [0, 2, 1, 3]}, "run_ptr", "does not index the runs"),
        ({"run_ptr": [1, 2, 2, 3]}, "run_ptr", "does not index the runs"),
        ({"run_stop": [1, 4]}, "run_stop", "another length than run_start"),
        ({"run_stop": [0, 4, 3]}, "run_stop", r"run \[0, 0\) of block 0 is empty or backwards"),
        (
            {"run_start": [0, 2, 0]},
            "run_start",
            r"run \[0, 3\) of block 2 begins before the block is written \(step 1\)",
        ),
        ({"run_start": [-1, 2, 1]}, "run_start", "before the block is written"),
        ({"run_stop": [1, 5, 3]}, "run_stop", "ends after the block is freed"),
        ({"run_stop": [1, 4, 4]}, "run_stop", "block 2 ends after the block is freed"),
        ({"run_stop": [3, 4, 3]}, "run_start", r"run \[2, 4\) of block 0 overlaps the run before it"),
        (
            {"run_start": [2, 0, 1], "run_stop": [4, 1, 3]},
            "run_start",
            r"run \[0, 1\) of block 0 overlaps.*Sort the runs",
        ),
    ],
)
def test_a_trace_that_breaks_a_rule_is_refused_with_its_field_and_a_fix(changes, field, words):
    with pytest.raises(TraceError, match=words) as caught:
        trace(**changes)
    assert caught.value.field == field
    assert caught.value.fix


def test_an_empty_trace_is_refused():
    nothing = {name: [] for name in ("lane", "size_bytes", "write_step", "free_step", "run_start", "run_stop")}
    with pytest.raises(TraceError, match=r"blocks: the trace is empty"):
        trace(**nothing, run_ptr=[0])


def test_columns_are_copied_and_read_only():
    lane = np.array([0, 1, 1], np.int32)
    kept = trace(lane=lane)
    lane[0] = 1
    assert kept.lane[0] == 0
    with pytest.raises(ValueError, match=r"read-only"):
        kept.lane[0] = 1


def test_whole_floats_are_accepted():
    assert trace(size_bytes=[10.0, 20.0, 30.0]).size_bytes.dtype == np.int64


def test_with_size_bytes():
    assert trace().with_size_bytes(7).size_bytes.tolist() == [7, 7, 7]
    with pytest.raises(TraceError, match=r"size_bytes: must be greater than 0"):
        trace().with_size_bytes(0)


@st.composite
def accesses(draw):
    """Trace columns and the set of (block, step) reads, of which some repeat."""
    n_steps, n_lanes = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    n_blocks = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    write = rng.integers(-1, n_steps, n_blocks)
    free = np.array([rng.integers(max(w, 0) + 1, n_steps + 1) for w in write])
    lives = [(b, n) for b in range(n_blocks) for n in range(max(write[b], 0), free[b])]
    reads = [lives[k] for k in rng.integers(0, len(lives), rng.integers(0, 2 * len(lives)))]
    columns = {
        "n_steps": n_steps,
        "n_lanes": n_lanes,
        "lane": rng.integers(0, n_lanes, n_blocks),
        "size_bytes": rng.integers(1, 9, n_blocks),
        "write_step": write,
        "free_step": free,
    }
    return columns, reads


def build(columns, reads):
    block, step = (np.array([r[k] for r in reads], np.int64) for k in (0, 1))
    return Trace.from_accesses(block, step, **columns)


def reads_of(one: Trace) -> set[tuple[int, int]]:
    runs = zip(one.run_block, one.run_start, one.run_stop, strict=True)
    return {(int(b), n) for b, start, stop in runs for n in range(start, stop)}


@settings(deadline=None)
@given(accesses())
def test_from_accesses_holds_the_set_of_reads_in_the_fewest_runs(drawn):
    columns, reads = drawn
    made = build(columns, reads)
    assert reads_of(made) == set(reads)
    assert made.n_accesses == len(set(reads))
    assert made.n_runs == sum((b, n - 1) not in set(reads) for b, n in set(reads))


@pytest.mark.parametrize(
    ("block", "step", "field"), [([5], [0], "block"), ([-1], [0], "block"), ([0], [4], "step"), ([0], [-1], "step")]
)
def test_from_accesses_refuses_what_is_out_of_range(block, step, field):
    columns = {name: GOOD[name] for name in ("n_steps", "n_lanes", "lane", "size_bytes", "write_step")}
    with pytest.raises(TraceError, match=r"must lie in") as caught:
        Trace.from_accesses(block, step, **columns)
    assert caught.value.field == field


@settings(max_examples=200, deadline=None)
@given(accesses(), st.data())
def test_window_is_the_naive_selection(drawn, data):
    columns, reads = drawn
    whole = build(columns, reads)
    first = data.draw(st.integers(0, whole.n_steps - 1))
    last = data.draw(st.integers(first + 1, whole.n_steps))
    lanes = data.draw(st.permutations(range(whole.n_lanes)))[: data.draw(st.integers(1, whole.n_lanes))]
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=whole.n_blocks, max_size=whole.n_blocks)))
    kept = [
        b
        for b in range(whole.n_blocks)
        if chosen[b] and whole.lane[b] in lanes and whole.write_step[b] < last and whole.free_step[b] > first
    ]
    if not kept:
        with pytest.raises(TraceError, match=r"empty"):
            whole.window((first, last), lanes, chosen)
        return
    part = whole.window((first, last), lanes, chosen)
    number = {b: k for k, b in enumerate(kept)}
    assert (part.n_steps, part.n_lanes, part.n_blocks) == (last - first, len(lanes), len(kept))
    assert part.lane.tolist() == [lanes.index(whole.lane[b]) for b in kept]
    assert part.size_bytes.tolist() == [whole.size_bytes[b] for b in kept]
    assert part.write_step.tolist() == [max(whole.write_step[b] - first, PREFILL) for b in kept]
    assert part.free_step.tolist() == [min(whole.free_step[b], last) - first for b in kept]
    assert reads_of(part) == {(number[b], n - first) for b, n in reads if b in number and first <= n < last}


@pytest.mark.parametrize("steps", [(0, 5), (2, 2), (3, 1), (-1, 2)])
def test_window_refuses_a_range_outside_the_trace(steps):
    with pytest.raises(TraceError, match=r"steps: .*is not inside \[0, 4\)"):
        trace().window(steps)


@pytest.mark.parametrize("lanes", [[2], [-1], [0, 0], []])
def test_window_refuses_lanes_that_are_not_there(lanes):
    with pytest.raises(TraceError) as caught:
        trace().window(lanes=lanes)
    assert caught.value.field == "lanes"


@pytest.fixture
def tiny_chunks(monkeypatch):
    """Chunks of two runs, so that a few blocks cross borders."""
    monkeypatch.setattr(trace_checks, "CHUNK_RUNS", 2)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_chunks_are_consecutive_and_small(counts, most):
    ptr = np.concatenate([[0], np.cumsum(counts)])
    chunks = list(trace_checks.block_chunks(ptr, most))
    assert [b for blocks, _ in chunks for b in range(blocks.start, blocks.stop)] == list(range(len(counts)))
    for blocks, runs in chunks:
        assert (runs.start, runs.stop) == (ptr[blocks.start], ptr[blocks.stop])
        assert runs.stop - runs.start <= most or blocks.stop - blocks.start == 1
        assert blocks.stop - blocks.start <= 2 * most


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(accesses(), st.data())
def test_small_chunks_change_nothing(tiny_chunks, drawn, data):
    made = build(*drawn)
    reads = np.zeros(made.n_blocks, np.int64)
    np.add.at(reads, made.run_block, made.run_stop - made.run_start)
    assert made.reads_of_block.tolist() == reads.tolist()
    assert made.n_accesses == len(set(drawn[1]))
    assert made.summary()["read_bytes"] == int(reads @ made.size_bytes)
    first = data.draw(st.integers(0, made.n_steps - 1))
    keep = (made.write_step < made.n_steps) & (made.free_step > first)
    if keep.any():
        part = made.window((first, made.n_steps))
        number = {int(b): k for k, b in enumerate(np.flatnonzero(keep))}
        assert reads_of(part) == {(number[b], n - first) for b, n in drawn[1] if n >= first}


@pytest.mark.parametrize(
    ("start", "stop", "field", "words"),
    [
        (4, 4, "run_stop", r"run \[4, 4\) of block 7 is empty"),
        (1, 3, "run_start", r"run \[1, 3\) of block 7 begins before the block is written \(step 2\)"),
        (4, 10, "run_stop", r"run \[4, 10\) of block 7 ends after the block is freed \(step 9 of 9\)"),
        (3, 5, "run_start", r"run \[3, 5\) of block 7 overlaps the run before it"),
    ],
)
def test_a_bad_run_is_named_in_whatever_chunk_it_is(tiny_chunks, start, stop, field, words):
    """Ten blocks of three runs each; one run of block 7 is wrong."""
    starts, stops = np.tile([2, 4, 6], 10), np.tile([4, 5, 7], 10)
    starts[22], stops[22] = start, stop
    if start == 1:
        starts[21], stops[21], starts[22], stops[22] = 1, 3, 4, 5
    columns = {
        "lane": np.zeros(10),
        "size_bytes": np.ones(10),
        "write_step": np.full(10, 2),
        "free_step": np.full(10, 9),
    }
    with pytest.raises(TraceError, match=words) as caught:
        Trace(9, 1, **columns, run_ptr=np.arange(0, 31, 3), run_start=starts, run_stop=stops)
    assert caught.value.field == field


def test_arrays_that_are_right_are_taken_as_they_are():
    one = trace()
    again = one.with_size_bytes(5)
    assert all(getattr(again, c) is getattr(one, c) for c in ("lane", "run_ptr", "run_start", "run_stop"))
    writable = np.array([0, 2, 1], np.int32)
    copied = trace(run_start=writable)
    writable[0] = 9
    assert copied.run_start.tolist() == [0, 2, 1]


def _of_sizes(sizes, n_steps=2, **columns) -> Trace:
    n = len(sizes)
    defaults = {"write_step": [-1] * n, "free_step": [n_steps] * n, **columns}
    runs = (range(n + 1), [max(w, 0) for w in defaults["write_step"]], defaults["free_step"])
    return Trace(n_steps, 1, [0] * n, sizes, defaults["write_step"], defaults["free_step"], *runs)


@pytest.mark.parametrize(
    ("sizes", "columns", "message"),
    [
        ([2**62, 2**62], {}, r"9\.22337e\+18 bytes in all, above the limit of 4611686018427387904 \(2\^62\)"),
        ([2**63 - 1] * 5, {}, "bytes in all"),
        ([2**53 + 1], {}, r"alive in step 0, above the limit of 9007199254740992 \(2\^53\)"),
        ([2**52, 2**52, 1], {}, "alive in step 0"),
        ([2**53, 2**53], {"write_step": [-1, 1], "free_step": [2, 2]}, "alive in step 1"),
        ([2**52], {"n_steps": 2000}, r"are read 9\.0072e\+18 bytes in all steps"),
    ],
)
def test_sizes_whose_sums_would_not_be_exact_are_refused(sizes, columns, message):
    with pytest.raises(TraceError, match=message) as caught:
        _of_sizes(sizes, **columns)
    assert caught.value.field == "size_bytes"


def test_sizes_up_to_the_limits_are_exact():
    assert _of_sizes([2**52, 2**52 - 1, 1]).summary()["peak_live_bytes"] == 2**53
    # One after the other, a thousand times what may be alive at once.
    steps = np.arange(500)
    made = _of_sizes([2**53] * 500, 500, write_step=np.where(steps == 0, -1, steps), free_step=steps + 1)
    assert made.summary()["read_bytes"] == 500 * 2**53


def test_sizes_that_are_no_int64_are_refused():
    for wrong in (2.0**63, 1e300, np.array([2**63], np.uint64), 10**30):
        with pytest.raises(TraceError, match="size_bytes"):
            _of_sizes(np.atleast_1d(wrong))
    for wrong in (0, -1, np.nan, np.inf, 10**30, 2**53 + 1):
        with pytest.raises(TraceError, match="size_bytes"):
            _of_sizes([4]).with_size_bytes(wrong)


@pytest.mark.parametrize(("n_steps", "n_lanes"), [(2**31 - 1, 1), (2**20, 2**20), (2.5, 1), (2, True), ("2", 1)])
def test_slots_that_cannot_be_counted_are_refused(n_steps, n_lanes):
    with pytest.raises(TraceError, match=r"n_steps|n_lanes"):
        Trace(n_steps, n_lanes, [0], [1], [-1], [1], [0, 0], [], [])
