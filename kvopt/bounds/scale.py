"""What multipliers are counted in, so that a step of one length suits all of them."""

from __future__ import annotations

import numpy as np

from kvopt.lowering import Lowered, unit_per_byte
from kvopt.residency import nearest

_SLOT_TIMES = 10.0
"""Capacity prices are counted in this many mean slot times over the capacity. Measured on 50k-100k columns: 0.1 and 100
need several times the evaluations that 10 does, which gives both kinds of price like curvature."""
_LEAST_CAPACITY = 1 / 40
"""A tier counts as no smaller, in live bytes. What it would hold for nothing is what its prices turn over, however
little it has room for: with one block of a log's 4e11 bytes, the bound came to 8 % less without this."""
_WORTHS, _LEAST_WORTH = 2.0, 0.1
"""Nor are they counted in more than so many times what a byte's read costs less from the tier than from the dearest,
with the second, in reads from the backing tier, for one that is no better. In all families what comes first is less."""


def capacity_units(low: Lowered, slot_s: float, second: float) -> np.ndarray:
    """float64[K]: what a price of capacity is counted in, in the objective's unit a byte and slot.

    Parameters
    ----------
    low : Lowered
    slot_s : float
        About what a slot costs, in the objective's unit.
    second : float
        Units a second.
    """
    near = nearest(low.holds)
    read = second * low.op_s_per_byte[1].max(axis=-1).diagonal() + low.op_price_per_byte[1].diagonal()
    by_tier = np.array([read[near == k].min() for k in range(low.n_tiers)])
    worth = np.where(low.closed, 0.0, by_tier).max() - by_tier
    most = np.maximum(_WORTHS * worth, _LEAST_WORTH * unit_per_byte(low, second))
    return np.minimum(
        _SLOT_TIMES * slot_s / np.maximum(low.capacity_bytes, _LEAST_CAPACITY * low.live_bytes.max()), most
    )
