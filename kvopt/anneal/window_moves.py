"""Moves in a window: one block's path in it, drawn at a temperature or optimised, all others fixed.

Own slots that read the block are priced by the exact change of the slot's time; all other slots by the tables, but for
two kinds of lane steps that are priced slot by slot: those in which the block changes its state as it is, because the
tables count that change as somebody else's, and those in some slots of which a tier has no room. Every change is
carried out on the loads exactly, and its cost returned exactly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from kvopt.anneal.moves import _tables
from kvopt.anneal.state import slot_time
from kvopt.anneal.window import (
    HARD,
    NEGLIGIBLE,
    NEVER,
    count_full,
    idle_cost,
    lacks_room,
    refresh,
    time_of,
    time_with,
    together,
)
from kvopt.trellis.rng import uniform

_IDLE, _BORN, _READ = 0, 1, 2


class Scratch(NamedTuple):
    """Room to work in (W steps, L lanes, S states, C channels)."""

    kind: np.ndarray
    """uint8[W]: whether the block is idle, idle but new, or read in each own slot."""
    reached: np.ndarray
    """float64[W, S]: of all ways to each state."""
    way: np.ndarray
    """float64[W, S * S]: of each lane step."""
    own: np.ndarray
    """float64[W, S * S]: the part of it whose change is in an own slot that reads the block, or writes it."""
    change: np.ndarray
    """float64[S, S]"""
    rest: np.ndarray
    """float64[S * S]: of a lane step, without its own slot if that is priced by itself."""
    slots: np.ndarray
    """float64[L]: of a change in each slot of a lane step."""
    extra: np.ndarray
    """float64[C]"""
    load: np.ndarray
    """float64[1, C]: of one slot without the block."""
    either: np.ndarray
    """float64[1], or empty"""
    z: np.ndarray
    """uint8[W + 1]: the new path; once it is carried out, the old one."""
    when: np.ndarray
    """uint16[W]"""
    touched: np.ndarray
    """bool[W + 1]: steps whose occupancy has changed."""


def make_scratch(problem, n_steps: int) -> Scratch:
    """Room for a window of that many steps."""
    n_states, n_channels = len(problem.states), problem.base.shape[1]
    pairs = n_states * n_states
    return Scratch(
        kind=np.zeros(n_steps, np.uint8),
        reached=np.empty((n_steps, n_states)),
        way=np.empty((n_steps, pairs)),
        own=np.empty((n_steps, pairs)),
        change=np.empty((n_states, n_states)),
        rest=np.empty(pairs),
        slots=np.empty(problem.n_lanes),
        extra=np.empty(n_channels),
        load=np.empty((1, n_channels)),
        either=np.zeros(1 if problem.balanced else 0),
        z=np.empty(n_steps + 1, np.uint8),
        when=np.empty(n_steps, np.uint16),
        touched=np.zeros(n_steps + 1, bool),
    )


@njit(cache=True, nogil=True)
def sweep(problem, window, class_size, class_of, order, mode, tables, every, scratch, rng):
    """Give every block in ``order`` a new path; returns how many changed.

    Parameters
    ----------
    order : int64[m]
        Rows of the window.
    mode : tuple of float
        As :func:`kvopt.anneal.window.mode_of` makes it. Best paths are taken only where they lower the objective.
    every : int
        Blocks between two looks at the tables.
    """
    changed = 0
    for count in range(order.shape[0]):
        if count % every == 0:
            refresh(problem, window, class_size, mode, tables)
        j = order[count]
        if window.end[j] - window.begin[j] < 2 and not window.loose_begin[j]:
            continue
        mark(problem, window, j, scratch.kind)
        q = class_of[window.block[j]]
        if not _forward(problem, window, j, q, mode, tables, scratch):
            continue
        if _backward(problem, window, j, mode, scratch, rng) <= 0:
            continue
        overfull = _overfull(window, j, tables.full)
        delta = carry_out(problem, window, j, scratch, tables, class_size)
        if len(mode) == HARD and delta >= 0.0 and not overfull:
            # The scratch has kept the old path.
            carry_out(problem, window, j, scratch, tables, class_size)
            continue
        changed += 1
    return changed


@njit(cache=True, nogil=True)
def mark(problem, window, j, kind):
    """What a block does in each own slot of the window."""
    i, n_steps = window.block[j], kind.shape[0]
    kind[window.begin[j] : window.end[j]] = _IDLE
    first = window.first_step
    run = window.first_run[j]
    while run < problem.run_ptr[i + 1] and problem.run_start[run] < first + n_steps:
        kind[max(problem.run_start[run] - first, 0) : min(problem.run_stop[run] - first, n_steps)] = _READ
        run += 1


@njit(cache=True, nogil=True, inline="always")
def _born(problem, window, j, n):
    """Whether the block is written in its own slot of step n."""
    return n == window.begin[j] and window.loose_begin[j] and not problem.prefilled[window.block[j]]


@njit(cache=True, nogil=True, inline="always")
def _closing(problem, window, j, n):
    """One past the last slot of the block's last lane step."""
    own = n * problem.n_lanes + problem.lane[window.block[j]]
    return min(own + problem.n_lanes, window.load.shape[0])


