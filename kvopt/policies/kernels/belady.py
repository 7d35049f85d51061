"""Belady's rule, by the slot of the next use."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from kvopt.policies.kernels.course import Course
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.reading import Reading, reading_before, turn, use_after

OUTSIDE, INSIDE, MISSED, NEW = 0, 1, 2, 3
_PART = 512


class BeladyState(NamedTuple):
    """What is known between two slots.

    Parameters
    ----------
    reading : Reading
    held : uint8[B]
        Whether the fast tier holds the block; MISSED and NEW, for what is to enter, within a slot only.
    use : int32[B]
        Slot of a resident's next use; T if it is not read again.
    count : int32[T + 1]
        Residents by next use.
    part : int32[...]
        The same, by 512 slots in a row.
    never : int32[L]
        Residents of each lane that are not read again.
    entering : int32[B]
        Room for the blocks that are to enter.
    at : int64[1]
        Number of residents.
    """

    reading: Reading
    held: np.ndarray
    use: np.ndarray
    count: np.ndarray
    part: np.ndarray
    never: np.ndarray
    entering: np.ndarray
    at: np.ndarray


def belady_state(course: Course) -> BeladyState:
    """The state before slot 0."""
    n_blocks, n_slots = course.n_blocks, course.n_slots
    return BeladyState(
        reading_before(course.runs, 0),
        np.zeros(n_blocks, np.uint8),
        np.zeros(n_blocks, np.int32),
        np.zeros(n_slots + 1, np.int32),
        np.zeros(n_slots // _PART + 1, np.int32),
        np.zeros(course.n_lanes, np.int32),
        np.empty(n_blocks, np.int32),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True)
def belady_slots(course: Course, state: BeladyState, page: Page, first: int, last: int) -> int:
    """Decide during slots first..last-1 what the next ones hold; as :func:`kvopt.policies.kernels.lru.lru_slots`."""
    held, entering, at = state.held, state.entering, state.at
    n = 0
    for slot in range(first, last):
        if len(page.block) - n < course.n_blocks:
            return slot
        entered = 0
        if slot >= 0:
            lane = slot % course.n_lanes
            start, stop = course.lane_ptr[lane], course.lane_ptr[lane + 1]
            turn(course.runs, state.reading, start, stop, slot // course.n_lanes)
            entered = _use(course, state, start, stop, slot)
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            entered = _enter(course, state, entered, b, _first_use(course, b), NEW)
        # What dies is not read again: it leaves before anything is put out, and never was to enter.
        n = _bury(course, state, page, n, slot + 1)
        if at[0] > course.room:
            n = _evict(course, state, page, n, entered)
        for b in entering[:entered]:
            if held[b] > INSIDE:
                held[b] = INSIDE
                page.block[n] = b
                n += 1
        page.stop[slot + 1] = n
    return last


@njit(cache=True, nogil=True)
def _use(course, state, start, stop, slot):
    """Look up the next uses of what is read; int: how many misses are to enter."""
    now_read, held, use = state.reading.now, state.held, state.use
    following = slot + course.n_lanes
    entered, at_following, used = 0, 0, 0
    for b in range(start, stop):
        if now_read[b]:
            after = use_after(course.runs, state.reading, b, slot, course.n_lanes, course.n_slots)
            if held[b]:
                use[b] = after
                used += 1
                if after == following:
                    at_following += 1
                else:
                    _add(state, after, slot % course.n_lanes, 1)
            else:
                entered = _enter(course, state, entered, b, after, MISSED)
    if used:
        _add(state, slot, 0, -used)
    if at_following:
        _add(state, following, 0, at_following)
    return entered


@njit(cache=True, nogil=True)
def _first_use(course, b):
    """Slot of a block's first read; T if there is none."""
    k = course.runs.ptr[b]
    if k == course.runs.ptr[b + 1]:
        return course.n_slots
    lane = np.searchsorted(course.lane_ptr, b, side="right") - 1
    return np.int64(course.runs.start[k]) * course.n_lanes + lane


@njit(cache=True, nogil=True)
def _add(state, use, lane, blocks):
    """Count residents whose next use is in a slot; those that are not read again, by their lane."""
    state.count[use] += blocks
    if use == len(state.count) - 1:
        state.never[lane] += blocks
    else:
        state.part[use // _PART] += blocks


@njit(cache=True, nogil=True)
def _enter(course, state, entered, b, use, how):
    """Count a block in that is read again."""
    if use == course.n_slots:
        return entered
    state.held[b] = how
    state.use[b] = use
    _add(state, use, 0, 1)
    state.at[0] += 1
    state.entering[entered] = b
    return entered + 1


@njit(cache=True, nogil=True)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on."""
    lane = slot % course.n_lanes
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        if state.held[b]:
            state.held[b] = OUTSIDE
            _add(state, state.use[b], lane, -1)
            state.at[0] -= 1
            page.block[n] = b
            n += 1
    return n


@njit(cache=True, nogil=True)
def _evict(course, state, page, n, entered):
    """Put out what is used last; of one slot what was to enter first, new blocks before others, later ones before."""
    excess = state.at[0] - course.room
    state.at[0] = course.room
    for lane in range(course.n_lanes - 1, -1, -1):
        if excess and state.never[lane]:
            n, excess = _put_out(course, state, page, n, excess, course.n_slots, lane, INSIDE)
    while excess:
        use = _farthest(state)
        lane = use % course.n_lanes
        if entered:
            n, excess = _put_out(course, state, page, n, excess, use, lane, NEW)
            n, excess = _put_out(course, state, page, n, excess, use, lane, MISSED)
        n, excess = _put_out(course, state, page, n, excess, use, lane, INSIDE)
    return n


@njit(cache=True, nogil=True)
def _farthest(state):
    """The last slot in which any resident is used next."""
    p = len(state.part) - 1
    while state.part[p] == 0:
        p -= 1
    use = min((p + 1) * _PART, len(state.count) - 1) - 1
    while state.count[use] == 0:
        use -= 1
    return use


@njit(cache=True, nogil=True)
def _put_out(course, state, page, n, excess, use, lane, how):
    """Put out blocks of a lane and a next use that are inside, or were to enter in one way, later ones first."""
    held, uses, use32 = state.held, state.use, np.int32(use)
    left = state.never[lane] if use == course.n_slots else state.count[use]
    b = course.lane_ptr[lane + 1]
    while excess and left and b > course.lane_ptr[lane]:
        b -= 1
        if uses[b] == use32 and held[b]:
            if held[b] == how:
                if how == INSIDE:
                    page.block[n] = b
                    n += 1
                held[b] = OUTSIDE
                _add(state, use, lane, -1)
                excess -= 1
            left -= 1
    return n, excess
