"""The synthetic request log, checked on what each request reads and writes."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt.errors import TraceError
from kvopt.sources import prefix_tree as prefix_tree_module
from kvopt.sources.prefix_tree import prefix_tree


def prompts(log) -> list[set[tuple[int, int]]]:
    """The blocks of each request's prompt, as (segment, number), the slow way."""
    found = []
    for k in range(len(log.turn)):
        segments = [log.application[k], log.document[k], *range(log.first_turn[k], log.turn[k] + 1)]
        found.append({(int(s), b) for s in segments for b in range(log.blocks[s])})
    return found


@pytest.mark.parametrize(("reads", "seed"), [(1, 0), (40, 1), (700, 2), (3000, 3)])
def test_requests_read_what_earlier_ones_brought(reads, seed, monkeypatch):
    kept = {}
    add = prefix_tree_module._pairs

    def spy(log):
        kept["log"] = log
        return add(log)

    monkeypatch.setattr(prefix_tree_module, "_pairs", spy)
    trace = prefix_tree(reads, size_bytes=5, seed=seed)
    known, want = {}, []
    for step, prompt in enumerate(prompts(kept["log"])):
        want += [(block, step) for block in prompt if block in known]
        known |= {block: step for block in prompt if block not in known}
    assert trace.n_blocks == len(known)
    assert trace.n_accesses == len(want)
    # By block: when it is written and when it is read, in any order of the blocks.
    got = sorted(
        (
            int(trace.write_step[b]),
            [n for r in range(*trace.run_ptr[b : b + 2]) for n in range(trace.run_start[r], trace.run_stop[r])],
        )
        for b in range(trace.n_blocks)
    )
    by_block = {block: [] for block in known}
    for block, step in want:
        by_block[block].append(step)
    assert got == sorted((known[block], steps) for block, steps in by_block.items())
    # Runs are as long as they can be.
    same = trace.run_block[1:] == trace.run_block[:-1]
    assert (trace.run_start[1:][same] > trace.run_stop[:-1][same]).all()


def test_reads_come_near_what_was_asked_for():
    for reads in (500, 5_000, 50_000):
        trace = prefix_tree(reads, seed=1)
        per_request = trace.n_accesses / trace.n_steps
        assert abs(trace.n_accesses - reads) < 3 * per_request
        assert (trace.n_lanes, trace.step_unit) == (1, "request")
        assert (trace.free_step == trace.n_steps).all()


def test_small_chunks_change_nothing(monkeypatch):
    whole = prefix_tree(2000, seed=4)
    monkeypatch.setattr("kvopt.trace_checks.CHUNK_RUNS", 7)
    parts = prefix_tree(2000, seed=4)
    for column in ("write_step", "run_ptr", "run_start", "run_stop"):
        assert getattr(parts, column).tolist() == getattr(whole, column).tolist()


def test_conversations_are_mixed_and_some_prefixes_are_popular():
    trace = prefix_tree(50_000, seed=0)
    reads = np.sort(trace.reads_of_block)
    assert reads[-len(reads) // 100 :].sum() > 0.1 * reads.sum()
    gaps = (trace.run_start[1:] - trace.run_stop[:-1])[trace.run_block[1:] == trace.run_block[:-1]]
    assert np.percentile(gaps, 90) > 10 * np.percentile(gaps, 25)


def test_equal_seeds_give_equal_logs():
    one, same, other = (prefix_tree(3000, seed=s) for s in (1, 1, 2))
    assert one.run_start.tolist() == same.run_start.tolist()
    assert one.run_start.tolist() != other.run_start.tolist()


@pytest.mark.parametrize(
    ("arguments", "field"), [({"reads": 0}, "reads"), ({"reads": 9, "size_bytes": 0}, "size_bytes")]
)
def test_numbers_out_of_range_are_named(arguments, field):
    with pytest.raises(TraceError) as caught:
        prefix_tree(**arguments, seed=0)
    assert caught.value.field == field
