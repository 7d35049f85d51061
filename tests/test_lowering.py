"""The lowering against the judge: loads summed from its tables by a plain loop are the evaluator's."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings

from kvopt.evaluate import evaluate
from kvopt.instance import Instance, Rules
from kvopt.lowering import Lowered, lower
from kvopt.objective import energy, latency
from kvopt.platform import Platform
from kvopt.trace import Trace
from tests.instances import RULES, general_instance, instances, random_placement, reads
from tests.test_evaluate import placed

FAST, BACKING = 0, 1
"""The states there are with two tiers, unless copies are written back."""


def loads_s(low: Lowered, in_fast: np.ndarray, read: np.ndarray) -> np.ndarray:
    """float64[C, T]: seconds of each channel in each slot, by a loop over the lowered tables."""
    load = low.base_s.copy()
    for b in range(low.n_blocks):
        size = low.size_bytes[b]
        state = np.where(in_fast[b], FAST, BACKING)
        for t in range(low.birth_slot[b], low.death_slot[b]):
            after = state[t + 1] if t + 1 < low.death_slot[b] else state[t]
            load[:, t] += size * low.op_s_per_byte[int(read[b, t]), state[t], after]
            if t == low.birth_slot[b] and not low.prefilled[b]:
                load[:, t] += size * low.write_s_per_byte[state[t]]
    return load


@settings(max_examples=300, deadline=None)
@given(placed())
def test_lowered_loads_are_the_evaluators(drawn):
    instance, placement = drawn
    done = evaluate(instance, placement)
    load = loads_s(lower(instance), placement.to_dense(instance.n_slots), reads(instance))
    np.testing.assert_allclose(load, done.load_bytes / instance.platform.bandwidth_bytes_per_s[:, None], rtol=1e-12)


@settings(deadline=None)
@given(placed())
def test_lowered_occupancy_is_each_tiers_content(drawn):
    instance, placement = drawn
    low, in_fast = lower(instance), placement.to_dense(instance.n_slots)
    size, slot = instance.trace.size_bytes, np.arange(instance.n_slots)
    live = (slot >= low.birth_slot[:, None]) & (slot < low.death_slot[:, None])
    held = [
        low.occupancy[FAST, k] * (size @ in_fast) + low.occupancy[BACKING, k] * (size @ (live & ~in_fast))
        for k in (0, 1)
    ]
    np.testing.assert_array_equal(held[0], placement.fast_bytes(instance))
    np.testing.assert_array_equal(held[1], low.live_bytes - (0 if low.holds[:, 1].all() else held[0]))


@settings(deadline=None)
@given(instances())
def test_lives_in_steps_and_in_slots_agree(instance):
    low = lower(instance)
    for b in range(low.n_blocks):
        own = [t for t in range(low.birth_slot[b], low.death_slot[b]) if t % low.n_lanes == low.lane[b]]
        assert [t // low.n_lanes for t in own] == list(range(low.first_step[b], low.last_step[b] + 1))
    assert low.prefilled.tolist() == (instance.trace.write_step == -1).tolist()


@settings(deadline=None)
@given(instances())
def test_a_capacity_is_infinite_only_where_it_cannot_bind(instance):
    low = lower(instance)
    sizes = instance.trace.size_bytes.tolist()
    for k, capacity in enumerate(instance.capacity_bytes):
        cannot_bind = capacity >= instance.live_bytes.max() or (k == BACKING and instance.rules.inclusive)
        # Whole blocks fill no more than a multiple of what divides all their sizes, and none is less than the smallest.
        usable = 0 if capacity < min(sizes) else capacity - capacity % math.gcd(*sizes)
        assert low.capacity_bytes[k] == (np.inf if cannot_bind else usable)


def slots_of(low, placement, t: int) -> tuple[np.ndarray, float, float]:
    """(seconds of each channel, bytes that may come from either copy, charges) of a slot, from the arrays alone."""
    states = placement.to_states(low.n_slots, low.n_states)
    load, either, charge = low.base_s[:, t].copy(), 0.0, 0.0
    for b in np.flatnonzero((low.birth_slot <= t) & (t < low.death_slot)):
        here = states[b, t]
        after = states[b, t + 1] if t + 1 < low.death_slot[b] else here
        runs = slice(low.run_ptr[b], low.run_ptr[b + 1])
        step, lane = divmod(t, low.n_lanes)
        r = int(lane == low.lane[b] and ((low.run_start[runs] <= step) & (step < low.run_stop[runs])).any())
        load += low.size_bytes[b] * low.op_s_per_byte[r, here, after]
        charge += low.size_bytes[b] * low.op_price_per_byte[r, here, after]
        either += low.size_bytes[b] * (r and low.swappable[here])
        if t == low.birth_slot[b] and not low.prefilled[b]:
            load += low.size_bytes[b] * low.write_s_per_byte[here]
            charge += low.size_bytes[b] * low.write_price_per_byte[here]
    return load, either, charge


@pytest.mark.parametrize("seed", range(60))
def test_swaps_and_all_else_make_of_a_placement_what_the_evaluator_does(seed):
    """Half the placements under balanced reads, whose slots then take the split that costs least."""
    rng = np.random.default_rng(seed)
    rules = [rule for rule in RULES if rule.balanced][seed % 6] if seed % 2 else RULES[seed % len(RULES)]

    def wanted(rng, instance):
        joules = {tier.name: float(rng.uniform(0.1, 2.0)) for tier in instance.platform.tiers}
        return latency() + energy(joules, joules) if seed % 4 < 2 else latency()

    instance = general_instance(rng, rules=rules, objective=wanted)
    low, placement = lower(instance), random_placement(instance, rng)
    total = low.base_price
    for t in range(low.n_slots):
        load, either, charge = slots_of(low, placement, t)
        slot = [load.max()]
        tried = [0.0, either]
        for a, b in combinations(range(low.n_channels), 2):
            if low.swap_s_per_byte[a] != low.swap_s_per_byte[b]:
                y = (load[a] - load[b]) / (low.swap_s_per_byte[b] - low.swap_s_per_byte[a])
                tried.append(float(np.clip(y, 0.0, either)))
        slot = min((load + low.swap_s_per_byte * y).max() + low.swap_price_per_byte * y for y in tried)
        total += slot + charge
    assert total == pytest.approx(evaluate(instance, placement).objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_capacities_are_those_that_placements_are_held_to(seed):
    rng = np.random.default_rng(seed)
    instance = general_instance(rng, given_start=False)
    low = lower(instance)
    for _ in range(20):
        placement = random_placement(instance, rng)
        states = placement.to_states(low.n_slots, low.n_states)
        alive = [(low.birth_slot <= t) & (t < low.death_slot) for t in range(low.n_slots)]
        held = [(low.size_bytes * a) @ low.holds[states[:, t]] for t, a in enumerate(alive)]
        assert bool((np.array(held) <= low.capacity_bytes).all()) == (not placement.violations(instance))


@pytest.mark.parametrize(("copies", "down"), [("exclusive", 1), ("inclusive", 0)])
@pytest.mark.parametrize(("moves", "reread"), [("explicit", 1), ("read-through", 0)])
def test_operations_in_seconds_per_byte(copies, down, moves, reread):
    """One byte, every transition, on round rates: hbm 4e12, link in and out 450e9, lpddr 384e9 bytes/s."""
    trace = Trace.from_accesses([0], [0], n_steps=2, n_lanes=1, lane=[0], size_bytes=[1], write_step=[0])
    low = lower(Instance(trace, Platform.preset("gh200"), Rules(copies, moves)))
    rates = np.array([4e12, 450e9, 450e9, 384e9])
    hbm, from_host, to_host = np.array([1, 0, 0, 0]), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    expected = {
        (0, FAST, FAST): 0 * hbm,
        (0, BACKING, BACKING): 0 * hbm,
        (0, BACKING, FAST): from_host + hbm,
        (0, FAST, BACKING): down * (hbm + to_host),
        (1, FAST, FAST): hbm,
        (1, BACKING, BACKING): from_host,
        (1, BACKING, FAST): from_host + reread * from_host + hbm,
        (1, FAST, BACKING): hbm + down * (reread * hbm + to_host),
    }
    for key, per_byte in expected.items():
        np.testing.assert_allclose(low.op_s_per_byte[key] * rates, per_byte, err_msg=str(key))
    always = to_host * (copies == "inclusive")
    np.testing.assert_allclose(low.write_s_per_byte[FAST] * rates, hbm)
    np.testing.assert_allclose(low.write_s_per_byte[BACKING] * rates, to_host - always)
    np.testing.assert_allclose(low.base_s[:, 0] * rates, always)


@settings(deadline=None)
@given(instances())
def test_arrays_are_contiguous_and_of_the_documented_shapes(instance):
    low = lower(instance)
    channels = len(instance.platform.channels)
    assert low.base_s.shape == (channels, low.n_slots) == (low.n_channels, instance.n_slots)
    assert low.op_s_per_byte.shape == (2, 2, 2, channels)
    assert low.write_s_per_byte.shape == (2, channels)
    for name in ("base_s", "op_s_per_byte", "size_bytes", "lane", "birth_slot", "run_ptr", "run_start", "run_stop"):
        assert getattr(low, name).flags.c_contiguous, name
    for name in ("size_bytes", "lane", "first_step", "last_step", "birth_slot", "death_slot", "prefilled"):
        assert len(getattr(low, name)) == low.n_blocks, name
