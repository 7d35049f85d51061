"""Positive numbers of unlimited range: mantissa times two to an integer exponent.

Path probabilities exp(-cost / tau) leave the range of a double as soon as tau is a few hundredths of a move's price.
Logarithms would cost two transcendental functions an addition; a mantissa and its own exponent cost a table look-up.
Mantissas start in [1, 2) and only ever grow, by products and sums; they are kept below 2^64, so that exponents alone
tell when a summand is negligible. The one exception is :data:`NOTHING`, the weight of a state that a block cannot be
in: its exponent is so low that it never sets the scale of a sum, and so nothing divides by it.

All that the kernels do with such numbers is to sum products of two rows of S. Where a row lies in an array is said by
its first index and its stride, so that rows, columns and diagonals of S x S matrices are all at hand:

    (array of mantissas, array of exponents), first, stride
"""

from __future__ import annotations

import math

import numpy as np

from kvopt.jit import njit, part, piece

_HUGE_EXPONENT = 64
_HUGE = 2.0**_HUGE_EXPONENT
# Up to three mantissas are multiplied, which makes less than 2^192, so what is below 2^-320 is lost in a sum anyway.
_LOWEST, _HIGHEST = -320, 128
_POWER = 2.0 ** np.arange(_LOWEST, _HIGHEST + 1)
_LOG2E = 1.0 / math.log(2.0)
_LN2 = math.log(2.0)
NOTHING = 0.0, -(1 << 60)
"""Mantissa and exponent of the weight of what cannot be: below any way's, and with theirs added still in range."""


@piece
def power(d):
    """2^d for d <= 128; no less than 2^-320."""
    return _POWER[max(d, _LOWEST) - _LOWEST]


@part(_nrt=False)
def from_cost(cost):
    """exp(-cost) as mantissa in [1, 2) and exponent."""
    binary = -cost * _LOG2E
    exponent = math.floor(binary)
    return math.exp((binary - exponent) * _LN2), int(exponent)


@piece
def to_cost(mantissa, exponent):
    """-log of a number."""
    return -(math.log(mantissa) + exponent * _LN2)


@piece
def settle(total, exponent):
    """The same number, its mantissa below 2^64 again."""
    while total > _HUGE:
        total /= _HUGE
        exponent += _HUGE_EXPONENT
    return total, exponent


@piece
def dot(states, p, i, di, q, j, dj):
    """Sum of the products of two rows, as mantissa and exponent."""
    total, top = p[0][i] * q[0][j], p[1][i] + q[1][j]
    for z in range(1, len(states)):
        more, exponent = p[0][i + di * z] * q[0][j + dj * z], p[1][i + di * z] + q[1][j + dj * z]
        # Which is larger is mostly what it was last time, so branching beats looking for the highest exponent first.
        if top >= exponent:
            total += more * power(exponent - top)
        else:
            total, top = more + total * power(top - exponent), exponent
    return settle(total, top)


@piece
def terms(states, p, i, di, q, j, dj, out):
    """Fill ``out`` with the products of two rows; returns their sum.

    Returns
    -------
    total : float
        In units of 2^top, as ``out`` is.
    top : int
    """
    top = p[1][i] + q[1][j]
    for z in range(1, len(states)):
        top = max(top, p[1][i + di * z] + q[1][j + dj * z])
    total = 0.0
    for z in range(len(states)):
        out[z] = p[0][i + di * z] * q[0][j + dj * z] * power(p[1][i + di * z] + q[1][j + dj * z] - top)
        total += out[z]
    return total, top


@njit(cache=True, nogil=True)
def slot_matrices(slot):
    """Probabilities of all slots from their costs in units of tau.

    Parameters
    ----------
    slot : float64[2, T, S * S]

    Returns
    -------
    float64[2, T, S * S], int64[2, T, S * S]
    """
    mantissa, exponent = np.empty(slot.shape), np.empty(slot.shape, np.int64)
    for r in range(2):
        for t in range(slot.shape[1]):
            for q in range(slot.shape[2]):
                mantissa[r, t, q], exponent[r, t, q] = from_cost(slot[r, t, q])
    return mantissa, exponent


@piece
def product(states, p, q, m, e):
    """Product of two S x S matrices, its mantissas in m and exponents in e."""
    n = len(states)
    for y in range(n):
        for z in range(n):
            m[n * y + z], e[n * y + z] = dot(states, p, n * y, 1, q, z, n)


@piece
def product_back(states, p, q, flow, flow_p, flow_q, part):
    """Spread the flow through a product over the entries of its factors (added in place); ``part`` is scratch."""
    n = len(states)
    for y in range(n):
        for z in range(n):
            if flow[n * y + z] == 0.0:
                continue
            total, _ = terms(states, p, n * y, 1, q, z, n, part)
            unit = flow[n * y + z] / total
            for x in range(n):
                flow_p[n * y + x] += unit * part[x]
                flow_q[n * x + z] += unit * part[x]


@piece
def divide(states, flow, p, i, di, q, j, dj, flow_p, flow_q, part):
    """Spread the flow through the sum of the products of two rows over them (added in place)."""
    if flow == 0.0:
        return
    total, _ = terms(states, p, i, di, q, j, dj, part)
    for z in range(len(states)):
        flow_p[i + di * z] += flow / total * part[z]
        flow_q[j + dj * z] += flow / total * part[z]


@piece
def spread_stay(states, flow, to):
    """Add the flow of those that stay in each state to the diagonal of a slot."""
    for z in range(len(states)):
        to[(len(states) + 1) * z] += flow[z]
