"""Placements: intervals against dense tables, and violations that name block, slot, tier and amount."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.instance import Instance, Rules
from kvopt.placement import Placement, Violation, ViolationKind
from kvopt.platform import Platform
from kvopt.trace import Trace
from tests.instances import instances, random_placement

seeds = st.integers(0, 2**32 - 1)


def small(fast=60.0, backing=1e12, copies="exclusive") -> Instance:
    """One lane, four steps; 10, 20 and 30 bytes, the first freed at step 3 and the last written at step 1."""
    trace = Trace.from_accesses(
        np.arange(3),
        np.ones(3, int),
        n_steps=4,
        n_lanes=1,
        lane=np.zeros(3),
        size_bytes=[10, 20, 30],
        write_step=[-1, -1, 1],
        free_step=[3, 4, 4],
    )
    platform = Platform.preset("gh200").with_capacity(fast).with_capacity(backing, tier=1)
    return Instance(trace, platform, Rules(copies))


@settings(deadline=None)
@given(instances(), seeds)
def test_dense_and_back(instance, seed):
    placement = random_placement(instance, np.random.default_rng(seed))
    dense = placement.to_dense(instance.n_slots)
    assert Placement.from_dense(dense) == placement
    assert placement.fast_bytes(instance).tolist() == (instance.trace.size_bytes @ dense).tolist()
    runs = np.diff(np.pad(dense.astype(int), ((0, 0), (1, 0))), axis=1) == 1
    assert placement.n_intervals == runs.sum()
    assert placement.block.tolist() == np.nonzero(runs)[0].tolist()


@settings(deadline=None)
@given(instances(), seeds)
def test_from_intervals_joins_what_touches_in_any_order(instance, seed):
    rng = np.random.default_rng(seed)
    placement = random_placement(instance, rng)
    block, slot = np.nonzero(placement.to_dense(instance.n_slots))
    order = rng.permutation(len(block))
    empty = rng.integers(0, instance.n_slots, 2)  # Empty intervals are dropped.
    made = Placement.from_intervals(
        instance.trace.n_blocks,
        np.append(block[order], [0, 1]),
        np.append(slot[order], empty),
        np.append(slot[order] + 1, empty),
    )
    assert made == placement


def test_backing_holds_nothing():
    placement = Placement.backing(small())
    assert placement.n_intervals == 0
    assert not placement.to_dense(4).any()
    assert placement.violations(small()) == []
    assert Placement.from_intervals(3, [], [], []) == placement


def test_a_placement_is_read_only_and_equal_by_value():
    one = Placement.from_intervals(3, [0], [0], [2])
    assert one == Placement.from_intervals(3, [0, 0], [0, 1], [1, 2])
    assert one != Placement.from_intervals(3, [0], [0], [3])
    assert one != "placement"
    with pytest.raises(ValueError, match=r"read-only"):
        one.start[0] = 1


@settings(deadline=None)
@given(instances(), seeds)
def test_capacity_violations_are_a_count_over_slots(instance, seed):
    placement = random_placement(instance, np.random.default_rng(seed))
    in_fast = placement.to_dense(instance.n_slots)
    size = instance.trace.size_bytes
    slot = np.arange(instance.n_slots)
    live = (slot >= instance.birth_slot[:, None]) & (slot < instance.death_slot[:, None])
    in_backing = live if instance.rules.inclusive else live & ~in_fast
    expected = [
        (tier.name, t, size @ held[:, t] - capacity)
        for tier, held, capacity in zip(
            instance.platform.tiers, (in_fast, in_backing), instance.capacity_bytes, strict=True
        )
        for t in range(instance.n_slots)
        if size @ held[:, t] > capacity
    ]
    found = placement.violations(instance)
    assert [(v.tier, v.slot, v.amount_bytes) for v in found] == expected
    assert all(v.kind is ViolationKind.CAPACITY for v in found)


def test_an_overfull_fast_tier_names_slot_amount_and_who_entered_last():
    placement = Placement.from_intervals(3, [0, 1, 2], [0, 1, 1], [3, 2, 3])
    found = placement.violations(small(fast=35.0))
    assert found[0] == Violation(ViolationKind.CAPACITY, "hbm", 1, 1, 25.0)
    assert found[1] == Violation(ViolationKind.CAPACITY, "hbm", 2, 2, 5.0)
    assert len(found) == 2
    assert str(found[1]) == "slot 2: tier 'hbm' holds 5 bytes too much (last entered: block 2)"


def test_an_overfull_backing_tier_is_named():
    found = Placement.backing(small(backing=45.0)).violations(small(backing=45.0))
    assert [(v.tier, v.slot, v.block, v.amount_bytes) for v in found] == [
        ("lpddr", 1, None, 15.0),
        ("lpddr", 2, None, 15.0),
        ("lpddr", 3, None, 5.0),
    ]
    assert "slot 1: tier 'lpddr' holds 15 bytes too much" in str(found[0])
    assert "None" not in str(found[0])


@pytest.mark.parametrize(
    ("start", "stop", "block"),
    [(0, 2, 2), (0, 4, 0), (3, 4, 0), (2, 5, 1)],
)
def test_residency_outside_a_life_is_named(start, stop, block):
    placement = Placement.from_intervals(3, [block], [start], [stop])
    (found,) = placement.violations(small())
    size = float(small().trace.size_bytes[block])
    assert found == Violation(ViolationKind.LIFETIME, "hbm", start, block, size)
    assert f"holds block {block} ({size:.6g} bytes) while it does not exist" in str(found)


@pytest.mark.parametrize(
    ("start", "stop"),
    [([0, 1], [2, 3]), ([0, 2], [2, 3]), ([2, 0], [3, 1])],
)
def test_intervals_out_of_order_or_touching_are_named(start, stop):
    (found,) = Placement([0, 0, 2, 2], start, stop).violations(small())
    assert found == Violation(ViolationKind.ORDER, "hbm", start[1], 1, 20.0)
    assert "overlapping or empty intervals of block 1" in str(found)


def test_an_empty_interval_is_named():
    (found,) = Placement([0, 0, 1, 1], [2], [2]).violations(small())
    assert (found.kind, found.block, found.slot) == (ViolationKind.ORDER, 1, 2)


def test_most_limits_each_kind():
    placement = Placement.from_intervals(3, [0, 1, 2], [0, 0, 1], [3, 4, 4])
    assert len(placement.violations(small(fast=30.0))) == 3
    assert len(placement.violations(small(fast=30.0), most=1)) == 1


def test_a_placement_of_another_instance_is_refused():
    with pytest.raises(ValueError, match=r"placement: has 2 blocks, the instance 3"):
        Placement.from_intervals(2, [0], [0], [1]).violations(small())