@njit(cache=True, nogil=True)
def _fits(problem, window, j, t, state, old, size):
    """Whether all tiers of a state have room for the block in slot t, in which it is in state ``old`` now."""
    for k in range(window.held.shape[0]):
        inside = problem.inside[k]
        if inside >> state & 1:
            held = window.held[k, t] + (0.0 if inside >> old & 1 else size)
            if held > problem.capacity[k]:
                return False
    return True


@njit(cache=True, nogil=True)
def _price_slots(problem, window, j, n, y, z, first, size, scratch):
    """Exact cost of a change from y to z in each slot of lane step n from offset ``first`` on, in ``scratch.slots``."""
    n_lanes = problem.n_lanes
    lane = problem.lane[window.block[j]]
    own = n * n_lanes + lane
    old_y, old_z, old_when = window.z[j, n], window.z[j, n + 1], window.when[j, n]
    out = scratch.slots
    charged = 0.0
    bad_y, bad_z = n_lanes, first  # First slot that y does not fit, and the last that z does not.
    for o in range(max(first, 1), n_lanes):
        old = old_y if o <= old_when else old_z
        if bad_y == n_lanes and not _fits(problem, window, j, own + o, y, old, size):
            bad_y = o
        if not _fits(problem, window, j, own + o, z, old, size):
            bad_z = o
    for o in range(first, n_lanes):
        charged += window.charge[own + o, z] * size
    load = scratch.load
    for o in range(first, n_lanes):
        t = own + o
        charged += (window.charge[t, y] - window.charge[t, z]) * size
        if o >= bad_y or o < bad_z:
            out[o] = NEVER
            continue
        own_change = old_y != old_z and o == old_when
        for c in range(load.shape[1]):
            load[0, c] = window.load[t, c] - (size * problem.op[0, old_y, old_z, c] if own_change else 0.0)
        if problem.balanced:
            scratch.either[0] = window.either[t]
        now = slot_time(load, scratch.either, problem.swap, 0)
        cost = idle_cost(problem, load, scratch.either, 0, size, y, z, scratch.extra, now)
        out[o] = max(charged, 0.0) + cost


