"""Objectives whose terms are a billion apart, and the way to the scale of a known placement and back."""

from __future__ import annotations

import numpy as np
import pytest

import kvopt
from kvopt import objective
from kvopt.errors import InstanceError
from kvopt.exact import arrays, solve_exact
from kvopt.exact.capacity import with_exact_rows
from kvopt.exact.layout import Layout
from kvopt.exact.scaling import scaled_to
from kvopt.lowering import lower
from kvopt.result import Termination
from tests.instances import brute_force, general_instance

WEIGHTS = (1e-9, 1e-6, 1e6, 1e9)


def drawn(seed: int) -> kvopt.Instance:
    """A tiny instance under a sum of two or three objectives, one of them weighed a million or billion times."""
    rng = np.random.default_rng(seed)
    while True:
        instance = general_instance(rng)
        tiers = [t.name for t in instance.platform.tiers]
        channel = str(rng.choice([c.name for c in instance.platform.channels]))
        longest = kvopt.evaluate(instance, brute_force(instance)[1]).step_s.max()
        deadline = float(rng.uniform(0.5, 2)) * max(longest, 1e-3)
        prices = [{name: float(rng.random() * 10.0 ** rng.integers(-9, 1)) for name in tiers} for _ in range(2)]
        weight = float(rng.choice(WEIGHTS))
        terms = (
            objective.latency() + weight * objective.traffic(channel),
            objective.latency() + weight * objective.late_steps(deadline),
            objective.latency() + weight * objective.worst_step(),
            objective.latency() + weight * objective.energy(*prices),
            objective.late_steps(deadline) + weight * objective.cvar(0.5) + (1 / weight) * objective.latency(),
        )
        try:
            return instance.with_objective(terms[seed % len(terms)])
        except InstanceError:
            continue  # Balanced reads beside prices of reads and of steps: refused by name.


@pytest.mark.parametrize("chunk", range(4))
def test_finds_the_optimum_of_terms_far_apart(chunk):
    for seed in range(chunk * 10, chunk * 10 + 10):
        instance = drawn(seed)
        best, _ = brute_force(instance)
        result = solve_exact(instance, backend="pyomo" if seed % 4 == 0 else "arrays")
        assert result.termination is Termination.OPTIMAL, f"seed {seed}"
        assert result.objective == pytest.approx(best, rel=1e-7, abs=0), f"seed {seed}"


def one_tier_never_used(slow: float) -> kvopt.Instance:
    """Two blocks that fit in the fast tier, one of which does not fit beside the other in the middle one's room."""
    trace = kvopt.Trace.from_accesses(
        [0, 0, 1, 2], [0, 1, 1, 0], n_steps=2, n_lanes=1, lane=[0] * 3, size_bytes=[3, 4, 5], write_step=[-1] * 3
    )
    tiers = (
        kvopt.Tier("fast", 8.0, {"bus": 1.0}, {"bus": 1.0}),
        kvopt.Tier("middle", 9.0, {"dram": 1.0}, {"dram": 1.0}),
        kvopt.Tier("slow", 100.0, {"tape": 1.0}, {"tape": 1.0}),
    )
    channels = (kvopt.Channel("bus", 2.0), kvopt.Channel("dram", 1.0), kvopt.Channel("tape", 1.0 / slow))
    return kvopt.Instance(trace, kvopt.Platform("tape", tiers, channels))


@pytest.mark.parametrize("slow", [1.0, 1e3, 1e6, 1e9, 1e12])
def test_a_tier_too_slow_to_be_used_does_not_hide_the_others(slow):
    instance = one_tier_never_used(slow)
    result = solve_exact(instance, backend="arrays")
    assert result.termination is Termination.OPTIMAL
    assert result.objective == pytest.approx(brute_force(instance)[0], rel=1e-9)


def test_there_and_back():
    """A known placement's columns keep the rows, cost the same and come back as they were."""
    checked = 0
    for seed in range(40):
        instance = drawn(seed)
        low = lower(instance)
        layout = Layout(low)
        program = with_exact_rows(arrays.build(low, layout), instance, low, layout)
        value, best = brute_force(instance)
        known = kvopt.evaluate(instance, best)
        scaled = scaled_to(program, known.objective, known.latency_s, layout.split_shares)
        values = program.complete(layout.decisions(best, known.read_bytes))
        there = scaled.scaled(values)
        small = 1e-6 * max(1.0, np.abs(scaled.program.matrix.data).max(initial=0.0))
        activity = scaled.program.matrix @ there
        assert (activity <= scaled.program.row_upper + small).all(), f"seed {seed}"
        assert (activity >= scaled.program.row_lower - small).all(), f"seed {seed}"
        assert scaled.program.value(there) == pytest.approx(value, rel=1e-7), f"seed {seed}"
        np.testing.assert_allclose(scaled.original(there), values, rtol=1e-9, atol=1e-9)
        checked += scaled.program is not program
    assert checked > 4
