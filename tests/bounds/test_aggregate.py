"""The aggregate-bandwidth bound against the definition, slot by slot."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from kvopt.bounds import aggregate_bound, verify
from kvopt.bounds.aggregate import slotwise_prices
from kvopt.lowering import lower
from tests.instances import brute_force, tiny_instance


@pytest.mark.parametrize("seed", range(40))
def test_every_slot_is_split_as_well_as_can_be(seed):
    low = lower(tiny_instance(np.random.default_rng(seed)))
    value, price = slotwise_prices(low)
    np.testing.assert_allclose(price.sum(axis=0), 1.0)
    for t in range(low.n_slots):
        read = sum(
            low.size_bytes[i]
            for i in range(low.n_blocks)
            for k in range(low.run_ptr[i], low.run_ptr[i + 1])
            if t % low.n_lanes == low.lane[i] and low.run_start[k] <= t // low.n_lanes < low.run_stop[k]
        )
        fast, backing = low.op_s_per_byte[1, 0, 0], low.op_s_per_byte[1, 1, 1]

        if low.closed[0]:
            assert value[t] == pytest.approx((low.base_s[:, t] + read * backing).max(), rel=1e-12)
            continue

        def slot_s(x, t=t, read=read, fast=fast, backing=backing):
            return (low.base_s[:, t] + read * (x * fast + (1 - x) * backing)).max()

        best = min(
            minimize_scalar(slot_s, bounds=(0, 1), method="bounded", options={"xatol": 1e-12}).fun, slot_s(0), slot_s(1)
        )
        assert value[t] == pytest.approx(best, rel=1e-6, abs=1e-30)
        assert value[t] <= best * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_below_the_optimum_and_proved_by_its_certificate(seed):
    instance = tiny_instance(np.random.default_rng(seed))
    bound = aggregate_bound(instance)
    assert bound.value_s <= brute_force(instance)[0] * (1 + 1e-12)
    # The certificate also prices moves and new blocks, so it proves at least as much.
    assert verify(instance, bound.certificate) >= bound.value_s * (1 - 1e-11)
