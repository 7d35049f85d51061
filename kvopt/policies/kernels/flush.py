"""Promotion on a miss; what is full is emptied lane by lane."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.jit import njit, part
from kvopt.policies.kernels.course import Course, lane_of, oldest
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.lru import GONE, INSIDE, OUTSIDE, misses
from kvopt.policies.kernels.reading import Reading, reading_before, settle, turn


class FlushState(NamedTuple):
    """What is known between two slots.

    Parameters
    ----------
    share : int
        Blocks that a lane may hold.
    reading : Reading
    held : uint8[B]
        Whether the fast tier holds the block; GONE before its birth, too.
    inside : int64[L]
        Residents of each lane.
    oldest : int64[...]
        What is there in slot 0.
    missed : int32[B]
        Room for the blocks that are read from outside.
    """

    share: int
    reading: Reading
    held: np.ndarray
    inside: np.ndarray
    oldest: np.ndarray
    missed: np.ndarray


def flush_state(course: Course, share: int) -> FlushState:
    """The state before slot 0."""
    return FlushState(
        share,
        reading_before(course.runs, 0),
        np.full(course.n_blocks, GONE, np.uint8),
        np.zeros(course.n_lanes, np.int64),
        oldest(course),
        np.empty(course.n_blocks, np.int32),
    )


@njit(cache=True, nogil=True, _nrt=False)
def flush_slots(course: Course, state: FlushState, page: Page, first: int, last: int) -> int:
    """Decide during slots first..last-1 what the next ones hold; as :func:`kvopt.policies.kernels.lru.lru_slots`."""
    held, missed = state.held, state.missed
    n = 0
    for slot in range(first, last):
        if len(page.block) - n < course.n_blocks:
            return slot
        begin = stop = 0
        if slot >= 0:
            lane = slot % course.n_lanes
            low, high = course.lane_ptr[lane], course.lane_ptr[lane + 1]
            _, n_over = turn(course.runs, state.reading, low, high, slot // course.n_lanes)
        n = _bury(course, state, page, n, slot + 1)
        if slot >= 0:
            stop = misses(state.reading, held, state.reading.over[:n_over], low, high, 1, missed)
            begin, stop, flushed = _entering(course, state, lane, stop)
            if flushed:
                n = _empty(state, page, n, lane, low, high)
            settle(state.reading, n_over)
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            held[b] = OUTSIDE
        if slot < 0:
            for b in state.oldest:
                n = _enter(course, state, page, n, b)
        for b in missed[begin:stop]:
            n = _enter(course, state, page, n, b)
        page.stop[slot + 1] = n
    return last


@part(_nrt=False)
def _entering(course, state, lane, count):
    """First and last of the misses that enter, and whether what the lane holds leaves."""
    here = state.inside[lane]
    inside = 0
    for other in range(course.n_lanes):
        inside += state.inside[other]
    room = min(course.room - inside, max(state.share - here, 0))
    if count <= room:
        return 0, count, False
    if room + here == 0:
        return 0, 0, False
    # Each flush but the first takes out what came in since the last one; the last to come in stay.
    after = count - room
    return count - ((after - 1) % (room + here) + 1), count, True


@part(_nrt=False)
def _empty(state, page, n, lane, low, high):
    for b in range(low, high):
        if state.held[b] == INSIDE:
            state.held[b] = OUTSIDE
            page.block[n] = b
            n += 1
    state.inside[lane] = 0
    return n


@part(_nrt=False)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on. Its runs are over."""
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        if state.held[b] == INSIDE:
            state.inside[slot % course.n_lanes] -= 1
            page.block[n] = b
            n += 1
        state.held[b] = GONE
    return n


@part(_nrt=False)
def _enter(course, state, page, n, b):
    state.held[b] = INSIDE
    state.inside[lane_of(course, b)] += 1
    page.block[n] = b
    return n + 1
