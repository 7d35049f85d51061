"""Least recently used, by the slot of the last use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from kvopt.policies.kernels.course import Course
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.reading import Reading, reading_before, turn

_BATCH = 64
OUTSIDE, INSIDE, ENTERING = 0, 1, 2


class LruState(NamedTuple):
    """What is known between two slots.

    Parameters
    ----------
    reading : Reading
    held : uint8[B]
        Whether the fast tier holds the block; ENTERING within a slot only.
    used : int32[B]
        One more than the slot of a resident's last use; 0 for prefill.
    count : int32[T + 2]
        Residents by ``used``.
    entering : int32[B]
        Room for the blocks that are to enter.
    at : int64[3]
        Number of residents; the least ``used`` there may be; up to where its blocks are known to be gone.
    """

    reading: Reading
    held: np.ndarray
    used: np.ndarray
    count: np.ndarray
    entering: np.ndarray
    at: np.ndarray


def lru_state(course: Course) -> LruState:
    """The state before slot 0."""
    n_blocks = course.n_blocks
    return LruState(
        reading_before(course.runs, 0),
        np.zeros(n_blocks, np.uint8),
        np.zeros(n_blocks, np.int32),
        np.zeros(course.n_slots + 2, np.int32),
        np.empty(n_blocks, np.int32),
        np.zeros(3, np.int64),
    )


@njit(cache=True, nogil=True)
def lru_slots(course: Course, state: LruState, page: Page, first: int, last: int) -> int:
    """Decide during slots first..last-1 what the next ones hold; during slot -1, what slot 0 holds.

    Parameters
    ----------
    course : Course
    state : LruState
        Modified in place.
    page : Page
        Modified in place.
    first, last : int

    Returns
    -------
    int
        The slot before which the page was full, or ``last``.
    """
    reading, held, used, count, entering, at = state
    n = 0
    for slot in range(first, last):
        if len(page.block) - n < course.n_blocks:
            return slot
        lane = slot % course.n_lanes
        missed = 0
        if slot >= 0:
            start, stop = course.lane_ptr[lane], course.lane_ptr[lane + 1]
            turn(course.runs, reading, start, stop, slot // course.n_lanes)
            missed = _touch(state, start, stop, slot + 1)
        n = _bury(course, state, page, n, slot + 1)
        entered = 0
        for b in entering[:missed]:
            # Of a single lane, what was just read may be gone; _bury took no notice of it, as it was not inside.
            if course.n_lanes > 1 or not _dies(course, b, slot + 1):
                entered = _enter(state, entered, b, slot + 1)
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            entered = _enter(state, entered, b, 0 if course.prefilled[b] else slot + 2)
        if at[0] > course.room:
            n = _evict(course, state, page, n, at[0] - course.room, slot)
        for b in entering[:entered]:
            if held[b] == ENTERING:
                held[b] = INSIDE
                page.block[n] = b
                n += 1
        page.stop[slot + 1] = n
    return last


@njit(cache=True, nogil=True)
def _touch(state, start, stop, now):
    """Mark what is read as used; int: how many misses there are, put in ``entering``."""
    now_read, held, used, count, entering = state.reading.now, state.held, state.used, state.count, state.entering
    missed, hits, before, at_before = 0, 0, 0, 0
    for b in range(start, stop):
        if now_read[b]:
            if held[b]:
                u = used[b]
                # Almost all were used in the lane's slot before: one number counts them.
                if u == before:
                    at_before += 1
                else:
                    count[before] -= at_before
                    before, at_before = u, 1
                hits += 1
            else:
                entering[missed] = b
                missed += 1
            used[b] = now
    count[before] -= at_before
    count[now] += hits
    return missed


@njit(cache=True, nogil=True)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on."""
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        if state.held[b]:
            state.held[b] = OUTSIDE
            state.count[state.used[b]] -= 1
            state.at[0] -= 1
            page.block[n] = b
            n += 1
    return n


@njit(cache=True, nogil=True)
def _dies(course, block, slot):
    """Whether a block is among those gone from a slot on; they ascend."""
    gone = course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]
    k = np.searchsorted(gone, block)
    return k < len(gone) and gone[k] == block


@njit(cache=True, nogil=True)
def _enter(state, entered, b, used):
    state.held[b] = ENTERING
    state.used[b] = used
    state.count[used] += 1
    state.at[0] += 1
    state.entering[entered] = b
    return entered + 1


@njit(cache=True, nogil=True)
def _evict(course, state, page, n, excess, slot):
    """Put the least recently used out, of one slot the earlier block first; what was entering does not enter."""
    held, used, count, at = state.held, state.used, state.count, state.at
    at[0] -= excess
    oldest, b = at[1], at[2]
    if oldest > slot:
        b = 0  # Blocks have joined those of this slot and the next since.
    while excess:
        while count[oldest] == 0:
            oldest, b = oldest + 1, 0
        lane = (oldest - 1) % course.n_lanes
        start = course.lane_ptr[lane] if oldest else 0
        stop = course.lane_ptr[lane + 1] if oldest else course.n_blocks
        b = max(b, start)
        while excess and count[oldest]:
            if b % _BATCH == 0 and b + _BATCH <= stop and not _among(used, b, oldest):
                b += _BATCH
                continue
            if used[b] == oldest and held[b]:
                if held[b] == INSIDE:
                    page.block[n] = b
                    n += 1
                held[b] = OUTSIDE
                count[oldest] -= 1
                excess -= 1
            b += 1
    at[1], at[2] = oldest, b
    return n


@njit(cache=True, nogil=True, inline="always")
def _among(values, first, wanted):
    """Whether a batch of values has the one wanted: in vector instructions, which a search that stops is not."""
    found = 0
    for k in range(first, first + _BATCH):
        found += values[k] == wanted
    return found > 0
