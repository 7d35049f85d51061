"""Instances: rules, capacities, lives of blocks."""

import json

import numpy as np
import pytest
from hypothesis import given, settings

from kvopt.errors import InstanceError
from kvopt.instance import Copies, Instance, Moves, Rules
from kvopt.platform import Platform
from kvopt.trace import Trace
from tests.instances import instances


def trace(**changes) -> Trace:
    """Two lanes, three steps: 10 and 20 bytes after prefill, the first freed at step 2; 30 bytes written at step 1."""
    columns = {
        "n_steps": 3,
        "n_lanes": 2,
        "lane": [0, 1, 1],
        "size_bytes": [10, 20, 30],
        "write_step": [-1, -1, 1],
        "free_step": [2, 3, 3],
    }
    return Trace.from_accesses(np.array([0, 1, 2]), np.array([1, 0, 2]), **{**columns, **changes})


def platform(fast: float, backing: float = 1e12) -> Platform:
    return Platform.preset("gh200").with_capacity(fast).with_capacity(backing, tier=1)


def test_rules_take_enums_and_their_values():
    assert Rules() == Rules("exclusive", "explicit") == Rules(Copies.EXCLUSIVE, Moves.EXPLICIT)
    assert Rules("inclusive", "read-through").inclusive
    assert Rules("inclusive", "read-through").read_through
    with pytest.raises(InstanceError, match=r"rules.copies: 'both' is not known. Choose one of: 'exclusive', 'inclusi"):
        Rules("both")
    with pytest.raises(InstanceError, match=r"rules.moves: 'teleport' is not known"):
        Rules(moves="teleport")


def test_slots_of_birth_and_death():
    instance = Instance(trace(), platform(100))
    assert instance.birth_slot.tolist() == [0, 0, 3]
    assert instance.death_slot.tolist() == [4, 6, 6]
    assert instance.live_bytes.tolist() == [30, 30, 30, 60, 50, 50]


@settings(deadline=None)
@given(instances())
def test_live_bytes_are_a_count_over_blocks(instance):
    born, dead, size = instance.birth_slot, instance.death_slot, instance.trace.size_bytes
    assert instance.live_bytes.tolist() == [int(size[(born <= t) & (dead > t)].sum()) for t in range(instance.n_slots)]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"weight_bytes": -1.0}, "weight_bytes", "must be 0 or more"),
        ({"weight_bytes": np.nan}, "weight_bytes", "must be 0 or more"),
        ({"weight_bytes_per_slot": np.inf}, "weight_bytes_per_slot", "must be 0 or more"),
        ({"batch": 0}, "batch", "at least 1"),
        ({"batch": np.nan}, "batch", "a whole number"),
        ({"platform": platform(100), "weight_bytes": 101.0}, "weight_bytes", "do not fit"),
        (
            {"platform": platform(30, 29)},
            "capacity_bytes",
            r"60 bytes are alive in slot 3 \(step 1, lane 1\), but the tiers hold 59 under excl",
        ),
        (
            {"platform": platform(1000, 59), "rules": Rules("inclusive")},
            "capacity_bytes",
            "60 bytes .* 59 under inclusive",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes, field, words):
    with pytest.raises(InstanceError, match=words) as caught:
        Instance(**{"trace": trace(), "platform": platform(100), **changes})
    assert caught.value.field == field
    assert caught.value.fix


def test_capacities_that_fit_exactly_are_accepted():
    assert Instance(trace(), platform(30, 30)).capacity_bytes == (30, 30)
    assert Instance(trace(), platform(30, 60), Rules("inclusive")).capacity_bytes == (30, 60)


def test_capacities_are_whole_bytes_whatever_rounding_made_of_them():
    assert 0.29 * 100 < 29
    assert Instance(trace(), platform(100)).with_hbm_bytes(100 * 0.29 + 1).capacity_bytes[0] == 30
    assert Instance(trace(), platform(100 + 0.9, np.inf)).capacity_bytes == (100, np.inf)
    for huge in (480e9, 1e12, 2.0**50):
        assert Instance(trace(), platform(100, huge)).capacity_bytes[1] == huge
    assert Instance(trace(), platform(1e11), weight_bytes=80e9).with_hbm_bytes(1e9 / 3).capacity_bytes[0] == 333333333


def test_with_hbm_bytes_is_what_is_left_for_the_cache():
    instance = Instance(trace(), platform(100), weight_bytes=40.0)
    assert instance.capacity_bytes == (60.0, 1e12)
    assert instance.with_hbm_bytes(35).capacity_bytes == (35.0, 1e12)
    assert instance.with_hbm_bytes(0).capacity_bytes == (0, 1e12)
    for wrong in (-5, np.nan):
        with pytest.raises(InstanceError, match=r"hbm_bytes: must be 0 or more"):
            instance.with_hbm_bytes(wrong)


def test_tokens_per_second_count_the_batch():
    assert Instance(trace(), platform(100), batch=8).tokens_per_s(0.5) == 3 * 8 / 0.5


def test_the_summary_is_json():
    summary = json.loads(json.dumps(Instance(trace(), platform(100, np.inf)).summary()))
    assert summary["capacity_bytes"] == [100, None]
    assert summary["copies"] == "exclusive"
    assert summary["trace"]["n_blocks"] == 3
