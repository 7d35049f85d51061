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


def test_a_sum_with_declared_ones_is_refused():
    with pytest.raises(ObjectiveError, match="adds 'energy x delay', a function of the loads"):
        drawn(0).with_objective(objective.latency() + EnergyDelay())


def test_an_expression_alone_is_refused():
    with pytest.raises(ObjectiveError, match="an expression that nothing judges"):
        drawn(0).with_objective(Unjudged())
