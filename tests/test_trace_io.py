"""Traces in Parquet: round trips, plain pandas as reader and writer, damaged files, atomic writing."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from kvopt import trace_io
from kvopt.errors import TraceError
from kvopt.sources.synthetic import drifting
from kvopt.trace import Trace
from kvopt.trace_io import load_trace, save_trace
from tests.test_trace import GOOD, accesses, build

COLUMNS = ("lane", "size_bytes", "write_step", "free_step", "run_ptr", "run_start", "run_stop")


@pytest.fixture
def trace():
    return Trace(**GOOD, name="small", step_unit="request", provenance={"seed": 3, "of": ["a", "b"]})


def frame(trace: Trace) -> pd.DataFrame:
    """The documented schema, as a user would build it in pandas."""
    spans = [slice(a, b) for a, b in zip(trace.run_ptr[:-1], trace.run_ptr[1:], strict=True)]
    return pd.DataFrame(
        {
            **{name: getattr(trace, name) for name in ("lane", "size_bytes", "write_step", "free_step")},
            "run_start": [trace.run_start[s].tolist() for s in spans],
            "run_stop": [trace.run_stop[s].tolist() for s in spans],
        }
    )


def same(one: Trace, other: Trace) -> bool:
    scalars = ("n_steps", "n_lanes", "name", "step_unit", "provenance", "tokens_per_page")
    return all(getattr(one, n) == getattr(other, n) for n in scalars) and all(
        np.array_equal(getattr(one, n), getattr(other, n)) and getattr(one, n).dtype == getattr(other, n).dtype
        for n in COLUMNS
    )


def rewrite(path, edit, meta=None):
    """Change a saved file's table through arrow, keeping or replacing the metadata under ``kvopt``."""
    table = pq.read_table(path)
    kept = table.schema.metadata
    table = edit(table)
    pq.write_table(table.replace_schema_metadata(kept if meta is None else meta), path)


def test_round_trip(trace, tmp_path):
    trace.save(tmp_path / "t.parquet")
    assert same(load_trace(tmp_path / "t.parquet"), trace)
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(accesses())
def test_round_trip_of_random_traces(tmp_path, drawn):
    trace = build(*drawn)
    save_trace(trace, tmp_path / "t.parquet")
    assert same(load_trace(tmp_path / "t.parquet"), trace)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(accesses())
def test_row_groups_and_batches_change_nothing(tmp_path, monkeypatch, drawn):
    monkeypatch.setattr(trace_io, "GROUP_RUNS", 3)
    monkeypatch.setattr(trace_io, "BATCH_ROWS", 2)
    monkeypatch.setattr(trace_io, "_LARGE_RUNS", 0)
    trace = build(*drawn)
    save_trace(trace, tmp_path / "t.parquet")
    assert same(load_trace(tmp_path / "t.parquet"), trace)


def test_a_trace_of_several_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(trace_io, "GROUP_RUNS", 1_000)
    trace = drifting(1000, 100, n_lanes=2, read_share=0.1, drift=0.3, seed=0)
    save_trace(trace, tmp_path / "t.parquet")
    meta = pq.read_metadata(tmp_path / "t.parquet")
    assert meta.num_row_groups >= trace.n_runs // 1_000 > 3
    assert meta.num_rows == trace.n_blocks
    assert same(load_trace(tmp_path / "t.parquet"), trace)
    # What others write has groups of their own, and wider integers.
    pq.write_table(
        pq.read_table(tmp_path / "t.parquet").cast(pa.schema(_wide())), tmp_path / "w.parquet", row_group_size=999
    )
    wide = load_trace(tmp_path / "w.parquet")
    assert all(np.array_equal(getattr(wide, name), getattr(trace, name)) for name in COLUMNS)


def _wide():
    flat = [(name, pa.int64()) for name in ("lane", "size_bytes", "write_step", "free_step")]
    return [*flat, ("run_start", pa.large_list(pa.int64())), ("run_stop", pa.large_list(pa.float64()))]


def test_a_bad_value_in_a_later_batch_is_named(trace, tmp_path, monkeypatch):
    monkeypatch.setattr(trace_io, "BATCH_ROWS", 1)
    data = frame(trace)
    data["run_stop"] = pd.Series([[1.0, 4.0], [], [2.5]])
    data.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TraceError, match=r"run_stop: entry 2 is 2\.5"):
        load_trace(tmp_path / "t.parquet")


