r"""Re-evaluating a dual certificate by a slow, independent path.

For multipliers lambda[c, t] >= 0 with sum_c lambda[c, t] <= 1, and mu[k, t] >= 0, weak duality gives for every
feasible placement

    sum_t max_c load[c, t] / B_c  >=  D(lambda, mu)
        = sum_{c,t} lambda base / B  -  sum_{k,t} mu C_k  +  sum_i s_i * (cheapest path of block i at these prices).

An objective in which single steps count is the largest of the sums sum_n omega[n] step[n] over a polytope of step
prices omega; any point of it will do, with omega[n] lambda[c, t] in place of lambda. For a tail that counts w in all
and the mean of the m longest steps, the polytope is 0 <= omega[n] <= w / m, sum_n omega[n] <= w; for several, the sum
of theirs, which a vector is in exactly when its k largest entries add up to at most sum_j w_j min(1, k / m_j), for
every k (a sum of polymatroids; Edmonds, 1970).

Counting steps over a deadline is not convex, and no prices a second stand for it. What is certified is that a step is
late whatever the placement: with prices on the channels alone, sum_c lambda load / B of a slot is no less than with all
its reads from the tier where they are cheapest. A count proved so ignores capacity and moves, and may be far below.

This module computes D slot by slot with numpy, all blocks at once, straight from trace and platform. It imports no
engine and no kernel; it shares with them only the mathematics.
"""

from __future__ import annotations

import numpy as np

from kvopt.instance import Instance, Rules
from kvopt.prices import LATE, tail_steps
from kvopt.result import Certificate

_EPS = np.finfo(float).eps


def verify(instance: Instance, certificate: Certificate) -> float:
    """The lower bound, in the objective's unit, that a certificate proves, less an allowance for rounding.

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
        lam.T @ (platform.loads(role) / rate).T + getattr(prices, role) for role in ("read", "write", "move_out")
    )
    capacity = np.array(instance.capacity_bytes)
    bounded = mu.any(axis=1)
    if not np.isfinite(capacity[bounded]).all():
        raise ValueError("a tier of infinite capacity has a price: the dual value is minus infinity")
    weights = rho[:, 0] * instance.weight_bytes_per_slot
    rent = (mu[bounded] * capacity[bounded][:, None]).sum(axis=0)
    paths = _cheapest_paths(instance, rho, omega, sigma, mu)
    late = surely_late(instance, certificate.late_price)
    value = float(np.sum(weights) - np.sum(rent) + np.sum(paths)) + late
    # Every term is a sum of at most a few roundings a slot; n * eps * (sum of magnitudes) bounds them all.
    magnitude = float(np.sum(weights) + np.sum(rent) + np.sum(paths)) + late
    return value - 8 * (instance.n_slots + len(paths)) * _EPS * magnitude


def _checked(instance: Instance, certificate: Certificate) -> tuple[np.ndarray, np.ndarray]:
    """Prices of channel-seconds and of capacity, of the right shape and sign.

    Channel prices are scaled down where rounding left them above 1, and step prices likewise.
    """
    mu = certificate.capacity_price_s_per_byte
    _check_array("capacity_price_s_per_byte", mu, (len(instance.platform.tiers), instance.n_slots))
    lam = _shares("channel_price", certificate.channel_price, instance)
    return lam * np.repeat(_step_prices(instance, certificate.step_price), instance.trace.n_lanes), mu


def _check_array(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, the instance needs {shape}")
    if not (np.isfinite(array).all() and (array >= 0).all()):
        raise ValueError(f"{name} has negative or non-finite entries: no certificate")


def _shares(name: str, lam: np.ndarray, instance: Instance) -> np.ndarray:
    """Channel prices that add up to at most 1 in every slot, rounding included."""
    _check_array(name, lam, (len(instance.platform.channels), instance.n_slots))
    total = lam.sum(axis=0)
    if (total > 1 + 1e-9).any():
        raise ValueError(f"{name} adds up to more than 1 in some slot: no certificate")
    # Loads are never negative, so scaling a slot's prices down keeps the bound valid.
    return lam / np.maximum(1.0, total * (1 + 4 * _EPS))


def surely_late(instance: Instance, late_price: np.ndarray | None) -> float:
    """What steps that miss a deadline whatever the placement cost, as these channel prices show; 0 without any.

    Parameters
    ----------
    instance : Instance
    late_price : float64[C, T] or None
    """
    if late_price is None or not instance.prices.deadlines:
        return 0.0
    trace, platform = instance.trace, instance.platform
    lam = _shares("late_price", late_price, instance)
    rho = lam.T @ (platform.loads("read") / platform.bandwidth_bytes_per_s).T
    change = np.zeros((trace.n_steps + 1, trace.n_lanes))
    lane, size = trace.lane[trace.run_block], trace.size_bytes[trace.run_block]
    np.add.at(change, (trace.run_start, lane), size)
    np.subtract.at(change, (trace.run_stop, lane), size)
    read = np.cumsum(change, axis=0)[:-1].ravel()
    slot_s = rho[:, 0] * instance.weight_bytes_per_slot + rho.min(axis=1) * read
    step_s = slot_s.reshape(trace.n_steps, trace.n_lanes).sum(axis=1)
    # What rounding could have added is taken off: a step counts as late only if it is late by more than that.
    step_s *= 1.0 - 8 * (len(platform.channels) + trace.n_lanes) * _EPS
    return float(sum(weight * np.count_nonzero(step_s > d * (1 + LATE)) for weight, d in instance.prices.deadlines))


def _step_prices(instance: Instance, given: np.ndarray | None) -> np.ndarray:
    """float64[N]: units a second of each step, after refusing what is outside the objective's polytope."""
    prices, n_steps = instance.prices, instance.trace.n_steps
    if given is None:
        return np.full(n_steps, prices.per_second)
    if given.shape != (n_steps,):
        raise ValueError(f"step_price has shape {given.shape}, the instance {n_steps} steps")
    if not (np.isfinite(given).all() and (given >= 0).all()):
        raise ValueError("step_price has negative or non-finite entries: no certificate")
    # Less of it is valid too: what counts is how far it exceeds what every step counts.
    above = np.sort(np.maximum(given - prices.per_second, 0.0))[::-1]
    count = np.arange(1, n_steps + 1)
    most = np.zeros(n_steps)
    for weight, share in prices.tails:
        most += weight * np.minimum(1.0, count / tail_steps(n_steps, share))
    taken = np.cumsum(above)
    if (taken > most * (1 + 1e-9)).any():
        raise ValueError("step_price lies outside what the objective counts: no certificate")
    with np.errstate(divide="ignore", invalid="ignore"):
        excess = np.max(np.where(taken > 0, taken / most, 0.0))
    scale = 1.0 / max(1.0, excess * (1 + 4 * n_steps * _EPS))
    return np.minimum(given, prices.per_second) + np.maximum(given - prices.per_second, 0.0) * scale


