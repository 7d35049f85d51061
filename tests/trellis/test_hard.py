"""Hard minimum: the range tables against dynamic programming slot by slot."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt.lowering import lower
from kvopt.trellis import Trellis, cheapest_placement, hard_minimum
from tests.trellis.dense import dense, priced, read_slots


@pytest.mark.parametrize("seed", range(60))
def test_equals_the_dense_minimum(seed):
    trellis, prices, _ = priced(np.random.default_rng(seed))
    np.testing.assert_allclose(
        hard_minimum(trellis, prices), dense(trellis.lowered, prices, 0.0)[0], rtol=1e-12, atol=1e-30
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_cheapest_placement_costs_the_minimum(seed):
    trellis, prices, _ = priced(np.random.default_rng(seed))
    low = trellis.lowered
    in_fast = cheapest_placement(trellis, prices).to_dense(low.n_slots)
    for i, least in enumerate(hard_minimum(trellis, prices)):
        reads, states = read_slots(low, i), 1 - in_fast[i].astype(int)
        cost = 0.0 if low.prefilled[i] else prices.write[low.birth_slot[i], states[low.birth_slot[i]]]
        for t in range(low.birth_slot[i], low.death_slot[i]):
            after = states[t + 1] if t + 1 < low.death_slot[i] else states[t]
            cost += prices.slot[int(t in reads), t, 2 * states[t] + after]
        assert cost * low.size_bytes[i] == pytest.approx(least, rel=1e-12, abs=1e-30)


def test_long_lives_with_many_runs_use_every_level_of_the_table(long_instance):
    low = lower(long_instance)
    trellis = Trellis(low, threads=2)
    rng = np.random.default_rng(1)
    prices = trellis.prices(rng.dirichlet(np.ones(low.n_channels), low.n_slots).T, np.zeros((2, low.n_slots)))
    np.testing.assert_allclose(hard_minimum(trellis, prices), dense(low, prices, 0.0)[0], rtol=1e-12)
