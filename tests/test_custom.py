"""Objectives that are functions of the loads: judged, annealed, and refused elsewhere with the reason."""

from __future__ import annotations

import numpy as np
import pytest

import kvopt
from kvopt import objective
from kvopt.errors import MethodError
from kvopt.objective import ObjectiveError
from tests.instances import RULES, general_instance, random_placement


class EnergyDelay:
    """Busy channel-seconds times the decode time: a product of two sums."""

    name, unit = "energy x delay", "s2"

    def of_loads(self, load_s: np.ndarray, instance: kvopt.Instance) -> float:
        return float(load_s.sum() * load_s.max(axis=0).sum())


class Unjudged:
    """An expression that nothing could be held against."""

    name, unit = "unjudged", "s"

    def expression(self, model, instance):
        return model.latency_s


def drawn(seed: int, **fixed) -> kvopt.Instance:
    return general_instance(np.random.default_rng(seed), given_start=False, **fixed).with_objective(EnergyDelay())


@pytest.mark.parametrize("seed", range(20))
def test_the_evaluator_hands_over_the_loads_in_seconds(seed):
    instance = drawn(seed)
    found = kvopt.evaluate(instance, random_placement(instance, np.random.default_rng(seed)))
    rates = instance.platform.bandwidth_bytes_per_s[:, None]
    assert found.objective == pytest.approx((found.load_bytes / rates).sum() * found.latency_s, rel=1e-12)


@pytest.mark.parametrize("number", range(len(RULES)))
def test_annealing_is_never_worse_than_its_start_and_mostly_as_good_as_any(number):
    instance = drawn(100 + number, rules=RULES[number])
    lru = kvopt.solve(instance, "lru")
    found = kvopt.solve(instance, "anneal", start=lru, time_limit=20)
    assert not found.placement.violations(instance)
    assert found.bound is None
    assert found.objective <= lru.objective * (1 + 1e-12)
    assert found.objective == kvopt.evaluate(instance, found.placement).objective


def test_who_takes_it_and_who_says_why_not():
    instance = drawn(0)
    answers = kvopt.accepts(instance)
    assert answers["evaluate"] is None
    assert answers["anneal"] is None
    assert "expression(model, instance)" in answers["exact"]
    assert "no multipliers" in answers["bound"]
    assert set(kvopt.accepts(instance, objective.worst_step()).values()) == {None}


@pytest.mark.parametrize(
    "ask",
    [
        lambda instance: kvopt.bound(instance),
        lambda instance: kvopt.bound(instance, method="aggregate"),
        lambda instance: kvopt.solve(instance, "exact"),
        lambda instance: kvopt.compare(instance, ["lru"]),
    ],
)
def test_it_is_refused_by_name_where_nothing_stands_for_it(ask):
    with pytest.raises(MethodError, match=r"of objective 'energy x delay': .* is a function of the loads"):
        ask(drawn(0))


def test_a_sum_with_prices_per_byte_is_refused():
    prices = objective.energy({}, {drawn(0).platform.tiers[0].name: 1e-9})
    with pytest.raises(ObjectiveError, match="adds 'energy x delay', a function of the loads, to prices per byte"):
        drawn(0).with_objective(prices + EnergyDelay())


class SummableEnergyDelay(EnergyDelay, objective.Summable):
    """The same function, to be multiplied and added."""


@pytest.mark.parametrize("seed", range(10))
def test_a_sum_with_a_function_of_the_loads_is_one_and_has_the_value_of_its_terms(seed):
    plain = drawn(seed)
    placement = random_placement(plain, np.random.default_rng(seed))

    def value(wanted) -> float:
        return kvopt.evaluate(plain.with_objective(wanted), placement).objective

    parts = objective.latency(), objective.worst_step(), objective.late_steps(0.5 * value(objective.worst_step()))
    mixed = 2e-9 * SummableEnergyDelay() + 0.5 * parts[0] + 3 * parts[1] + 0.25 * parts[2]
    assert plain.with_objective(mixed).custom
    assert not plain.with_objective(mixed).timed
    expected = 2e-9 * value(EnergyDelay()) + 0.5 * value(parts[0]) + 3 * value(parts[1]) + 0.25 * value(parts[2])
    assert value(mixed) == pytest.approx(expected, rel=1e-12)
    assert value(2e-9 * SummableEnergyDelay()) == pytest.approx(2e-9 * value(EnergyDelay()), rel=1e-12)
    assert value(EnergyDelay() + 0.5 * parts[0]) == pytest.approx(value(EnergyDelay()) + 0.5 * value(parts[0]))


def test_a_multiple_is_annealed_and_refused_elsewhere_as_the_function_is():
    instance = drawn(3).with_objective(2e-9 * SummableEnergyDelay())
    lru = kvopt.solve(instance, "lru")
    found = kvopt.solve(instance, "anneal", start=lru, time_limit=20)
    assert found.objective <= lru.objective * (1 + 1e-12)
    assert found.bound is None
    with pytest.raises(MethodError, match="is a function of the loads"):
        kvopt.bound(instance)


class Wear(kvopt.Objective):
    """Bytes written to the last tier, by a class that inherits the protocol itself."""

    name, unit = "wear", "B"

    def prices(self, platform: kvopt.Platform) -> objective.Prices:
        prices = objective.Prices.zero(platform)
        prices.write[-1] = 1.0
        return prices


def test_a_class_that_inherits_objective_can_be_weighted_and_summed():
    instance = general_instance(np.random.default_rng(5), given_start=False)
    placement = random_placement(instance, np.random.default_rng(5))
    total = sum([2e-3 * Wear(), objective.latency()])
    values = [kvopt.evaluate(instance.with_objective(o), placement).objective for o in (Wear(), objective.latency())]
    found = kvopt.evaluate(instance.with_objective(total), placement).objective
    assert found == pytest.approx(2e-3 * values[0] + values[1], rel=1e-12)


def test_an_expression_alone_is_refused():
    with pytest.raises(ObjectiveError, match="an expression that nothing judges"):
        drawn(0).with_objective(Unjudged())
