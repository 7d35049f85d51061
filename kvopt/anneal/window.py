"""A stretch of time as the annealer of large instances sees it: all blocks' paths in it, and what lane steps cost.

Between two slots of its own lane nothing reads a block. So its path is told by its states in those *own slots* and,
where two in a row differ, by the slot in which it changes; the slots from one own slot up to the next are a *lane
step*. A window takes the paths of all blocks over some hundred steps apart from the rest of the trace. The states in
its first and last own slots stay as they are, so that windows share no slot: they can be worked on side by side, with
the same result in whatever order.

What it costs to go from state y to z in a lane step is a sum, or a minimum, over the L slots in which the change may
happen. It is tabulated for every lane of every step from prefixes and suffixes of the steps, which takes time in
proportion to the slots. Tables are exact when they are made, and made anew every so many moves where there are
several lanes. What other blocks did since then is seen in the slots that read a block, which are always priced
exactly, but not in the others. What a read costs those who stay where they are is kept for every slot, computed anew
when it is asked for after the slot's loads have changed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from kvopt.anneal.relaxed import Relaxed, smooth_time
from kvopt.anneal.state import best_split
from kvopt.jit import njit, part, piece

NEGLIGIBLE = 40.0
"""Temperatures by which a way must be dearer than another not to count beside it."""
NEVER = 1e30
"""Cost of what must not be."""
_BITS = 63
"""Steps to a word of bits."""


class Window(NamedTuple):
    """Paths of b blocks over W steps of L lanes, and the slots' loads (S states, C channels, K tiers that may be full).

    Loads are the chain's own, cut to the window, and like the occupancy modified in place. A path is a list of
    events as in :class:`kvopt.anneal.paths.Paths`, the first of them the state in its first own slot of the window;
    new ones are appended to those of all blocks.
    """

    load: np.ndarray
    """float64[W * L, C]: seconds each channel is busy."""
    either: np.ndarray
    """float64[W * L]: bytes of reads that may be swapped; empty where there are none."""
    held: np.ndarray
    """float64[K, W * L]: bytes in each tier that may be full."""
    charge: np.ndarray
    """float64[W * L, S]: what a byte is charged for being in each state, 0 or more."""
    charged: np.ndarray
    """float64[W * L + 1, S]: in all slots before."""
    first_step: int
    block: np.ndarray
    """int64[b]"""
    begin: np.ndarray
    """int32[b]: first of the window's own slots in which the block exists."""
    end: np.ndarray
    """int32[b]: one past the last."""
    loose_begin: np.ndarray
    """bool[b]: whether its state in the first may be chosen: it is written there, or is there since slot 0."""
    loose_end: np.ndarray
    """bool[b]: whether its state in the last may be."""
    first_run: np.ndarray
    """int64[b]: first run that is not over before the window."""
    at: np.ndarray
    """int64[b]: where its events begin."""
    count: np.ndarray
    """int32[b]: how many there are."""
    slot: np.ndarray
    """int32[E]: first slot of each event's state, of the whole trace's."""
    state: np.ndarray
    """uint8[E]"""
    used: np.ndarray
    """int64[1]: events there are, those replaced since included."""
    relaxed: Relaxed
    """What takes the place of the rules, cut to the window."""


def with_room(window: Window, rows: np.ndarray) -> Window:
    """The window with room for a new path of each of some blocks, int64[m]."""
    most = int((window.end[rows] - window.begin[rows]).sum()) + 2 * len(rows)
    used = int(window.used[0])
    if used + most <= len(window.slot):
        return window
    slot, state = np.empty(2 * used + most, np.int32), np.empty(2 * used + most, np.uint8)
    slot[:used], state[:used] = window.slot[:used], window.state[:used]
    return window._replace(slot=slot, state=state)


class Tables(NamedTuple):
    """What lane steps cost a block of each of Q sizes; at a temperature, all ways together (their free energy)."""

    before: np.ndarray
    """float64[Q, W, L + 1, S * S]: cost of a change in the slots of a step before the given lane's, charges counted
    from the window's first slot on, less what the new state would have paid until then."""
    after: np.ndarray
    """float64[Q, W, L + 1, S * S]: likewise of a change in the slots from the given lane's on."""
    step: np.ndarray
    """float64[Q, L, W, S * S]: of a lane step from own slot to own slot, idle throughout."""
    rest: np.ndarray
    """float64[Q, L, W, S * S]: of the same without the own slot."""
    dirty: np.ndarray
    """bool[W]: steps whose loads have changed since."""
    dirty_steps: np.ndarray
    """int64[W + 1]: how many they are, and which."""
    read: np.ndarray
    """float64[Q, L, W, S * S]: what reading a block that is in state y now costs in state z, no charge included."""
    stale: np.ndarray
    """uint8[W * L]: bits of the sizes for which that is out of date."""
    full: np.ndarray
    """int32[Q + 1, K, W, L + 1]: in how many slots of a step, up to a lane's, a tier has no room for a block of each
    size; in the last row, in how many it holds too much as it is. Always up to date."""
    anywhere: np.ndarray
    """int64[Q + 1, K, words]: bits of the steps in which there is such a slot."""


