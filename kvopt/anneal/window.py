"""A stretch of time as the annealer of large instances sees it: all blocks' paths in it, and what a lane step costs.

Between two slots of its own lane nothing reads a block. So its path is told by its states in those *own slots* and,
where two in a row differ, by the slot in which it changes; the slots from one own slot up to the next are a *lane
step*. A window takes the paths of all blocks over some hundred steps apart from the rest of the trace. The states in
its first and last own slots stay as they are, so that windows share no slot: they can be worked on side by side, with
the same result in whatever order.

What it costs to go from state y to z in a lane step is a sum, or a minimum, over the L slots in which the change may
happen. It is tabulated for every lane of every step from prefixes and suffixes of the steps, which takes time in
proportion to the slots. Tables are exact when they are made, and made anew every so many blocks where there are
several lanes. What other blocks did since then is seen in the slots that read a block, which are always priced
exactly, but not in the others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from kvopt.anneal.state import slot_time, slot_time_with

NEGLIGIBLE = 40.0
"""Temperatures by which a way must be dearer than another not to count beside it."""
NEVER = 1e30
"""Cost of what must not be."""


class Window(NamedTuple):
    """Paths of b blocks over W steps of L lanes, and the slots' loads (S states, C channels, K tiers that may be full).

    Loads and occupancy are the chain's own arrays, cut to the window, and modified in place.
    """

    load: np.ndarray
    """float64[W * L, C]: seconds each channel is busy."""
    either: np.ndarray
    """float64[W * L]: bytes of reads that may be swapped; empty where there are none."""
    held: np.ndarray
    """float64[K, W * L]: bytes in each tier that may be full."""
    charge: np.ndarray
    """float64[W * L, S]: what a byte is charged for being in each state, 0 or more."""
    first_step: int
    block: np.ndarray
    """int64[b]"""
    z: np.ndarray
    """uint8[b, W + 1]: states in own slots; the last column is the own slot after the window."""
    when: np.ndarray
    """uint16[b, W]: how many slots after the own one the change to the next own slot's state happens."""
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


class Tables(NamedTuple):
    """What lane steps cost a block of each of Q sizes; at a temperature, all ways together (their free energy)."""

    rent: np.ndarray
    """float64[Q, W, L + 1, S]: cost of staying in a state in the slots of a step before the given lane's."""
    before: np.ndarray
    """float64[Q, W, L + 1, S * S]: cost of a change in those slots, charges counted from the step's first slot on, less
    what the new state would have paid until then."""
    after: np.ndarray
    """float64[Q, W, L + 1, S * S]: likewise of a change in the slots from the given lane's on."""
    step: np.ndarray
    """float64[Q, L, W, S * S]: of a lane step from own slot to own slot, idle throughout."""
    rest: np.ndarray
    """float64[Q, L, W, S * S]: of the same without the own slot."""
    full: np.ndarray
    """int32[Q + 1, K, W, L + 1]: in how many slots of a step, up to a lane's, a tier has no room for a block of each
    size; in the last row, in how many it holds too much as it is. Always up to date."""
    dirty: np.ndarray
    """bool[W]: steps whose loads have changed since."""


def make_tables(problem, window: Window, class_size: np.ndarray) -> Tables:
    """Room for tables, all of it dirty; ``class_size`` float64[Q] are the sizes they are for."""
    n_classes, n_lanes, n_states = len(class_size), problem.n_lanes, len(problem.states)
    n_steps = window.z.shape[1] - 1
    pairs = n_states * n_states
    full = np.empty((n_classes + 1, len(window.held), n_steps, n_lanes + 1), np.int32)
    for n in range(n_steps):
        count_full(window.held, problem.capacity, class_size, full, n_lanes, n)
    return Tables(
        rent=np.empty((n_classes, n_steps, n_lanes + 1, n_states)),
        before=np.empty((n_classes, n_steps, n_lanes + 1, pairs)),
        after=np.empty((n_classes, n_steps, n_lanes + 1, pairs)),
        step=np.empty((n_classes, n_lanes, n_steps, pairs)),
        rest=np.empty((n_classes, n_lanes, n_steps, pairs)),
        full=full,
        dirty=np.ones(n_steps, bool),
    )


HARD = 2
"""Length of the tuple that says that ways count by the least cost; ``(temperature,)`` says that all count. The length
is part of the type, so kernels are compiled for each."""


def mode_of(temperature: float) -> tuple[float, ...]:
    """The tuple for a temperature; 0 is for least costs."""
    return (temperature,) if temperature > 0.0 else (0.0, 0.0)


@njit(cache=True, nogil=True, inline="always")
def time_of(load, either, swap, balanced):
    """Seconds a slot takes whose loads are in row 0: :func:`kvopt.anneal.state.slot_time`, without a call where that is
    simple."""
    if balanced:
        return slot_time(load, either, swap, 0)
    longest = load[0, 0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[0, c])
    return longest


@njit(cache=True, nogil=True, inline="always")
def time_with(load, either, swap, balanced, size, extra, swapped):
    """Likewise :func:`kvopt.anneal.state.slot_time_with`."""
    if balanced:
        return slot_time_with(load, either, swap, 0, size, extra, swapped)
    longest = load[0, 0] + size * extra[0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[0, c] + size * extra[c])
    return longest


