"""Hard minimum: the range tables against dynamic programming slot by slot."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt.lowering import lower
from kvopt.trellis import Trellis, cheapest_placement, hard_minimum
from tests.trellis.dense import KINDS, dense, path_cost, priced, random_prices, with_states


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(30))
def test_equals_the_dense_minimum(seed, kind):
    trellis, prices, _ = priced(np.random.default_rng(seed), kind)
    np.testing.assert_allclose(
        hard_minimum(trellis, prices), dense(trellis.lowered, prices, 0.0)[0], rtol=1e-12, atol=1e-30
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(15))
def test_the_cheapest_placement_costs_the_minimum(seed, kind):
    trellis, prices, _ = priced(np.random.default_rng(seed), kind)
    low = trellis.lowered
    states = cheapest_placement(trellis, prices).to_states(low.n_slots, low.n_states)
    for i, least in enumerate(hard_minimum(trellis, prices)):
        cost = path_cost(low, prices, i, states[i, low.birth_slot[i] : low.death_slot[i]])
        assert cost * low.size_bytes[i] == pytest.approx(least, rel=1e-12, abs=1e-30)


@pytest.mark.parametrize("n_states", [2, 3, 7])
def test_long_lives_with_many_runs_use_every_level_of_the_table(long_instance, n_states):
    rng = np.random.default_rng(1)
    trellis = Trellis(with_states(lower(long_instance), n_states, rng))
    prices = random_prices(trellis, rng)
    np.testing.assert_allclose(hard_minimum(trellis, prices), dense(trellis.lowered, prices, 0.0)[0], rtol=1e-12)
