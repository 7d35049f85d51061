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

from kvopt.jit import njit, part, piece
from kvopt.trellis import rows


@piece
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


@part(_nrt=False)
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


@piece
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


@njit(cache=True, nogil=True)
def reach_of_lane(first, last, run_ptr, starts, stops, room, n_steps, levels):
    """How far from the middles of its blocks each level of the table is used.

    Parameters
    ----------
    first, last : int64[b]
    run_ptr : int64[b + 1]
    starts, stops : int32[r]
    room : int
        As :func:`most_entries` returns it.

    Returns
    -------
    int32[2, levels, N // 4 + 1, 2]
        For idle (0) and read (1), level k >= 1 and the block from ``j * 2^(k + 1)`` on: the lowest index used in its
        left half, and one past the highest in its right half; the middle where none is.
    """
    reach = np.empty((2, levels, n_steps // 4 + 1, 2), np.int32)
    for k in range(1, levels):
        for j in range(reach.shape[2]):
            for r in range(2):
                rows.fill(reach[r, k, j], 0, 2, (2 * j + 1) << k)
    kinds, at_levels, indices = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    for i in range(len(first)):
        runs = slice(run_ptr[i], run_ptr[i + 1])
        n, _ = entries_of_life(first[i], last[i], starts[runs], stops[runs], kinds, at_levels, indices)
        for a in range(n):
            k, index = at_levels[a], indices[a]
            if k > 0:
                here = reach[kinds[a], k, index >> (k + 1)]
                here[0], here[1] = min(here[0], index), max(here[1], index + 1)
    return reach


def full_reach(n_steps: int) -> np.ndarray:
    """The reach where all entries are to be had."""
    levels = n_levels(n_steps)
    block = np.arange(n_steps // 4 + 1)[None, :] << (np.arange(levels) + 1)[:, None]
    ends = np.minimum(np.stack([block, block + (2 << np.arange(levels))[:, None]], axis=-1), n_steps)
    return np.stack([ends, ends]).astype(np.int32)
