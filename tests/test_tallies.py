"""Parts of the blocks cover all, and what is counted in parts is what is counted at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt import Placement, evaluate, tallies
from kvopt.lowering import lower
from tests.instances import general_instance, instances, random_placement, reads

seeds = st.integers(0, 2**32 - 1)
counts = st.lists(st.integers(0, 9), min_size=1, max_size=30)


@given(counts, st.integers(1, 40))
def test_ranges_cover_all_blocks_with_few_items(items, most):
    ptr = np.concatenate([[0], np.cumsum(items)])
    ranges = list(tallies.block_ranges(ptr, ptr, most=most))
    assert [lo for lo, _ in ranges] == [0, *(hi for _, hi in ranges[:-1])]
    assert ranges[-1][1] == len(items)
    for lo, hi in ranges:
        assert hi == lo + 1 or 2 * (ptr[hi] - ptr[lo]) + hi - lo <= most
        assert tallies.owners(ptr, lo, hi).tolist() == [i for i in range(lo, hi) for _ in range(items[i])]


@settings(deadline=None)
@given(instances())
def test_read_bytes_is_a_count_over_blocks(instance):
    expected = instance.trace.size_bytes @ reads(instance)
    assert tallies.read_bytes(instance.trace).tolist() == expected.tolist()
    assert tallies.read_bytes(lower(instance)).tolist() == expected.tolist()


def intervals_in_any_order(placement: Placement, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    order = rng.permutation(placement.n_intervals)
    return tuple(a[order] for a in (placement.block, placement.start, placement.stop, placement.state))


def everything(instance, placement, rng) -> dict[str, object]:
    """All that is counted in parts."""
    done = evaluate(instance, placement)
    names = ("load_bytes", "read_bytes", "new_bytes", "move_bytes", "held_bytes", "slot_s")
    return {
        **{name: getattr(done, name).tolist() for name in names},
        "objective": done.objective,
        "read": tallies.read_bytes(instance.trace).tolist(),
        "begins": placement.states_in(0, instance).tolist(),
        "violations": placement.violations(instance),
        "made": Placement.from_intervals(instance.trace.n_blocks, *intervals_in_any_order(placement, rng)) == placement,
    }


@settings(deadline=None)
@given(seeds, st.integers(1, 6))
def test_parts_change_no_result(seed, most):
    rng = np.random.default_rng(seed)
    instance = general_instance(rng)
    placement = random_placement(instance, rng)
    whole = everything(instance, placement, rng)
    assert whole["made"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "CHUNK_ITEMS", most)
        assert everything(instance, placement, rng) == whole


@settings(deadline=None)
@given(seeds, st.integers(1, 6), st.integers(1, 3))
def test_parts_find_the_same_broken_rules(seed, items, most):
    """Also of intervals that overlap, lie outside a life or name no state."""
    rng = np.random.default_rng(seed)
    instance = general_instance(rng)
    n_blocks, n_slots = instance.trace.n_blocks, instance.n_slots
    ptr = np.concatenate([[0], np.cumsum(rng.integers(0, 4, n_blocks))])
    start = rng.integers(-1, n_slots, ptr[-1])
    broken = Placement(ptr, start, start + rng.integers(0, 3, ptr[-1]), rng.integers(-1, 3, ptr[-1]))
    whole = broken.violations(instance, most)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tallies, "CHUNK_ITEMS", items)
        assert broken.violations(instance, most) == whole


def test_an_interval_of_no_block_is_refused():
    with pytest.raises(ValueError, match=r"3 is outside 0\.\.2"):
        Placement.from_intervals(3, [3], [0], [1])


def test_a_placement_shares_what_nobody_may_write_to():
    start = np.array([0])
    assert not np.shares_memory(Placement([0, 1], start, [1]).start, start)
    start.setflags(write=False)
    assert np.shares_memory(Placement([0, 1], start, [1]).start, start)
