"""The annealer's state: the loads of every slot, and what one block adds to them, exactly.

Kernels take the state as one named tuple of arrays, modified in place. Slot times are maxima, so a block's cost
depends on all others; with the block taken out, the exact change each of its possible states makes to slot t is a 2 x 2
matrix again, and its whole path can be drawn or optimised like the path of a block under prices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from kvopt.errors import MethodError
from kvopt.lowering import BACKING, FAST, Folded, Lowered
from kvopt.placement import Placement

_MOST_CELLS = 4_000_000_000
_MOST_CLASSES = 4
"""With more sizes than this, keeping a cache for each costs more than computing a block's changes afresh."""


class Problem(NamedTuple):
    """What does not change (B blocks, T slots, C channels)."""

    n_lanes: int
    op: np.ndarray
    """float64[2, 2, 2, C]: ``Folded.op`` less what staying idle costs, so that idle blocks cost nothing."""
    hold: float
    """What a byte idle in the fast tier costs a slot more than one in the backing tier: an objective's, else 0."""
    write: np.ndarray
    """float64[2, C]"""
    base: np.ndarray
    """float64[T, C]"""
    size: np.ndarray
    """float64[B]"""
    lane: np.ndarray
    """int64[B]"""
    birth: np.ndarray
    """int64[B]"""
    death: np.ndarray
    """int64[B]"""
    prefilled: np.ndarray
    """bool[B]"""
    run_ptr: np.ndarray
    run_start: np.ndarray
    run_stop: np.ndarray
    most_fast: float
    """Capacity of the fast tier."""
    least_fast: np.ndarray
    """float64[T]: bytes that must be in the fast tier because the backing tier cannot hold them; often minus
    infinity."""
    cell: np.ndarray
    """int64[B]: position in ``State.z`` of the block's state in slot 0, if it lived then."""
    size_class: np.ndarray
    """int64[B]: row of the caches for the block's size; -1 when there are too many sizes for caches."""
    class_size: np.ndarray
    """float64[K]"""


class State(NamedTuple):
    """One chain."""

    z: np.ndarray
    """uint8: states of all blocks in all slots of their lives, one after another."""
    load: np.ndarray
    """float64[T, C]: seconds each channel is busy."""
    held: np.ndarray
    """float64[T]: bytes in the fast tier."""
    up: np.ndarray
    """float64[K, T]: exact change of the slot's time when an idle byte-class-k block moves up in it."""
    down: np.ndarray
    """float64[K, T]"""


def make_problem(low: Lowered) -> Problem:
    """Arrays of a lowered instance, and the layout of the states.

    Raises
    ------
    MethodError
        When a state for every block and slot would not fit in memory.
    """
    life = low.death_slot - low.birth_slot
    if life.sum() > _MOST_CELLS:
        raise MethodError(
            "method 'anneal'",
            f"{life.sum():.3g} block-slots exceed the {_MOST_CELLS:.3g} this annealer keeps in memory",
            "Anneal a window of the trace (Trace.window)",
        )
    class_size, size_class = np.unique(low.size_bytes, return_inverse=True)
    if len(class_size) > _MOST_CLASSES:
        class_size, size_class = np.empty(0), np.full(low.n_blocks, -1)
    folded = Folded.of(low)
    # Linear terms stand on every channel alike, so any channel's will do.
    idle = np.array([folded.op[0, z, z, 0] for z in (FAST, BACKING)])
    return Problem(
        n_lanes=low.n_lanes,
        op=folded.op - idle[None, :, None, None],
        hold=float(idle[FAST] - idle[BACKING]),
        write=folded.write,
        base=np.ascontiguousarray(folded.base.T + (low.live_bytes * idle[BACKING])[:, None]),
        size=low.size_bytes,
        lane=low.lane,
        birth=low.birth_slot,
        death=low.death_slot,
        prefilled=low.prefilled,
        run_ptr=low.run_ptr,
        run_start=low.run_start,
        run_stop=low.run_stop,
        most_fast=float(low.capacity_bytes[FAST]),
        least_fast=low.live_bytes - low.capacity_bytes[BACKING],
        cell=np.concatenate([[0], np.cumsum(life)[:-1]]) - low.birth_slot,
        size_class=size_class.astype(np.int64),
        class_size=class_size,
    )


def make_state(problem: Problem, placement: Placement) -> State:
    """A chain that starts from a placement."""
    n_slots, n_channels = problem.base.shape
    classes = len(problem.class_size)
    z = np.full(int((problem.death - problem.birth).sum()), BACKING, np.uint8)
    _fill(z, problem.cell, placement.ptr, placement.start, placement.stop)
    state = State(
        z=z,
        load=np.empty((n_slots, n_channels)),
        held=np.empty(n_slots),
        up=np.empty((classes, n_slots)),
        down=np.empty((classes, n_slots)),
    )
    rebuild(problem, state)
    return state


