"""Moves: exact changes, the Boltzmann distribution of whole paths, and optimality at temperature 0."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from kvopt.anneal.moves import flip_sweep, improve_sweep, resample_sweep
from kvopt.anneal.state import excess_bytes, make_problem, make_state, rebuild, to_placement, total_time
from kvopt.evaluate import evaluate
from kvopt.lowering import lower
from kvopt.placement import Placement
from kvopt.trellis.rng import stream
from tests.instances import random_placement, tiny_instance


def chain(seed: int, feasible: bool = True):
    """A tiny instance and a chain on it, feasible unless told otherwise."""
    rng = np.random.default_rng(seed)
    instance = tiny_instance(rng)
    problem = make_problem(lower(instance))
    placement = random_placement(instance, rng)
    while feasible and placement.violations(instance):
        placement = random_placement(instance, rng)
    return instance, problem, make_state(problem, placement)


def paths_of(instance, problem, state, i):
    """Time of the whole instance for every feasible path of block i, all others as they are."""
    cells = slice(problem.cell[i] + problem.birth[i], problem.cell[i] + problem.death[i])
    kept = state.z.copy()
    times = {}
    for path in product((0, 1), repeat=int(problem.death[i] - problem.birth[i])):
        kept[cells] = path
        placement = to_placement(problem, kept)
        if not placement.violations(instance):
            times[path] = evaluate(instance, placement).latency_s
    return times


@pytest.mark.parametrize("seed", range(30))
def test_deltas_add_up_to_a_full_recomputation(seed):
    instance, problem, state = chain(seed)
    rng = stream(seed, 0)
    unit = total_time(problem, state) / instance.n_slots
    rent = np.full(instance.n_slots, 0.1 * unit / problem.size.mean())
    order = np.arange(len(problem.size))
    for temperature in (unit, 0.1 * unit, 1e-3 * unit):
        resample_sweep(problem, state, order, temperature, rent, rng)
        flip_sweep(problem, state, 50, temperature, rng)
        time_s, held, up = total_time(problem, state), state.held.copy(), state.up.copy()
        rebuild(problem, state)
        assert time_s == pytest.approx(total_time(problem, state), rel=1e-9)
        np.testing.assert_allclose(held, state.held, atol=1e-6)
        resample_sweep(problem, state, order, temperature, rent, rng)
        up = state.up.copy()
        rebuild(problem, state)
        np.testing.assert_allclose(up, state.up, atol=1e-9 * unit)
        assert total_time(problem, state) == pytest.approx(
            evaluate(instance, to_placement(problem, state.z)).latency_s, rel=1e-9
        )


@pytest.mark.parametrize("seed", range(6))
def test_paths_are_drawn_from_the_boltzmann_distribution(seed):
    instance, problem, state = chain(seed)
    i = int(np.argmax(problem.death - problem.birth))
    times = paths_of(instance, problem, state, i)
    temperature = 0.3 * max(np.std(list(times.values())), 1e-30)
    weight = np.exp(-(np.array(list(times.values())) - min(times.values())) / temperature)
    draws = 4000
    expected = draws * weight / weight.sum()
    rng, seen, rent = stream(seed, 1), Counter(), np.zeros(instance.n_slots)
    cells = slice(problem.cell[i] + problem.birth[i], problem.cell[i] + problem.death[i])
    for _ in range(draws):
        resample_sweep(problem, state, np.array([i]), temperature, rent, rng)
        seen[tuple(state.z[cells])] += 1
    assert set(seen) <= set(times)
    counts = np.array([seen[path] for path in times])
    likely = expected > 5
    chi2 = ((counts - expected) ** 2 / expected)[likely].sum()
    freedom = max(likely.sum() - 1, 1)
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("seed", range(40))
def test_the_improving_move_finds_a_blocks_best_path(seed):
    instance, problem, state = chain(seed)
    rent = np.zeros(instance.n_slots)
    for i in range(len(problem.size)):
        best = min(paths_of(instance, problem, state, i).values())
        improve_sweep(problem, state, np.array([i]), rent)
        assert total_time(problem, state) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_one_sweep_makes_an_overfull_chain_feasible(seed):
    """Where only the fast tier is limited; a full backing tier as well is bin packing."""
    instance, problem, _ = chain(seed, feasible=False)
    if not (problem.least_fast < 0).all():
        pytest.skip("the backing tier is limited, too")
    everything = Placement.from_intervals(len(problem.size), np.arange(len(problem.size)), problem.birth, problem.death)
    order = np.arange(len(problem.size))
    for sweep in ("draw", "improve"):
        state = make_state(problem, everything)
        if sweep == "draw":
            resample_sweep(
                problem, state, order, total_time(problem, state), np.zeros(instance.n_slots), stream(seed, 2)
            )
        else:
            improve_sweep(problem, state, order, np.zeros(instance.n_slots))
        assert excess_bytes(problem, state) == 0
        assert not to_placement(problem, state.z).violations(instance)


@pytest.mark.parametrize("seed", range(10))
def test_flips_keep_a_feasible_chain_feasible(seed):
    instance, problem, state = chain(seed)
    accepted = flip_sweep(problem, state, 500, total_time(problem, state), stream(seed, 3))
    assert accepted > 0
    assert not to_placement(problem, state.z).violations(instance)