@njit(cache=True, nogil=True)
def _forward(problem, window, j, q, mode, tables, scratch):
    """What all ways to each state in each own slot cost together, or the best of them; False where there is none."""
    states, n_lanes = problem.states, problem.n_lanes
    n_states, n_classes = len(states), tables.full.shape[0] - 1
    i = window.block[j]
    size, lane = problem.size[i], problem.lane[i]
    begin, last, loose_begin, loose_end = window.begin[j], window.end[j] - 1, window.loose_begin[j], window.loose_end[j]
    written = loose_begin and not problem.prefilled[i]
    # What the loop reads, taken out of the tuples once: numba counts references to what is passed on.
    old_z, old_when, held, load, either, charge = (
        window.z[j],
        window.when[j],
        window.held,
        window.load,
        window.either,
        window.charge,
    )
    capacity, inside, kind, reached, way, own_way = (
        problem.capacity,
        problem.inside,
        scratch.kind,
        scratch.reached,
        scratch.way,
        scratch.own,
    )
    step_table, rest_table, full, change, rest = (
        tables.step[q, lane],
        tables.rest[q, lane],
        tables.full,
        scratch.change,
        scratch.rest,
    )
    op, op_price, write, write_price, swap, swappable, priced = _tables(problem)
    second, balanced, base_load, base_either, extra = (
        problem.second,
        problem.balanced,
        scratch.load,
        scratch.either,
        scratch.extra,
    )
    every = (1 << n_states) - 1
    _enter(problem, window, j, size, scratch)
    was_closed = 0  # States that cannot be held throughout the lane step before.
    for n in range(begin, last + 1):
        t = n * n_lanes + lane
        if n == last and not loose_end:
            break  # What happens in its own slot hangs on a lane step beyond the window.
        y_old, z_old = old_z[n], old_z[n + 1]
        if n > begin or loose_begin:
            shut = _shut(held, capacity, inside, t, y_old, size)
            for z in range(n_states):
                if shut >> z & 1 and shut != every:
                    reached[n, z] = NEVER
        own = kind[n] != _IDLE or (written and n == begin)
        if own:
            read, born = 1 if kind[n] == _READ else 0, written and n == begin
            x_old = z_old if n < last and old_when[n] == 0 else y_old
            for c in range(load.shape[1]):
                added = op[read, y_old, x_old, c] + (write[y_old, c] if born else 0.0)
                base_load[0, c] = load[t, c] - size * added
            if balanced:
                base_either[0] = either[t] - (size if read and swappable[y_old] else 0.0)
            now = time_of(base_load, base_either, swap, balanced)
            for y in range(n_states):
                for z in range(n_states):
                    for c in range(load.shape[1]):
                        extra[c] = op[read, y, z, c] + (write[y, c] if born else 0.0)
                    swapped = read == 1 and swappable[y]
                    longer = time_with(base_load, base_either, swap, balanced, size, extra, swapped) - now
                    cost = second * longer + charge[t, y] * size
                    if priced:
                        cost += size * (op_price[read, y, z] + (write_price[y] if born else 0.0))
                    change[y, z] = cost
        if n == last:
            _leave(problem, window, j, n, size, own, scratch)
            break
        closed = 0
        for k in range(held.shape[0]):
            row = n_classes if inside[k] >> y_old & 1 and inside[k] >> z_old & 1 else q
            if lacks_room(full, row, k, n, lane, n_lanes):
                closed |= inside[k]
        special = y_old != z_old
        if closed and not special:
            # In a tier that is full at times a block can only come or go; that matters where it can stay before or
            # afterwards.
            shut = _shut(held, capacity, inside, t + n_lanes, z_old, size)
            closed_next = 0
            if n + 1 < last:
                for k in range(held.shape[0]):
                    row = n_classes if inside[k] >> z_old & 1 and inside[k] >> old_z[n + 2] & 1 else q
                    if lacks_room(full, row, k, n + 1, lane, n_lanes):
                        closed_next |= inside[k]
            coming = closed & ~shut & ~closed_next
            going = 0
            for z in range(n_states):
                if closed >> z & 1 and not was_closed >> z & 1 and reached[n, z] < NEVER:
                    going = 1
            special = coming != 0 or going != 0
        was_closed = closed
        if special:
            # Slot by slot: with what changes in the ones so far, and then staying.
            for y in range(n_states):
                for z in range(n_states):
                    rest[n_states * y + z] = 0.0 if y == z else NEVER
            for o in range(1 if own else 0, n_lanes):
                s = t + o
                here_old = y_old if o <= old_when[n] else z_old
                moves = y_old != z_old and o == old_when[n]
                shut = 0 if o == 0 else _shut(held, capacity, inside, s, here_old, size)
                for c in range(load.shape[1]):
                    base_load[0, c] = load[s, c] - (size * op[0, y_old, z_old, c] if moves else 0.0)
                if balanced:
                    base_either[0] = either[s]
                now = time_of(base_load, base_either, swap, balanced)
                for z in range(n_states):
                    stay = NEVER if shut >> z & 1 else charge[s, z] * size
                    for y in range(n_states):
                        rest[n_states * y + z] += stay
                for y in range(n_states):
                    for z in range(n_states):
                        if y != z and not shut >> y & 1:
                            for c in range(load.shape[1]):
                                extra[c] = op[0, y, z, c]
                            longer = time_with(base_load, base_either, swap, balanced, size, extra, False) - now
                            cost = second * longer + size * op_price[0, y, z]
                            cost += rest[(n_states + 1) * y]
                            rest[n_states * y + z] = together(rest[n_states * y + z], cost, mode)
            closed = 0
        elif own:
            for p in range(n_states * n_states):
                rest[p] = rest_table[n, p]
        else:
            for p in range(n_states * n_states):
                rest[p] = step_table[n, p]
        if closed:
            for y in range(n_states):
                for z in range(n_states):
                    if closed >> y & 1 or closed >> z & 1:
                        rest[n_states * y + z] = NEVER
        for y in range(n_states):
            for z in range(n_states):
                p = n_states * y + z
                if not own:
                    way[n, p] = rest[p]
                elif y == z:
                    own_way[n, p] = NEVER
                    way[n, p] = change[y, y] + rest[p]
                else:
                    own_way[n, p] = change[y, z] + rest[(n_states + 1) * z]
                    way[n, p] = together(own_way[n, p], change[y, y] + rest[p], mode)
        best = NEVER
        for z in range(n_states):
            total = NEVER
            for y in range(n_states):
                total = together(total, reached[n, y] + way[n, n_states * y + z], mode)
            reached[n + 1, z] = total
            best = min(best, total)
        if best >= NEVER:
            return False
    return True


