"""Objectives in which single steps count: tails of the step times and deadlines, from every side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import Certificate, objective
from kvopt.objective import ObjectiveError
from kvopt.prices import tail_mean
from tests.instances import general_instance, random_placement
from tests.truth import brute_force, slow_objective


def random_steps(rng: np.random.Generator, instance: kvopt.Instance):
    """Worst step, CVaR, late steps, or sums with each other, the decode time and traffic."""
    step_s = kvopt.evaluate(instance, kvopt.Placement.backing(instance)).step_s
    typical = float(step_s.mean()) or 1.0
    late = objective.late_steps(typical * float(rng.uniform(0.3, 1.0)))
    channel = instance.platform.channels[0].name
    return (
        objective.worst_step(),
        objective.cvar(float(rng.uniform(0.0, 0.9))),
        objective.latency() + 2.0 * objective.worst_step() + 1.5 * objective.cvar(0.5),
        objective.latency() * 0.3 + late * typical,
        objective.worst_step() + 0.01 * objective.traffic(channel) + 0.2 * typical * late,
    )[int(rng.integers(5))]


def drawn(seed: int, **fixed) -> kvopt.Instance:
    rng = np.random.default_rng(700 + seed)
    while True:
        try:
            return general_instance(rng, objective=random_steps, **fixed)
        except kvopt.errors.InstanceError:  # Balanced reads beside prices of reads and of steps: refused by name.
            continue


@settings(max_examples=80, deadline=None)
@given(step_s=st.lists(st.floats(0, 10), min_size=1, max_size=12), share=st.floats(0, 1))
def test_the_mean_of_the_longest_is_the_least_of_rockafellar_and_uryasev(step_s, share):
    step_s = np.array(step_s)
    count = max(1.0, share * len(step_s))
    least = min(eta + np.maximum(step_s - eta, 0).sum() / count for eta in step_s)
    assert tail_mean(step_s, share) == pytest.approx(least, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends_are_the_worst_and_the_mean(share):
    step_s = np.array([3.0, 1.0, 2.0])
    assert tail_mean(step_s, share) == pytest.approx([step_s.max(), step_s.mean()][int(share)])


@pytest.mark.parametrize("seed", range(60))
def test_the_evaluator_counts_as_the_definition_does(seed):
    instance = drawn(seed)
    placement = random_placement(instance, np.random.default_rng(seed))
    counted = kvopt.evaluate(instance, placement).objective
    assert counted == pytest.approx(slow_objective(instance, placement), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_bounds_are_below_the_optimum(seed):
    instance = drawn(seed, n_tiers=2)
    optimum, _ = brute_force(instance)
    for method in ("aggregate", "dual"):
        bound = kvopt.bound(instance, method=method)
        assert bound.value <= optimum * (1 + 1e-9) + 1e-12, method
        # The aggregate bound leaves out writes and moves, which its certificate does not.
        assert bound.value <= kvopt.verify(instance, bound.certificate) <= optimum * (1 + 1e-9) + 1e-12
    assert bound.value >= kvopt.bound(instance, method="aggregate").value * (1 - 1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_any_step_prices_in_the_polytope_bound_the_optimum(seed):
    """And prices outside it are refused: they could prove too much."""
    rng = np.random.default_rng(seed)
    objective_ = objective.latency() * float(rng.choice([0.0, 1.0])) + 2.0 * objective.worst_step()
    objective_ = objective_ + 1.5 * objective.cvar(0.5)
    instance = general_instance(rng, objective=lambda _, __: objective_)
    optimum, _ = brute_force(instance)
    n_steps, prices = instance.trace.n_steps, instance.prices
    shape = (len(instance.platform.channels), instance.n_slots)
    lam = rng.dirichlet(np.ones(shape[0]), shape[1]).T
    mu = np.zeros((len(instance.platform.tiers), instance.n_slots))
    for _ in range(5):
        worst, half = rng.dirichlet(np.ones(n_steps)), np.zeros(n_steps)
        count = max(1.0, 0.5 * n_steps)
        order = rng.permutation(n_steps)
        half[order] = np.clip(count - np.arange(n_steps), 0.0, 1.0) / count
        omega = prices.per_second + 2.0 * worst + 1.5 * half
        certificate = Certificate(lam, mu, omega)
        assert kvopt.verify(instance, certificate) <= optimum * (1 + 1e-9)
        with pytest.raises(ValueError, match="outside what the objective counts"):
            kvopt.verify(instance, replace(certificate, step_price=omega * 1.01 + 0.01))


def test_late_steps_are_proved_where_no_placement_can_help():
    """Reads that no split of the channels serves in time: all steps are late, and the bound knows."""
    instance = drawn(3, n_tiers=2)
    ideal = kvopt.bound(instance.with_objective(objective.latency()), method="aggregate").value
    if ideal <= 0:
        pytest.skip("nothing to read")
    hopeless = instance.with_objective(objective.late_steps(1e-9 * ideal))
    step_s = kvopt.evaluate(hopeless, kvopt.Placement.backing(hopeless)).step_s
    optimum, _ = brute_force(hopeless)
    assert 0 < kvopt.bound(hopeless).value <= optimum <= np.count_nonzero(step_s)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: objective.cvar(1.5), "cvar alpha: must be from 0 to 1, got 1.5"),
        (lambda: objective.late_steps(0.0), "seconds greater than 0"),
        (lambda: -1.0 * objective.worst_step(), "weights of 0 or more"),
        (lambda: 0.0 * objective.worst_step() + 0.0 * objective.latency(), "costs nothing"),
    ],
)
def test_what_means_nothing_is_refused(make, words):
    instance = drawn(0)
    with pytest.raises(ObjectiveError, match=words):
        instance.with_objective(make())