def test_a_damaged_page_is_no_parquet(tmp_path):
    trace = drifting(1000, 50, read_share=0.1, drift=0.3, seed=0)
    save_trace(trace, tmp_path / "t.parquet")
    whole = bytearray((tmp_path / "t.parquet").read_bytes())
    whole[200 : len(whole) // 2] = bytes(len(whole) // 2 - 200)
    (tmp_path / "t.parquet").write_bytes(whole)
    with pytest.raises(TraceError, match=r"is not a Parquet file"):
        load_trace(tmp_path / "t.parquet")


def test_plain_pandas_reads_it(trace, tmp_path):
    trace.save(tmp_path / "t.parquet")
    read = pd.read_parquet(tmp_path / "t.parquet")
    assert list(read.columns) == ["lane", "size_bytes", "write_step", "free_step", "run_start", "run_stop"]
    assert read["lane"].dtype == np.int32
    assert read["size_bytes"].tolist() == [10, 20, 30]
    assert [list(x) for x in read["run_start"]] == [[0, 2], [], [1]]
    assert [list(x) for x in read["run_stop"]] == [[1, 4], [], [3]]


def test_plain_pandas_writes_it(trace, tmp_path):
    frame(trace).to_parquet(tmp_path / "from_pandas.parquet")
    read = load_trace(tmp_path / "from_pandas.parquet")
    assert all(np.array_equal(getattr(read, name), getattr(trace, name)) for name in COLUMNS)
    # Without metadata, steps and lanes are the least that hold the data.
    assert (read.n_steps, read.n_lanes, read.name, read.step_unit) == (4, 2, "from_pandas", "token")


def test_free_step_may_be_missing(trace, tmp_path):
    frame(trace).drop(columns="free_step").to_parquet(tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet").free_step.tolist() == [4, 4, 4]


@pytest.mark.parametrize("column", ["lane", "size_bytes", "write_step", "run_start", "run_stop"])
def test_a_missing_column_is_named(trace, tmp_path, column):
    frame(trace).drop(columns=column).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TraceError, match=r"missing from t\.parquet.*names must match") as caught:
        load_trace(tmp_path / "t.parquet")
    assert caught.value.field == column


@pytest.mark.parametrize(
    ("column", "values", "words"),
    [
        ("size_bytes", [10, -20, 30], "block 1 has -20 bytes"),
        ("size_bytes", [10, 0, 30], "block 1 has 0 bytes"),
        ("size_bytes", [10.0, np.nan, 30.0], "missing values|is nan"),
        ("size_bytes", [10.5, 20.0, 30.0], "entry 0 is 10.5"),
        ("size_bytes", ["10", "20", "30"], "not whole numbers"),
        ("lane", [0, 1, -1], "block 2 has lane -1"),
        ("write_step", [-1, -1, None], "1 missing values"),
        ("write_step", [-1, 9, 1], "block 1 is (written|freed) at step"),
        ("run_start", [0, 2, 1], "It must be a list"),
        ("run_start", [[0, 2], [], [0]], "before the block is written"),
        ("run_start", [[2, 0], [], [1]], "empty or backwards|overlaps"),
        ("run_start", [[0, 2], None, [1]], "1 missing lists.*Use an empty list"),
        ("run_start", [[0, None], [], [1]], "missing values in its lists"),
        ("run_start", [[0.5, 2.0], [], [1.0]], "entry 0 is 0.5"),
        ("run_stop", [[3, 4], [], [3]], "overlaps the run before it"),
        ("run_stop", [[1], [], [3]], "lists differ in length from run_start's"),
        ("run_stop", [[1], [4], [3]], "lists differ in length from run_start's"),
    ],
)
def test_bad_values_are_named(trace, tmp_path, column, values, words):
    data = frame(trace)
    data[column] = pd.Series(values)
    data.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TraceError, match=words) as caught:
        load_trace(tmp_path / "t.parquet")
    assert caught.value.field in {column, "run_start", "run_stop", "free_step"}
    assert caught.value.fix


def test_an_empty_file_has_no_blocks(trace, tmp_path):
    frame(trace).iloc[:0].to_parquet(tmp_path / "t.parquet")
    with pytest.raises(TraceError, match=r"has no rows"):
        load_trace(tmp_path / "t.parquet")


