"""The forward pass over the table entries of one block's life, which soft minimum and sampling begin with."""

from __future__ import annotations

from numba import njit

from kvopt.trellis.scaled import add, from_cost


@njit(cache=True, nogil=True, inline="always")
def enter(prefilled, first_slot, lane, prefix, prefix_exp, write):
    """Weights of the two states a block begins in, each as mantissa and exponent: (v0, e0, v1, e1)."""
    if prefilled:
        v0, v1 = prefix[lane, 0], prefix[lane, 1]
        e0, e1 = prefix_exp[lane, 0], prefix_exp[lane, 1]
    else:
        v0, e0 = from_cost(write[first_slot, 0])
        v1, e1 = from_cost(write[first_slot, 1])
    return v0, e0, v1, e1


@njit(cache=True, nogil=True, inline="always")
def forward(n, entries, matrix, exponent, v0, e0, v1, e1, before, before_exp):
    """Weights of all ways through the first n entries to each state: (v0, e0, v1, e1).

    Parameters
    ----------
    n : int
    entries : tuple of int64[room]
        (kinds, levels, indices), as :func:`kvopt.trellis.ranges.entries_of_life` fills them.
    matrix, exponent : float64[2, levels, N, 4], int64[2, levels, N, 4]
    v0, e0, v1, e1
        Weights to start from.
    before, before_exp : float64[room, 2], int64[room, 2]
        Filled with the weights before each entry.
    """
    kinds, levels, indices = entries
    for a in range(n):
        before[a, 0], before[a, 1] = v0, v1
        before_exp[a, 0], before_exp[a, 1] = e0, e1
        m, e = matrix[kinds[a], levels[a], indices[a]], exponent[kinds[a], levels[a], indices[a]]
        to0, x0 = add(v0 * m[0], e0 + e[0], v1 * m[2], e1 + e[2])
        v1, e1 = add(v0 * m[1], e0 + e[1], v1 * m[3], e1 + e[3])
        v0, e0 = to0, x0
    return v0, e0, v1, e1
