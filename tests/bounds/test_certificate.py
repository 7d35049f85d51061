"""The certificate: weak duality for any multipliers, and refusal of what is none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt.bounds import aggregate_bound, verify
from kvopt.lowering import lower
from kvopt.result import Certificate
from kvopt.trellis import Trellis, hard_minimum
from tests.instances import brute_force, general_instance, tiny_instance


def random_certificate(instance: kvopt.Instance, rng: np.random.Generator) -> Certificate:
    """Admissible multipliers of no particular quality."""
    low = lower(instance)
    lam = rng.dirichlet(np.full(low.n_channels, 0.5), low.n_slots).T
    mu = rng.random((low.n_tiers, low.n_slots)) * low.op_s_per_byte.max() * rng.choice([0.0, 0.1, 1.0])
    return Certificate(lam, mu * np.isfinite(low.capacity_bytes)[:, None])


@pytest.mark.parametrize("seed", range(80))
def test_any_multipliers_bound_the_optimum(seed):
    rng = np.random.default_rng(seed)
    instance = tiny_instance(rng)
    optimum, _ = brute_force(instance)
    assert verify(instance, random_certificate(instance, rng)) <= optimum * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(80))
def test_the_slow_path_agrees_with_the_kernel(seed):
    rng = np.random.default_rng(seed)
    # Any rules on two and three tiers, with given starts among them.
    instance = tiny_instance(rng) if seed % 2 else general_instance(rng)
    certificate = random_certificate(instance, rng)
    trellis = Trellis(lower(instance))
    prices = trellis.prices(certificate.channel_price, certificate.capacity_price_s_per_byte)
    fast_path = prices.constant + hard_minimum(trellis, prices).sum()
    scale = abs(prices.constant) + hard_minimum(trellis, prices).sum()
    assert verify(instance, certificate) == pytest.approx(fast_path, abs=1e-11 * scale)


def test_what_is_no_certificate_is_refused():
    instance = tiny_instance(np.random.default_rng(0))
    good = aggregate_bound(instance).certificate
    for field, spoil, message in (
        ("channel_price", lambda a: a[:-1], "shape"),
        ("channel_price", lambda a: -a, "negative"),
        ("channel_price", lambda a: a * np.nan, "non-finite"),
        ("channel_price", lambda a: a * 1.01, "more than 1"),
        ("capacity_price_s_per_byte", lambda a: a - 1.0, "negative"),
    ):
        with pytest.raises(ValueError, match=message):
            verify(instance, replace(good, **{field: spoil(getattr(good, field))}))


def test_prices_of_a_tier_without_limit_are_refused():
    instance = tiny_instance(np.random.default_rng(0))
    unlimited = replace(instance, platform=instance.platform.with_capacity(np.inf))
    good = aggregate_bound(unlimited).certificate
    with pytest.raises(ValueError, match="infinite capacity"):
        verify(unlimited, replace(good, capacity_price_s_per_byte=good.capacity_price_s_per_byte + 1e-9))
