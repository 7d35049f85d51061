"""A few lanes' multipliers for all of them.

Lanes of one kind are read alike, or nearly: layers of one model, most of all in synthetic traces that draw once for
all. Then the dual of a few lanes, with their share of the capacity, has all but the same channel prices in each slot,
and capacity prices that many times lower, since what is held through a step pays in every lane's slot. Any multipliers
prove a bound, so nothing is lost where lanes differ but the time for it.

Measured on a tenth of the published setting, 2.2 million runs in 32 lanes: one lane's take 6 s and prove 24.8245 s,
which the ascent of all of them does after two minutes; where each lane draws for itself, 24.817 s.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvopt.instance import Instance
from kvopt.lowering import Lowered
from kvopt.result import Certificate, Guide

_LEAST_LANES, _LEAST_RUNS = 8, 20_000
"""Of the whole, and of the lanes asked: below, all of them are soon done."""


def lanes_first(low: Lowered, instance: Instance) -> int:
    """How many lanes to ask first; 0 for none.

    Parameters
    ----------
    low : Lowered
        Of the whole.
    instance : Instance
        The whole.
    """
    runs = len(low.run_start)
    # Steps count by their times, and a few lanes' are shorter.
    if low.n_lanes < _LEAST_LANES or low.prices.stepwise:
        return 0
    count = next((n for n in (1, 2) if runs * n >= _LEAST_RUNS * low.n_lanes), 0)
    if count == 0 or _too_little(instance, count):
        return 0
    # A lane may have no blocks.
    return count if np.isin(low.lane, [k * low.n_lanes // count for k in range(count)]).any() else 0


def _too_little(instance: Instance, count: int) -> bool:
    """Whether a few lanes' share of a tier may not hold a block that the tier does: in a tier that holds none, prices
    say nothing of all lanes."""
    size, n_lanes = instance.trace.size_bytes, instance.trace.n_lanes
    fast, *between = instance.capacity_bytes[:-1]
    limits = [(fast, size.max()), *((capacity, size.min()) for capacity in between)]
    return any(size.min() <= capacity and capacity * count < least * n_lanes for capacity, least in limits)


def widened(guide: Guide, part: Instance, whole: Instance) -> Guide:
    """Multipliers of a few lanes as those of all of them; each lane takes the nearest one's before it."""
    return replace(guide, certificate=_widened(guide.certificate, part.trace.n_lanes, whole.trace.n_lanes))


def _widened(certificate: Certificate, count: int, n_lanes: int) -> Certificate:
    n_steps = certificate.channel_price.shape[1] // count
    slots = (np.arange(n_steps)[:, None] * count + np.arange(n_lanes) * count // n_lanes).ravel()
    mu = certificate.capacity_price_s_per_byte[:, slots] * (count / n_lanes)
    return Certificate(certificate.channel_price[:, slots], mu)
