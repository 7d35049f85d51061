"""Tiers that can be done without: another has room for all, and is never worse.

A tier that loads no channel less than another with room for every block changes no optimum: whatever is there may as
well be in the other. Nor does it change the dual where its bytes cost nothing, since every path through it has one
around it that costs no more at any prices. Its own prices, though, would be as hard to find as any: for a copy of the
backing tier all paths are equal, and one byte more or less of it turns all of them over. So an ascent keeps every
block out of such tiers, and its certificate has them for nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvopt.lowering import Lowered
from kvopt.result import Certificate


def spare_tiers(low: Lowered) -> np.ndarray:
    """bool[K]: the tiers that can be done without, by what the others cost on every channel and per byte.

    Parameters
    ----------
    low : Lowered
    """
    spare = np.zeros(low.n_tiers, bool)
    begun_in = low.holds[np.unique(low.initial[low.initial >= 0])].any(axis=0)
    for k in np.flatnonzero(~begun_in & ~low.closed):
        # In the place of one that has been found spare there is always another.
        others = np.flatnonzero(np.isinf(low.capacity_bytes) & ~spare)
        spare[k] = any(_serves(low, int(k), int(j)) for j in others if j != k)
    return spare


def without(low: Lowered, spare: np.ndarray) -> Lowered:
    """The same blocks, kept out of some tiers.

    Parameters
    ----------
    low : Lowered
    spare : bool[K]
    """
    return replace(low, capacity_bytes=np.where(spare, 0.0, low.capacity_bytes)) if spare.any() else low


def for_nothing(certificate: Certificate, spare: np.ndarray) -> Certificate:
    """A certificate of what :func:`without` makes of an instance as one of the instance: it proves the same.

    Parameters
    ----------
    certificate : Certificate
    spare : bool[K]
    """
    if not spare.any():
        return certificate
    mu = np.where(spare[:, None], 0.0, certificate.capacity_price_s_per_byte)
    return replace(certificate, capacity_price_s_per_byte=mu)


def _serves(low: Lowered, k: int, j: int) -> bool:
    """Whether a block that is in tier k costs no less there than in tier j in its place, whatever it does."""
    put = low.holds.copy()
    put[:, j] |= put[:, k]
    put[:, k] = False
    found = [np.flatnonzero((low.holds == row).all(axis=1)) for row in put]
    if not all(len(state) for state in found):  # Every block has a copy in tier k.
        return False
    instead = np.array([int(state[0]) for state in found])
    tables = (low.op_s_per_byte, low.op_price_per_byte)
    ways = all((table[:, instead][:, :, instead] <= table).all() for table in tables)
    return ways and all((table[instead] <= table).all() for table in (low.write_s_per_byte, low.write_price_per_byte))
