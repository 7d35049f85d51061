"""Least recently used, by the slot of the last use.

A resident in the midst of a run was last used in the last slot of its lane: that is known without a look at it, so hits
within runs cost nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.policies.kernels.course import Course
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.reading import GOING_ON, Reading, any_equal, reading_before, settle, turn

_BATCH = 16
OUTSIDE, INSIDE, ENTERING, GONE = 0, 1, 2, 3
_NO_SLOT = np.int32(-1)


class LruState(NamedTuple):
    """What is known between two slots.

    Parameters
    ----------
    reading : Reading
    held : uint8[B]
        Whether the fast tier holds the block; ENTERING within a slot only.
    used : int32[B]
        One more than the slot of an idle resident's last use, 0 for prefill; -1 for any other block.
    count : int32[T + 2]
        Idle residents by ``used``.
    going_on : int64[L]
        Residents of each lane in the midst of a run.
    outside : int64[L]
        Blocks of each lane in the midst of a run that are not inside.
    entering : int32[B]
        Room for the blocks that are to enter.
    at : int64[4]
        Number of residents; the least ``used`` there may be; up to where its blocks are known to be gone, and in which
        slot that was.
    """

    reading: Reading
    held: np.ndarray
    used: np.ndarray
    count: np.ndarray
    going_on: np.ndarray
    outside: np.ndarray
    entering: np.ndarray
    at: np.ndarray


def lru_state(course: Course) -> LruState:
    """The state before slot 0."""
    n_blocks = course.n_blocks
    return LruState(
        reading_before(course.runs, 0),
        np.zeros(n_blocks, np.uint8),
        np.full(n_blocks, _NO_SLOT),
        np.zeros(course.n_slots + 2, np.int32),
        np.zeros(course.n_lanes, np.int64),
        np.zeros(course.n_lanes, np.int64),
        np.empty(n_blocks, np.int32),
        np.zeros(4, np.int64),
    )


@njit(cache=True, nogil=True, _nrt=False)
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
    held, entering = state.held, state.entering
    n = 0
    for slot in range(first, last):
        if len(page.block) - n < course.n_blocks:
            return slot
        entered = 0
        if slot < 0:
            n = _bury(course, state, page, n, 0)
        else:
            lane = slot % course.n_lanes
            start, stop = course.lane_ptr[lane], course.lane_ptr[lane + 1]
            n_begun, n_over = turn(course.runs, state.reading, start, stop, slot // course.n_lanes)
            begun, over = state.reading.begun[:n_begun], state.reading.over[:n_over]
            waited = state.outside[lane]
            _use(state, lane, begun, over, slot + 1)
            n = _bury(course, state, page, n, slot + 1)
            # Where none waited in the midst of its run, all misses are of runs that begin.
            entered = misses(state.reading, held, begun, start, stop, waited, entering)
            for b in entering[:entered]:
                _enter(state, lane, b, slot + 1)
            settle(state.reading, n_over)
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            _enter(state, 0, b, 0 if course.prefilled[b] else slot + 2)
            entering[entered] = b
            entered += 1
        if state.at[0] > course.room:
            n = _evict(course, state, page, n, slot)
        for b in entering[:entered]:
            if held[b] == ENTERING:
                held[b] = INSIDE
                page.block[n] = b
                n += 1
        page.stop[slot + 1] = n
    return last


@part(_nrt=False)
def _use(state, lane, begun, over, now):
    """Take residents out of the idle ones where runs begin, and back where they are over."""
    held, used, count = state.held, state.used, state.count
    for b in begun:
        if held[b] == INSIDE:
            count[used[b]] -= 1
            used[b] = _NO_SLOT
            state.going_on[lane] += 1
        else:
            state.outside[lane] += 1
    for b in over:
        if held[b] == INSIDE:
            count[now] += 1
            used[b] = now
            state.going_on[lane] -= 1
        else:
            state.outside[lane] -= 1


@part(_nrt=False)
def misses(reading, held, begun, start, stop, waited, found):
    """Put the blocks start..stop-1 that are read from outside into ``found``, ascending; int: how many.

    Parameters
    ----------
    reading : Reading
    held : uint8[B]
        0 for what is outside.
    begun : int32[...]
        Those whose runs begin with this step.
    start, stop : int
    waited : int
        How many were outside in the midst of their runs before; where there were none, those of ``begun`` are all.
    found : int32[...]
        Modified in place.
    """
    n = 0
    if waited == 0:
        for b in begun:
            if held[b] == OUTSIDE:
                found[n] = b
                n += 1
        return n
    for b in range(start, stop):
        if reading.now[b] and held[b] == OUTSIDE:
            found[n] = b
            n += 1
    return n


@part(_nrt=False)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on. Its runs are over."""
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        if state.held[b] == INSIDE:
            state.count[state.used[b]] -= 1
            state.used[b] = _NO_SLOT
            state.at[0] -= 1
            page.block[n] = b
            n += 1
        state.held[b] = GONE
    return n


@piece
def _enter(state, lane, b, used):
    state.held[b] = ENTERING
    state.at[0] += 1
    if state.reading.now[b] == GOING_ON:
        state.going_on[lane] += 1
        state.outside[lane] -= 1
    else:
        state.used[b] = used
        state.count[used] += 1


@part(_nrt=False)
def _evict(course, state, page, n, slot):
    """Put the least recently used out, of one slot the earlier block first; what was entering does not enter."""
    excess = state.at[0] - course.room
    state.at[0] = course.room
    oldest, b = state.at[1], state.at[2]
    if state.at[3] < oldest - 1:
        b = 0  # Blocks may have joined those since: the new ones of their slot, and what it read.
    while excess:
        lane = (oldest - 1) % course.n_lanes
        # Those in the midst of a run count as used in their lane's last slot.
        going_on = state.going_on[lane] if oldest - 1 > slot - course.n_lanes and 0 < oldest <= slot + 1 else 0
        if state.count[oldest] + going_on == 0:
            oldest, b = oldest + 1, 0
            continue
        start = course.lane_ptr[lane] if oldest else 0
        stop = course.lane_ptr[lane + 1] if oldest else course.n_blocks
        b, n, excess = _put_out(state, page, n, excess, oldest, lane, max(b, start), stop, going_on)
    state.at[1], state.at[2], state.at[3] = oldest, b, slot
    return n


@part(_nrt=False)
def _put_out(state, page, n, excess, oldest, lane, b, stop, going_on):
    """Put blocks from b on out that were last used in one slot; up to where, entries of the page, and what is left."""
    used, held, now, oldest32 = state.used, state.held, state.reading.now, np.int32(oldest)
    left = state.count[oldest] + going_on
    while excess and left:
        if not going_on and b % _BATCH == 0 and b + _BATCH <= stop and not any_equal(used, b, oldest32):
            b += _BATCH
            continue
        midst = going_on and now[b] == GOING_ON and (held[b] == INSIDE or held[b] == ENTERING)
        if midst or used[b] == oldest32:
            if held[b] == INSIDE:
                page.block[n] = b
                n += 1
            held[b] = OUTSIDE
            if midst:
                state.going_on[lane] -= 1
                state.outside[lane] += 1
            else:
                state.count[oldest] -= 1
                used[b] = _NO_SLOT
            left -= 1
            excess -= 1
        b += 1
    return b, n, excess
