"""A plain cache's hits against a dictionary in order, and against looking for the next use."""

from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt import Trace
from kvopt.errors import MethodError
from kvopt.policies import hits
from kvopt.sources.synthetic import drifting


def accesses(trace: Trace) -> list[int]:
    """Blocks in the order in which they are asked for."""
    lane = trace.lane[trace.run_block]
    found = [
        (n * trace.n_lanes + at, b)
        for b, at, start, stop in zip(trace.run_block, lane, trace.run_start, trace.run_stop, strict=True)
        for n in range(start, stop)
    ]
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
    held, found = set(), 0
    for k, b in enumerate(stream):
        found += b in held
        if b not in held and len(held) == room:
            rest = stream[k + 1 :]
            held.remove(max(held, key=lambda c: rest.index(c) if c in rest else len(rest)))
        held.add(b)
    return found


@st.composite
def traces(draw) -> Trace:
    n_lanes, n_steps, n_blocks = draw(st.integers(1, 3)), draw(st.integers(1, 12)), draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    read = rng.random((n_blocks, n_steps)) < draw(st.sampled_from([0.1, 0.4, 0.8]))
    columns = {"lane": rng.integers(0, n_lanes, n_blocks), "size_bytes": np.ones(n_blocks)}
    trace = Trace.from_accesses(
        *np.nonzero(read), n_steps=n_steps, n_lanes=n_lanes, write_step=np.full(n_blocks, -1), **columns
    )
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


@settings(max_examples=200, deadline=None)
@given(traces(), st.integers(1, 20))
def test_hits_are_those_of_the_definition(trace, room):
    stream = accesses(trace)
    assert hits(trace, room) == slow_lru(stream, room)
    assert hits(trace, room, "belady") == slow_belady(stream, room)


def test_hits_on_lanes_of_many_blocks():
    trace = drifting(150, 30, n_lanes=3, read_share=0.2, drift=0.3, seed=3)
    stream = accesses(trace)
    for room in (5, 40, 70, 80, 90, 110, 200):
        assert hits(trace, room) == slow_lru(stream, room)
        assert hits(trace, room, "belady") == slow_belady(stream, room)


def test_with_room_for_all_only_first_reads_miss():
    trace = drifting(50, 10, seed=0)
    read = np.count_nonzero(np.diff(trace.run_ptr))
    for policy in ("lru", "belady"):
        assert hits(trace, trace.n_blocks, policy) == trace.n_accesses - read


def test_what_is_no_cache_is_refused():
    trace = drifting(5, 3, seed=0)
    with pytest.raises(MethodError, match="capacity_blocks: must be at least 1, got 0"):
        hits(trace, 0)
    with pytest.raises(MethodError, match="there is no plain cache by 'fifo'"):
        hits(trace, 1, "fifo")
