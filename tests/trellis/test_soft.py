"""Soft minimum and marginals: tables in scaled probabilities against logarithms slot by slot."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt.lowering import lower
from kvopt.trellis import Trellis, hard_minimum, soft_minimum
from tests.trellis.dense import dense, priced


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_dense_soft_minimum_and_marginals(seed):
    trellis, prices, unit = priced(np.random.default_rng(seed))
    for tau in (3.0 * unit, 0.3 * unit, 0.03 * unit):
        soft = soft_minimum(trellis, prices, tau)
        value, slot_bytes, write_bytes = dense(trellis.lowered, prices, tau)
        np.testing.assert_allclose(soft.value, value, rtol=1e-10, atol=1e-12 * unit)
        largest = trellis.lowered.size_bytes.max()
        np.testing.assert_allclose(soft.slot_bytes, slot_bytes, atol=1e-9 * largest)
        np.testing.assert_allclose(soft.write_bytes, write_bytes, atol=1e-9 * largest)


@pytest.mark.parametrize("tau", [1e-2, 1e-4, 1e-8, 1e-12])
def test_stays_below_the_hard_minimum_and_meets_it_as_tau_falls(tau):
    for seed in range(20):
        trellis, prices, unit = priced(np.random.default_rng(seed))
        hard, soft = hard_minimum(trellis, prices), soft_minimum(trellis, prices, tau * unit)
        slack = 1e-12 * np.abs(hard) + 1e-300
        assert (soft.value <= hard + slack).all()
        # A path has at most 2^slots rivals, so smoothing takes off at most s * tau * slots * log 2.
        rivals = trellis.lowered.size_bytes * tau * unit * trellis.lowered.n_slots * np.log(2)
        assert (soft.value >= hard - rivals - slack).all()


def test_gradient_is_the_derivative():
    for seed in range(10):
        trellis, prices, unit = priced(np.random.default_rng(seed))
        tau = 0.5 * unit
        soft = soft_minimum(trellis, prices, tau)
        rng = np.random.default_rng(seed)
        direction, step = rng.random(prices.slot.shape), 1e-5 * unit
        ends = [
            soft_minimum(
                trellis, type(prices)(prices.slot + sign * step * direction, prices.write, 0.0), tau
            ).value.sum()
            for sign in (1, -1)
        ]
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((soft.slot_bytes * direction).sum(), rel=1e-7)


def test_long_lives_at_extreme_temperatures(long_instance):
    low = lower(long_instance)
    rng = np.random.default_rng(2)
    lam = rng.dirichlet(np.ones(low.n_channels), low.n_slots).T
    mu = np.vstack([rng.random(low.n_slots) * 1e-12, np.zeros(low.n_slots)])
    trellis = Trellis(low)
    prices = trellis.prices(lam, mu)
    for tau in (1e-10, 1e-12, 1e-14, 1e-16):
        soft = soft_minimum(trellis, prices, tau)
        value, slot_bytes, _ = dense(low, prices, tau)
        np.testing.assert_allclose(soft.value, value, rtol=1e-10)
        np.testing.assert_allclose(soft.slot_bytes, slot_bytes, atol=1e-6 * low.size_bytes.max())


def test_threads_do_not_change_a_bit(long_instance):
    low = lower(long_instance)
    lam = np.full((low.n_channels, low.n_slots), 1 / low.n_channels)
    found = []
    for threads in (1, 2, 3):
        trellis = Trellis(low, threads=threads)
        found.append(soft_minimum(trellis, trellis.prices(lam, np.zeros((2, low.n_slots))), 1e-13))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0].value, other.value)
        np.testing.assert_array_equal(found[0].slot_bytes, other.slot_bytes)
