"""Positive numbers of unlimited range: mantissa times two to an integer exponent.

Path probabilities exp(-cost / tau) leave the range of a double as soon as tau is a few hundredths of a move's price.
Logarithms would cost two transcendental functions an addition; a mantissa and its own exponent cost a table look-up.
Mantissas start in [1, 2) and only ever grow, by products and sums; they are kept below 2^64, so that exponents alone
tell when a summand is negligible.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

_HUGE_EXPONENT = 64
_HUGE = 2.0**_HUGE_EXPONENT
# 2^d for d = -256..256. Mantissas of products lie in [1, 2^128), so beyond that one summand is below the other's
# last digit.
_RANGE = 256
_POWER = 2.0 ** np.arange(-_RANGE, _RANGE + 1)
_LOG2E = 1.0 / math.log(2.0)
_LN2 = math.log(2.0)


@njit(cache=True, nogil=True, inline="always")
def power(d):
    """2^d, with d clipped to -256..256."""
    return _POWER[max(-_RANGE, min(_RANGE, d)) + _RANGE]


@njit(cache=True, nogil=True)
def from_cost(cost):
    """exp(-cost) as mantissa in [1, 2) and exponent."""
    binary = -cost * _LOG2E
    exponent = math.floor(binary)
    return math.exp((binary - exponent) * _LN2), int(exponent)


@njit(cache=True, nogil=True, inline="always")
def to_cost(mantissa, exponent):
    """-log of a number."""
    return -(math.log(mantissa) + exponent * _LN2)


@njit(cache=True, nogil=True, inline="always")
def add(a, ea, b, eb):
    """Sum of two numbers."""
    if ea >= eb:
        total, exponent = a + b * power(eb - ea), ea
    else:
        total, exponent = b + a * power(ea - eb), eb
    while total > _HUGE:
        total /= _HUGE
        exponent += _HUGE_EXPONENT
    return total, exponent


@njit(cache=True, nogil=True, inline="always")
def share(a, ea, b, eb):
    """a / (a + b) as a double."""
    return 1.0 / (1.0 + b / a * power(eb - ea)) if eb - ea < _RANGE else 0.0


@njit(cache=True, nogil=True)
def slot_matrices(slot):
    """Probabilities of all slots from their costs in units of tau.

    Parameters
    ----------
    slot : float64[2, T, 4]

    Returns
    -------
    float64[2, T, 4], int64[2, T, 4]
    """
    mantissa, exponent = np.empty(slot.shape), np.empty(slot.shape, np.int64)
    for r in range(2):
        for t in range(slot.shape[1]):
            for q in range(4):
                mantissa[r, t, q], exponent[r, t, q] = from_cost(slot[r, t, q])
    return mantissa, exponent


@njit(cache=True, nogil=True, inline="always")
def product(p, pe, q, qe, m, e):
    """Product of two 2 x 2 matrices."""
    m[0], e[0] = add(p[0] * q[0], pe[0] + qe[0], p[1] * q[2], pe[1] + qe[2])
    m[1], e[1] = add(p[0] * q[1], pe[0] + qe[1], p[1] * q[3], pe[1] + qe[3])
    m[2], e[2] = add(p[2] * q[0], pe[2] + qe[0], p[3] * q[2], pe[3] + qe[2])
    m[3], e[3] = add(p[2] * q[1], pe[2] + qe[1], p[3] * q[3], pe[3] + qe[3])


@njit(cache=True, nogil=True, inline="always")
def product_back(p, pe, q, qe, flow, flow_p, flow_q):
    """Spread the flow through a product over the entries of its factors (added in place)."""
    for y in range(2):
        for z in range(2):
            total = flow[2 * y + z]
            if total == 0.0:
                continue
            a, b = 2 * y, 2 * y + 1
            first = total * share(p[a] * q[z], pe[a] + qe[z], p[b] * q[2 + z], pe[b] + qe[2 + z])
            flow_p[a] += first
            flow_q[z] += first
            flow_p[b] += total - first
            flow_q[2 + z] += total - first
