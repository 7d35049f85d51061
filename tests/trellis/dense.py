"""The trellis slot by slot, in logarithms and plain loops: the reference for the kernels."""

from __future__ import annotations

import numpy as np

from kvopt.lowering import Lowered, lower
from kvopt.trellis import Prices, Trellis
from tests.instances import tiny_instance


def read_slots(low: Lowered, i: int) -> set[int]:
    """Slots in which block i is read."""
    runs = range(low.run_ptr[i], low.run_ptr[i + 1])
    steps = (n for k in runs for n in range(low.run_start[k], low.run_stop[k]))
    return {n * low.n_lanes + int(low.lane[i]) for n in steps}


def soft_min(costs: np.ndarray, tau: float, axis: int) -> np.ndarray:
    """-tau log sum exp(-costs / tau) along an axis; the minimum for tau = 0."""
    least = costs.min(axis)
    if tau == 0:
        return least
    return least - tau * np.log(np.exp(-(costs - np.expand_dims(least, axis)) / tau).sum(axis))


def dense(low: Lowered, prices: Prices, tau: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Soft (tau > 0) or hard minimum of each block in seconds, and the marginals in bytes."""
    values = []
    slot_bytes, write_bytes = np.zeros((2, low.n_slots, 4)), np.zeros((low.n_slots, 2))
    for i in range(low.n_blocks):
        birth, death, reads, size = low.birth_slot[i], low.death_slot[i], read_slots(low, i), low.size_bytes[i]
        costs = [prices.slot[int(t in reads), t].reshape(2, 2) for t in range(birth, death)]
        ahead = [np.zeros(2) if low.prefilled[i] else prices.write[birth]]
        for cost in costs[:-1]:
            ahead.append(soft_min(ahead[-1][:, None] + cost, tau, 0))
        end = np.diag(costs[-1])
        value = soft_min(ahead[-1] + end, tau, 0)
        values.append(value * size)
        if tau == 0:
            continue
        read = int(death - 1 in reads)
        slot_bytes[read, death - 1, [0, 3]] += size * np.exp(-(ahead[-1] + end - value) / tau)
        behind = end
        for t in range(death - 2, birth - 1, -1):
            cost = costs[t - birth]
            paths = ahead[t - birth][:, None] + cost + behind[None]
            slot_bytes[int(t in reads), t] += (size * np.exp(-(paths - value) / tau)).ravel()
            behind = soft_min(cost + behind[None], tau, 1)
        if not low.prefilled[i]:
            write_bytes[birth] += size * np.exp(-(ahead[0] + behind - value) / tau)
    return np.array(values), slot_bytes, write_bytes


def priced(rng: np.random.Generator, threads: int = 1) -> tuple[Trellis, Prices, float]:
    """A random tiny instance at random prices, and a temperature that suits them."""
    low = lower(tiny_instance(rng))
    trellis = Trellis(low, threads=threads)
    lam = rng.dirichlet(np.ones(low.n_channels), low.n_slots).T
    unit = float(low.op_s_per_byte.max())
    mu = rng.random((2, low.n_slots)) * unit * rng.choice([0.1, 1.0]) * np.isfinite(low.capacity_bytes)[:, None]
    return trellis, trellis.prices(lam, mu), unit
