"""Belady's rule, by the slot of the next use.

A resident in the midst of a run is used next in its lane's next slot: that is known without a look at it, so hits
within runs cost nothing. The idle ones are linked by the slot of their next use.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.policies.kernels.course import Course, lane_of
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.lru import misses
from kvopt.policies.kernels.reading import GOING_ON, NEVER_STEP, Reading, any_equal, reading_before, settle, turn
from kvopt.trellis import rows

OUTSIDE, INSIDE, MISSED, NEW, GONE = 0, 1, 2, 3, 4
_BATCH = 16
_PART = 512
_END = -1


class BeladyState(NamedTuple):
    """What is known between two slots.

    Parameters
    ----------
    reading : Reading
    held : uint8[B]
        Whether the fast tier holds the block; MISSED and NEW, for what is to enter, within a slot only.
    use : int32[B]
        Slot of an idle resident's next use, T if it is not read again; -1 for any other block.
    head : int32[T]
        First of the idle residents used next in a slot; -1 where there is none.
    after, before : int32[B]
        The neighbours of an idle resident among those; -1 at the ends.
    part : int32[...]
        How many are linked, by 512 slots in a row.
    never : int64[L]
        Residents of each lane that are not read again.
    going_on, outside : int64[L]
        As in :class:`kvopt.policies.kernels.lru.LruState`.
    entering : int32[B]
        Room for the blocks that are to enter.
    rank : int64[B]
        Room to sort in.
    at : int64[1]
        Number of residents.
    """

    reading: Reading
    held: np.ndarray
    use: np.ndarray
    head: np.ndarray
    after: np.ndarray
    before: np.ndarray
    part: np.ndarray
    never: np.ndarray
    going_on: np.ndarray
    outside: np.ndarray
    entering: np.ndarray
    rank: np.ndarray
    at: np.ndarray


def belady_state(course: Course) -> BeladyState:
    """The state before slot 0."""
    n_blocks, n_slots, n_lanes = course.n_blocks, course.n_slots, course.n_lanes
    return BeladyState(
        reading=reading_before(course.runs, 0),
        held=np.zeros(n_blocks, np.uint8),
        use=np.full(n_blocks, _END, np.int32),
        head=np.full(n_slots, _END, np.int32),
        after=np.empty(n_blocks, np.int32),
        before=np.empty(n_blocks, np.int32),
        part=np.zeros(n_slots // _PART + 1, np.int32),
        never=np.zeros(n_lanes, np.int64),
        going_on=np.zeros(n_lanes, np.int64),
        outside=np.zeros(n_lanes, np.int64),
        entering=np.empty(n_blocks, np.int32),
        rank=np.empty(n_blocks, np.int64),
        at=np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True, _nrt=False)
def belady_slots(course: Course, state: BeladyState, page: Page, first: int, last: int) -> int:
    """Decide during slots first..last-1 what the next ones hold; as :func:`kvopt.policies.kernels.lru.lru_slots`."""
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
            _use(course, state, lane, begun, over)
            n = _bury(course, state, page, n, slot + 1)
            missed = misses(state.reading, held, begun, start, stop, waited, entering)
            for b in entering[:missed]:
                entered = _enter(course, state, entered, lane, b, MISSED)
            settle(state.reading, n_over)
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            entered = _enter(course, state, entered, lane_of(course, b), b, NEW)
        if state.at[0] > course.room:
            n = _evict(course, state, page, n, slot)
        for b in entering[:entered]:
            if held[b] == MISSED or held[b] == NEW:
                held[b] = INSIDE
                page.block[n] = b
                n += 1
        page.stop[slot + 1] = n
    return last


@part(_nrt=False)
def _use(course, state, lane, begun, over):
    """Take residents out of the idle ones where runs begin, and back where they are over."""
    for b in begun:
        if state.held[b] == INSIDE:
            _unlink(state, lane, b)
            state.going_on[lane] += 1
        else:
            state.outside[lane] += 1
    for b in over:
        if state.held[b] == INSIDE:
            _link(state, lane, b, _next_use(course, state, lane, b))
            state.going_on[lane] -= 1
        else:
            state.outside[lane] -= 1


@piece
def _next_use(course, state, lane, b):
    """Slot of the first read of an idle block's next run; T if there is none."""
    step = state.reading.turn_step[b]
    return course.n_slots if step == NEVER_STEP else np.int64(step) * course.n_lanes + lane


