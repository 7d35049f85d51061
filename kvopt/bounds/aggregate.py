"""The aggregate-bandwidth bound: every slot's reads split as well as the channels allow, capacity and moves ignored."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np

from kvopt.bounds.certificate import verify
from kvopt.instance import Instance
from kvopt.lowering import BACKING, FAST, Lowered, lower
from kvopt.result import Bound, Certificate, Role


def aggregate_bound(instance: Instance) -> Bound:
    """For each slot the best split of its reads over the two tiers; what literature calls "ideal" or "unlimited HBM".

    A slot that reads R bytes lasts at least the minimum over x in [0, 1] of the maximum over channels c of
    ``base[c] + R * (x * fast[c] + (1 - x) * backing[c])``. Its dual solution, a price for each channel, proves the
    same bound as a certificate with all capacity prices 0.

    Returns
    -------
    Bound
        Source "aggregate bandwidth", certified by its channel prices.
    """
    began = time.perf_counter()
    slot_s, price = slotwise_prices(lower(instance))
    certificate = Certificate(price, np.zeros((2, instance.n_slots)))
    return Bound(
        # At these prices paths also pay for writes and moves, so the certificate proves as much or more; less only by
        # verification's allowance for rounding.
        value=min(float(slot_s.sum()), verify(instance, certificate)),
        source="aggregate bandwidth",
        role=Role.CERTIFIED,
        verified=True,
        unit=instance.objective.unit,
        certificate=certificate,
        elapsed_s=time.perf_counter() - began,
    )


def slotwise_prices(low: Lowered) -> tuple[np.ndarray, np.ndarray]:
    """Solve every slot's split by its dual: max over channel prices of the cheaper of "all fast" and "all backing".

    Returns
    -------
    value_s : float64[T]
    channel_price : float64[C, T]
        Sums to 1 over the channels; at most two are positive.
    """
    read = _read_bytes(low)
    all_fast = low.base_s + np.outer(low.op_s_per_byte[1, FAST, FAST], read)
    all_backing = low.base_s + np.outer(low.op_s_per_byte[1, BACKING, BACKING], read)
    value = np.full(low.n_slots, -np.inf)
    price = np.zeros_like(low.base_s)
    slots = np.arange(low.n_slots)

    def offer(a: int, b: int, share: np.ndarray) -> None:
        """Prices share on a and 1 - share on b, taken where they are the best so far."""
        ends = [share * end[a] + (1 - share) * end[b] for end in (all_fast, all_backing)]
        worth = np.minimum(*ends)
        better = slots[worth > value]
        value[better] = worth[better]
        price[:, better] = 0.0
        price[a, better] += share[better]
        price[b, better] += 1 - share[better]

    for c in range(low.n_channels):
        offer(c, c, np.ones(low.n_slots))
    slope = all_fast - all_backing
    for a, b in combinations(range(low.n_channels), 2):
        with np.errstate(invalid="ignore", divide="ignore"):
            share = slope[b] / (slope[b] - slope[a])
        offer(a, b, np.where((share >= 0) & (share <= 1), share, 1.0))
    return value, price


def _read_bytes(low: Lowered) -> np.ndarray:
    """float64[T]: KV bytes read in each slot."""
    change = np.zeros((low.n_steps + 1, low.n_lanes))
    block = np.repeat(np.arange(low.n_blocks), np.diff(low.run_ptr))
    np.add.at(change, (low.run_start, low.lane[block]), low.size_bytes[block])
    np.subtract.at(change, (low.run_stop, low.lane[block]), low.size_bytes[block])
    return np.cumsum(change, axis=0)[:-1].ravel()
