"""Pages of tokens, by what the next step reads of each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.policies.kernels.course import Course, lane_of, oldest
from kvopt.policies.kernels.log import Page
from kvopt.policies.kernels.lru import GONE, INSIDE, OUTSIDE
from kvopt.policies.kernels.reading import IDLE, Reading, reading_before, settle, turn
from kvopt.trellis import rows

_NEVER = np.int32(-2)


class PagesState(NamedTuple):
    """What is known between two slots; P pages, numbered lane by lane.

    Parameters
    ----------
    tokens : int
        Of a page; the last one of a lane may have fewer.
    whole, all_lanes : bool
    lane_page : int64[L + 1]
        The pages of a lane are ``lane_page[lane]..lane_page[lane + 1] - 1``.
    start : int64[P + 1]
        The first block of each page, and the end.
    reading, ahead : Reading
        Now, and in the lane's next step.
    held : uint8[B]
        Whether the fast tier holds the block; GONE before its birth, too.
    soon : uint8[B]
        Whether the lane's next step reads the block.
    last_use : int32[B]
    need : int32[P]
        Blocks of the page that exist and are read soon.
    used : int32[P]
        The last use of any that exists.
    inside : int32[P]
        Residents.
    entering : int32[P]
        Blocks that would come in during this slot; 0 between slots.
    asked : int32[N]
        What the lane at hand needs of the pages that it lacks, by number in the lane; 0 between slots.
    counts : int64[tokens + 1]
        Room to count by need.
    by_step, by_lane : int64[...]
        Room to count by last use; 0 when not in use.
    oldest : int64[...]
        What is there in slot 0.
    at : int64[1]
        Number of residents.
    """

    tokens: int
    whole: bool
    all_lanes: bool
    lane_page: np.ndarray
    start: np.ndarray
    reading: Reading
    ahead: Reading
    held: np.ndarray
    soon: np.ndarray
    last_use: np.ndarray
    need: np.ndarray
    used: np.ndarray
    inside: np.ndarray
    entering: np.ndarray
    asked: np.ndarray
    counts: np.ndarray
    by_step: np.ndarray
    by_lane: np.ndarray
    oldest: np.ndarray
    at: np.ndarray


def pages_state(course: Course, tokens: int, whole: bool, all_lanes: bool) -> PagesState:
    """The state before slot 0."""
    counts = np.diff(course.lane_ptr)
    pages = -(-counts // tokens)
    lane_page = np.concatenate([[0], np.cumsum(pages)])
    number = np.arange(lane_page[-1]) - np.repeat(lane_page[:-1], pages)
    start = np.append(np.repeat(course.lane_ptr[:-1], pages) + number * tokens, course.n_blocks)
    n_blocks, n_pages, n_steps = course.n_blocks, len(number), course.n_slots // course.n_lanes
    soon = np.zeros(n_blocks, np.uint8)
    some = course.runs.ptr[1:] > course.runs.ptr[:-1]
    soon[some] = course.runs.start[course.runs.ptr[:-1][some]] == 0
    return PagesState(
        int(min(tokens, n_blocks)),
        bool(whole),
        bool(all_lanes),
        lane_page,
        start,
        reading_before(course.runs, 0),
        reading_before(course.runs, 1),
        np.full(n_blocks, GONE, np.uint8),
        soon,
        np.full(n_blocks, _NEVER),
        np.zeros(n_pages, np.int32),
        np.full(n_pages, _NEVER),
        np.zeros(n_pages, np.int32),
        np.zeros(n_pages, np.int32),
        np.zeros(pages.max(initial=0), np.int32),
        np.zeros(min(tokens, n_blocks) + 1, np.int64),
        np.zeros(n_steps + 4, np.int64),
        np.zeros(course.n_lanes, np.int64),
        oldest(course),
        np.zeros(1, np.int64),
    )


@njit(cache=True, nogil=True, _nrt=False)
def pages_slots(course: Course, state: PagesState, page: Page, first: int, last: int) -> int:
    """Decide during slots first..last-1 what the next ones hold; as :func:`kvopt.policies.kernels.lru.lru_slots`."""
    n = 0
    for slot in range(first, last):
        if len(page.block) - n < course.n_blocks:
            return slot
        if slot < 0:
            n = _bury(course, state, page, n, 0)
        else:
            lane, step = slot % course.n_lanes, slot // course.n_lanes
            low, high = course.lane_ptr[lane], course.lane_ptr[lane + 1]
            _, n_over = turn(course.runs, state.reading, low, high, step)
            _, n_ahead_over = turn(course.runs, state.ahead, low, high, step + 1)
            _use(state, low, high, slot)
            n = _bury(course, state, page, n, slot + 1)
            if _ask(state, lane):
                n = _exchange(course, state, page, n, lane)
                rows.fill(state.asked, 0, state.asked.shape[0], 0)
            settle(state.reading, n_over)
            settle(state.ahead, n_ahead_over)
        for b in course.born[course.born_ptr[slot + 1] : course.born_ptr[slot + 2]]:
            state.held[b] = OUTSIDE
            state.last_use[b] = -1 if slot < 0 and course.prefilled[b] else slot + 1
            p = _page_of(course, state, b)
            state.need[p] += state.soon[b]
            state.used[p] = max(state.used[p], state.last_use[b])
        if slot < 0:
            for b in state.oldest:
                state.held[b] = INSIDE
                state.inside[_page_of(course, state, b)] += 1
                page.block[n] = b
                n += 1
            state.at[0] = len(state.oldest)
        page.stop[slot + 1] = n
    return last


@part(_nrt=False)
def _use(state, low, high, slot):
    """What the slot reads is used now; what the lane's next step reads is read soon."""
    now, then, slot32 = state.reading.now, state.ahead.now, np.int32(slot)
    for b in range(low, high):
        state.last_use[b] = slot32 if now[b] != IDLE else state.last_use[b]
        state.soon[b] = then[b] != IDLE


