"""The trellis slot by slot, in logarithms and plain loops: the reference for the kernels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvopt.lowering import Lowered, lower
from kvopt.trellis import Prices, Trellis
from tests.instances import general_instance, tiny_instance


def read_slots(low: Lowered, i: int) -> set[int]:
    """Slots in which block i is read."""
    runs = range(low.run_ptr[i], low.run_ptr[i + 1])
    steps = (n for k in runs for n in range(low.run_start[k], low.run_stop[k]))
    return {n * low.n_lanes + int(low.lane[i]) for n in steps}


def slot_prices(low: Lowered, prices: Prices, i: int) -> np.ndarray:
    """float64[2, T, S * S]: what a byte of block i pays, which is kept out of tiers that it is larger than."""
    shut = [bool(low.shut[i] >> k & 1) for k in range(low.n_tiers)]
    price = np.where((low.holds & shut).any(axis=1), low.dearest_price, 0.0)
    return prices.slot + np.repeat(price, low.n_states)


def path_cost(low: Lowered, prices: Prices, i: int, path) -> float:
    """Cost per byte of block i where its states are ``path``, slot by slot of its life; infinite if it may not."""
    birth, reads, cost, slots = int(low.birth_slot[i]), read_slots(low, i), 0.0, slot_prices(low, prices, i)
    if not low.prefilled[i]:
        cost = prices.write[birth, path[0]]
    elif low.initial[i] not in (-1, path[0]):
        return np.inf
    for t, (z, after) in enumerate(zip(path, (*path[1:], path[-1]), strict=True), birth):
        cost += slots[int(t in reads), t, low.n_states * z + after]
    return cost


def begins(low: Lowered, prices: Prices, i: int) -> np.ndarray:
    """float64[S]: cost per byte of block i's first state."""
    if not low.prefilled[i]:
        return prices.write[low.birth_slot[i]]
    return np.where((low.initial[i] == -1) | (low.initial[i] == np.arange(low.n_states)), 0.0, np.inf)


def soft_min(costs: np.ndarray, tau: float, axis: int) -> np.ndarray:
    """-tau log sum exp(-costs / tau) along an axis; the minimum for tau = 0."""
    least = costs.min(axis)
    if tau == 0:
        return least
    return least - tau * np.log(np.exp(-(costs - np.expand_dims(least, axis)) / tau).sum(axis))


def dense(low: Lowered, prices: Prices, tau: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Soft (tau > 0) or hard minimum of each block in seconds, and the marginals in bytes."""
    values, n_states = [], low.n_states
    slot_bytes, write_bytes = np.zeros((2, low.n_slots, n_states**2)), np.zeros((low.n_slots, n_states))
    for i in range(low.n_blocks):
        birth, death, reads, size = low.birth_slot[i], low.death_slot[i], read_slots(low, i), low.size_bytes[i]
        slots = slot_prices(low, prices, i)
        costs = [slots[int(t in reads), t].reshape(n_states, n_states) for t in range(birth, death)]
        ahead = [begins(low, prices, i)]
        for cost in costs[:-1]:
            ahead.append(soft_min(ahead[-1][:, None] + cost, tau, 0))
        end = np.diag(costs[-1])
        value = soft_min(ahead[-1] + end, tau, 0)
        values.append(value * size)
        if tau == 0:
            continue
        read = int(death - 1 in reads)
        slot_bytes[read, death - 1, :: n_states + 1] += size * np.exp(-(ahead[-1] + end - value) / tau)
        behind = end
        for t in range(death - 2, birth - 1, -1):
            cost = costs[t - birth]
            paths = ahead[t - birth][:, None] + cost + behind[None]
            slot_bytes[int(t in reads), t] += (size * np.exp(-(paths - value) / tau)).ravel()
            behind = soft_min(cost + behind[None], tau, 1)
        if not low.prefilled[i]:
            write_bytes[birth] += size * np.exp(-(ahead[0] + behind - value) / tau)
    return np.array(values), slot_bytes, write_bytes


def with_states(low: Lowered, n_states: int, rng: np.random.Generator) -> Lowered:
    """The same blocks in that many states, at operations of random cost; some starts are given."""
    unit, shape = float(low.op_s_per_byte.max()), (2, n_states, n_states)
    scale = rng.choice([0.0, 0.1, 1.0], (*shape, 1))
    given = low.prefilled & (rng.random(low.n_blocks) < 0.6)
    holds = rng.random((n_states, low.n_tiers)) < 0.5
    holds[-1] = False  # A state for every block, however large.
    return replace(
        low,
        op_s_per_byte=unit * scale * rng.random((*shape, low.n_channels)),
        op_price_per_byte=0.1 * unit * rng.random(shape),
        write_s_per_byte=unit * rng.random((n_states, low.n_channels)),
        write_price_per_byte=0.1 * unit * rng.random(n_states),
        swappable=np.zeros(n_states, bool),
        holds=holds,
        shut=np.where(given, 0, low.shut),
        initial=np.where(given, rng.integers(0, n_states, low.n_blocks), -1).astype(np.int8),
    )


KINDS = (None, "any rules", 2, 3, 4, 7)
"""What :func:`priced` takes."""


def priced(rng: np.random.Generator, kind: int | str | None = None) -> tuple[Trellis, Prices, float]:
    """A random tiny instance at random prices, and a temperature that suits them.

    Parameters
    ----------
    rng : numpy.random.Generator
    kind : int or "any rules", optional
        Random operations on so many states; an instance of any rules and two or three tiers; else two plain tiers.
    """
    low = lower(general_instance(rng) if kind == "any rules" else tiny_instance(rng))
    if isinstance(kind, int):
        low = with_states(low, kind, rng)
    trellis = Trellis(low)
    return trellis, random_prices(trellis, rng), float(low.op_s_per_byte.max())


def random_prices(trellis: Trellis, rng: np.random.Generator) -> Prices:
    """At random multipliers."""
    low = trellis.lowered
    lam = rng.dirichlet(np.ones(low.n_channels), low.n_slots).T
    mu = rng.random((low.n_tiers, low.n_slots)) * float(low.op_s_per_byte.max()) * rng.choice([0.1, 1.0])
    return trellis.prices(lam, mu * np.isfinite(low.capacity_bytes)[:, None])
