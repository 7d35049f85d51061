"""Which table entries a block's life uses.

The life of a block is the lane steps first..last. All but the last are covered by segments, gaps and runs in turn; the
last is *closed* (no move after it, since nothing follows). Each segment is one or two entries of the disjoint sparse
table.

Level k of the table cuts the lane steps into blocks of 2^(k+1); entry j holds the product from j to the middle of its
block (left half) or from the middle to j (right half), j included. Steps a < b whose numbers first differ
in bit k are then entry (k, a) times entry (k, b).
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def top_bit(x):
    """Position of the highest set bit of x > 0."""
    k = 0
    while x > 1:
        x >>= 1
        k += 1
    return k


def n_levels(n_steps: int) -> int:
    """Levels a table over that many lane steps needs."""
    return max(1, (n_steps - 1).bit_length())


@njit(cache=True, nogil=True)
def entries_of_life(first, last, starts, stops, kinds, levels, indices):
    """List the table entries that cover lane steps first..last-1 of a block, and whether it is read in the last.

    Parameters
    ----------
    first, last : int
    starts, stops : int32[r]
        The block's runs.
    kinds, levels, indices : int64[4 * r + 4]
        Filled: idle (0) or read (1), level and index of each entry.

    Returns
    -------
    n : int
        Entries filled in.
    read_last : int
        1 if the block is read in its last step.
    """
    n = 0
    at = first
    read_last = 0
    for r in range(starts.shape[0] + 1):
        if r < starts.shape[0]:
            start, stop = starts[r], stops[r]
            if stop == last + 1:
                read_last = 1
                stop = last
            start = min(start, last)
        else:
            start, stop = last, last
        n = _cover(at, start, 0, n, kinds, levels, indices)
        n = _cover(start, stop, 1, n, kinds, levels, indices)
        at = max(at, stop)
    return n, read_last


@njit(cache=True, nogil=True, inline="always")
def _cover(a, b, kind, n, kinds, levels, indices):
    """Entries for lane steps a..b-1 of one kind, appended at n; returns the new n."""
    if b <= a:
        return n
    last = b - 1
    level = top_bit(a ^ last) if a != last else 0
    kinds[n] = kind
    levels[n] = level
    indices[n] = a
    n += 1
    if a != last:
        kinds[n] = kind
        levels[n] = level
        indices[n] = last
        n += 1
    return n


def most_entries(run_ptr: np.ndarray) -> int:
    """Room that :func:`entries_of_life` needs for the block with the most runs."""
    return 4 * int(np.max(np.diff(run_ptr), initial=0)) + 4
