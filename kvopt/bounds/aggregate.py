"""The aggregate-bandwidth bound: every slot's reads split as well as the channels allow, capacity and moves ignored."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np

from kvopt import interrupts
from kvopt.bounds.certificate import surely_late, verify
from kvopt.instance import Instance
from kvopt.lowering import Lowered, lower
from kvopt.residency import nearest
from kvopt.result import Bound, Certificate, Role
from kvopt.tallies import read_bytes


def aggregate_bound(instance: Instance) -> Bound:
    """For each slot the best split of its reads over the tiers; what literature calls "ideal" or "unlimited HBM".

    A slot that reads R bytes lasts at least the minimum over splits x of the maximum over channels c of
    ``base[c] + R * sum_k x[k] * read[k, c]``. Its dual solution, a price for each channel, proves the same bound as a
    certificate with all capacity prices 0, but of tiers that are smaller than every block: from these nothing is read.
    Where single steps count, all count alike: a valid choice, not the best.

    Returns
    -------
    Bound
        Source "aggregate bandwidth", certified by its channel prices.
    """
    began = time.perf_counter()
    low = lower(instance)
    slot_value, price = slotwise_prices(low)
    step_price = None if not low.prices.stepwise else np.full(low.n_steps, uniform_step_price(low))
    late_price = slotwise_prices(low, seconds_only=True)[1] if low.prices.deadlines else None
    rent = np.repeat(low.keep_out_price[:, None], low.n_slots, axis=1)
    certificate = Certificate(price, rent, step_price, late_price)
    slotwise = float(slot_value.sum()) + low.base_price + surely_late(instance, late_price)
    interrupts.heed()
    return Bound(
        # At these prices paths also pay for writes and moves, so the certificate proves as much or more; less only by
        # verification's allowance for rounding.
        value=min(slotwise, verify(instance, certificate)),
        source="aggregate bandwidth",
        role=Role.CERTIFIED,
        verified=True,
        unit=instance.objective.unit,
        certificate=certificate,
        elapsed_s=time.perf_counter() - began,
    )


def uniform_step_price(low: Lowered) -> float:
    """Units a second of every step, when the tails of an objective spread their weight over all of them."""
    return low.prices.per_second + sum(weight for weight, _ in low.prices.tails) / low.n_steps


def slotwise_prices(low: Lowered, *, seconds_only: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Solve every slot's split by its dual: the channel prices at which even the cheapest tier to read costs most.

    That is a matrix game of K tiers against C channels, whose solution makes some m tiers equally cheap with prices on
    m channels: all such systems are solved, which for a few tiers and channels is a few dozen, slots side by side.

    Parameters
    ----------
    low : Lowered
    seconds_only : bool
        Count seconds, in place of what the objective makes of them and of bytes.

    Returns
    -------
    value : float64[T]
        In the objective's unit, without ``low.base_price``.
    channel_price : float64[C, T]
        Sums to 1 over the channels; at most K are positive.
    """
    ends, read_price = _ends(low, 1.0 if seconds_only else uniform_step_price(low))
    if seconds_only:
        read_price = np.zeros_like(read_price)
    value = np.full(low.n_slots, -np.inf)
    price = np.zeros_like(low.base_s)
    for m in range(1, min(len(ends), low.n_channels) + 1):
        for channels in combinations(range(low.n_channels), m):
            for tiers in combinations(range(len(ends)), m):
                share = _equalising(ends[np.ix_(tiers, channels)], read_price[list(tiers)])
                worth = ((share * ends[:, channels]).sum(axis=1) + read_price).min(axis=0)
                better = worth > value
                value[better] = worth[better]
                price[:, better] = 0.0
                price[np.ix_(channels, np.flatnonzero(better))] = share[:, better]
    return value, price


def _ends(low: Lowered, second: float) -> tuple[np.ndarray, np.ndarray]:
    """What each slot costs when all it reads comes from one tier: float64[K, C, T] by channel, and float64[K, T] by
    the byte."""
    read = read_bytes(low).astype(float)
    open_ = np.flatnonzero(~low.holds[:, low.closed].any(axis=1))
    near = nearest(low.holds)[open_]
    # Of the states that read a tier, the one that is cheapest to be in.
    chosen = [min(open_[near == k], key=lambda z: low.op_price_per_byte[1, z, z]) for k in np.unique(near)]
    by_channel = np.stack([second * (low.base_s + np.outer(low.op_s_per_byte[1, z, z], read)) for z in chosen])
    return by_channel, np.stack([low.op_price_per_byte[1, z, z] * read for z in chosen])


def _equalising(ends: np.ndarray, price: np.ndarray) -> np.ndarray:
    """float64[m, T]: prices on m channels, summing to 1, at which m tiers cost alike; other valid ones where there are
    none.

    Parameters
    ----------
    ends : float64[m, m, T]
        By tier and channel.
    price : float64[m, T]
        By tier.
    """
    m, _, n_slots = ends.shape
    if m == 1:
        return np.ones((1, n_slots))
    system, wanted = np.ones((n_slots, m, m)), np.ones((n_slots, m))
    system[:, :-1] = (ends[1:] - ends[:1]).transpose(2, 0, 1)
    wanted[:, :-1] = (price[:1] - price[1:]).T
    size = np.abs(system[:, :-1]).max(axis=(1, 2), keepdims=True)
    scale = np.where(size > 0, size, 1.0)
    system[:, :-1] /= scale
    wanted[:, :-1] /= scale[:, 0]
    regular = np.abs(np.linalg.det(system)) > 1e-12
    share = np.zeros((n_slots, m))
    share[regular] = np.linalg.solve(system[regular], wanted[regular][..., None])[..., 0]
    share = np.maximum(share, 0.0)
    total = share.sum(axis=1, keepdims=True)
    uniform = np.full_like(share, 1.0 / m)
    return np.where(total > 0, np.divide(share, total, out=uniform.copy(), where=total > 0), uniform).T
