"""Placements survive a round trip; a file that does not fit is refused by name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

import kvopt
from kvopt.errors import KvoptError
from tests.instances import instances, tiny_instance


@settings(max_examples=30, deadline=None)
@given(instance=instances())
def test_round_trip(instance, tmp_path_factory):
    path = tmp_path_factory.mktemp("placements") / "p.parquet"
    placement = kvopt.solve(instance, "look-ahead").placement
    kvopt.save_placement(placement, path)
    assert kvopt.load_placement(path, instance) == placement


def write(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def instance():
    return tiny_instance(np.random.default_rng(1))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"block": [0], "start_slot": [0]}, "stop_slot: missing from"),
        ({"block": [99], "start_slot": [0], "stop_slot": [1]}, "block: row 0 of"),
        ({"block": [-1], "start_slot": [0], "stop_slot": [1]}, "block: row 0 of"),
        ({"block": [0.5], "start_slot": [0], "stop_slot": [1]}, "block: has values that are no whole numbers"),
        ({"block": [0], "start_slot": [np.nan], "stop_slot": [1.0]}, "start_slot: has values that are no whole"),
        ({"block": [None, 0], "start_slot": [0, 0], "stop_slot": [1, 1]}, "block: has 1 missing values"),
        ({"block": ["a"], "start_slot": [0], "stop_slot": [1]}, "block: has type string"),
        ({"block": [0], "start_slot": [0], "stop_slot": [10_000]}, "is not feasible here: slot 0: tier"),
        ({"block": [0, 0], "start_slot": [0, 0], "stop_slot": [2, 1]}, "is not feasible here: slot 0: tier"),
    ],
)
def test_bad_files_are_refused_by_name(tmp_path, instance, columns, message):
    path = write(tmp_path / "p.parquet", **columns)
    with pytest.raises(KvoptError, match=message):
        kvopt.load_placement(path, instance)


def test_a_placement_of_another_trace_is_refused(tmp_path, instance):
    made = (tiny_instance(np.random.default_rng(seed)) for seed in range(100))
    other = next(i for i in made if i.trace.n_blocks != instance.trace.n_blocks)
    kvopt.save_placement(kvopt.Placement.backing(other), tmp_path / "p.parquet")
    with pytest.raises(KvoptError, match="blocks, the trace has"):
        kvopt.load_placement(tmp_path / "p.parquet", instance)


def test_missing_and_foreign_files(tmp_path, instance):
    with pytest.raises(KvoptError, match="does not exist"):
        kvopt.load_placement(tmp_path / "none.parquet", instance)
    (tmp_path / "text.parquet").write_text("block,start\n")
    with pytest.raises(KvoptError, match="is not a Parquet file"):
        kvopt.load_placement(tmp_path / "text.parquet", instance)


def test_nothing_is_left_half_written(tmp_path, instance):
    with pytest.raises(KvoptError, match="cannot write"):
        kvopt.save_placement(kvopt.Placement.backing(instance), tmp_path / "no" / "p.parquet")
    assert list(tmp_path.iterdir()) == []
