"""What is called certified is so literally: the verified value never exceeds the dual value in exact arithmetic."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import Certificate, Channel, Instance
from kvopt.bounds import certificate, verify
from kvopt.bounds.paths import most_additions
from kvopt.objective import cvar, energy, late_steps, latency, worst_step
from kvopt.prices import LATE
from tests.bounds.exact_dual import ExactDual
from tests.instances import brute_force, general_instance, instances

seeds = st.integers(0, 2**32 - 1)


def strained(instance: Instance, rng: np.random.Generator) -> tuple[Instance, Certificate]:
    """The instance with rates and sizes over many magnitudes, and multipliers whose terms nearly cancel."""
    trace, platform = instance.trace, instance.platform
    factor = 2 ** int(rng.integers(0, 40))
    trace = trace._replace(size_bytes=trace.size_bytes * factor)
    tiers = [replace(t, capacity_bytes=t.capacity_bytes * factor) for t in platform.tiers]
    channels = [
        Channel(c.name, c.bandwidth_bytes_per_s * float(10.0 ** rng.uniform(-6, 12))) for c in platform.channels
    ]
    platform = replace(platform, tiers=tuple(tiers), channels=tuple(channels))
    instance = replace(instance, trace=trace, platform=platform)
    lam = rng.dirichlet(np.full(len(channels), 0.1), instance.n_slots).T
    lam[rng.random(lam.shape) < 0.05] = 5e-324
    # Rounded upward, so that sums may lie above 1 by a little.
    lam = np.nextafter(lam, 2.0)
    dearest = max(1.0 / c.bandwidth_bytes_per_s for c in channels)
    mu = rng.random((len(tiers), instance.n_slots)) * dearest * 10.0 ** rng.uniform(-18, 1)
    mu *= np.isfinite(instance.capacity_bytes)[:, None]
    step = None
    if instance.prices.stepwise:
        step = np.full(trace.n_steps, instance.prices.per_second)
        tails = instance.prices.tails
        step[rng.integers(trace.n_steps)] += sum(w / max(1.0, share * trace.n_steps) for w, share in tails)
    return instance, Certificate(lam, mu, step)


def assert_certified(instance: Instance, certificate: Certificate) -> None:
    """Not above the exact value, and below by no more than a few roundings a step of all that was added."""
    exact = ExactDual(instance, certificate)
    value = Fraction(verify(instance, certificate))
    platform = instance.platform
    most = 2 * (most_additions(instance) + len(platform.channels) + len(platform.tiers) + 40)
    assert exact.value - most * Fraction(1, 2**53) * exact.magnitude <= value <= exact.value


def objective_of(rng: np.random.Generator, instance: Instance):
    names = [t.name for t in instance.platform.tiers]
    joules = {name: float(10.0 ** rng.uniform(-12, 2)) for name in names}
    tail = float(10.0 ** rng.uniform(-5, 10)) * (worst_step() if rng.random() < 0.5 else cvar(0.5))
    return (latency(), latency() + tail, energy(joules, joules) + latency(), tail)[rng.integers(4)]


@settings(deadline=None, max_examples=150)
@given(seeds)
def test_never_above_the_exact_value_under_any_rules(seed):
    rng = np.random.default_rng(seed)
    assert_certified(*strained(general_instance(rng, objective=objective_of), rng))


@settings(deadline=None, max_examples=50)
@given(instances(), seeds)
def test_never_above_the_exact_value_of_drawn_instances(instance, seed):
    assert_certified(*strained(instance, np.random.default_rng(seed)))


@settings(deadline=None, max_examples=25)
@given(instances())
def test_the_exact_value_is_a_bound(instance):
    lam = np.full((len(instance.platform.channels), instance.n_slots), 1.0 / len(instance.platform.channels))
    mu = np.zeros((len(instance.platform.tiers), instance.n_slots))
    assert float(ExactDual(instance, Certificate(lam, mu)).value) <= brute_force(instance)[0] * (1 + 1e-12)


def test_prices_that_would_overflow_are_refused():
    instance = general_instance(np.random.default_rng(0))
    lam = np.zeros((len(instance.platform.channels), instance.n_slots))
    mu = np.full((len(instance.platform.tiers), instance.n_slots), 1e200)
    with pytest.raises(ValueError, match="capacity_price_s_per_byte: has entries above 1e"):
        kvopt.verify(instance, Certificate(lam, mu))


def test_the_allowance_is_small_at_full_size():
    """Ten thousand steps of 32 lanes cost a few parts in 10^12."""
    trace = kvopt.Trace(10_239, 32, [0], [1], [-1], [10_239], [0, 1], [0], [10_239])
    instance = Instance(trace, kvopt.Platform.preset("gh200"))
    lam = np.full((len(instance.platform.channels), instance.n_slots), 1.0 / len(instance.platform.channels))
    certificate = Certificate(lam, np.zeros((2, instance.n_slots)))
    # All that counts is the block's cheapest read in every step; it begins where it stays.
    exact = ExactDual.__new__(ExactDual)
    exact.instance, exact.second = instance, [[Fraction(x)] for x in lam[:, 0].tolist()]
    price = min(exact.price("read", k, 0) for k in range(2)) * 10_239
    value = Fraction(verify(instance, certificate))
    assert price * (1 - Fraction(1, 10**11)) <= value <= price


def test_channel_prices_add_up_to_no_more_than_one():
    """By fractions: what is divided by a sum that was itself rounded."""
    rng = np.random.default_rng(5)
    for n_channels in (2, 3, 7):
        lam = rng.random((n_channels, 2_000))
        lam /= lam.sum(axis=0)
        used = certificate._shares(np.nextafter(lam, 2.0))
        assert max(sum(map(Fraction, column)) for column in used.T.tolist()) <= 1


def test_step_prices_stay_inside_the_polytope():
    """By fractions: no k of them add up to more than the objective counts, here a weight of one."""
    trace = kvopt.Trace(8, 1, [0], [1], [-1], [8], [0, 1], [0], [8])
    instance = Instance(trace, kvopt.Platform.preset("gh200"), objective=worst_step())
    rng = np.random.default_rng(6)
    for _ in range(2_000):
        given_ = rng.random(8)
        used = certificate._step_prices(instance, np.nextafter(given_ / given_.sum(), 2.0))
        assert sum(map(Fraction, used.tolist())) <= 1


def test_no_step_counts_as_late_by_rounding():
    """Deadlines at the very time, in fractions, that a step takes at least."""
    rng, platform = np.random.default_rng(7), kvopt.Platform.preset("gh200")
    late = 0
    for _ in range(300):
        size = int(rng.integers(1, 2**36))
        trace = kvopt.Trace(1, 3, [0, 1, 2], [size] * 3, [-1] * 3, [1] * 3, [0, 1, 2, 3], [0] * 3, [1] * 3)
        lam = 0.5 * rng.dirichlet(np.ones(len(platform.channels)), 3).T  # Less than one: nothing scales them down.
        exact = _least_step(platform, lam, size)
        for times in (1.0, 1.0 - 1e-13):
            # What exceeds the deadline by this share is late.
            deadline = float(exact * Fraction(times) / (1 + Fraction(LATE)))
            while Fraction(deadline * (1 + LATE)) < exact * Fraction(times):
                deadline = float(np.nextafter(deadline, np.inf))
            instance = Instance(trace, platform, objective=latency() + late_steps(deadline))
            found = certificate.surely_late(instance, lam)
            assert times < 1.0 or found == 0.0
            late += found > 0
    assert late == 300


def _least_step(platform: kvopt.Platform, lam: np.ndarray, size: int) -> Fraction:
    """What three lanes of one block each take at least, at the admissible prices nearest to these, as nothing is
    rounded."""
    total = Fraction(0)
    for column in lam.T.tolist():
        prices = [Fraction(x) / max(Fraction(1), sum(map(Fraction, column))) for x in column]
        by_tier = []
        for tier in platform.tiers:
            loads = [
                Fraction(tier.read.get(c.name, 0.0)) / Fraction(c.bandwidth_bytes_per_s) for c in platform.channels
            ]
            by_tier.append(sum(p * load for p, load in zip(prices, loads, strict=True)))
        total += min(by_tier) * size
    return total


def test_the_additions_of_a_long_life_are_allowed_for():
    """Rates of which every addition rounds upward, for thousands of steps."""
    n_steps, most = 4_000, Fraction(0)
    trace = kvopt.Trace(n_steps, 1, [0], [1], [-1], [n_steps], [0, 1], [0], [n_steps])
    for rate in np.random.default_rng(8).uniform(1.0, 2.0, 12).tolist():
        tiers = (
            kvopt.Tier("fast", 1.0, {"bus": 1.0}, {"bus": 1.0}),
            kvopt.Tier("slow", 1.0, {"bus": 1.0}, {"bus": 1.0}),
        )
        instance = Instance(trace, kvopt.Platform("one", tiers, (Channel("bus", rate),)))
        value = Fraction(verify(instance, Certificate(np.ones((1, n_steps)), np.zeros((2, n_steps)))))
        exact = n_steps / Fraction(rate)
        assert value <= exact
        # Without the allowance for additions what is claimed would be above, for some of the rates.
        most = max(most, value * (1 + most_additions(instance) * Fraction(1, 2**53)) - exact)
    assert most > 0
