"""A plain cache's hits against a dictionary in order, and against looking for the next use."""

import math
from collections import OrderedDict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt import Trace
from kvopt.errors import MethodError
from kvopt.policies import hits
from kvopt.sources.synthetic import drifting


def requests(trace: Trace) -> list[int]:
    """Blocks in the order in which they are asked for: in each slot those that it reads or writes, ascending."""
    lane, found = trace.lane.tolist(), set()
    for b, start, stop in zip(trace.run_block.tolist(), trace.run_start, trace.run_stop, strict=True):
        found |= {(n * trace.n_lanes + lane[b], b) for n in range(start, stop)}
    found |= {(n * trace.n_lanes + lane[b], b) for b, n in enumerate(trace.write_step.tolist()) if n >= 0}
    return [b for _, b in sorted(found)]


def slow_lru(stream: list[int], room: int) -> int:
    held, found = OrderedDict(), 0
    for b in stream:
        found += b in held
        held[b] = None
        held.move_to_end(b)
        if len(held) > room:
            held.popitem(last=False)
    return found


def slow_belady(stream: list[int], room: int) -> int:
    places = {b: [k for k, c in enumerate(stream) if c == b] for b in set(stream)}

    def next_use(b: int, after: int) -> float:
        return next((k for k in places[b] if k > after), math.inf)

    held, found = set(), 0
    for k, b in enumerate(stream):
        found += b in held
        if b not in held and len(held) == room:
            held.remove(max(held, key=lambda c: next_use(c, k)))
        held.add(b)
    return found


def most_hits(stream: list[int], room: int) -> int:
    """Hits of the best of all caches that may turn blocks away: every set that can be held, request by request."""
    best = {frozenset(): 0}
    for b in stream:
        after: dict[frozenset, int] = {}
        for held, found in best.items():
            choices = [held] if b in held or len(held) == room else [held, held | {b}]
            if b not in held and len(held) == room:
                choices += [frozenset(kept) | {b} for kept in combinations(held, room - 1)]
            for chosen in choices:
                after[chosen] = max(after.get(chosen, 0), found + (b in held))
        best = after
    return max(best.values())


