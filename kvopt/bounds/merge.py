"""Blocks alike as one: what the dual asks of them depends on their bytes alone.

Everything in the trellis is by the byte, the temperature too. So blocks that exist together and are read together have
the same paths at any prices, and one block with the bytes of all has the sum of their minima. Prefix blocks of one
prompt are such blocks, and lie side by side in a trace; a log of requests has four times fewer runs without them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvopt.lowering import OF_BLOCKS, Lowered

_CHUNK_BLOCKS = 1 << 16
_WORTH_A_COPY = 0.9
"""Share of the runs above which what is left is not worth the memory of another copy."""


def merged(low: Lowered) -> Lowered:
    """The same dual, with every row of neighbours alike as one block.

    Parameters
    ----------
    low : Lowered

    Returns
    -------
    Lowered
        ``low`` itself where that saves few runs.
    """
    new, counts = ~_like_the_last(low), np.diff(low.run_ptr)
    if counts[new].sum() > _WORTH_A_COPY * len(low.run_start):
        return low
    kept, runs = np.flatnonzero(new), np.repeat(new, counts)
    return replace(
        low,
        size_bytes=np.add.reduceat(low.size_bytes, kept),
        run_ptr=np.concatenate([[0], np.cumsum(counts[kept])]),
        **{name: getattr(low, name)[runs] for name in ("run_start", "run_stop")},
        **{name: getattr(low, name)[kept] for name in OF_BLOCKS},
    )


def _like_the_last(low: Lowered) -> np.ndarray:
    """bool[B]: whether a block exists and is read when the one before it is and does."""
    alike = np.zeros(low.n_blocks, bool)
    alike[1:] = True
    for column in (np.diff(low.run_ptr), *(getattr(low, name) for name in OF_BLOCKS)):
        alike[1:] &= column[1:] == column[:-1]
    for begin in range(0, low.n_blocks, _CHUNK_BLOCKS):
        some = begin + np.flatnonzero(alike[begin : begin + _CHUNK_BLOCKS])
        alike[some] = _read_like_the_last(low, some)
    return alike


def _read_like_the_last(low: Lowered, blocks: np.ndarray) -> np.ndarray:
    """bool: of each block, whether its runs are those of the one before it, which has as many."""
    count = low.run_ptr[blocks + 1] - low.run_ptr[blocks]
    first, last = low.run_ptr[blocks], low.run_ptr[blocks + 1] - 1
    same = np.ones(len(blocks), bool)
    # Nearly all that differ do so in the first run or the last.
    some = count > 0
    for runs in (first[some], last[some]):
        for column in (low.run_start, low.run_stop):
            same[some] &= column[runs] == column[runs - count[some]]
    left = np.flatnonzero(same & (count > 2))
    if len(left) == 0:
        return same
    owner = np.repeat(np.arange(len(left)), count[left])
    offset = np.cumsum(count[left]) - count[left]
    runs = np.arange(len(owner)) + (first[left] - offset)[owner]
    differ = np.zeros(len(owner), bool)
    for column in (low.run_start, low.run_stop):
        differ |= column[runs] != column[runs - count[left][owner]]
    same[left[np.unique(owner[differ])]] = False
    return same