def _cheapest_paths(
    instance: Instance, rho: np.ndarray, omega: np.ndarray, sigma: np.ndarray, mu: np.ndarray
) -> np.ndarray:
    """float64[B]: cheapest path of each block in the objective's unit, at prices float64[T, K] per byte and rent mu
    float64[K, T]."""
    trace = instance.trace
    rent = (mu + instance.prices.hold[:, None]).T @ instance.states.T
    cheapest = np.empty(trace.n_blocks)
    for lane in range(trace.n_lanes):
        mine = np.flatnonzero(trace.lane == lane)
        cheapest[mine] = _lane_paths(instance, lane, mine, rho, omega, sigma, rent)
    return cheapest * trace.size_bytes


def _lane_paths(instance, lane, mine, rho, omega, sigma, rent) -> np.ndarray:
    """Cheapest path per byte of the blocks of one lane: dynamic programming over all slots, blocks side by side.

    Parameters
    ----------
    rho, omega, sigma : float64[T, K]
    rent : float64[T, S]
    """
    trace, rules, states = instance.trace, instance.rules, instance.states
    n_states = len(states)
    here, done = np.zeros((n_states, len(mine))), np.empty(len(mine))
    after = np.empty_like(here)
    if instance.initial is not None:
        here[:, trace.write_step[mine] < 0] = np.inf
        here[instance.initial[mine], np.arange(len(mine))] = 0.0
    read = np.zeros(len(mine), bool)
    of_lane = np.isin(trace.run_block, mine)
    owner = np.searchsorted(mine, trace.run_block[of_lane])
    born = _grouped(trace.write_step[mine], trace.n_steps)
    begin = _grouped(trace.run_start[of_lane], trace.n_steps)
    end = _grouped(trace.run_stop[of_lane], trace.n_steps)
    dies = _grouped(instance.death_slot[mine] - 1, trace.n_slots)
    reading = np.stack([_served(held, rho, rules) for held in states])
    writing, full = _changes(instance, omega, sigma)
    for t in range(trace.n_slots):
        change = full[t][:, :, None]
        if t % trace.n_lanes == lane:
            step = t // trace.n_lanes
            here[:, born(step)] = (states @ omega[t])[:, None]
            read[owner[end(step)]] = False
            read[owner[begin(step)]] = True
            here += reading[:, t, None] * read
            if rules.read_through:
                change = np.where(read, writing[t][:, :, None], change)
        here += rent[t][:, None]
        last = dies(t)
        done[last] = here[:, last].min(axis=0)
        for z in range(n_states):
            np.minimum.reduce(here + change[:, z], axis=0, out=after[z])
        here, after = after, here
    return done


def _served(held: np.ndarray, rho: np.ndarray, rules: Rules) -> np.ndarray:
    """float64[T]: what a byte read costs from the copy that serves it, of a block in the tiers ``held``."""
    copies = np.flatnonzero(held)
    return rho[:, copies if rules.balanced else copies[:1]].min(axis=1)


def _changes(instance: Instance, omega: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[T, S, S] twice: what a byte costs from state to state when it is read through, and when it is not."""
    states = instance.states
    new = states[None, :, :] & ~states[:, None, :]
    near = np.argmax(states, axis=1)
    writing = np.einsum("tk,yzk->tyz", omega, new)
    reading = sigma[:, near, None] * new.sum(axis=2)
    if instance.rules.free_moves:
        return np.zeros_like(writing), np.zeros_like(writing)
    return writing, writing + reading


def _grouped(key: np.ndarray, n_keys: int):
    """A function from k in 0..n_keys-1 to the positions where ``key`` equals k."""
    order = np.argsort(key, kind="stable")
    ptr = np.searchsorted(key[order], np.arange(n_keys + 1))
    return lambda k: order[ptr[k] : ptr[k + 1]]