def make_tables(problem, window: Window, class_size: np.ndarray) -> Tables:
    """Room for tables, all of it dirty; ``class_size`` float64[Q] are the sizes they are for."""
    n_classes, n_lanes, n_states = len(class_size), problem.n_lanes, len(problem.states)
    n_steps = len(window.load) // n_lanes
    pairs = n_states * n_states
    full = np.empty((n_classes + 1, len(window.held), n_steps, n_lanes + 1), np.int32)
    anywhere = np.zeros((n_classes + 1, len(window.held), n_steps // _BITS + 1), np.int64)
    for n in range(n_steps):
        count_full(window.held, problem.capacity, class_size, full, anywhere, n_lanes, n)
    return Tables(
        before=np.empty((n_classes, n_steps, n_lanes + 1, pairs)),
        after=np.empty((n_classes, n_steps, n_lanes + 1, pairs)),
        step=np.empty((n_classes, n_lanes, n_steps, pairs)),
        rest=np.empty((n_classes, n_lanes, n_steps, pairs)),
        dirty=np.ones(n_steps, bool),
        dirty_steps=np.concatenate([[n_steps], np.arange(n_steps)]),
        read=np.empty((n_classes, n_lanes, n_steps, pairs)),
        stale=np.full(n_steps * n_lanes, ALL_STALE, np.uint8),
        full=full,
        anywhere=anywhere,
    )


ALL_STALE = np.uint8(255)


@piece
def time_of(load, either, t, swap, balanced, lean, width, s):
    """:func:`kvopt.anneal.state.slot_time`, without a call; smoothed where slot s of
    the window has a width."""
    if balanced and either[t] > 0.0:
        return best_split(load, t, 0.0, swap, swap, either[t])[1]
    if width[s] > 0.0:
        return smooth_time(load, t, 0.0, lean[s], lean[s], width[s])
    longest = load[t, 0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[t, c])
    return longest


@piece
def time_with(load, either, t, swap, balanced, size, extra, swapped, lean, width, s):
    """Likewise :func:`kvopt.anneal.state.slot_time_with`."""
    most = 0.0
    if balanced:
        most = either[t] + (size if swapped else 0.0)
    if most > 0.0:
        return best_split(load, t, size, extra, swap, most)[1]
    if width[s] > 0.0:
        return smooth_time(load, t, size, extra, lean[s], width[s])
    longest = load[t, 0] + size * extra[0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[t, c] + size * extra[c])
    return longest


@piece
def together(a, b, temperature):
    """Free energy of two ways taken together; at temperature 0 the lesser cost."""
    if abs(a - b) >= NEGLIGIBLE * temperature:
        return min(a, b)
    return min(a, b) - temperature * math.log1p(math.exp(-abs(a - b) / temperature))


@part(_nrt=False)
def refresh(problem, window, class_size, temperature, tables, extra):
    """Bring the tables up to date where loads have changed; ``extra`` float64[C] is room to work in."""
    n_steps, n_lanes, dirty, which = tables.dirty.shape[0], problem.n_lanes, tables.dirty, tables.dirty_steps
    for q in range(class_size.shape[0]):
        for d in range(1, which[0] + 1):
            n = which[d]
            _sum_step(problem, window, class_size[q], n, temperature, extra, tables.before[q, n], tables.after[q, n])
        for d in range(1, which[0] + 1):
            n = which[d]
            if n + 1 < n_steps:
                _lane_steps(problem, window.charged, class_size[q], q, n, temperature, tables)
            # The lane steps before end in this step, unless there is one lane.
            if n_lanes > 1 and n > 0 and not dirty[n - 1]:
                _lane_steps(problem, window.charged, class_size[q], q, n - 1, temperature, tables)
    for d in range(1, which[0] + 1):
        dirty[which[d]] = False
    which[0] = 0


@part(_nrt=False)
def _lane_steps(problem, charged, size, q, n, temperature, tables):
    """Those of all lanes that begin in step n."""
    n_lanes = problem.n_lanes
    for lane in range(n_lanes):
        own, before = n * n_lanes + lane, tables.before[q, n + 1, lane]
        for first in range(2):
            out = tables.rest[q, lane, n] if first else tables.step[q, lane, n]
            after = tables.after[q, n, lane + first]
            _lane_step(problem.states, charged, size, own + first, own + n_lanes, after, before, temperature, out)


@part(_nrt=False)
def _sum_step(problem, window, size, n, temperature, extra, before, after):
    """Prefixes and suffixes of one step."""
    n_states, n_lanes = len(problem.states), problem.n_lanes
    charged = window.charged
    before[0], after[n_lanes] = NEVER, NEVER
    for lane in range(n_lanes - 1, -1, -1):
        t = n * n_lanes + lane
        now = time_of(
            window.load, window.either, t, problem.swap, problem.balanced, window.relaxed.lean, window.relaxed.width, t
        )
        for y in range(n_states):
            for z in range(n_states):
                p = n_states * y + z
                if y != z:
                    cost = idle_cost(problem, window, window.load, window.either, t, t, size, y, z, extra, now)
                    cost += size * (charged[t + 1, y] - charged[t + 1, z])
                    # Until they are taken together below, row lane + 1 holds the slot's own.
                    before[lane + 1, p] = cost
                    after[lane, p] = together(after[lane + 1, p], cost, temperature)
    for lane in range(n_lanes):
        for y in range(n_states):
            for z in range(n_states):
                p = n_states * y + z
                if y != z:
                    before[lane + 1, p] = together(before[lane + 1, p], before[lane, p], temperature)


@piece
def idle_cost(problem, window, load, either, t, s, size, y, z, extra, now):
    """Exact cost in slot t of an idle block's change of state, ``now`` being what the slot takes without it."""
    for c in range(extra.shape[0]):
        extra[c] = problem.op[0, y, z, c]
    longer = (
        time_with(
            load,
            either,
            t,
            problem.swap,
            problem.balanced,
            size,
            extra,
            False,
            window.relaxed.lean,
            window.relaxed.width,
            s,
        )
        - now
    )
    return problem.second * longer + size * problem.op_price[0, y, z]


@piece
def _lane_step(states, charged, size, start, stop, after, before, temperature, out):
    """Fill ``out`` for the slots from ``start`` up to ``stop``, given the tables' rows for the steps they are in."""
    n_states = len(states)
    for y in range(n_states):
        for z in range(n_states):
            p = n_states * y + z
            change = 0.0 if y == z else together(after[p], before[p], temperature)
            out[p] = change + size * (charged[stop, z] - charged[start, y])


@part(_nrt=False)
def reprice_read(problem, load, either, t, size, base_load, base_either, extra, lean, width, out):
    """Cost of reading a block in slot t in each state z, it being read in state y now: ``out[S y + z]``."""
    n_states, balanced = len(problem.states), problem.balanced
    for y in range(n_states):
        for c in range(extra.shape[0]):
            base_load[0, c] = load[t, c] - size * problem.op[1, y, y, c]
        if balanced:
            base_either[0] = either[t] - (size if problem.swappable[y] else 0.0)
        now = time_of(base_load, base_either, 0, problem.swap, balanced, lean, width, t)
        for z in range(n_states):
            for c in range(extra.shape[0]):
                extra[c] = problem.op[1, z, z, c]
            swapped = problem.swappable[z]
            longer = (
                time_with(base_load, base_either, 0, problem.swap, balanced, size, extra, swapped, lean, width, t) - now
            )
            out[n_states * y + z] = problem.second * longer + size * problem.op_price[1, z, z]


@njit(cache=True, nogil=True, _nrt=False)
def count_full(held, capacity, class_size, full, anywhere, n_lanes, n):
    """Recount the slots of a step in which tiers have no room, for ``Tables.full`` and ``Tables.anywhere``."""
    n_classes = class_size.shape[0]
    word, bit = n // _BITS, np.int64(1) << np.int64(n % _BITS)
    for q in range(n_classes + 1):
        size = class_size[q] if q < n_classes else 0.0
        for k in range(held.shape[0]):
            count = 0
            for lane in range(n_lanes):
                full[q, k, n, lane] = count
                count += held[k, n * n_lanes + lane] + size > capacity[k]
            full[q, k, n, n_lanes] = count
            anywhere[q, k, word] = anywhere[q, k, word] | bit if count else anywhere[q, k, word] & ~bit


@piece
def any_step(bits, first, stop):
    """Whether a bit is set among those of the steps from ``first`` up to ``stop``."""
    found = np.int64(0)
    if first < stop:
        low, high = first // _BITS, (stop - 1) // _BITS
        for word in range(low, high + 1):
            found |= bits[word]
        if low == high:
            found = bits[low] >> np.int64(first % _BITS) & (np.int64(1) << np.int64(stop - first)) - np.int64(1)
        elif found:
            found = bits[low] >> np.int64(first % _BITS)
            for word in range(low + 1, high):
                found |= bits[word]
            found |= bits[high] & (np.int64(1) << np.int64((stop - 1) % _BITS + 1)) - np.int64(1)
    return found != 0


@piece
def lacks_room(full, q, k, n, lane, n_lanes):
    """Whether a tier has no room in some slot after lane's own one in step n and before that in step n + 1."""
    return full[q, k, n, n_lanes] > full[q, k, n, lane + 1] or full[q, k, n + 1, lane] > 0


@piece
def lacks_room_between(full, anywhere, q, k, first, stop, lane, n_lanes):
    """Whether it has none in some slot from lane's own one in step ``first`` up to that in a later step ``stop``."""
    if full[q, k, first, n_lanes] > full[q, k, first, lane] or full[q, k, stop, lane] > 0:
        return True
    return any_step(anywhere[q, k], first + 1, stop)
