"""Claims of terabytes in small files and small traces: refused before anything is allocated, or of no cost."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

import kvopt
from kvopt import memory
from kvopt.errors import InstanceError, KvoptError, TraceError
from kvopt.trace_io import load_trace

MOST = 2**31 - 1


@pytest.fixture
def saved(tmp_path):
    trace = kvopt.Trace(6, 2, [0, 1], [3, 4], [-1, 2], [6, 6], [0, 1, 2], [0, 3], [2, 4])
    trace.save(tmp_path / "t.parquet")
    return tmp_path / "t.parquet"


def claim(path, **changes):
    table = pq.read_table(path)
    meta = {**json.loads(table.schema.metadata[b"kvopt"]), **changes}
    pq.write_table(table.replace_schema_metadata({b"kvopt": json.dumps(meta).encode()}), path)


def test_what_there_is_is_neither_nothing_nor_everything():
    assert 1e8 < memory.most_bytes() < 1e15


def test_needs_beyond_it_are_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(memory, "most_bytes", lambda: 1e9)
    memory.check_fits(1e9, "x", "work", "Do less")
    with pytest.raises(
        KvoptError, match=r"^x: work would take 2\.00 GB of memory or more, and there are 1\.00 GB\. Do"
    ):
        memory.check_fits(2e9, "x", "work", "Do less")


def test_billions_of_steps_or_lanes_are_counted_and_then_refused(saved):
    claim(saved, n_steps=10**9)
    trace = load_trace(saved)
    # 3 bytes from the start, 4 more from step 2 on.
    assert trace.summary()["peak_live_bytes"] == 7
    assert trace.window((0, 2)).summary()["peak_live_bytes"] == 3
    with pytest.raises(
        InstanceError, match=r"trace: 1,000,000,000 steps of 2 lanes .* would take .* of memory or more"
    ):
        kvopt.Instance(trace, "gh200")
    claim(saved, n_steps=6, n_lanes=3 * 10**8)
    trace = load_trace(saved)
    assert trace.window(lanes=[1, 3 * 10**8 - 1]).lane.tolist() == [0]
    with pytest.raises(InstanceError, match=r"6 steps of 300,000,000 lanes"):
        kvopt.Instance(trace, "gh200")


@pytest.mark.parametrize("counts", [{"n_steps": MOST}, {"n_steps": 6, "n_lanes": MOST}])
def test_more_slots_than_32_bits_count_are_refused(saved, counts):
    claim(saved, **counts)
    with pytest.raises(TraceError, match="slots"):
        load_trace(saved)


@pytest.mark.parametrize("n_steps", [9, 10**9])
def test_the_peak_is_that_of_every_step(n_steps):
    rng = np.random.default_rng(3)
    write = rng.integers(-1, 9, 50)
    free = np.array([rng.integers(max(w, 0) + 1, 10) for w in write])
    size = rng.integers(1, 100, 50)
    trace = kvopt.Trace.from_accesses(
        [], [], n_steps=n_steps, n_lanes=1, lane=0, size_bytes=size, write_step=write, free_step=free
    )
    alive = [size[(write <= n) & (free > n)].sum() for n in range(9)]
    assert trace.summary()["peak_live_bytes"] == max(alive)


@pytest.mark.parametrize("n_steps", [MOST + 1, 10**400, 2.5, None, "6", [6]])
def test_counts_beyond_the_columns_are_refused_by_key(saved, n_steps):
    claim(saved, n_steps=n_steps)
    with pytest.raises(TraceError, match=r"metadata 'kvopt'\.n_steps: is .* in t\.parquet\. It must be a whole number"):
        load_trace(saved)


def test_a_file_that_claims_more_than_there_is_is_refused(saved, monkeypatch):
    monkeypatch.setattr(memory, "most_bytes", lambda: 50.0)
    with pytest.raises(TraceError, match=r"trace: .* of .*t\.parquet would take .* of memory or more"):
        load_trace(saved)


def test_blocks_that_a_number_alone_names_are_refused():
    with pytest.raises(TraceError, match=r"block: .* blocks would take"):
        kvopt.Trace.from_accesses([10**15], [0], n_steps=1, n_lanes=1, lane=0, size_bytes=1, write_step=-1)
