"""Residency paths of all blocks as the few slots in which they change, and their way into windows and back.

A path is a list of *events*: the first slot of each new state, the first event being the block's first slot. At most
one change in a lane step is kept (two would be a detour), and none after the block's last own slot.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.anneal.state import Problem, slot_time
from kvopt.jit import njit, part, piece
from kvopt.placement import Placement
from kvopt.trellis import rows


class Paths(NamedTuple):
    """Of B blocks, E events in all."""

    ptr: np.ndarray
    """int64[B + 1]"""
    slot: np.ndarray
    """int32[E]"""
    state: np.ndarray
    """uint8[E]"""


class Piece(NamedTuple):
    """The events of b blocks in one window, its frozen edges included."""

    block: np.ndarray
    """int64[b], ascending."""
    ptr: np.ndarray
    """int64[b + 1]"""
    slot: np.ndarray
    state: np.ndarray


def paths_of(problem: Problem, placement: Placement) -> Paths:
    """The paths of a placement, detours left out."""
    args = problem, placement.ptr, placement.start, placement.stop, placement.state
    count = np.zeros(len(problem.size) + 1, np.int64)
    nothing = np.empty(0, np.int32), np.empty(0, np.uint8)
    _read_events(*args, count, *nothing, False)
    ptr = np.cumsum(count)
    slot, state = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.uint8)
    _read_events(*args, ptr, slot, state, True)
    return Paths(ptr, slot, state)


def placement_of(problem: Problem, paths: Paths) -> Placement:
    """The placement that paths make."""
    last = len(problem.states) - 1
    count = np.zeros(len(problem.size) + 1, np.int64)
    _count_stays(paths, last, count)
    ptr = np.cumsum(count)
    start, stop, state = np.empty(ptr[-1], np.int64), np.empty(ptr[-1], np.int64), np.empty(ptr[-1], np.int8)
    _write_stays(problem, paths, last, ptr, start, stop, state)
    return Placement(ptr, start, stop, state)


@part(_nrt=False)
def _append(problem, i, slot, z, n, slots, states):
    """Append an event to the first n of block i; returns how many there are then."""
    if n > 0 and states[n - 1] == z:
        return n
    if n > 1:
        # One change in a lane step: when the first was, to what the last makes it. An own slot sees all before it.
        before, lane, n_lanes = slots[n - 1], problem.lane[i], problem.n_lanes
        if slot + (lane - slot) % n_lanes == before + (lane - before) % n_lanes:
            if states[n - 2] == z:
                return n - 1
            states[n - 1] = z
            return n
    slots[n], states[n] = slot, z
    return n + 1


@njit(cache=True, nogil=True)
def _read_events(problem, ptr, start, stop, state, out, slot, to, write):
    """Count the events of each block in ``out[1:]``, or write them where ``out`` says."""
    last_state = len(problem.states) - 1
    most = 0
    for i in range(ptr.shape[0] - 1):
        most = max(most, ptr[i + 1] - ptr[i])
    slots, states = np.empty(2 * most + 2, np.int32), np.empty(2 * most + 2, np.uint8)
    for i in range(ptr.shape[0] - 1):
        end = last_own_slot(problem, i)
        n, at = 0, problem.birth[i]
        for k in range(ptr[i], ptr[i + 1]):
            if start[k] > at and (n == 0 or at <= end):
                n = _append(problem, i, at, last_state, n, slots, states)
            if n == 0 or start[k] <= end:
                n = _append(problem, i, start[k], state[k], n, slots, states)
            at = stop[k]
        if at < problem.death[i] and (n == 0 or at <= end):
            n = _append(problem, i, at, last_state, n, slots, states)
        if write:
            rows.copy_range(slots, 0, n, slot, out[i])
            rows.copy_range(states, 0, n, to, out[i])
        else:
            out[i + 1] = n


@piece
def last_own_slot(problem, i):
    """The last slot in which block i may be read."""
    end = problem.death[i] - 1
    return end - (end - problem.lane[i]) % problem.n_lanes


@njit(cache=True, nogil=True, _nrt=False)
def _count_stays(paths, last, count):
    for i in range(paths.ptr.shape[0] - 1):
        for e in range(paths.ptr[i], paths.ptr[i + 1]):
            count[i + 1] += paths.state[e] != last


@njit(cache=True, nogil=True, _nrt=False)
def _write_stays(problem, paths, last, ptr, start, stop, state):
    for i in range(paths.ptr.shape[0] - 1):
        k = ptr[i]
        for e in range(paths.ptr[i], paths.ptr[i + 1]):
            if paths.state[e] != last:
                start[k], state[k] = paths.slot[e], paths.state[e]
                stop[k] = paths.slot[e + 1] if e + 1 < paths.ptr[i + 1] else problem.death[i]
                k += 1


@njit(cache=True, nogil=True)
def load_paths(problem, paths, load, either, held):
    """Fill loads and occupancy, as :class:`kvopt.anneal.window.Window` has them, from the paths alone; returns what
    is charged by the byte. In time proportional to runs and events, not to reads."""
    n_lanes, n_slots, n_states = problem.n_lanes, load.shape[0], len(problem.states)
    n_steps = n_slots // n_lanes
    read = np.zeros((n_states, n_lanes, n_steps + 1))
    for t in range(n_slots):
        rows.copy(problem.base[t], load[t])
    for k in range(held.shape[0]):
        rows.fill(held[k], 0, held.shape[1], 0.0)
    price = problem.base_price
    for i in range(problem.size.shape[0]):
        size = problem.size[i]
        _count_reads(problem, paths, i, read)
        low, high = paths.ptr[i], paths.ptr[i + 1]
        run = problem.run_ptr[i]
        for e in range(low, high):
            z, since = paths.state[e], paths.slot[e]
            until = paths.slot[e + 1] if e + 1 < high else problem.death[i]
            price += size * problem.idle_price[z] * (until - since)
            for k in range(held.shape[0]):
                if problem.inside[k] >> z & 1:
                    held[k, since] += size
                    if until < n_slots:
                        held[k, until] -= size
            if e == low:
                if not problem.prefilled[i]:
                    for c in range(load.shape[1]):
                        load[since, c] += size * problem.write[z, c]
                    price += size * problem.write_price[z]
                continue
            y, t = paths.state[e - 1], since - 1
            step = t // n_lanes
            while run < problem.run_ptr[i + 1] and problem.run_stop[run] <= step:
                run += 1
            is_read = t % n_lanes == problem.lane[i] and run < problem.run_ptr[i + 1] and problem.run_start[run] <= step
            r = 1 if is_read else 0
            for c in range(load.shape[1]):
                load[t, c] += size * (problem.op[r, y, z, c] - problem.op[r, y, y, c])
            price += size * (problem.op_price[r, y, z] - problem.op_price[r, y, y])
    for k in range(held.shape[0]):
        for t in range(1, n_slots):
            held[k, t] += held[k, t - 1]
    rows.fill(either, 0, either.shape[0], 0.0)
    for z in range(n_states):
        for lane in range(n_lanes):
            bytes_ = 0.0
            for n in range(n_steps):
                bytes_ += read[z, lane, n]
                for c in range(load.shape[1]):
                    load[n * n_lanes + lane, c] += bytes_ * problem.op[1, z, z, c]
                if problem.balanced and problem.swappable[z]:
                    either[n * n_lanes + lane] += bytes_
                price += bytes_ * problem.op_price[1, z, z]
    return price


@part(_nrt=False)
def _count_reads(problem, paths, i, read):
    """Add the block's reads by state, lane and step, as differences from step to step."""
    n_lanes, lane, size = problem.n_lanes, problem.lane[i], problem.size[i]
    e, high = paths.ptr[i], paths.ptr[i + 1]
    for run in range(problem.run_ptr[i], problem.run_ptr[i + 1]):
        n, stop = problem.run_start[run], problem.run_stop[run]
        while n < stop:
            while e + 1 < high and paths.slot[e + 1] <= n * n_lanes + lane:
                e += 1
            until = stop
            if e + 1 < high:
                # The first own slot at or after the next event.
                until = min(until, (paths.slot[e + 1] - lane + n_lanes - 1) // n_lanes)
            z = paths.state[e]
            read[z, lane, n] += size
            read[z, lane, until] -= size
            n = until


@njit(cache=True, nogil=True, _nrt=False)
def total_cost(problem, load, either, price):
    """The objective, a sum over slots."""
    total = price
    for t in range(load.shape[0]):
        total += problem.second * slot_time(load, either, problem.swap, t)
    return total


@njit(cache=True, nogil=True)
def gather(problem, paths, first, n_steps, last_step, first_step):
    """The blocks that exist in a window's own slots, and their paths there.

    Parameters
    ----------
    first, n_steps : int
        The window's first step, and how many it has.
    last_step, first_step : int64[B]
        Of each block, as in :class:`kvopt.lowering.Lowered`.

    Returns
    -------
    The arrays of :class:`kvopt.anneal.window.Window` from ``block`` on.
    """
    n_lanes = problem.n_lanes
    total_steps = problem.base.shape[0] // n_lanes
    stop = first + n_steps
    b = 0
    for i in range(problem.size.shape[0]):
        b += first_step[i] < stop and last_step[i] >= first
    block = np.empty(b, np.int64)
    begin, end = np.empty(b, np.int32), np.empty(b, np.int32)
    loose_begin, loose_end = np.zeros(b, np.bool_), np.zeros(b, np.bool_)
    first_run, at, count = np.empty(b, np.int64), np.empty(b, np.int64), np.empty(b, np.int32)
    j, used = -1, 0
    for i in range(problem.size.shape[0]):
        if not (first_step[i] < stop and last_step[i] >= first):
            continue
        j += 1
        lane, last = problem.lane[i], last_step[i]
        block[j] = i
        begin[j], end[j] = max(first_step[i], first) - first, min(last + 1, stop) - first
        loose_end[j] = last + 1 < stop or (last + 1 == stop and stop == total_steps)
        if first_step[i] >= first:
            changes_early = paths.ptr[i] + 1 < paths.ptr[i + 1] and paths.slot[paths.ptr[i] + 1] <= lane
            loose_begin[j] = not problem.prefilled[i] or (problem.initial[i] < 0 and not changes_early)
        first_run[j] = rows.first_above(problem.run_stop, problem.run_ptr[i], problem.run_ptr[i + 1], first)
        low, high = paths.ptr[i], paths.ptr[i + 1]
        at[j] = rows.first_above(paths.slot, low, high, (first + begin[j]) * n_lanes + lane) - 1
        # A change after the window's last own slot is part of its last lane step.
        count[j] = rows.first_above(paths.slot, low, high, (first + end[j]) * n_lanes + lane) - at[j]
        used += count[j]
    slot, state = np.empty(used, np.int32), np.empty(used, np.uint8)
    used = 0
    for j in range(b):
        low, high = at[j], at[j] + count[j]
        rows.copy_range(paths.slot, low, high, slot, used)
        rows.copy_range(paths.state, low, high, state, used)
        at[j] = used
        used += count[j]
    return block, begin, end, loose_begin, loose_end, first_run, at, count, slot, state, np.array([used])


@njit(cache=True, nogil=True)
def scatter(problem, paths, first, window, first_step):
    """The events in a window, those in its last lane steps included: a :class:`Piece`.

    Parameters
    ----------
    paths : Paths
        What the window was gathered from.
    first : int
        Its first step.
    window : Window
    first_step : int64[B]
    """
    ptr = np.zeros(window.block.shape[0] + 1, np.int64)
    for j in range(window.block.shape[0]):
        i = window.block[j]
        own = 0
        if first_step[i] >= first:
            # The block's first event is the window's, and what changed before its first own slot is as it was.
            own = 2 if window.slot[window.at[j]] > problem.birth[i] else 1
        ptr[j + 1] = ptr[j] + own + window.count[j] - 1
    slot, state = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.uint8)
    for j in range(window.block.shape[0]):
        i, to, low = window.block[j], ptr[j], window.at[j]
        high = low + window.count[j]
        if first_step[i] < first:
            low += 1
        elif window.slot[low] > problem.birth[i]:
            slot[to], state[to] = problem.birth[i], paths.state[paths.ptr[i]]
            to += 1
        rows.copy_range(window.slot, low, high, slot, to)
        rows.copy_range(window.state, low, high, state, to)
    return window.block, ptr, slot, state


def joined(n_blocks: int, pieces: list[Piece]) -> Paths:
    """The paths that the pieces of windows in order of time make."""
    count = np.zeros(n_blocks + 1, np.int64)
    for one in pieces:
        count[one.block + 1] += np.diff(one.ptr)
    ptr = np.cumsum(count)
    at = ptr[:-1].copy()
    slot, state = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.uint8)
    for one in pieces:
        _place(one, at, slot, state)
    return Paths(ptr, slot, state)


@njit(cache=True, nogil=True, _nrt=False)
def _place(piece, at, slot, state):
    for j in range(piece.block.shape[0]):
        i = piece.block[j]
        for e in range(piece.ptr[j], piece.ptr[j + 1]):
            slot[at[i]], state[at[i]] = piece.slot[e], piece.state[e]
            at[i] += 1
