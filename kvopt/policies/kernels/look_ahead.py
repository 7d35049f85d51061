"""The rule of a window and a ratio, by the number of reads ahead."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from kvopt.policies.kernels.course import Course
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.reading import Reading, Runs, reading_before, turn

OUTSIDE, INSIDE, ENTERING = 0, 1, 2


class LookAheadState(NamedTuple):
    """What is known between two slots.

    Parameters
    ----------
    window : int
        Steps that are looked ahead, W.
    ratio : float
    reading, ahead : Reading
        Now, and W steps from now.
    held : uint8[B]
        Whether the fast tier holds the block; ENTERING within a slot only.
    alive : uint8[B]
    reads : int32[B]
        In the next W steps.
    count : int32[L, W + 1]
        Residents of each lane by ``reads``.
    entering : int32[B]
        Room for the blocks that are to enter.
    at : int64[1]
        Number of residents.
    """

    window: int
    ratio: float
    reading: Reading
    ahead: Reading
    held: np.ndarray
    alive: np.ndarray
    reads: np.ndarray
    count: np.ndarray
    entering: np.ndarray
    at: np.ndarray


def look_ahead_state(course: Course, window_steps: int, ratio: float) -> LookAheadState:
    """The state before slot 0."""
    n_blocks = course.n_blocks
    # No window need be longer than the trace.
    window = min(window_steps, course.n_slots // course.n_lanes)
    reads = np.empty(n_blocks, np.int32)
    _reads_before(course.runs, window, reads)
    return LookAheadState(
        window,
        float(ratio),
        reading_before(course.runs, 0),
        reading_before(course.runs, window),
        np.zeros(n_blocks, np.uint8),
        np.zeros(n_blocks, np.uint8),
        reads,
        np.zeros((course.n_lanes, window + 1), np.int32),
        np.empty(n_blocks, np.int32),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True)
def _reads_before(runs: Runs, step, reads):
    """Reads of each block in steps before ``step``."""
    for b in range(len(reads)):
        reads[b] = 0
        for k in range(runs.ptr[b], runs.ptr[b + 1]):
            if runs.start[k] >= step:
                break
            reads[b] += min(runs.stop[k], step) - runs.start[k]


@njit(cache=True, nogil=True)
def look_ahead_slots(course: Course, state: LookAheadState, page: Page, first: int, last: int) -> int:
    """Decide during slots first..last-1 what the next ones hold; as :func:`kvopt.policies.kernels.lru.lru_slots`."""
    held, entering, at = state.held, state.entering, state.at
    n = 0
    for slot in range(first, last):
        if len(page.block) - n < course.n_blocks:
            return slot
        lane, step = slot % course.n_lanes, slot // course.n_lanes
        start, stop = course.lane_ptr[lane], course.lane_ptr[lane + 1]
        if slot >= 0:
            turn(course.runs, state.reading, start, stop, step)
            turn(course.runs, state.ahead, start, stop, step + state.window)
            _move_window(state, lane, start, stop)
        n = _bury(course, state, page, n, slot + 1)
        top = _most_read(state, start, stop) if slot >= 0 else 0
        entered = top
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            state.alive[b] = 1
            if state.reads[b]:
                entering[entered] = b
                entered += 1
        held[entering[:entered]] = ENTERING
        at[0] += entered
        if at[0] > course.room:
            n = _evict(course, state, page, n, top, entered)
        for b in entering[:entered]:
            if held[b] == ENTERING:
                held[b] = INSIDE
                state.count[_lane_of(course, b), state.reads[b]] += 1
                page.block[n] = b
                n += 1
        page.stop[slot + 1] = n
    return last


@njit(cache=True, nogil=True)
def _move_window(state, lane, start, stop):
    """A step on: what the present step reads is no longer ahead, what the window's new last one reads is."""
    now, then, held, reads, count = state.reading.now, state.ahead.now, state.held, state.reads, state.count[lane]
    for b in range(start, stop):
        if now[b] != then[b]:
            if held[b]:
                count[reads[b]] -= 1
            reads[b] += 1 if then[b] else -1
            if held[b]:
                count[reads[b]] += 1


@njit(cache=True, nogil=True)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on."""
    lane = slot % course.n_lanes
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        state.alive[b] = 0
        if state.held[b]:
            state.held[b] = OUTSIDE
            state.count[lane, state.reads[b]] -= 1
            state.at[0] -= 1
            page.block[n] = b
            n += 1
    return n


@njit(cache=True, nogil=True)
def _most_read(state, start, stop):
    """Put the most read share of a lane's blocks outside, ascending, into ``entering``; int: how many."""
    alive, held, reads, entering = state.alive, state.held, state.reads, state.entering
    by_reads = np.zeros(state.window + 1, np.int64)
    waiting = 0
    for b in range(start, stop):
        if alive[b] and not held[b]:
            waiting += 1
            by_reads[reads[b]] += 1
    left = math.ceil(state.ratio * waiting)
    least = state.window
    while least > 0 and by_reads[least] <= left:
        left -= by_reads[least]
        least -= 1
    if least == state.window and left == 0:
        return 0
    top = 0
    for b in range(start, stop):
        # ``left`` is how many of those that are read just ``least`` times are taken, none if that is not at all.
        if alive[b] and not held[b] and reads[b] >= max(least, 1):
            if reads[b] == least:
                if left == 0:
                    continue
                left -= 1
            entering[top] = b
            top += 1
    return top


@njit(cache=True, nogil=True)
def _evict(course, state, page, n, top, entered):
    """Put out what is read least; of equals what was to enter first, new blocks before others, later ones before."""
    held, reads = state.held, state.reads
    excess = state.at[0] - course.room
    state.at[0] = course.room
    least = 0
    while excess:
        # ``entering`` holds the top blocks and then the new ones, each ascending.
        for k in range(entered - 1, -1, -1):
            b = state.entering[k]
            if excess and reads[b] == least:
                held[b] = OUTSIDE
                excess -= 1
        for lane in range(course.n_lanes - 1, -1, -1):
            b = course.lane_ptr[lane + 1]
            while excess and state.count[lane, least]:
                b -= 1
                if reads[b] == least and held[b] == INSIDE:
                    page.block[n] = b
                    n += 1
                    held[b] = OUTSIDE
                    state.count[lane, least] -= 1
                    excess -= 1
        least += 1
    return n


@njit(cache=True, nogil=True, inline="always")
def _lane_of(course, b):
    return np.searchsorted(course.lane_ptr, b, side="right") - 1