@part(_nrt=False)
def _bury(course, state, page, n, slot):
    """Let go of what does not exist from a slot on."""
    for b in course.dying[course.dying_ptr[slot] : course.dying_ptr[slot + 1]]:
        p = _page_of(course, state, b)
        if state.held[b] == INSIDE:
            state.inside[p] -= 1
            state.at[0] -= 1
            page.block[n] = b
            n += 1
        state.held[b] = GONE
        # The next slots are of other lanes: what these pages need and their last use must be right before their own.
        _look(state, p)
    return n


@part(_nrt=False)
def _look(state, p):
    """Bring a page's need and last use up to date; whether a block is lacking."""
    need, used, lacking = np.int32(0), _NEVER, 0
    for b in range(state.start[p], state.start[p + 1]):
        held = state.held[b]
        there = held != GONE
        need += there & state.soon[b]
        lacking |= (held == OUTSIDE) & state.soon[b]
        used = max(used, state.last_use[b] if there else _NEVER)
    state.need[p], state.used[p] = need, used
    return lacking


@part(_nrt=False)
def _ask(state, lane):
    """Bring a lane's pages up to date, and ask for what it lacks; whether there is anything."""
    begin, lacking = state.lane_page[lane], 0
    for p in range(begin, state.lane_page[lane + 1]):
        if _look(state, p):
            state.asked[p - begin] = state.need[p]
            lacking += 1
    return lacking > 0