@st.composite
def traces(draw, max_blocks: int = 20) -> Trace:
    """Prefilled and written blocks, some of them never read, some read in the step that writes them."""
    n_lanes, n_steps, n_blocks = draw(st.integers(1, 3)), draw(st.integers(1, 12)), draw(st.integers(1, max_blocks))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    write_step = rng.integers(0, n_steps, n_blocks)
    write_step[rng.random(n_blocks) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = -1
    read = rng.random((n_blocks, n_steps)) < draw(st.sampled_from([0.1, 0.4, 0.8]))
    read &= np.arange(n_steps) >= write_step[:, None]
    columns = {"lane": rng.integers(0, n_lanes, n_blocks), "size_bytes": np.ones(n_blocks)}
    trace = Trace.from_accesses(*np.nonzero(read), n_steps=n_steps, n_lanes=n_lanes, write_step=write_step, **columns)
    return split(trace, rng.random(trace.n_runs) < draw(st.sampled_from([0.0, 0.5])))


def split(trace: Trace, where: np.ndarray) -> Trace:
    """Some runs of two reads and more in two, of which the second begins where the first ends."""
    where = where & (trace.run_stop - trace.run_start > 1)
    middle = trace.run_start + 1
    parts = np.bincount(trace.run_block, 1 + where, minlength=trace.n_blocks).astype(np.int64)
    start, stop = np.repeat(trace.run_start, 1 + where), np.repeat(trace.run_stop, 1 + where)
    second = np.cumsum(1 + where)[where] - 1
    start[second], stop[second - 1] = middle[where], middle[where]
    return trace._replace(run_ptr=np.concatenate([[0], np.cumsum(parts)]), run_start=start, run_stop=stop)


@settings(max_examples=150, deadline=None)
@given(traces(), st.integers(1, 20))
def test_hits_are_those_of_the_definition(trace, room):
    stream = requests(trace)
    assert trace.n_block_requests == len(stream)
    assert hits(trace, room) == slow_lru(stream, room)
    assert hits(trace, room, "belady") == slow_belady(stream, room)


@settings(max_examples=100, deadline=None)
@given(traces(max_blocks=6), st.integers(1, 4))
def test_belady_is_within_a_block_of_the_best_cache_there_is(trace, room):
    best = most_hits(requests(trace), room)
    assert hits(trace, room) <= hits(trace, room, "belady") <= best <= hits(trace, room + 1, "belady")


def test_hits_on_lanes_of_many_blocks():
    trace = drifting(150, 30, n_lanes=3, read_share=0.2, drift=0.3, seed=3)
    stream = requests(trace)
    assert trace.n_block_requests == len(stream) > trace.n_accesses
    for room in (5, 40, 70, 80, 90, 110, 200):
        assert hits(trace, room) == slow_lru(stream, room)
        assert hits(trace, room, "belady") == slow_belady(stream, room)


def test_with_room_for_all_only_first_requests_miss():
    trace = drifting(50, 10, seed=0)
    asked = np.count_nonzero((np.diff(trace.run_ptr) > 0) | (trace.write_step >= 0))
    for policy in ("lru", "belady"):
        for room in (trace.n_blocks, 10**30, 1e6, np.int32(10_000), math.inf):
            assert hits(trace, room, policy) == trace.n_block_requests - asked


def written(write_step, reads, n_steps: int = 4) -> Trace:
    """Blocks of one lane; ``reads`` are (block, step)."""
    block, step = np.array(reads, int).reshape(-1, 2).T
    columns = {"lane": np.zeros(len(write_step)), "size_bytes": np.ones(len(write_step))}
    return Trace.from_accesses(block, step, n_steps=n_steps, n_lanes=1, write_step=np.array(write_step), **columns)


@pytest.mark.parametrize(
    ("write_step", "reads", "requests_and_hits"),
    [
        ([-1], [(0, 0), (0, 1), (0, 3)], (3, 2)),  # Prefilled: the first read is the compulsory miss.
        ([0], [(0, 1), (0, 3)], (3, 2)),  # Written before: the write is.
        ([1], [(0, 1), (0, 3)], (2, 1)),  # Written and read in one step: one request.
        ([2], [], (1, 0)),
        ([-1], [], (0, 0)),
        ([0, 0, 1], [(0, 1), (1, 3)], (5, 2)),
    ],
)
def test_what_counts_as_a_request(write_step, reads, requests_and_hits):
    trace = written(write_step, reads)
    for policy in ("lru", "belady"):
        assert (trace.n_block_requests, hits(trace, 3, policy)) == requests_and_hits
    assert trace.n_accesses == len(reads)  # What is charged as a read stays what it was.


def test_the_trace_is_left_as_it_was():
    trace = written([0, 2, 1], [(0, 1), (1, 3), (2, 1)])
    before = [array.copy() for array in (trace.run_ptr, trace.run_start, trace.run_stop)]
    hits(trace, 2)
    assert all((a == b).all() for a, b in zip(before, (trace.run_ptr, trace.run_start, trace.run_stop), strict=True))


@pytest.mark.parametrize("policy", ["lru", "belady"])
@pytest.mark.parametrize("capacity", [0, 0.0])
def test_a_cache_without_room_has_no_hits(capacity, policy):
    assert hits(drifting(5, 3, seed=0), capacity, policy) == 0


@pytest.mark.parametrize("capacity", [-1, -1.0, -math.inf])
def test_less_than_no_room_is_refused(capacity):
    with pytest.raises(MethodError, match=r"capacity_blocks: must be (at least 0|a whole number), got"):
        hits(drifting(5, 3, seed=0), capacity)


@pytest.mark.parametrize("capacity", [0.5, 2.5, math.nan, True, np.True_, "10", None, 1j, [1], np.ones(2)])
def test_what_is_no_number_of_blocks_is_refused(capacity):
    with pytest.raises(MethodError, match="capacity_blocks: must be a whole number, got"):
        hits(drifting(5, 3, seed=0), capacity)


@pytest.mark.parametrize("policy", ["fifo", "LRU", None, 1, np.array(["lru", "belady"])])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(MethodError, match="there is no plain cache by"):
        hits(drifting(5, 3, seed=0), 1, policy)


def test_what_is_no_trace_is_refused():
    with pytest.raises(MethodError, match="trace: is of type str"):
        hits("trace.parquet", 1)