@njit(cache=True, nogil=True, inline="always")
def _shut(held, capacity, inside, t, old, size):
    """States for which some tier has no room in slot t, as bits, the block being in state ``old`` there now."""
    shut = 0
    for k in range(held.shape[0]):
        if held[k, t] + (0.0 if inside[k] >> old & 1 else size) > capacity[k]:
            shut |= inside[k]
    return shut


@njit(cache=True, nogil=True)
def _leave(problem, window, j, n, size, own, scratch):
    """Weigh the block's last lane step, in which it stays in its state."""
    t, reached = n * problem.n_lanes + problem.lane[window.block[j]], scratch.reached
    for z in range(len(problem.states)):
        reached[n, z] += scratch.change[z, z] if own else window.charge[t, z] * size
        for later in range(t + 1, _closing(problem, window, j, n)):
            if not _fits(problem, window, j, later, z, window.z[j, n], size):
                reached[n, z] = NEVER


@njit(cache=True, nogil=True)
def _enter(problem, window, j, size, scratch):
    """What it costs to be in each state in the block's first own slot of the window."""
    n_states, begin = len(problem.states), window.begin[j]
    lane = problem.lane[window.block[j]]
    reached = scratch.reached[begin]
    for z in range(n_states):
        if not window.loose_begin[j]:
            reached[z] = 0.0 if z == window.z[j, begin] else NEVER
            continue
        cost, fits = 0.0, True
        if not _born(problem, window, j, begin):
            # There since slot 0.
            for t in range(lane):
                cost += window.charge[t, z] * size
                fits = fits and _fits(problem, window, j, t, z, window.z[j, begin], size)
        reached[z] = cost if fits else NEVER


@njit(cache=True, nogil=True)
def _backward(problem, window, j, mode, scratch, rng):
    """Draw or trace back the path into the scratch.

    Returns
    -------
    int
        -1 where there is no way, 0 where the path is the old one, 1 where it is another.
    """
    n_states, begin, last = len(problem.states), window.begin[j], window.end[j] - 1
    old_z, old_when, reached, way = window.z[j], window.when[j], scratch.reached, scratch.way
    new_z, new_when = scratch.z, scratch.when
    new_z[last], new_z[last + 1] = old_z[last], old_z[last + 1]
    new_when[last] = old_when[last]
    z = np.int64(old_z[last])
    if window.loose_end[j]:
        z = _choose(reached, last, way, -1, z, n_states, mode, rng)
        new_z[last] = z
    elif reached[last, z] >= NEVER:
        return -1
    different = 1 if z != old_z[last] else 0
    for n in range(last - 1, begin - 1, -1):
        if z < 0:
            return -1
        y = _choose(reached, n, way, z, np.int64(old_z[n]), n_states, mode, rng)
        new_z[n], new_when[n] = y, 0
        if y != z and y >= 0:
            new_when[n] = _choose_slot(problem, window, j, n, y, z, mode, scratch, rng)
            different |= new_when[n] != old_when[n]
        different |= y != old_z[n]
        z = y
    return -1 if z < 0 else different


