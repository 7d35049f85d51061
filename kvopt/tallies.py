"""Counting bytes by slot over all reads or intervals of a trace, in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

CHUNK_ITEMS = 1 << 21
"""Reads and intervals looked at together: some 300 MB of temporary arrays."""


class Accesses(Protocol):
    """What a :class:`kvopt.Trace` and a :class:`kvopt.lowering.Lowered` have in common."""

    n_steps: int
    n_lanes: int
    lane: np.ndarray
    size_bytes: np.ndarray
    run_ptr: np.ndarray
    run_start: np.ndarray
    run_stop: np.ndarray


def block_ranges(*ptr: np.ndarray, most: int | None = None) -> Iterator[tuple[int, int]]:
    """Consecutive ranges [lo, hi) of blocks that cover all, each with few items; a block is never split.

    Parameters
    ----------
    *ptr : int64[B + 1]
        The items of block i are ``ptr[i]..ptr[i + 1] - 1``, of each kind; the block itself counts as one more.
    most : int, optional
        Items in a range, unless a single block has more; ``CHUNK_ITEMS`` unless given.
    """
    most = CHUNK_ITEMS if most is None else most
    before = np.arange(len(ptr[0]))
    for one in ptr:
        before = before + one
    lo, n_blocks = 0, len(before) - 1
    while lo < n_blocks:
        hi = int(np.searchsorted(before, before[lo] + most, side="right")) - 1
        hi = min(max(hi, lo + 1), n_blocks)
        yield lo, hi
        lo = hi


def slices(n_items: int) -> Iterator[slice]:
    """Consecutive parts of so many items, each of at most ``CHUNK_ITEMS``.

    Parameters
    ----------
    n_items : int
    """
    for at in range(0, n_items, CHUNK_ITEMS):
        yield slice(at, min(at + CHUNK_ITEMS, n_items))


def owners(ptr: np.ndarray, lo: int, hi: int) -> np.ndarray:
    """int64: the block of each item of the blocks [lo, hi).

    Parameters
    ----------
    ptr : int64[B + 1]
    lo, hi : int
    """
    return np.repeat(np.arange(lo, hi), np.diff(ptr[lo : hi + 1]))


def exact_total(values: np.ndarray) -> int:
    """The sum of whole numbers of 0 or more, exact also where it has more than 64 bits.

    Parameters
    ----------
    values : int64[...]
        Fewer than 2^31.
    """
    low = int((values & 0xFFFFFFFF).sum(dtype=np.int64))
    return (int((values >> 32).sum(dtype=np.int64)) << 32) + low


def add_steps(change: np.ndarray, accesses: Accesses, block: np.ndarray, start: np.ndarray, stop: np.ndarray) -> None:
    """Count the bytes of blocks that are read in steps [start, stop), as changes from step to step.

    Parameters
    ----------
    change : int64[N + 1, L]
        Modified in place. Its sums over steps are bytes by step and lane, exact while they stay below 2^63.
    accesses : Accesses
    block, start, stop : int
    """
    flat = change.reshape(-1)
    lane, size = accesses.lane[block], accesses.size_bytes[block].astype(np.int64, copy=False)
    # One flat index of the platform's own integers: what numpy adds at fastest.
    np.add.at(flat, start.astype(np.int64) * accesses.n_lanes + lane, size)
    np.subtract.at(flat, stop.astype(np.int64) * accesses.n_lanes + lane, size)


def read_bytes(accesses: Accesses) -> np.ndarray:
    """int64[T]: bytes of the blocks that are read in each slot.

    Parameters
    ----------
    accesses : Accesses
        A trace, or what was lowered from one.
    """
    change = np.zeros((accesses.n_steps + 1, accesses.n_lanes), np.int64)
    ptr = accesses.run_ptr
    for lo, hi in block_ranges(ptr):
        runs = slice(ptr[lo], ptr[hi])
        add_steps(change, accesses, owners(ptr, lo, hi), accesses.run_start[runs], accesses.run_stop[runs])
    return np.cumsum(change, axis=0)[:-1].ravel()
