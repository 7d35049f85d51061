r"""Re-evaluating a dual certificate by a slow, independent path.

For multipliers lambda[c, t] >= 0 with sum_c lambda[c, t] <= 1, and mu[k, t] >= 0, weak duality gives for every
feasible placement

    sum_t max_c load[c, t] / B_c  >=  D(lambda, mu)
        = sum_{c,t} lambda base / B  -  sum_{k,t} mu C_k  +  sum_i s_i * (cheapest path of block i at these prices).

This module computes D slot by slot with numpy, all blocks at once, straight from trace and platform. It imports no
engine and no kernel; it shares with them only the mathematics.
"""

from __future__ import annotations

import numpy as np

from kvopt.instance import Instance
from kvopt.result import Certificate

_EPS = np.finfo(float).eps


def verify(instance: Instance, certificate: Certificate) -> float:
    """The lower bound in seconds that a certificate proves, less an allowance for rounding.

    Parameters
    ----------
    instance : Instance
    certificate : Certificate

    Returns
    -------
    float

    Raises
    ------
    ValueError
        When the multipliers have the wrong shape or sign, or when channel prices add up to more than 1 in a slot.
    """
    lam, mu = _checked(instance, certificate)
    platform = instance.platform
    rate = platform.bandwidth_bytes_per_s
    prices = instance.prices
    # What a byte costs in each slot, float64[T, K]: its time at the channels' prices, and the objective's own price.
    rho, omega, sigma = (
        prices.per_second * (lam.T @ (platform.loads(role) / rate).T) + getattr(prices, role)
        for role in ("read", "write", "move_out")
    )
    capacity = np.array(instance.capacity_bytes)
    bounded = mu.any(axis=1)
    if not np.isfinite(capacity[bounded]).all():
        raise ValueError("a tier of infinite capacity has a price: the dual value is minus infinity")
    weights = rho[:, 0] * instance.weight_bytes_per_slot
    rent = (mu[bounded] * capacity[bounded][:, None]).sum(axis=0)
    paths = _cheapest_paths(instance, rho, omega, sigma, mu)
    value = float(np.sum(weights) - np.sum(rent) + np.sum(paths))
    # Every term is a sum of at most a few roundings a slot; n * eps * (sum of magnitudes) bounds them all.
    magnitude = float(np.sum(weights) + np.sum(rent) + np.sum(paths))
    return value - 8 * (instance.n_slots + len(paths)) * _EPS * magnitude


def _checked(instance: Instance, certificate: Certificate) -> tuple[np.ndarray, np.ndarray]:
    """Multipliers of the right shape and sign; channel prices scaled down where rounding left them above 1."""
    lam, mu = certificate.channel_price, certificate.capacity_price_s_per_byte
    shapes = ((len(instance.platform.channels), instance.n_slots), (len(instance.platform.tiers), instance.n_slots))
    for name, array, shape in zip(("channel_price", "capacity_price_s_per_byte"), (lam, mu), shapes, strict=True):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, the instance needs {shape}")
        if not (np.isfinite(array).all() and (array >= 0).all()):
            raise ValueError(f"{name} has negative or non-finite entries: no certificate")
    total = lam.sum(axis=0)
    if (total > 1 + 1e-9).any():
        raise ValueError("channel_price adds up to more than 1 in some slot: no certificate")
    # Loads are never negative, so scaling a slot's prices down keeps the bound valid.
    return lam / np.maximum(1.0, total * (1 + 4 * _EPS)), mu


def _cheapest_paths(
    instance: Instance, rho: np.ndarray, omega: np.ndarray, sigma: np.ndarray, mu: np.ndarray
) -> np.ndarray:
    """float64[B]: cheapest path of each block in seconds, at prices float64[T, K] per byte and rent mu float64[K,
    T]."""
    trace = instance.trace
    held = mu + instance.prices.hold[:, None]
    rent = (held[0] + held[1], held[1]) if instance.rules.inclusive else (held[0], held[1])
    cheapest = np.empty(trace.n_blocks)
    for lane in range(trace.n_lanes):
        mine = np.flatnonzero(trace.lane == lane)
        cheapest[mine] = _lane_paths(instance, lane, mine, rho, omega, sigma, rent)
    return cheapest * trace.size_bytes


def _lane_paths(instance, lane, mine, rho, omega, sigma, rent) -> np.ndarray:
    """Cheapest path per byte of the blocks of one lane: dynamic programming over all slots, blocks side by side."""
    trace, rules = instance.trace, instance.rules
    fast, backing, done = np.zeros(len(mine)), np.zeros(len(mine)), np.empty(len(mine))
    read = np.zeros(len(mine), bool)
    of_lane = np.isin(trace.run_block, mine)
    owner = np.searchsorted(mine, trace.run_block[of_lane])
    born = _grouped(trace.write_step[mine], trace.n_steps)
    begin = _grouped(trace.run_start[of_lane], trace.n_steps)
    end = _grouped(trace.run_stop[of_lane], trace.n_steps)
    dies = _grouped(instance.death_slot[mine] - 1, trace.n_slots)
    for t in range(trace.n_slots):
        up, down = sigma[t, 1] + omega[t, 0], 0.0 if rules.inclusive else sigma[t, 0] + omega[t, 1]
        if rules.free_moves:
            up = down = 0.0
        if t % trace.n_lanes == lane:
            step = t // trace.n_lanes
            new = born(step)
            fast[new] = omega[t, 0] + (omega[t, 1] if rules.inclusive else 0.0)
            backing[new] = omega[t, 1]
            read[owner[end(step)]] = False
            read[owner[begin(step)]] = True
            if rules.read_through:
                up = np.where(read, omega[t, 0], up)
                down = down if rules.inclusive else np.where(read, omega[t, 1], down)
            fast += read * rho[t, 0]
            backing += read * rho[t, 1]
        fast += rent[0][t]
        backing += rent[1][t]
        last = dies(t)
        done[last] = np.minimum(fast[last], backing[last])
        fast, backing = np.minimum(fast, backing + up), np.minimum(backing, fast + down)
    return done


def _grouped(key: np.ndarray, n_keys: int):
    """A function from k in 0..n_keys-1 to the positions where ``key`` equals k."""
    order = np.argsort(key, kind="stable")
    ptr = np.searchsorted(key[order], np.arange(n_keys + 1))
    return lambda k: order[ptr[k] : ptr[k + 1]]