def to_placement(problem: Problem, z: np.ndarray) -> Placement:
    """The placement that the states describe."""
    block, start, stop = _intervals(z, problem.cell, problem.birth, problem.death)
    return Placement.from_intervals(len(problem.size), block, start, stop)


@njit(cache=True, nogil=True)
def _fill(z, cell, ptr, start, stop):
    for i in range(cell.shape[0]):
        for k in range(ptr[i], ptr[i + 1]):
            z[cell[i] + start[k] : cell[i] + stop[k]] = FAST


@njit(cache=True, nogil=True)
def _intervals(z, cell, birth, death):
    """(block, start, stop) of every stay in the fast tier."""
    count = 0
    for i in range(cell.shape[0]):
        before = BACKING
        for t in range(birth[i], death[i]):
            now = z[cell[i] + t]
            if now == FAST and before != FAST:
                count += 1
            before = now
    block, start, stop = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    k = -1
    for i in range(cell.shape[0]):
        before = BACKING
        for t in range(birth[i], death[i]):
            now = z[cell[i] + t]
            if now == FAST:
                if before != FAST:
                    k += 1
                    block[k], start[k] = i, t
                stop[k] = t + 1
            before = now
    return block, start, stop


@njit(cache=True, nogil=True)
def rebuild(problem, state):
    """Loads, occupancy and caches from the states alone, free of accumulated rounding."""
    state.load[:] = problem.base
    state.held[:] = 0.0
    for i in range(problem.size.shape[0]):
        add_block(problem, state, i, 1.0)
    for t in range(state.load.shape[0]):
        refresh(problem, state, t)


@njit(cache=True, nogil=True)
def add_block(problem, state, i, sign):
    """Add (sign 1) or remove (-1) what block i does, except in the caches."""
    load, held = state.load, state.held
    op = problem.op
    amount = sign * problem.size[i]
    birth, death, cell, lanes, lane = (
        problem.birth[i],
        problem.death[i],
        problem.cell[i],
        problem.n_lanes,
        problem.lane[i],
    )
    n_channels = load.shape[1]
    if not problem.prefilled[i]:
        z = state.z[cell + birth]
        for c in range(n_channels):
            load[birth, c] += amount * problem.write[z, c]
    here = state.z[cell + birth]
    for t in range(birth, death):
        after = state.z[cell + t + 1] if t + 1 < death else here
        if here == FAST:
            held[t] += amount
        if here != after:
            for c in range(n_channels):
                load[t, c] += amount * op[0, here, after, c]
        here = after
    for run in range(problem.run_ptr[i], problem.run_ptr[i + 1]):
        for n in range(problem.run_start[run], problem.run_stop[run]):
            t = n * lanes + lane
            here = state.z[cell + t]
            after = state.z[cell + t + 1] if t + 1 < death else here
            for c in range(n_channels):
                load[t, c] += amount * (op[1, here, after, c] - op[0, here, after, c])


@njit(cache=True, nogil=True, inline="always")
def slot_time(load, t):
    """Seconds slot t takes."""
    longest = load[t, 0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[t, c])
    return longest


@njit(cache=True, nogil=True, inline="always")
def slot_time_with(load, t, size, extra):
    """Seconds slot t takes with ``size * extra[c]`` seconds more on each channel."""
    longest = load[t, 0] + size * extra[0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[t, c] + size * extra[c])
    return longest


@njit(cache=True, nogil=True)
def refresh(problem, state, t):
    """Recompute the caches of slot t."""
    now = slot_time(state.load, t)
    for k in range(problem.class_size.shape[0]):
        size = problem.class_size[k]
        state.up[k, t] = slot_time_with(state.load, t, size, problem.op[0, BACKING, FAST]) - now
        state.down[k, t] = slot_time_with(state.load, t, size, problem.op[0, FAST, BACKING]) - now


@njit(cache=True, nogil=True)
def total_time(problem, state):
    """Seconds all slots take, or what the objective makes of them."""
    total = 0.0
    for t in range(state.load.shape[0]):
        total += slot_time(state.load, t) + problem.hold * state.held[t]
    return total


@njit(cache=True, nogil=True)
def excess_bytes(problem, state):
    """Bytes by which capacities are exceeded, summed over slots; 0 when the placement is feasible."""
    excess = 0.0
    for t in range(state.held.shape[0]):
        excess += max(0.0, state.held[t] - problem.most_fast) + max(0.0, problem.least_fast[t] - state.held[t])
    return excess
