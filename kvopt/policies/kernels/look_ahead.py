"""The rule of a window and a ratio, by the number of reads ahead."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.policies.kernels.course import Course, lane_of
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.reading import IDLE, Reading, Runs, any_equal, reading_before, settle, turn
from kvopt.trellis import rows

_BATCH = 16
_ABSENT = np.int32(np.iinfo(np.int32).min)


class LookAheadState(NamedTuple):
    """What is known between two slots.

    Parameters
    ----------
    window : int
        Steps that are looked ahead, W.
    ratio : float
    reading, ahead : Reading
        Now, and W steps from now.
    reads : int32[B]
        In the next W steps.
    place : int32[B]
        ``reads`` of a resident; of another block that exists, and of one about to enter, -1 - ``reads``; else the least
        number there is.
    inside, waiting : int64[L, W + 1]
        Residents of each lane by ``reads``, and the other blocks that exist.
    entering : int32[B]
        Room for the blocks that are to enter.
    at : int64[1]
        Number of residents.
    """

    window: int
    ratio: float
    reading: Reading
    ahead: Reading
    reads: np.ndarray
    place: np.ndarray
    inside: np.ndarray
    waiting: np.ndarray
    entering: np.ndarray
    at: np.ndarray


def look_ahead_state(course: Course, window_steps: int, ratio: float) -> LookAheadState:
    """The state before slot 0."""
    n_blocks, n_lanes = course.n_blocks, course.n_lanes
    # No window need be longer than the trace.
    window = min(window_steps, course.n_slots // n_lanes)
    reads = np.empty(n_blocks, np.int32)
    _reads_before(course.runs, window, reads)
    return LookAheadState(
        window=window,
        ratio=float(ratio),
        reading=reading_before(course.runs, 0),
        ahead=reading_before(course.runs, window),
        reads=reads,
        place=np.full(n_blocks, _ABSENT),
        inside=np.zeros((n_lanes, window + 1), np.int64),
        waiting=np.zeros((n_lanes, window + 1), np.int64),
        entering=np.empty(n_blocks, np.int32),
        at=np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True, _nrt=False)
def _reads_before(runs: Runs, step, reads):
    """Reads of each block in steps before ``step``."""
    for b in range(len(reads)):
        reads[b] = 0
        for k in range(runs.ptr[b], runs.ptr[b + 1]):
            if runs.start[k] >= step:
                break
            reads[b] += min(runs.stop[k], step) - runs.start[k]


@njit(cache=True, nogil=True, _nrt=False)
def look_ahead_slots(course: Course, state: LookAheadState, page: Page, first: int, last: int) -> int:
    """Decide during slots first..last-1 what the next ones hold; as :func:`kvopt.policies.kernels.lru.lru_slots`."""
    entering, at = state.entering, state.at
    n = 0
    for slot in range(first, last):
        if len(page.block) - n < course.n_blocks:
            return slot
        top = 0
        if slot >= 0:
            lane, step = slot % course.n_lanes, slot // course.n_lanes
            start, stop = course.lane_ptr[lane], course.lane_ptr[lane + 1]
            _, n_over = turn(course.runs, state.reading, start, stop, step)
            _, n_ahead_over = turn(course.runs, state.ahead, start, stop, step + state.window)
            _move_window(state, lane, start, stop)
            settle(state.reading, n_over)
            settle(state.ahead, n_ahead_over)
        n = _bury(course, state, page, n, slot + 1)
        if slot >= 0:
            top = _most_read(state, lane, start, stop)
        entered = top
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            state.place[b] = -1 - state.reads[b]
            state.waiting[lane_of(course, b), state.reads[b]] += 1
            if state.reads[b]:
                entering[entered] = b
                entered += 1
        at[0] += entered
        if at[0] > course.room:
            n, entered = _evict(course, state, page, n, entered)
        for b in entering[:entered]:
            _move(state, lane_of(course, b), b, 1)
            page.block[n] = b
            n += 1
        page.stop[slot + 1] = n
    return last


@piece
def _move(state, lane, b, inward):
    """Count a block in (1) or out (-1)."""
    state.place[b] = state.reads[b] if inward > 0 else -1 - state.reads[b]
    state.inside[lane, state.reads[b]] += inward
    state.waiting[lane, state.reads[b]] -= inward


@part(_nrt=False)
def _move_window(state, lane, start, stop):
    """A step on: what the present step reads is no longer ahead, what the window's new last one reads is."""
    now, then, reads, place = state.reading.now, state.ahead.now, state.reads, state.place
    inside, waiting = state.inside[lane], state.waiting[lane]
    for b in range(start, stop):
        if (now[b] == IDLE) == (then[b] == IDLE):
            continue
        before = reads[b]
        reads[b] += 1 if now[b] == IDLE else -1
        if place[b] >= 0:
            inside[before] -= 1
            inside[reads[b]] += 1
            place[b] = reads[b]
        elif place[b] != _ABSENT:
            waiting[before] -= 1
            waiting[reads[b]] += 1
            place[b] = -1 - reads[b]


