"""The forward pass over the table entries of one block's life, which soft minimum and sampling begin with."""

from __future__ import annotations

from kvopt.jit import piece
from kvopt.trellis.scaled import dot, from_cost


@piece
def enter(states, prefilled, initial, first_slot, lane, prefix, write, before):
    """Put the weights of the states a block begins in into row 0 of ``before``."""
    mantissa, exponent = before
    for z in range(len(states)):
        if prefilled:
            mantissa[0, z], exponent[0, z] = prefix[0][lane, initial, z], prefix[1][lane, initial, z]
        else:
            mantissa[0, z], exponent[0, z] = from_cost(write[first_slot, z])


@piece
def forward(states, n, entries, matrix, before):
    """Weights of all ways through the first a entries to each state, in row a of ``before``.

    Parameters
    ----------
    states : tuple of int
        As :attr:`kvopt.trellis.Trellis.states`.
    n : int
    entries : tuple of int64[room]
        (kinds, levels, indices), as :func:`kvopt.trellis.ranges.entries_of_life` fills them.
    matrix : float64[2, levels, N, S * S], int64[2, levels, N, S * S]
        Mantissas and exponents.
    before : float64[room + 1, S], int64[room + 1, S]
        Row 0 as :func:`enter` leaves it; rows 1..n are filled.
    """
    kinds, levels, indices = entries
    mantissa, exponent = before
    for a in range(n):
        m = matrix[0][kinds[a], levels[a], indices[a]], matrix[1][kinds[a], levels[a], indices[a]]
        v = mantissa[a], exponent[a]
        for z in range(len(states)):
            mantissa[a + 1, z], exponent[a + 1, z] = dot(states, v, 0, 1, m, z, len(states))
