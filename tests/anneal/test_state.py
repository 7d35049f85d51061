"""The annealer's state against the evaluator, which shares no code with it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from kvopt.anneal.state import (
    add_block,
    excess_bytes,
    make_problem,
    make_state,
    pair,
    refresh,
    split_loads,
    to_placement,
)
from kvopt.anneal.sweeps import sweeps_of
from kvopt.evaluate import evaluate
from kvopt.lowering import lower
from kvopt.placement import Placement, ViolationKind
from tests.anneal.cases import SUMS, drawn
from tests.instances import random_placement
from tests.kernels import called_from_python


@pytest.mark.parametrize("seed", range(140))
def test_loads_objective_and_occupancy_equal_the_evaluators(seed):
    instance = drawn(seed)
    given = random_placement(instance, np.random.default_rng(seed))
    low = lower(instance)
    problem = make_problem(low)
    state = make_state(problem, given)
    placement = to_placement(problem, state.z)
    judged = evaluate(instance, placement)
    limited = np.isfinite(low.capacity_bytes)
    np.testing.assert_allclose(state.held, judged.held_bytes[limited])
    assert sweeps_of(problem, instance).cost(state) == pytest.approx(judged.objective, rel=1e-12)
    assert (excess_bytes(problem, state) == 0) == (not placement.violations(instance))
    begins_right = not any(v.kind is ViolationKind.INITIAL for v in given.violations(instance))
    assert (placement == given) == begins_right
    if problem.second > 0 or problem.stepwise:
        rates = instance.platform.bandwidth_bytes_per_s[:, None]
        np.testing.assert_allclose(split_loads(problem, state).max(axis=0), judged.slot_s, rtol=1e-9)
        if not problem.balanced:
            np.testing.assert_allclose(state.load.T, judged.load_bytes / rates, rtol=1e-9, atol=1e-25)


@pytest.mark.parametrize("seed", range(40))
def test_taking_a_block_out_and_putting_it_back_changes_nothing(seed):
    instance = drawn(seed)
    problem = make_problem(lower(instance))
    state = make_state(problem, random_placement(instance, np.random.default_rng(seed)))
    before = {name: getattr(state, name).copy() for name in ("load", "held", "either", "price")}
    for i in range(instance.trace.n_blocks):
        called_from_python(add_block)(problem, state, i, -1.0)
        called_from_python(add_block)(problem, state, i, 1.0)
    for name, array in before.items():
        np.testing.assert_allclose(getattr(state, name), array, atol=1e-12 * max(np.abs(array).max(initial=0), 1))


@pytest.mark.parametrize("seed", range(40))
def test_caches_hold_the_exact_cost_of_a_change(seed):
    """By asking the evaluator of the slot's balance, where reads are balanced: a block put in by hand."""
    low = lower(drawn(seed, SUMS))
    problem = make_problem(low)
    state = make_state(problem, Placement(np.zeros(low.n_blocks + 1), [], []))
    n_states, second = low.n_states, low.prices.per_second
    for t in range(low.n_slots):
        called_from_python(refresh)(problem, state, t)
        for q, size in enumerate(problem.class_size):
            for z in range(n_states):
                for after in set(range(n_states)) - {z}:
                    price = size * (low.op_price_per_byte[0, z, after] - low.op_price_per_byte[0, z, z])
                    load = state.load[t] + size * low.op_s_per_byte[0, z, after]
                    either = state.either[t] if problem.balanced else 0.0
                    change = second * (_least(problem, load, either) - _least(problem, state.load[t], either)) + price
                    at = called_from_python(pair)(n_states, z, after)
                    assert state.idle[q, t, at] == pytest.approx(change, rel=1e-9, abs=1e-12)


def _least(problem, load, either: float) -> float:
    """The least of the slot's time over splits, by trying every crossing of two channels."""
    crossings = [
        (load[a] - load[b]) / (problem.swap[b] - problem.swap[a])
        for a, b in combinations(range(len(load)), 2)
        if problem.swap[a] != problem.swap[b]
    ]
    tried = [0.0, either, *crossings]
    return min((load + y * problem.swap).max() for y in np.clip(tried, 0.0, either))
