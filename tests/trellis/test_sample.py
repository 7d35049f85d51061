"""Sampling: the frequencies of whole paths against their Boltzmann probabilities."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from kvopt.lowering import lower
from kvopt.trellis import Trellis, sample_placement, soft_minimum
from tests.trellis.dense import priced, read_slots

_DRAWS = 3000


def path_costs(low, prices, i) -> dict[tuple[int, ...], float]:
    """Cost per byte of every path of block i, states 0 (fast) and 1 slot by slot."""
    birth, death, reads = int(low.birth_slot[i]), int(low.death_slot[i]), read_slots(low, i)
    costs = {}
    for path in product((0, 1), repeat=death - birth):
        cost = 0.0 if low.prefilled[i] else prices.write[birth, path[0]]
        for t, (z, after) in enumerate(zip(path, (*path[1:], path[-1]), strict=True), birth):
            cost += prices.slot[int(t in reads), t, 2 * z + after]
        costs[path] = cost
    return costs


@pytest.mark.parametrize("seed", range(8))
def test_paths_are_drawn_with_their_probabilities(seed):
    trellis, prices, unit = priced(np.random.default_rng(seed))
    low, tau = trellis.lowered, 0.7 * unit
    drawn = [Counter() for _ in range(low.n_blocks)]
    for draw in range(_DRAWS):
        in_fast = sample_placement(trellis, prices, tau, draw).to_dense(low.n_slots)
        for i in range(low.n_blocks):
            drawn[i][tuple(1 - in_fast[i, low.birth_slot[i] : low.death_slot[i]].astype(int))] += 1
    for i in range(low.n_blocks):
        costs = path_costs(low, prices, i)
        weight = np.exp(-(np.array(list(costs.values())) - min(costs.values())) / tau)
        expected = _DRAWS * weight / weight.sum()
        seen = np.array([drawn[i][path] for path in costs])
        likely = expected > 5
        chi2 = ((seen - expected) ** 2 / expected)[likely].sum()
        freedom = max(likely.sum() - 1, 1)
        # Five standard deviations of a chi-square: seeds are fixed, so this either holds or never will.
        assert chi2 < freedom + 5 * np.sqrt(2 * freedom) + 5


def test_long_lives_follow_the_marginals(long_instance):
    low = lower(long_instance)
    rng = np.random.default_rng(3)
    trellis = Trellis(low)
    prices = trellis.prices(rng.dirichlet(np.ones(low.n_channels), low.n_slots).T, np.zeros((2, low.n_slots)))
    tau, draws = 1e-12, 400
    marginal = soft_minimum(trellis, prices, tau).slot_bytes.sum(axis=0)[:, :2].sum(axis=1)
    held = np.zeros(low.n_slots)
    for seed in range(draws):
        held += low.size_bytes @ sample_placement(trellis, prices, tau, seed).to_dense(low.n_slots)
    deviation = np.sqrt((low.size_bytes**2).sum() / 4 / draws)
    assert np.abs(held / draws - marginal).max() < 5 * deviation


def test_equal_seeds_give_equal_samples_on_any_number_of_threads(long_instance):
    low = lower(long_instance)
    lam = np.full((low.n_channels, low.n_slots), 1 / low.n_channels)
    found = []
    for threads in (1, 3):
        trellis = Trellis(low, threads=threads)
        found.append(sample_placement(trellis, trellis.prices(lam, np.zeros((2, low.n_slots))), 1e-12, 5))
    assert found[0] == found[1]
