"""Chains of idle slots against matrix products written out."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest

from kvopt.trellis.chains import idle_chains
from kvopt.trellis.scaled import slot_matrices


@pytest.mark.parametrize(("n_states", "n_lanes"), [(2, 1), (2, 2), (2, 5), (3, 4)])
def test_chains_are_products(n_states, n_lanes):
    rng = np.random.default_rng(n_states + n_lanes)
    n_slots = 3 * n_lanes
    cost = rng.random((2, n_slots, n_states**2))
    chains = idle_chains(tuple(range(n_states)), slot_matrices(cost), n_lanes)
    tail, tail_end, head, head_end = (mantissa * 2.0**exponent for mantissa, exponent in chains)
    idle = np.exp(-cost[0]).reshape(n_slots, n_states, n_states)
    for t in range(n_slots):
        begin = t - t % n_lanes
        for found, closed, slots in (
            (tail, tail_end, range(t, begin + n_lanes)),
            (head, head_end, range(begin, t + 1)),
        ):
            before = reduce(np.matmul, (idle[s] for s in slots[:-1]), np.eye(n_states))
            assert found[t] == pytest.approx((before @ idle[slots[-1]]).ravel())
            assert closed[t] == pytest.approx(before @ np.diag(idle[slots[-1]]))
