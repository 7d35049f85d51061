"""Projected descent: the optimum scipy finds, KKT conditions, and a consistent point after an interruption."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from kvopt.bounds.descent import Descent


def soft_maximum(seed: int, tau: float, n: int = 12, rows: int = 30):
    """tau log sum exp((A x - b) / tau) + x'x / 100: convex, sharp when tau is small; some x end at 0."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(0.3, 1.0, (rows, n)), rng.normal(size=rows)

    def function(x):
        z = (a @ x - b) / tau
        top = z.max()
        weight = np.exp(z - top)
        total = weight.sum()
        value = tau * (top + np.log(total)) + x @ x / 100
        return float(value), a.T @ (weight / total) + x / 50

    return function


def reference(function, n: int = 12) -> float:
    found = minimize(
        function, np.ones(n), jac=True, bounds=[(0, None)] * n, options={"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
    )
    return float(found.fun)


def run(descent: Descent, steps: int = 2000) -> None:
    for _ in range(steps):
        if descent.step() == 0.0:
            return


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), tau=st.sampled_from([1.0, 0.1, 0.02]))
def test_reaches_the_optimum_of_a_library(seed, tau):
    function = soft_maximum(seed, tau)
    descent = Descent(function, np.ones(12))
    run(descent)
    assert descent.value <= reference(function) + 1e-6
    assert (descent.x >= 0).all()
    free = descent.x > 1e-6
    assert np.abs(descent.gradient[free]).max(initial=0.0) < 1e-2
    assert descent.gradient[~free].min(initial=0.0) > -1e-2


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_sharpening_keeps_what_was_learned(seed):
    """Through falling temperatures it ends where a fresh start at the last one ends, and never rises on the way."""
    descent = Descent(soft_maximum(seed, 1.0), np.ones(12))
    for tau in (1.0, 0.5, 0.25, 0.125):
        if tau < 1.0:
            descent._function = soft_maximum(seed, tau)
            descent.sharpen(descent.x, 2.0)
        before = descent.value
        for _ in range(300):
            fell = descent.step()
            assert descent.value == pytest.approx(before - fell)
            before = descent.value
            if fell == 0.0:
                break
    assert descent.value <= reference(soft_maximum(seed, 0.125)) + 1e-6


def test_starts_where_everything_is_at_zero():
    function = soft_maximum(3, 0.1)
    descent = Descent(function, np.zeros(12))
    run(descent)
    assert descent.value == pytest.approx(reference(function), abs=1e-6)


def test_an_optimum_at_zero_is_kept():
    descent = Descent(lambda x: (float(x.sum()), np.ones(3)), np.array([1.0, 0.5, 0.0]))
    run(descent)
    assert (descent.x == 0).all()
    assert descent.step() == 0.0


def test_point_value_and_gradient_belong_together_after_an_interruption():
    function = soft_maximum(5, 0.1)
    calls = 0

    def interrupted(x):
        nonlocal calls
        calls += 1
        if calls == 9:
            raise KeyboardInterrupt
        return function(x)

    descent = Descent(interrupted, np.ones(12))
    with pytest.raises(KeyboardInterrupt):
        run(descent)
    value, gradient = function(descent.x)
    assert descent.value == value
    assert (descent.gradient == gradient).all()
