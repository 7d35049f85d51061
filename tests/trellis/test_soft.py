"""Soft minimum and marginals: tables in scaled probabilities against logarithms slot by slot."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt.lowering import lower
from kvopt.trellis import Prices, Trellis, hard_minimum, soft_minimum
from tests.trellis.dense import KINDS, dense, priced, random_prices, with_states


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(30))
def test_equals_the_dense_soft_minimum_and_marginals(seed, kind):
    trellis, prices, unit = priced(np.random.default_rng(seed), kind)
    for tau in (3.0 * unit, 0.3 * unit, 0.03 * unit):
        soft = soft_minimum(trellis, prices, tau)
        value, slot_bytes, write_bytes = dense(trellis.lowered, prices, tau)
        np.testing.assert_allclose(soft.value, value, rtol=1e-10, atol=1e-12 * unit)
        largest = trellis.lowered.size_bytes.max()
        np.testing.assert_allclose(soft.slot_bytes, slot_bytes, atol=1e-9 * largest)
        np.testing.assert_allclose(soft.write_bytes, write_bytes, atol=1e-9 * largest)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tau", [1e-2, 1e-4, 1e-8, 1e-12])
def test_stays_below_the_hard_minimum_and_meets_it_as_tau_falls(tau, kind):
    for seed in range(10):
        trellis, prices, unit = priced(np.random.default_rng(seed), kind)
        hard, soft = hard_minimum(trellis, prices), soft_minimum(trellis, prices, tau * unit)
        slack = 1e-12 * np.abs(hard) + 1e-14 * tau * unit
        assert (soft.value <= hard + slack).all()
        # A path has at most S^slots rivals, so smoothing takes off at most s * tau * slots * log S.
        low = trellis.lowered
        rivals = low.size_bytes * tau * unit * low.n_slots * np.log(low.n_states)
        assert (soft.value >= hard - rivals - slack).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_derivative(kind):
    for seed in range(5):
        trellis, prices, unit = priced(np.random.default_rng(seed), kind)
        tau = 0.5 * unit
        soft = soft_minimum(trellis, prices, tau)
        rng = np.random.default_rng(seed)
        by_slot, by_write, step = rng.random(prices.slot.shape), rng.random(prices.write.shape), 1e-5 * unit
        ends = [
            soft_minimum(trellis, Prices(prices.slot + way * by_slot, prices.write + way * by_write, 0.0), tau)
            for way in (step, -step)
        ]
        slope = (ends[0].value.sum() - ends[1].value.sum()) / (2 * step)
        expected = (soft.slot_bytes * by_slot).sum() + (soft.write_bytes * by_write).sum()
        assert slope == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("n_states", [None, 2, 3, 7])
def test_long_lives_at_extreme_temperatures(long_instance, n_states):
    low, rng = lower(long_instance), np.random.default_rng(2)
    trellis = Trellis(low if n_states is None else with_states(low, n_states, rng))
    prices = random_prices(trellis, rng)
    for tau in (1e-10, 1e-12, 1e-14, 1e-16):
        soft = soft_minimum(trellis, prices, tau)
        value, slot_bytes, _ = dense(trellis.lowered, prices, tau)
        np.testing.assert_allclose(soft.value, value, rtol=1e-10)
        np.testing.assert_allclose(soft.slot_bytes, slot_bytes, atol=1e-6 * low.size_bytes.max())


@pytest.mark.parametrize("n_states", [2, 3])
def test_threads_do_not_change_a_bit(long_instance, n_states, monkeypatch):
    low = with_states(lower(long_instance), n_states, np.random.default_rng(0))
    alone = soft_minimum(Trellis(low), random_prices(Trellis(low), np.random.default_rng(1)), 1e-13)
    monkeypatch.setattr("kvopt.trellis.prepare._WORTH_A_THREAD", 0)
    monkeypatch.setattr("kvopt.trellis.prepare._PART_RUNS", 1)
    monkeypatch.setattr("kvopt.trellis.prepare._PART_STEPS", np.inf)
    found = []
    for threads in (1, 2, 3):
        trellis = Trellis(low, threads=threads)
        prices = random_prices(trellis, np.random.default_rng(1))
        soft = soft_minimum(trellis, prices, 1e-13)
        found.append((soft.value, soft.slot_bytes, soft.write_bytes, hard_minimum(trellis, prices)))
    for other in found[1:]:
        for one, array in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, array)
    # Parts of a single lane, of which no block belongs to two.
    np.testing.assert_array_equal(found[0][0], alone.value)
    np.testing.assert_allclose(found[0][1], alone.slot_bytes, rtol=1e-12, atol=1e-9 * low.size_bytes.max())
    np.testing.assert_allclose(found[0][2], alone.write_bytes, rtol=1e-12, atol=1e-9 * low.size_bytes.max())
