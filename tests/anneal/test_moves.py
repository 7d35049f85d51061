"""Moves: exact changes, the Boltzmann distribution of whole paths, and optimality at temperature 0."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from kvopt.anneal.moves import flip_sweep, improve_sweep, resample_sweep
from kvopt.anneal.state import excess_bytes, make_problem, make_state, rebuild, to_placement, total_cost
from kvopt.anneal.steps import follow_steps, longest_shares, resample_steps, weigh_evenly, weigh_steps
from kvopt.anneal.sweeps import sweeps_of
from kvopt.evaluate import evaluate
from kvopt.lowering import lower
from kvopt.placement import Placement
from kvopt.trellis.rng import stream
from tests.anneal.cases import STEPWISE, SUMS, chain, drawn, is_feasible


def nothing(problem) -> np.ndarray:
    """No rent."""
    return np.zeros((len(problem.base), len(problem.states)))


def paths_of(instance, problem, state, i):
    """Objective of the whole instance for every feasible path of block i, all others as they are."""
    cells = slice(problem.cell[i] + problem.birth[i], problem.cell[i] + problem.death[i])
    kept = state.z.copy()
    costs = {}
    for path in product(range(len(problem.states)), repeat=int(problem.death[i] - problem.birth[i])):
        kept[cells] = path
        placement = to_placement(problem, kept)
        if not placement.violations(instance):
            costs[path] = evaluate(instance, placement).objective
    return costs


def draw(problem, sweeps, state, order, temperature, rent, rng):
    for _ in sweeps.draw(state, order, temperature, rent, 0.0, rng):
        pass


@pytest.mark.parametrize("seed", range(84))
def test_deltas_add_up_to_a_full_recomputation(seed):
    instance = drawn(seed)
    problem, state = chain(instance, seed)
    sweeps, rng = sweeps_of(problem, instance), stream(seed, 0)
    unit = max(total_cost(problem, state) / instance.n_slots, 1e-3)
    rent = 0.1 * unit / problem.size.mean() * np.random.default_rng(seed).random((instance.n_slots, 1))
    rent = rent * np.arange(len(problem.states))[::-1] - rent
    order = np.arange(len(problem.size))
    for temperature in (unit, 0.1 * unit, 1e-2 * unit):
        draw(problem, sweeps, state, order, temperature, rent, rng)
        if not instance.custom:
            flip_sweep(problem, state, 50, temperature, rng)
        running = {name: getattr(state, name).copy() for name in ("load", "held", "either", "price", "step_s")}
        cost = sweeps.cost(state)
        rebuild(problem, state)
        for name, array in running.items():
            tolerance = 1e-9 * max(np.abs(array).max(initial=0), 1e-30)
            np.testing.assert_allclose(array, getattr(state, name), atol=tolerance, err_msg=name)
        assert cost == pytest.approx(sweeps.cost(state), rel=1e-9)
        draw(problem, sweeps, state, order, temperature, rent, rng)
        sweeps.improve(state, order)
        idle = state.idle.copy()
        rebuild(problem, state)
        np.testing.assert_allclose(idle, state.idle, atol=1e-9 * max(1, np.abs(idle).max(initial=0)))
        judged = evaluate(instance, to_placement(problem, state.z)).objective
        assert sweeps.cost(state) == pytest.approx(judged, rel=1e-9, abs=1e-12)
        assert is_feasible(instance, problem, state)


@pytest.mark.parametrize("names", [SUMS, STEPWISE, ("function",)], ids=["sums", "stepwise", "function"])
@pytest.mark.parametrize("seed", range(8))
def test_paths_are_drawn_from_the_boltzmann_distribution(names, seed):
    """Of sums at once; of other objectives in the long run, whose steps are correlated and so of wider spread."""
    instance = drawn(100 + seed, names)
    problem, state = chain(instance, seed)
    sweeps = sweeps_of(problem, instance)
    life = problem.death - problem.birth
    small = [i for i in np.argsort(-life) if len(problem.states) ** life[i] <= 256]
    i = int(small[0]) if small else int(np.argmin(life))
    costs = paths_of(instance, problem, state, i)
    scale = getattr(sweeps, "per_second", 1.0)
    temperature = (0.5 * np.std(list(costs.values())) or 1.0) / scale
    weight = np.exp(-(np.array(list(costs.values())) - min(costs.values())) / (temperature * scale))
    if problem.stepwise:
        weigh_steps(problem, state, temperature)
    draws, order, rent, rng, seen = 6000, np.array([i]), nothing(problem), stream(seed, 1), Counter()
    cells = slice(problem.cell[i] + problem.birth[i], problem.cell[i] + problem.death[i])
    for _ in range(draws):
        if problem.stepwise:
            resample_steps(problem, state, order, temperature, rent, rng)
        else:
            draw(problem, sweeps, state, order, temperature, rent, rng)
        seen[tuple(state.z[cells])] += 1
    assert set(seen) <= set(costs)
    counts, expected = np.array([seen[path] for path in costs]), draws * weight / weight.sum()
    likely = expected > 5
    chi2 = ((counts - expected) ** 2 / expected)[likely].sum()
    freedom = max(likely.sum() - 1, 1)
    spread = 1 if names is SUMS else 3
    assert chi2 < spread * (freedom + 5 * np.sqrt(2 * freedom) + 5)


@pytest.mark.parametrize("seed", range(60))
def test_the_improving_move_finds_a_blocks_best_path(seed):
    instance = drawn(seed, SUMS)
    problem, state = chain(instance, seed)
    for i in range(len(problem.size)):
        best = min(paths_of(instance, problem, state, i).values())
        improve_sweep(problem, state, np.array([i]), nothing(problem))
        assert total_cost(problem, state) == pytest.approx(best, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(42))
def test_the_improving_sweep_never_makes_the_objective_rise(seed):
    instance = drawn(seed)
    problem, state = chain(instance, seed)
    sweeps, order = sweeps_of(problem, instance), np.arange(len(problem.size))
    before = sweeps.cost(state)
    for _ in range(4):
        sweeps.improve(state, order)
        assert sweeps.cost(state) <= before * (1 + 1e-12)
        before = sweeps.cost(state)


@pytest.mark.parametrize("seed", range(60))
def test_one_sweep_makes_an_overfull_chain_feasible(seed):
    """Where the last tier is not limited; where all are, it is bin packing."""
    instance = drawn(seed)
    low = lower(instance)
    if np.isfinite(low.capacity_bytes[-1]):
        pytest.skip("the last tier is limited, too")
    problem = make_problem(low)
    order = np.arange(len(problem.size))
    everything = Placement.from_intervals(len(order), order, problem.birth, problem.death)
    sweeps = sweeps_of(problem, instance)
    for sweep in ("draw", "improve"):
        state = make_state(problem, everything)
        if sweep == "draw":
            resample_sweep(problem, state, order, 1.0, nothing(problem), stream(seed, 2))
        else:
            sweeps.improve(state, order)
        if sweep == "draw" or not instance.custom:
            assert excess_bytes(problem, state) == 0
            assert is_feasible(instance, problem, state)


@pytest.mark.parametrize("seed", range(30))
def test_flips_keep_a_feasible_chain_feasible(seed):
    instance = drawn(seed, SUMS + STEPWISE)
    problem, state = chain(instance, seed)
    accepted = flip_sweep(problem, state, 500, max(total_cost(problem, state), 1.0), stream(seed, 3))
    low = lower(instance)
    crowded = np.isfinite(low.capacity_bytes).all() or (problem.initial >= 0).any()
    crowded |= low.size_bytes.max() > low.capacity_bytes.min()  # Then there may be nowhere to go.
    assert accepted > 0 or crowded
    assert is_feasible(instance, problem, state)


@pytest.mark.parametrize("count", [1.0, 2.5, 7.0])
def test_shares_of_the_longest_steps(count):
    step_s = np.random.default_rng(3).random(7)
    sharp = longest_shares(step_s, count, 0.0)
    expected = np.zeros(7)
    expected[np.argsort(-step_s)] = np.clip(count - np.arange(7), 0, 1)
    np.testing.assert_allclose(sharp, expected, atol=1e-6)
    soft = longest_shares(step_s, count, 0.3)
    assert soft.sum() == pytest.approx(count)
    assert (np.diff(soft[np.argsort(step_s)]) >= 0).all()


@pytest.mark.parametrize("seed", range(8))
def test_weights_of_steps_are_of_the_sum_that_the_objective_gives(seed):
    instance = drawn(seed, ("worst-step", "cvar"))
    problem, state = chain(instance, seed)
    ways = (lambda: weigh_steps(problem, state, 0.1), lambda: follow_steps(problem, state, 0.1))
    for weigh in (*ways, lambda: weigh_evenly(problem, state)):
        weigh()
        assert (state.second > 0).all()
        assert state.second.sum() == pytest.approx(problem.n_lanes * problem.tails[:, 0].sum())