def test_lane_outside_the_metadata(trace, tmp_path):
    trace.save(tmp_path / "t.parquet")
    rewrite(tmp_path / "t.parquet", lambda t: t.set_column(0, "lane", pa.array([0, 1, 2], pa.int32())))
    with pytest.raises(TraceError, match=r"lane: block 2 has lane 2, outside 0\.\.1"):
        load_trace(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"schema": 2, "n_steps": 4, "n_lanes": 2}, "schema 2, this kvopt reads 1.*newer"),
        ({"n_steps": 4, "n_lanes": 2}, "no valid JSON"),
        ([1, 2], "no valid JSON"),
        ({"schema": 1, "n_steps": 0, "n_lanes": 2}, "n_steps: is 0"),
        ({"schema": 1, "n_steps": 4, "n_lanes": "2"}, "n_lanes: is '2'"),
        ({"schema": 1, "n_steps": True, "n_lanes": 2}, "n_steps: is True"),
        ({"schema": 1, "n_steps": 2, "n_lanes": 2}, "free_step"),
        ({"schema": 1, "n_steps": 4, "n_lanes": 2, "tokens_per_page": 0}, "tokens_per_page: is 0"),
        ({"schema": 1, "n_steps": 4, "n_lanes": 2, "tokens_per_page": "16"}, "tokens_per_page: is '16'"),
    ],
)
def test_bad_metadata_is_named(trace, tmp_path, meta, words):
    trace.save(tmp_path / "t.parquet")
    rewrite(tmp_path / "t.parquet", lambda t: t, {"kvopt": json.dumps(meta)})
    with pytest.raises(TraceError, match=words):
        load_trace(tmp_path / "t.parquet")


def test_metadata_that_is_no_json(trace, tmp_path):
    trace.save(tmp_path / "t.parquet")
    rewrite(tmp_path / "t.parquet", lambda t: t, {"kvopt": "{"})
    with pytest.raises(TraceError, match=r"no valid JSON"):
        load_trace(tmp_path / "t.parquet")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path, words in (
        (tmp_path, "is a directory"),
        (tmp_path / "absent.parquet", "does not exist"),
        (tmp_path / "pipe", "is no regular file"),
        (tmp_path / "loop", "is a link to nothing"),
        ("/dev/zero", "is no regular file"),
        ("a\0b", "does not exist"),
        ("a" * 5000, "cannot read"),
        (None, "must be a str or PathLike, got None"),
        (3, "must be a str or PathLike, got an int 3"),
    ):
        with pytest.raises(TraceError, match=rf"trace: .*{words}"):
            load_trace(path)


@pytest.mark.parametrize("content", [b"", b"lane,size_bytes\n0,1\n", b"PAR1garbagePAR1"])
def test_what_is_no_parquet(tmp_path, content):
    (tmp_path / "t.parquet").write_bytes(content)
    with pytest.raises(TraceError, match=r"is not a Parquet file.*kvopt trace import"):
        load_trace(tmp_path / "t.parquet")


def test_a_truncated_file_is_no_parquet(trace, tmp_path):
    trace.save(tmp_path / "t.parquet")
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TraceError, match=r"is not a Parquet file"):
        load_trace(tmp_path / "t.parquet")


_SAVE_ON_A_FULL_DISK = """
import resource, sys
from kvopt import load_trace
from kvopt.errors import TraceError

trace = load_trace(sys.argv[1]).with_size_bytes(5)
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
try:
    trace.save(sys.argv[1])
except TraceError as error:
    print(error)
"""


def test_a_failing_write_leaves_the_old_file_and_nothing_else(trace, tmp_path):
    """In a process of its own, whose files may not grow past 20 bytes: as on a full disk."""
    pytest.importorskip("resource", reason="file size limits need POSIX")
    path = tmp_path / "t.parquet"
    trace.save(path)
    before = path.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", _SAVE_ON_A_FULL_DISK, path], capture_output=True, text=True, check=False
    )
    assert "cannot write" in done.stdout
    assert "Choose a writable place" in done.stdout
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]


def test_a_place_that_cannot_be_written_is_named(trace, tmp_path):
    with pytest.raises(TraceError, match=r"path: cannot write .*Choose a writable place"):
        trace.save(tmp_path / "absent" / "t.parquet")
    (tmp_path / "directory.parquet").mkdir()
    with pytest.raises(TraceError, match=r"path: cannot write"):
        trace.save(tmp_path / "directory.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["directory.parquet"]


def test_the_schema_version_is_written(trace, tmp_path):
    trace.save(tmp_path / "t.parquet")
    meta = json.loads(pq.read_schema(tmp_path / "t.parquet").metadata[b"kvopt"])
    assert meta["schema"] == trace_io.SCHEMA_VERSION == 1
    assert meta["provenance"] == {"seed": 3, "of": ["a", "b"]}
