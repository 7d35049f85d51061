"""Placements survive a round trip; a file that does not fit is refused by name."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

import kvopt
from kvopt import placement_io, tallies
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


def three_tiers(rules: kvopt.Rules | None = None, last: str = "c") -> kvopt.Instance:
    """Five blocks of 10 bytes on tiers of 20, 20 and enough, the last of that name; block 4 is written in slot 1."""
    tiers = tuple(
        kvopt.Tier(name, capacity, {name: 1.0}, {name: 1.0}) for name, capacity in (("a", 20), ("b", 20), (last, 1e3))
    )
    trace = kvopt.Trace.from_accesses(
        [0, 2, 4], [1, 2, 3], n_steps=4, n_lanes=1, lane=[0] * 5, size_bytes=[10] * 5, write_step=[-1, -1, -1, -1, 1]
    )
    platform = kvopt.Platform("letters", tiers, tuple(kvopt.Channel(t.name, 1.0) for t in tiers))
    return kvopt.Instance(trace, platform, rules or kvopt.Rules())


WRITE_BACK = kvopt.Rules("inclusive", writes="back")


@pytest.mark.parametrize("rules", [kvopt.Rules(), kvopt.Rules("inclusive"), WRITE_BACK])
@pytest.mark.parametrize("said", [True, False])
def test_states_survive_a_round_trip(tmp_path, rules, said):
    instance = three_tiers(rules)
    placement = kvopt.solve(instance, "lru").placement
    assert placement.state.any()
    kvopt.save_placement(placement, tmp_path / "p.parquet", instance if said else None)
    assert kvopt.load_placement(tmp_path / "p.parquet", instance) == placement


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (three_tiers(kvopt.Rules("inclusive")), r"in a \| b \| c, here there are a\+b\+c \| a\+c \| b\+c \| c\."),
        (three_tiers(last="d"), r"in a \| b \| c, here there are a \| b \| d\. Use the tiers and the rules"),
    ],
)
def test_placements_of_other_tiers_or_rules_are_refused_by_name(tmp_path, other, words):
    instance = three_tiers()
    kvopt.save_placement(kvopt.solve(instance, "lru").placement, tmp_path / "p.parquet", instance)
    with pytest.raises(KvoptError, match=r"placement: p\.parquet places blocks " + words):
        kvopt.load_placement(tmp_path / "p.parquet", other)


def test_files_without_states_are_of_state_0(tmp_path):
    path = write(tmp_path / "p.parquet", block=[0, 1], start_slot=[0, 1], stop_slot=[4, 3])
    placement = kvopt.load_placement(path, three_tiers())
    assert placement.state.tolist() == [0, 0]


@pytest.mark.parametrize("state", [-1, 2, 300])
def test_unknown_states_are_refused_by_row(tmp_path, state):
    path = write(tmp_path / "p.parquet", block=[0, 1], start_slot=[0, 1], stop_slot=[4, 3], state=[1, state])
    with pytest.raises(KvoptError, match=rf"state: row 1 of p.parquet is in state {state}, there are 0 to 1\."):
        kvopt.load_placement(path, three_tiers())


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


@settings(max_examples=20, deadline=None)
@given(instance=instances())
def test_round_trip_in_many_groups_and_batches(instance, tmp_path_factory):
    path = tmp_path_factory.mktemp("placements") / "p.parquet"
    placement = kvopt.solve(instance, "look-ahead").placement
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "CHUNK_ITEMS", 2)
        patch.setattr(placement_io, "_BATCH_ROWS", 1)
        kvopt.save_placement(placement, path)
        assert kvopt.load_placement(path, instance) == placement


def test_the_row_that_is_wrong_is_counted_over_batches(tmp_path, instance, monkeypatch):
    monkeypatch.setattr(placement_io, "_BATCH_ROWS", 2)
    path = write(tmp_path / "p.parquet", block=[0, 0, 0, 99], start_slot=[0] * 4, stop_slot=[1] * 4)
    with pytest.raises(KvoptError, match="block: row 3 of"):
        kvopt.load_placement(path, instance)
