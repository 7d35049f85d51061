"""Tiers of no bytes, and smaller than some blocks or than all: every method, one answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt import policies
from kvopt.bounds import aggregate_bound, dual_bound
from kvopt.exact import lp_bound, refine
from kvopt.policies.simulate import simulate_by_slots
from tests.instances import RULES, general_instance
from tests.truth import brute_force, slow_objective


def drawn(seed: int, *, rules: kvopt.Rules | None = None, n_tiers: int | None = None) -> kvopt.Instance:
    """A tiny instance with a tier that some block does not fit into."""
    rng = np.random.default_rng(seed)
    while True:
        instance = general_instance(rng, rules=rules, n_tiers=n_tiers)
        if min(instance.capacity_bytes[:-1]) < instance.trace.size_bytes.max():
            return instance


def of_nothing(instance: kvopt.Instance, tier: int) -> kvopt.Instance:
    """The instance with a tier of no bytes."""
    return replace(instance, platform=instance.platform.with_capacity(0.0, tier), initial=None)


@pytest.mark.parametrize("seed", range(60))
def test_policies_respect_them_and_compiled_ones_do_the_same(seed):
    instance = drawn(seed, rules=RULES[seed % len(RULES)])
    optimum, _ = brute_force(instance)
    for name in policies.names():
        placement = policies.simulate(instance, policies.get(name))
        assert not placement.violations(instance)
        assert kvopt.evaluate(instance, placement).objective >= optimum * (1 - 1e-9)
        assert placement == simulate_by_slots(instance, policies.get(name))


@pytest.mark.parametrize("seed", range(6))
def test_annealers_of_every_kind_respect_them(seed):
    instance = drawn(100 + seed, rules=RULES[seed], n_tiers=2)
    optimum, _ = brute_force(instance)
    bound = kvopt.bound(instance)
    assert bound.value <= optimum * (1 + 1e-9)
    for options in ({"windows": True}, {"windows": False}, {"move": "flip"}):
        found = kvopt.solve(instance, "anneal", bound=bound, refine=False, restarts=2, **options)
        assert not found.placement.violations(instance)
        assert found.objective == pytest.approx(slow_objective(instance, found.placement), rel=1e-9, abs=1e-12)
        assert found.objective >= optimum * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_other_solvers_agree(seed):
    instance = drawn(200 + seed)
    optimum, best = brute_force(instance)
    assert lp_bound(instance).value <= optimum * (1 + 1e-6) + 1e-12
    guided = kvopt.solve(instance, "guided")
    assert guided.objective >= optimum * (1 - 1e-9)
    refined = refine(instance, guided.placement)
    assert optimum * (1 - 1e-9) <= refined.objective <= guided.objective * (1 + 1e-9)
    assert refine(instance, best).objective == pytest.approx(optimum, rel=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_a_tier_that_holds_no_block_is_as_good_as_none(seed):
    """It proves as much, and costs as much, as the instance without it; under exclusive copies, where states differ."""
    rng = np.random.default_rng(300 + seed)
    whole = general_instance(rng, rules=RULES[seed % 3], n_tiers=2, given_start=False)
    fast, slow = whole.platform.tiers
    for capacity in (0.0, 0.5, float(whole.trace.size_bytes.min() - 1)):
        useless = replace(slow, name="useless", capacity_bytes=capacity)
        for tiers in ((fast, useless, slow), (useless, fast, slow)):
            more = replace(whole, platform=replace(whole.platform, tiers=tiers), weight_bytes_per_slot=0.0)
            less = replace(whole, weight_bytes_per_slot=0.0)
            assert aggregate_bound(more).value == pytest.approx(aggregate_bound(less).value, rel=1e-12)
            found, known = (dual_bound(instance) for instance in (more, less))
            assert found.value == pytest.approx(known.value, rel=1e-5, abs=1e-9)
            assert kvopt.verify(more, found.certificate) == found.value


@pytest.mark.parametrize("seed", range(10))
def test_with_nothing_above_it_the_backing_tier_decides(seed):
    whole = general_instance(np.random.default_rng(400 + seed), rules=kvopt.Rules(), n_tiers=2, given_start=False)
    alone = kvopt.Instance(
        whole.trace, whole.platform.with_capacity(0.0).with_capacity(1e9, 1), weight_bytes_per_slot=2.5
    )
    only = kvopt.evaluate(alone, kvopt.Placement.backing(alone)).objective
    assert kvopt.bound(alone).value == pytest.approx(only, rel=1e-9)
    for method in ("anneal", "exact", "lru"):
        assert kvopt.solve(alone, method).objective == pytest.approx(only, rel=1e-9)


def test_a_backing_tier_of_nothing_is_refused_unless_the_others_hold_all():
    instance = general_instance(np.random.default_rng(1), rules=kvopt.Rules(), n_tiers=2, given_start=False)
    peak = int(instance.live_bytes.max())
    with pytest.raises(kvopt.Infeasible, match="short of"):
        of_nothing(instance.with_hbm_bytes(peak - 1), 1)
    held = of_nothing(instance.with_hbm_bytes(peak), 1)
    for method in ("anneal", "exact", "lru"):
        found = kvopt.solve(held, method)
        assert found.placement.held_bytes(held)[1].max() == 0
        assert kvopt.bound(held).value == pytest.approx(found.objective, rel=1e-9)
