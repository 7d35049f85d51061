"""Residency paths of all blocks as the few slots in which they change, and their way into windows and back.

A path is a list of *events*: the first slot of each new state, the first event being the block's first slot. At most
one change in a lane step is kept (two would be a detour), and none after the block's last own slot.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from kvopt.anneal.state import Problem, slot_time
from kvopt.placement import Placement


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


@njit(cache=True, nogil=True)
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
            slot[out[i] : out[i] + n] = slots[:n]
            to[out[i] : out[i] + n] = states[:n]
        else:
            out[i + 1] = n


@njit(cache=True, nogil=True, inline="always")
def last_own_slot(problem, i):
    """The last slot in which block i may be read."""
    end = problem.death[i] - 1
    return end - (end - problem.lane[i]) % problem.n_lanes


@njit(cache=True, nogil=True)
def _count_stays(paths, last, count):
    for i in range(paths.ptr.shape[0] - 1):
        for e in range(paths.ptr[i], paths.ptr[i + 1]):
            count[i + 1] += paths.state[e] != last


@njit(cache=True, nogil=True)
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
    load[:] = problem.base
    held[:] = 0.0
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
    either[:] = 0.0
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


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
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
    count = 0
    for i in range(problem.size.shape[0]):
        count += first_step[i] < stop and last_step[i] >= first
    block = np.empty(count, np.int64)
    z, when = np.zeros((count, n_steps + 1), np.uint8), np.zeros((count, n_steps), np.uint16)
    begin, end = np.empty(count, np.int32), np.empty(count, np.int32)
    loose_begin, loose_end = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    first_run = np.empty(count, np.int64)
    j = -1
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
        first_run[j] = problem.run_ptr[i] + np.searchsorted(
            problem.run_stop[problem.run_ptr[i] : problem.run_ptr[i + 1]], first, side="right"
        )
        own = (first + begin[j]) * n_lanes + lane
        high = paths.ptr[i + 1]
        e = paths.ptr[i] + np.searchsorted(paths.slot[paths.ptr[i] : high], own, side="right") - 1
        columns = end[j] + (1 if last >= stop else 0)
        for n in range(begin[j], columns):
            own = (first + n) * n_lanes + lane
            if n > begin[j] and e + 1 < high and paths.slot[e + 1] <= own:
                e += 1
                when[j, n - 1] = paths.slot[e] - 1 - (own - n_lanes)
            z[j, n] = paths.state[e]
        if last < stop:
            z[j, end[j]] = z[j, end[j] - 1]
    return block, z, when, begin, end, loose_begin, loose_end, first_run


@njit(cache=True, nogil=True)
def scatter(problem, paths, first, block, z, when, begin, end, first_step, last_step):
    """The events in a window, those in its last lane steps included: a :class:`Piece`."""
    n_lanes, n_steps = problem.n_lanes, z.shape[1] - 1
    ptr = np.zeros(block.shape[0] + 1, np.int64)
    slot, state = np.empty(0, np.int32), np.empty(0, np.uint8)
    for write in range(2):
        for j in range(block.shape[0]):
            i = block[j]
            lane = problem.lane[i]
            at = ptr[j]
            if first_step[i] >= first:
                own = (first + begin[j]) * n_lanes + lane
                if write:
                    slot[at], state[at] = problem.birth[i], z[j, begin[j]]
                at += 1
                e = paths.ptr[i] + 1
                if problem.prefilled[i] and e < paths.ptr[i + 1] and paths.slot[e] <= own:
                    # A change before the first own slot stays as it was.
                    if write:
                        state[at - 1] = paths.state[e - 1]
                        slot[at], state[at] = paths.slot[e], paths.state[e]
                    at += 1
            last = end[j] if last_step[i] >= first + n_steps else end[j] - 1
            for n in range(begin[j], last):
                if z[j, n] != z[j, n + 1]:
                    if write:
                        slot[at] = (first + n) * n_lanes + lane + when[j, n] + 1
                        state[at] = z[j, n + 1]
                    at += 1
            if not write:
                ptr[j + 1] = at
            # Counting, ``at`` runs on from the block before, as places do.
        if not write:
            slot, state = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.uint8)
    return block, ptr, slot, state


def joined(n_blocks: int, pieces: list[Piece]) -> Paths:
    """The paths that the pieces of windows in order of time make."""
    count = np.zeros(n_blocks + 1, np.int64)
    for piece in pieces:
        count[piece.block + 1] += np.diff(piece.ptr)
    ptr = np.cumsum(count)
    at = ptr[:-1].copy()
    slot, state = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.uint8)
    for piece in pieces:
        _place(piece, at, slot, state)
    return Paths(ptr, slot, state)


@njit(cache=True, nogil=True)
def _place(piece, at, slot, state):
    for j in range(piece.block.shape[0]):
        i = piece.block[j]
        for e in range(piece.ptr[j], piece.ptr[j + 1]):
            slot[at[i]], state[at[i]] = piece.slot[e], piece.state[e]
            at[i] += 1
