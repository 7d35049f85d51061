"""Policies that never move a block: a block's whole life is decided once."""

from __future__ import annotations

import numpy as np

from kvopt.jit import njit, part, piece


@njit(cache=True, nogil=True)
def first_fitting(born, born_ptr, dying, dying_ptr, size_bytes, capacity_bytes):
    """What stays where it is written, as long as there is room; the first block that does not fit closes a slot's door.

    Parameters
    ----------
    born, dying : int32[B]
        Blocks by the slot they come to exist in, in the order they are written, and by the one they are gone from.
    born_ptr, dying_ptr : int64[T + 2]
    size_bytes : int64[B]
    capacity_bytes : float

    Returns
    -------
    bool[B]
    """
    chosen = np.zeros(len(born), np.bool_)
    free = capacity_bytes
    for slot in range(len(born_ptr) - 2):
        for b in dying[dying_ptr[slot] : dying_ptr[slot + 1]]:
            if chosen[b]:
                free += size_bytes[b]
        for b in born[born_ptr[slot] : born_ptr[slot + 1]]:
            if size_bytes[b] > free:
                break
            chosen[b] = True
            free -= size_bytes[b]
    return chosen


@njit(cache=True, nogil=True)
def fitting_lives(ranked, birth_slot, death_slot, size_bytes, capacity_bytes, n_slots):
    """Greedily, in the order given, the blocks whose whole lives fit beside those taken before.

    A tree of maxima over ranges of slots says in O(log T) whether a life fits, and takes it in.

    Parameters
    ----------
    ranked : int64[R]
    birth_slot, death_slot : int64[B]
    size_bytes : int64[B]
    capacity_bytes : float
    n_slots : int

    Returns
    -------
    bool[B]
    """
    leaves = 1
    while leaves < n_slots:
        leaves *= 2
    # Node k has children 2k and 2k + 1; ``most`` is of its slots, less what ``added`` of the nodes above holds.
    most, added = np.zeros(2 * leaves, np.int64), np.zeros(2 * leaves, np.int64)
    chosen = np.zeros(len(birth_slot), np.bool_)
    for b in ranked:
        first, last = leaves + birth_slot[b], leaves + death_slot[b] - 1
        if _most(most, added, first, last) + size_bytes[b] <= capacity_bytes:
            _add(most, added, first, last, size_bytes[b])
            chosen[b] = True
    return chosen


@part(_nrt=False)
def _most(most, added, first, last):
    """Largest sum in leaves first..last."""
    left, right = most[first], most[last]
    while first // 2 != last // 2:
        if first % 2 == 0:
            left = max(left, most[first + 1])
        if last % 2 == 1:
            right = max(right, most[last - 1])
        first, last = first // 2, last // 2
        left, right = left + added[first], right + added[last]
    found = max(left, right)
    while first > 1:
        first //= 2
        found += added[first]
    return found


@part(_nrt=False)
def _add(most, added, first, last, amount):
    """Add to leaves first..last."""
    _lift(most, added, first, amount)
    if last != first:
        _lift(most, added, last, amount)
    a, z = first, last
    while a // 2 != z // 2:
        if a % 2 == 0:
            _lift(most, added, a + 1, amount)
        if z % 2 == 1:
            _lift(most, added, z - 1, amount)
        a, z = a // 2, z // 2
        for node in (a, z):
            most[node] = max(most[2 * node], most[2 * node + 1]) + added[node]
    while a > 1:
        a //= 2
        most[a] = max(most[2 * a], most[2 * a + 1]) + added[a]


@piece
def _lift(most, added, node, amount):
    most[node] += amount
    added[node] += amount


@njit(cache=True, nogil=True)
def reads_of(run_ptr, run_start, run_stop):
    """int64[B]: how often each block is read.

    Parameters
    ----------
    run_ptr : int64[B + 1]
    run_start, run_stop : int32[R]
    """
    reads = np.zeros(len(run_ptr) - 1, np.int64)
    for b in range(len(reads)):
        for k in range(run_ptr[b], run_ptr[b + 1]):
            reads[b] += run_stop[k] - run_start[k]
    return reads