@njit(cache=True, nogil=True, inline="always")
def _choose(reached, n, way, z, old, n_states, mode, rng):
    """A state at lane step n on the way to z (to any, if z < 0), drawn by its Boltzmann weight; or the best, ``old``
    among equals; -1 where none is possible."""
    best, least = np.int64(-1), NEVER
    for y in range(n_states):
        cost = reached[n, y] + (way[n, n_states * y + z] if z >= 0 else 0.0)
        if cost < least or (cost == least and y == old):
            best, least = np.int64(y), cost
    if len(mode) == HARD or best < 0:
        return best
    total = 1.0
    for y in range(n_states):
        above = reached[n, y] + (way[n, n_states * y + z] if z >= 0 else 0.0) - least
        if y != best and above < NEGLIGIBLE * mode[0]:
            total += math.exp(-above / mode[0])
    if total == 1.0:
        return best
    r = uniform(rng) * total - 1.0
    if r < 0.0:
        return best
    found = best
    for y in range(n_states):
        above = reached[n, y] + (way[n, n_states * y + z] if z >= 0 else 0.0) - least
        if y != best and above < NEGLIGIBLE * mode[0]:
            found = np.int64(y)
            r -= math.exp(-above / mode[0])
            if r < 0.0:
                break
    return found


@njit(cache=True, nogil=True)
def _choose_slot(problem, window, j, n, y, z, mode, scratch, rng):
    """In which slot of lane step n the block changes from y to z, as slots after its own.

    Among equal costs the old one, else the latest to a faster tier and the earliest to a slower one.
    """
    n_states, n_lanes = len(problem.states), problem.n_lanes
    p = n_states * y + z
    size = problem.size[window.block[j]]
    first = 0
    if scratch.kind[n] != _IDLE or _born(problem, window, j, n):
        first = 1
        own, way = scratch.own[n, p], scratch.way[n, p]
        if n_lanes == 1 or (own <= way if len(mode) == HARD else uniform(rng) < math.exp((way - own) / mode[0])):
            return 0
    if n_lanes == 1:
        return 0
    _price_slots(problem, window, j, n, y, z, first, size, scratch)
    slots = scratch.slots
    best = first
    for o in range(first, n_lanes):
        if slots[o] < slots[best] or (slots[o] == slots[best] and z < y):
            best = o
    if len(mode) == HARD:
        same = window.z[j, n] == y and window.z[j, n + 1] == z
        old = np.int64(window.when[j, n])
        return old if same and old >= first and slots[old] == slots[best] else best
    least, total = slots[best], 0.0
    for o in range(first, n_lanes):
        slots[o] = math.exp((least - slots[o]) / mode[0])
        total += slots[o]
    r = uniform(rng) * total
    for o in range(first, n_lanes):
        if slots[o] > 0.0:
            best = o
            r -= slots[o]
            if r < 0.0:
                break
    return best


@njit(cache=True, nogil=True)
def _overfull(window, j, full):
    """Whether the block may be in a tier that holds too much."""
    last_row, n_steps, n_lanes = full.shape[0] - 1, full.shape[2], full.shape[3] - 1
    for k in range(full.shape[1]):
        for n in range(window.begin[j], min(window.end[j] + 1, n_steps)):
            if full[last_row, k, n, n_lanes] > 0:
                return True
    return False