@part(_nrt=False)
def _exchange(course, state, page, n, lane):
    """Fill the room by the order of pages; entries of the page."""
    room = course.room - state.at[0]
    from_lane, to_lane = (0, course.n_lanes) if state.all_lanes else (lane, lane + 1)
    counts = state.counts
    rows.fill(counts, 0, state.tokens + 1, 0)
    for at in range(from_lane, to_lane):
        begin = state.lane_page[at]
        for p in range(begin, state.lane_page[at + 1]):
            asked = state.asked[p - begin]
            # What is being read is of the lane at hand.
            if asked and (state.whole or at == lane):
                state.entering[p] = _entering(state, p)
            room += state.inside[p]
            counts[max(state.need[p], asked)] += state.inside[p] + state.entering[p]
    # The need of pages of which not all find room, and what is left for them.
    edge = state.tokens
    while edge >= 0 and counts[edge] <= room:
        room -= counts[edge]
        edge -= 1
    used, room = _edge_use(course, state, from_lane, to_lane, edge, room)
    for at in range(from_lane, to_lane):
        begin = state.lane_page[at]
        for p in range(begin, state.lane_page[at + 1]):
            asked = state.asked[p - begin]
            need = max(state.need[p], asked)
            if need > edge or (need == edge and state.used[p] > used):
                if state.entering[p]:
                    n = _bring(state, page, n, p, state.tokens)
            elif need == edge and state.used[p] == used:
                candidates = state.inside[p] + state.entering[p]
                n = _bring(state, page, n, p, room)
                room -= min(room, candidates)
            elif state.inside[p]:
                n = _bring(state, page, n, p, 0)
            state.entering[p] = 0
    return n


@piece
def _enters(state, b):
    return state.held[b] == OUTSIDE and (state.whole or state.reading.now[b] != IDLE)


@part(_nrt=False)
def _entering(state, p):
    """How many blocks of a page would come in."""
    count = 0
    for b in range(state.start[p], state.start[p + 1]):
        count += _enters(state, b)
    return count


@part(_nrt=False)
def _edge_use(course, state, from_lane, to_lane, edge, room):
    """The last use of which not all pages that need ``edge`` find room, and what is left for them."""
    if edge < 0:
        return _NEVER - 1, room
    n_lanes, latest = course.n_lanes, 0
    for at in range(from_lane, to_lane):
        begin = state.lane_page[at]
        for p in range(begin, state.lane_page[at + 1]):
            if max(state.need[p], state.asked[p - begin]) == edge:
                step = (state.used[p] - _NEVER) // n_lanes
                state.by_step[step] += state.inside[p] + state.entering[p]
                latest = max(latest, step)
    step = latest
    while state.by_step[step] <= room:
        room -= state.by_step[step]
        step -= 1
    rows.fill(state.by_step, 0, latest + 1, 0)
    for at in range(from_lane, to_lane):
        begin = state.lane_page[at]
        for p in range(begin, state.lane_page[at + 1]):
            if max(state.need[p], state.asked[p - begin]) == edge and (state.used[p] - _NEVER) // n_lanes == step:
                state.by_lane[(state.used[p] - _NEVER) % n_lanes] += state.inside[p] + state.entering[p]
    within = n_lanes - 1
    while state.by_lane[within] <= room:
        room -= state.by_lane[within]
        within -= 1
    rows.fill(state.by_lane, 0, n_lanes, 0)
    return np.int32(step * n_lanes + within + _NEVER), room


@part(_nrt=False)
def _bring(state, page, n, p, room):
    """Have the page's first candidates inside and no others, ``room`` at most; entries of the page."""
    asked = state.entering[p] > 0
    for b in range(state.start[p], state.start[p + 1]):
        inside = state.held[b] == INSIDE
        if not (inside or (asked and _enters(state, b))):
            continue
        if inside != (room > 0):
            state.held[b] = OUTSIDE if inside else INSIDE
            change = -1 if inside else 1
            state.inside[p] += change
            state.at[0] += change
            page.block[n] = b
            n += 1
        room -= room > 0
    return n


@part(_nrt=False)
def _page_of(course, state, b):
    lane = lane_of(course, b)
    return state.lane_page[lane] + (b - course.lane_ptr[lane]) // state.tokens
