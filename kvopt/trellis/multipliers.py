"""Admissible multipliers as the kernels can go on with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvopt.admissible import ROUNDING
from kvopt.lowering import Lowered
from kvopt.result import Certificate

_DUST = 1e-100


def at_home(low: Lowered, certificate: Certificate) -> Certificate:
    """Admissible multipliers as an ascent can go on from them: what they prove is no less.

    Channel prices add up to 1 in each slot, or are made to; tiers that cannot be full have no price, those that hold no
    block one that keeps all out, and others none beyond that: nothing would ever pay it.

    Parameters
    ----------
    low : Lowered
    certificate : Certificate
    """
    lam = certificate.channel_price
    total = lam.sum(axis=0)
    off = np.flatnonzero(np.abs(total - 1.0) > ROUNDING)
    if len(off):
        lam, some = lam.copy(), total[off] > _DUST
        lam[:, off] = np.where(some, lam[:, off] / np.where(some, total[off], 1.0), 1.0 / low.n_channels)
    mu = np.minimum(certificate.capacity_price_s_per_byte, low.dearest_price)
    mu[np.isinf(low.capacity_bytes)] = 0.0
    mu[low.closed] = low.keep_out_price[low.closed, None]
    return replace(certificate, channel_price=lam, capacity_price_s_per_byte=mu)