@part(_nrt=False)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on."""
    lane = slot % course.n_lanes
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        if state.place[b] >= 0:
            state.inside[lane, state.reads[b]] -= 1
            state.at[0] -= 1
            page.block[n] = b
            n += 1
        else:
            state.waiting[lane, state.reads[b]] -= 1
        state.place[b] = _ABSENT
    return n


@part(_nrt=False)
def _most_read(state, lane, start, stop):
    """Put the most read share of a lane's waiting blocks, ascending, into ``entering``; int: how many."""
    waiting, place = state.waiting[lane], state.place
    left = 0
    for reads in range(state.window + 1):
        left += waiting[reads]
    left = math.ceil(state.ratio * left)
    least = state.window
    while least > 0 and waiting[least] < left:
        left -= waiting[least]
        least -= 1
    # Of those that are read ``least`` times ``left`` are taken; of those that are not read at all, none.
    if least == 0:
        least, left = 1, waiting[1]
    top, edge = 0, np.int32(-1 - least)
    for b in range(start, stop):
        if place[b] <= edge and place[b] != _ABSENT:
            if place[b] == edge:
                if left == 0:
                    continue
                left -= 1
            state.entering[top] = b
            top += 1
    return top


@part(_nrt=False)
def _evict(course, state, page, n, entered):
    """Put out what is read least; of equals what was to enter first, new blocks before others, later ones before.

    Returns
    -------
    int, int
        Entries of the page, and of ``entering``, from which what does not enter is taken out.
    """
    excess = state.at[0] - course.room
    state.at[0] = course.room
    entering, reads = state.entering, state.reads
    least = 0
    while excess:
        kept = entered
        # ``entering`` holds the top blocks and then the new ones, each ascending.
        for k in range(entered - 1, -1, -1):
            if excess and reads[entering[k]] == least:
                excess -= 1
            else:
                kept -= 1
                entering[kept] = entering[k]
        entered -= kept
        rows.copy_range(entering, kept, kept + entered, entering, 0)
        for lane in range(course.n_lanes - 1, -1, -1):
            if excess and state.inside[lane, least]:
                n, excess = _put_out(course, state, page, n, excess, lane, least)
        least += 1
    return n, entered


@part(_nrt=False)
def _put_out(course, state, page, n, excess, lane, least):
    """Put residents of a lane out that are read so often, later ones first; entries of the page, and what is left."""
    start, b, least32 = course.lane_ptr[lane], course.lane_ptr[lane + 1], np.int32(least)
    while excess and state.inside[lane, least]:
        if b % _BATCH == 0 and b - _BATCH >= start and not any_equal(state.place, b - _BATCH, least32):
            b -= _BATCH
            continue
        b -= 1
        if state.place[b] == least32:
            _move(state, lane, b, -1)
            page.block[n] = b
            n += 1
            excess -= 1
    return n, excess