@part(_nrt=False)
def _link(state, lane, b, use):
    """Take a block in among the idle residents."""
    state.use[b] = use
    if use == len(state.head):
        state.never[lane] += 1
        return
    first = state.head[use]
    state.after[b], state.before[b] = first, _END
    if first != _END:
        state.before[first] = b
    state.head[use] = b
    state.part[use // _PART] += 1


@part(_nrt=False)
def _unlink(state, lane, b):
    """Take a block out from among the idle residents."""
    use = state.use[b]
    state.use[b] = _END
    if use == len(state.head):
        state.never[lane] -= 1
        return
    before, after = state.before[b], state.after[b]
    if before == _END:
        state.head[use] = after
    else:
        state.after[before] = after
    if after != _END:
        state.before[after] = before
    state.part[use // _PART] -= 1


@part(_nrt=False)
def _enter(course, state, entered, lane, b, how):
    """Count a block in, unless it is not read again."""
    if state.reading.now[b] == GOING_ON:
        state.going_on[lane] += 1
        state.outside[lane] -= 1
    else:
        use = _next_use(course, state, lane, b)
        if use == course.n_slots:
            return entered
        _link(state, lane, b, use)
    state.held[b] = how
    state.at[0] += 1
    state.entering[entered] = b
    return entered + 1


@part(_nrt=False)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on. Its runs are over."""
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        if state.held[b] == INSIDE:
            _unlink(state, slot % course.n_lanes, b)
            state.at[0] -= 1
            page.block[n] = b
            n += 1
        state.held[b] = GONE
    return n


@part(_nrt=False)
def _evict(course, state, page, n, slot):
    """Put out what is used last; of one slot what was to enter first, new blocks before others, later ones before."""
    excess = state.at[0] - course.room
    state.at[0] = course.room
    for lane in range(course.n_lanes - 1, -1, -1):
        if excess and state.never[lane]:
            n, excess = _put_out_useless(course, state, page, n, excess, lane)
    use = course.n_slots - 1
    while excess:
        use = _farthest(course, state, use, slot)
        ranked = state.rank[: _rank(course, state, use, slot)]
        # Only where some of them stay does it matter which.
        stay = max(len(ranked) - excess, 0)
        if stay:
            rows.select(ranked, stay)
        for k in range(stay, len(ranked)):
            n = _put_out(course, state, page, n, ranked[k] % course.n_blocks, use % course.n_lanes)
        excess -= len(ranked) - stay
    return n


@part(_nrt=False)
def _put_out_useless(course, state, page, n, excess, lane):
    """Put residents of a lane out that are not read again, later ones first; entries of the page, and what is left."""
    start, b, never = course.lane_ptr[lane], course.lane_ptr[lane + 1], np.int32(course.n_slots)
    while excess and state.never[lane]:
        if b % _BATCH == 0 and b - _BATCH >= start and not any_equal(state.use, b - _BATCH, never):
            b -= _BATCH
            continue
        b -= 1
        if state.use[b] == never:
            n = _put_out(course, state, page, n, b, lane)
            excess -= 1
    return n, excess


@part(_nrt=False)
def _farthest(course, state, use, slot):
    """The last slot up to ``use`` in which any resident is used next."""
    # Of those in the midst of runs, the lane that was last read is the last to be read again.
    least = 0
    for back in range(min(course.n_lanes, slot + 1)):
        if state.going_on[(slot - back) % course.n_lanes]:
            least = slot - back + course.n_lanes
            break
    while use > least and state.head[use] == _END:
        if use % _PART == _PART - 1 and state.part[use // _PART] == 0:
            use -= _PART
        else:
            use -= 1
    return max(use, least)


@part(_nrt=False)
def _rank(course, state, use, slot):
    """Rank the residents used next in a slot in ``state.rank``, in no order: the larger, the earlier they leave.

    Returns how many they are.
    """
    rank, lane, n = state.rank, use % course.n_lanes, 0
    b = state.head[use]
    while b != _END:
        rank[n] = _key(course, state, b)
        n += 1
        b = state.after[b]
    if state.going_on[lane] and slot < use <= slot + course.n_lanes:
        for b in range(course.lane_ptr[lane], course.lane_ptr[lane + 1]):
            if state.reading.now[b] == GOING_ON and OUTSIDE < state.held[b] < GONE:
                rank[n] = _key(course, state, b)
                n += 1
    return n


@piece
def _key(course, state, b):
    return np.int64(state.held[b]) * course.n_blocks + b


@part(_nrt=False)
def _put_out(course, state, page, n, b, lane):
    """Put one block out, or keep it out; entries of the page."""
    if state.held[b] == INSIDE:
        page.block[n] = b
        n += 1
    state.held[b] = OUTSIDE
    if state.use[b] == _END:
        state.going_on[lane] -= 1
        state.outside[lane] += 1
    else:
        _unlink(state, lane, b)
    return n