@njit(cache=True, nogil=True)
def carry_out(problem, window, j, scratch, tables, class_size):
    """Put the block on the path in the scratch, which gets the old one; returns what the objective changes by."""
    i = window.block[j]
    size, lane = problem.size[i], problem.lane[i]
    begin, last, n_lanes = window.begin[j], window.end[j] - 1, problem.n_lanes
    old_z, old_when, new_z, new_when = window.z[j], window.when[j], scratch.z, scratch.when
    delta = 0.0
    if window.loose_begin[j] and not _born(problem, window, j, begin) and old_z[begin] != new_z[begin]:
        for t in range(lane):
            delta += _hold(problem, window, t, size, old_z[begin], new_z[begin])
        scratch.touched[begin] = True
    for n in range(begin, last + 1):
        if n == last and not window.loose_end[j]:
            break
        y, x, y_new, x_new = old_z[n], old_z[n + 1], new_z[n], new_z[n + 1]
        if n == last:
            x, x_new = y, y_new
        when, when_new = (old_when[n] if x != y else n_lanes), (new_when[n] if x_new != y_new else n_lanes)
        if y == y_new and x == x_new and when == when_new:
            continue
        own = n * n_lanes + lane
        delta += _swap_own(problem, window, j, n, own, size, (y, x, when), (y_new, x_new, when_new), scratch)
        if 0 < when < n_lanes:
            delta += _operate(problem, window, own + when, 0, y, x, -size)
        if 0 < when_new < n_lanes:
            delta += _operate(problem, window, own + when_new, 0, y_new, x_new, size)
        stop = _closing(problem, window, j, n) if n == last else own + n_lanes
        for t in range(own, stop):
            here, here_new = (y if t - own <= when else x), (y_new if t - own <= when_new else x_new)
            if here != here_new:
                delta += _hold(problem, window, t, size, here, here_new)
        scratch.touched[n] = True
        if stop > (n + 1) * n_lanes:
            scratch.touched[n + 1] = True
    for n in range(begin, min(last + 2, tables.dirty.shape[0])):
        if scratch.touched[n]:
            count_full(window.held, problem.capacity, class_size, tables.full, n_lanes, n)
            tables.dirty[n] = True
            scratch.touched[n] = False
    for n in range(begin, last + 1):
        old_z[n], new_z[n] = new_z[n], old_z[n]
        old_when[n], new_when[n] = new_when[n], old_when[n]
    return delta


@njit(cache=True, nogil=True, inline="always")
def _hold(problem, window, t, size, old, new):
    """Let a block be in another state in slot t; returns what that is charged."""
    for k in range(window.held.shape[0]):
        inside = problem.inside[k]
        window.held[k, t] += size * ((inside >> new & 1) - (inside >> old & 1))
    return size * (problem.idle_price[new] - problem.idle_price[old])


@njit(cache=True, nogil=True, inline="always")
def _operate(problem, window, t, read, y, x, amount):
    """Add so many bytes of an operation to slot t, or take them away; returns what the objective changes by."""
    before = slot_time(window.load, window.either, problem.swap, t)
    for c in range(window.load.shape[1]):
        window.load[t, c] += amount * problem.op[read, y, x, c]
    after = slot_time(window.load, window.either, problem.swap, t)
    return problem.second * (after - before) + amount * problem.op_price[read, y, x]


@njit(cache=True, nogil=True, inline="always")
def _swap_own(problem, window, j, n, own, size, old, new, scratch):
    """Let a block do something else in its own slot of step n; returns what the objective changes by."""
    y, x, when = old
    y_new, x_new, when_new = new
    after, after_new = (x if when == 0 else y), (x_new if when_new == 0 else y_new)
    if y == y_new and after == after_new:
        return 0.0
    read, born = (1 if scratch.kind[n] == _READ else 0), _born(problem, window, j, n)
    if read == 0 and not born and y == after and y_new == after_new:
        return 0.0
    before = slot_time(window.load, window.either, problem.swap, own)
    price = problem.op_price[read, y_new, after_new] - problem.op_price[read, y, after]
    for c in range(window.load.shape[1]):
        change = problem.op[read, y_new, after_new, c] - problem.op[read, y, after, c]
        if born:
            change += problem.write[y_new, c] - problem.write[y, c]
        window.load[own, c] += size * change
    if born:
        price += problem.write_price[y_new] - problem.write_price[y]
    if problem.balanced and read == 1:
        window.either[own] += size * (1.0 * problem.swappable[y_new] - problem.swappable[y])
    return problem.second * (slot_time(window.load, window.either, problem.swap, own) - before) + size * price
