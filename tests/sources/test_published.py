"""The published rule, checked on dense read sets."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.errors import TraceError
from kvopt.sources.published import RecentAndScattered, recent_and_scattered
from tests.sources.test_synthetic import read_sets

FLOORS = (Fraction(7, 10), Fraction(85, 100), Fraction(95, 100))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 120),
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from([*FLOORS, Fraction(1)]),
    st.integers(0, 99),
)
def test_so_many_are_read_and_all_above_the_floor(prompt, steps, lanes, floor, seed):
    trace = recent_and_scattered(prompt, steps, n_lanes=lanes, floor=float(floor), seed=seed)
    assert trace.write_step.tolist() == ([-1] * prompt + list(range(steps))) * lanes
    assert trace.lane.tolist() == np.repeat(np.arange(lanes), prompt + steps).tolist()
    for step, sets in enumerate(read_sets(trace)):
        present = prompt + step + 1
        count = math.ceil(Fraction(2, 5) * present)
        # Exact fractions: the rule must not depend on how 0.7 is rounded.
        first = min(max(math.floor(floor * present), present - count), present - 1)
        for now in sets:
            assert len(now) == count
            assert now >= set(range(first, present))


@settings(max_examples=25, deadline=None)
@given(st.integers(60, 200), st.integers(2, 60), st.sampled_from(FLOORS), st.sampled_from([0.0, 0.05, 0.3]), st.data())
def test_the_scattered_leave_first_in_first_out(prompt, steps, floor, swap, data):
    """By the step in which each scattered token entered, reconstructed from the read sets alone.

    A token that entered while it was above the floor entered the scattered ones when the floor passed it.
    """
    seed = data.draw(st.integers(0, 99))
    trace = recent_and_scattered(prompt, steps, floor=float(floor), swap_share=swap, seed=seed)
    rule = RecentAndScattered(prompt, steps, floor=float(floor), swap_share=swap)
    firsts = rule.first_recent.tolist()
    entered: dict[int, int] = {}
    for step, (now,) in enumerate(read_sets(trace)):
        scattered = {token for token in now if token < firsts[step]}
        left = set(entered) - scattered
        enter = scattered - set(entered)
        if step:
            swapped = round(swap * len(entered))
            shrunk = max(len(entered) - len(scattered), 0)
            assert len(left) == swapped + shrunk
            oldest = sorted(entered.values())[:swapped]
            # All but the few that leave at random are the oldest: the same ages, whichever of equal age they are.
            ages = sorted(entered[token] for token in left)
            assert len(ages) - shrunk == len(oldest)
            if not shrunk:
                assert ages == oldest
            assert len(enter) == swapped + max(len(scattered) - len(entered), 0)
        entered = {**{t: n for t, n in entered.items() if t in scattered}, **dict.fromkeys(enter, step)}


def test_equal_seeds_give_equal_traces_and_lanes_differ():
    one, same, other = (recent_and_scattered(90, 40, n_lanes=2, seed=s) for s in (4, 4, 5))
    assert one.run_start.tolist() == same.run_start.tolist()
    assert one.run_ptr.tolist() == same.run_ptr.tolist()
    assert one.run_ptr.tolist() != other.run_ptr.tolist()
    halves = np.split(np.diff(one.run_ptr), 2)
    assert halves[0].tolist() != halves[1].tolist()
    alike = recent_and_scattered(90, 40, n_lanes=2, independent_lanes=False, seed=4)
    halves = np.split(np.diff(alike.run_ptr), 2)
    assert halves[0].tolist() == halves[1].tolist()
    assert alike.window(lanes=[1]).run_start.tolist() == one.window(lanes=[0]).run_start.tolist()


def test_entrants_are_spread_evenly_below_the_floor():
    trace = recent_and_scattered(2000, 200, floor=0.95, seed=1)
    entered = trace.run_start > 0
    token = trace.run_block[entered & (trace.write_step[trace.run_block] < 0)]
    # Nearly 200 steps of 35: by chance alone the tenths of the prompt differ by some 4 % each.
    tenths = np.histogram(token, bins=9, range=(0, 1800))[0]
    assert len(token) > 6000
    assert tenths == pytest.approx(np.full(9, tenths.mean()), rel=0.2)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"n_steps": 0}, "n_steps"),
        ({"n_lanes": 0}, "n_lanes"),
        ({"read_share": 0.0}, "read_share"),
        ({"read_share": float("nan")}, "read_share"),
        ({"floor": 0.5}, "floor"),
        ({"floor": 1.1}, "floor"),
        ({"swap_share": -0.1}, "swap_share"),
        ({"size_bytes": 0}, "size_bytes"),
    ],
)
def test_parameters_out_of_range_are_named(changes, field):
    with pytest.raises(TraceError) as caught:
        recent_and_scattered(**{"prompt_tokens": 5, "n_steps": 3, "seed": 0, **changes})
    assert caught.value.field == field