@njit(cache=True, nogil=True, inline="always")
def together(a, b, mode):
    """What either of two ways costs: their free energy, or the least."""
    if len(mode) == HARD or abs(a - b) > NEGLIGIBLE * mode[0]:
        return min(a, b)
    return min(a, b) - mode[0] * math.log1p(math.exp(-abs(a - b) / mode[0]))


@njit(cache=True, nogil=True)
def refresh(problem, window, class_size, mode, tables):
    """Bring the tables up to date where loads have changed."""
    n_steps, n_lanes = tables.dirty.shape[0], problem.n_lanes
    extra = np.empty(window.load.shape[1])
    for q in range(class_size.shape[0]):
        for n in range(n_steps):
            if tables.dirty[n]:
                _sum_step(problem, window, class_size[q], n, mode, extra, tables, q)
        for n in range(n_steps - 1):
            if tables.dirty[n] or (n_lanes > 1 and tables.dirty[n + 1]):
                for lane in range(n_lanes):
                    _lane_step(problem.states, tables, q, lane, n, lane, mode, tables.step[q, lane, n])
                    _lane_step(problem.states, tables, q, lane, n, lane + 1, mode, tables.rest[q, lane, n])
    tables.dirty[:] = False


@njit(cache=True, nogil=True)
def _sum_step(problem, window, size, n, mode, extra, tables, q):
    """Rents, prefixes and suffixes of one step."""
    n_states, n_lanes = len(problem.states), problem.n_lanes
    rent, before, after = tables.rent[q, n], tables.before[q, n], tables.after[q, n]
    for z in range(n_states):
        rent[0, z] = 0.0
        for lane in range(n_lanes):
            rent[lane + 1, z] = rent[lane, z] + window.charge[n * n_lanes + lane, z] * size
    before[0], after[n_lanes] = NEVER, NEVER
    for lane in range(n_lanes - 1, -1, -1):
        t = n * n_lanes + lane
        now = slot_time(window.load, window.either, problem.swap, t)
        for y in range(n_states):
            for z in range(n_states):
                p = n_states * y + z
                if y != z:
                    cost = idle_cost(problem, window.load, window.either, t, size, y, z, extra, now)
                    cost += rent[lane + 1, y] - rent[lane + 1, z]
                    # Until they are taken together below, row lane + 1 holds the slot's own.
                    before[lane + 1, p] = cost
                    after[lane, p] = together(after[lane + 1, p], cost, mode)
    for lane in range(n_lanes):
        for y in range(n_states):
            for z in range(n_states):
                p = n_states * y + z
                if y != z:
                    before[lane + 1, p] = together(before[lane + 1, p], before[lane, p], mode)


@njit(cache=True, nogil=True, inline="always")
def idle_cost(problem, load, either, t, size, y, z, extra, now):
    """Exact cost in slot t of an idle block's change of state, ``now`` being what the slot takes without it."""
    for c in range(extra.shape[0]):
        extra[c] = problem.op[0, y, z, c]
    longer = slot_time_with(load, either, problem.swap, t, size, extra, False) - now
    return problem.second * longer + size * problem.op_price[0, y, z]


@njit(cache=True, nogil=True)
def _lane_step(states, tables, q, lane, n, first, mode, out):
    """Fill ``out`` for the slots from lane ``first`` of step n up to the slot before ``lane`` of step n + 1."""
    n_states, n_lanes = len(states), tables.rent.shape[2] - 1
    rent, after = tables.rent[q, n], tables.after[q, n]
    next_rent, before = tables.rent[q, n + 1], tables.before[q, n + 1]
    for y in range(n_states):
        for z in range(n_states):
            p = n_states * y + z
            if y == z:
                out[p] = rent[n_lanes, z] - rent[first, z] + next_rent[lane, z]
            else:
                early = after[first, p] + rent[n_lanes, z]
                late = rent[n_lanes, y] + before[lane, p]
                out[p] = together(early, late, mode) - rent[first, y] + next_rent[lane, z]


@njit(cache=True, nogil=True)
def count_full(held, capacity, class_size, full, n_lanes, n):
    """Recount the slots of a step in which tiers have no room.

    Parameters
    ----------
    full : int32[Q + 1, K, W, L + 1]
        Entry l: in how many slots of the step before lane l's.
    """
    n_classes = class_size.shape[0]
    for q in range(n_classes + 1):
        size = class_size[q] if q < n_classes else 0.0
        for k in range(held.shape[0]):
            count = 0
            for lane in range(n_lanes):
                full[q, k, n, lane] = count
                count += held[k, n * n_lanes + lane] + size > capacity[k]
            full[q, k, n, n_lanes] = count


@njit(cache=True, nogil=True, inline="always")
def lacks_room(full, q, k, n, lane, n_lanes):
    """Whether a tier has no room in some slot after lane's own one in step n and before that in step n + 1."""
    return full[q, k, n, n_lanes] > full[q, k, n, lane + 1] or full[q, k, n + 1, lane] > 0
