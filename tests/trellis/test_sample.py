"""Sampling: the frequencies of whole paths against their Boltzmann probabilities."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest

from kvopt.lowering import lower
from kvopt.trellis import Trellis, sample_placement, soft_minimum
from tests.trellis.dense import KINDS, path_cost, priced, random_prices, with_states

_DRAWS = 3000


def path_costs(low, prices, i) -> dict[tuple[int, ...], float]:
    """Cost per byte of every path that block i may take."""
    life = int(low.death_slot[i] - low.birth_slot[i])
    costs = {path: path_cost(low, prices, i, path) for path in product(range(low.n_states), repeat=life)}
    return {path: cost for path, cost in costs.items() if np.isfinite(cost)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_paths_are_drawn_with_their_probabilities(seed, kind):
    trellis, prices, unit = priced(np.random.default_rng(seed), kind)
    low, tau = trellis.lowered, (0.7 if trellis.lowered.n_states < 4 else 0.1) * unit
    drawn = [Counter() for _ in range(low.n_blocks)]
    for draw in range(_DRAWS):
        states = sample_placement(trellis, prices, tau, draw).to_states(low.n_slots, low.n_states)
        for i in range(low.n_blocks):
            drawn[i][tuple(states[i, low.birth_slot[i] : low.death_slot[i]].tolist())] += 1
    for i in range(low.n_blocks):
        costs = path_costs(low, prices, i)
        assert set(drawn[i]) <= set(costs)
        weight = np.exp(-(np.array(list(costs.values())) - min(costs.values())) / tau)
        assert_follows(np.array([drawn[i][path] for path in costs]), _DRAWS * weight / weight.sum())


def assert_follows(seen: np.ndarray, expected: np.ndarray) -> None:
    """Chi-square of counts; what is rare is counted together."""
    rare = expected <= 5
    seen, expected = (np.append(a[~rare], a[rare].sum()) for a in (seen, expected))
    # As if one more rare draw were expected: where nearly none are, a single one proves nothing.
    chi2 = ((seen - expected) ** 2 / (expected + (np.arange(len(expected)) == len(expected) - 1))).sum()
    freedom = max(len(expected) - 1, 1)
    # Five standard deviations of a chi-square: seeds are fixed, so this either holds or never will.
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom) + 5


@pytest.mark.parametrize("n_states", [2, 3, 7])
def test_long_lives_follow_the_marginals(long_instance, n_states):
    rng = np.random.default_rng(3)
    low = with_states(lower(long_instance), n_states, rng)
    trellis = Trellis(low)
    prices = random_prices(trellis, rng)
    tau, draws = 1e-12, 400
    passing = soft_minimum(trellis, prices, tau).slot_bytes.sum(axis=0)
    marginal = passing.reshape(low.n_slots, n_states, n_states).sum(axis=2)
    held, alive = np.zeros_like(marginal), np.arange(low.n_slots) >= low.birth_slot[:, None]
    alive &= np.arange(low.n_slots) < low.death_slot[:, None]
    for seed in range(draws):
        states = sample_placement(trellis, prices, tau, seed).to_states(low.n_slots, n_states)
        for z in range(n_states):
            held[:, z] += low.size_bytes @ ((states == z) & alive)
        given = low.initial >= 0
        np.testing.assert_array_equal(states[given, 0], low.initial[given])
    deviation = np.sqrt((low.size_bytes**2).sum() / 4 / draws)
    assert np.abs(held / draws - marginal).max() < 5 * deviation


@pytest.mark.parametrize("n_states", [2, 3])
def test_equal_seeds_give_equal_samples_on_any_number_of_threads(long_instance, n_states, monkeypatch):
    monkeypatch.setattr("kvopt.trellis.prepare._WORTH_A_THREAD", 0)
    low = with_states(lower(long_instance), n_states, np.random.default_rng(0))
    found = []
    for threads in (1, 3):
        trellis = Trellis(low, threads=threads)
        found.append(sample_placement(trellis, random_prices(trellis, np.random.default_rng(1)), 1e-12, 5))
    assert found[0] == found[1]
