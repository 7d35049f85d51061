"""Moves in a window: one block's path in it, drawn at a temperature or optimised, all others fixed.

At the cuts of its life (:mod:`kvopt.anneal.cuts`), own slots that read the block are priced by the exact change of the
slot's time; all other slots by the tables, but for two kinds of lane steps that are priced slot by slot: those in which
the block, idle, changes its state as it is, because the tables count that change as somebody else's, and those in some
slots of which a tier has no room, if it may gain there. Every change is carried out on the loads exactly, and its cost
returned exactly.

Kernels take some eighty arrays in named tuples, and numba would count references to each at every call, which took
half the time: ``_nrt=False`` leaves that out of kernels that make no arrays. They must call none that counts, unless
inlined: the arrays they pass have no counter.
"""

from __future__ import annotations

import math

import numpy as np

from kvopt.anneal.carry import born_in, carry_out, closing
from kvopt.anneal.cuts import READ, cut_up, nothing_to_choose, write_path
from kvopt.anneal.moves import tables_of
from kvopt.anneal.relaxed import recharge
from kvopt.anneal.window import (
    NEGLIGIBLE,
    NEVER,
    any_step,
    idle_cost,
    lacks_room,
    lacks_room_between,
    refresh,
    reprice_read,
    time_of,
    time_with,
    together,
)
from kvopt.jit import njit, part, piece
from kvopt.trellis.rng import uniform

_LEAST_SHARE = 1e-300
_MOST_LOSS = 4.0
"""Temperatures, by the root of a path's cuts, that a drawn path may cost more than the one it replaces. By exact costs
hardly one would; but where tables are out of date, many a block goes where another has just gone. (Balanced family, 4e6
accesses: from 0.2 % above the bound to 5 % in ten rounds, and in vain.)"""


@njit(cache=True, nogil=True, _nrt=False)
def sweep(problem, window, class_size, class_of, order, temperature, cutting, tables, looks, scratch, rng):
    """Give every block in ``order`` a new path; returns how many changed.

    Parameters
    ----------
    order : int64[m]
        Rows of the window, which must have room for their new events.
    temperature : float
        In the objective's unit. At 0 paths are the best ones, taken only where they lower the objective.
    cutting : Cutting
    looks : int, int
        Moves between two looks at the tables, and between two at how full tiers are: 0 where that is not priced.
    """
    every, recharge_every = looks
    changed, seen, charged = 0, -every, -recharge_every
    for j in order:
        if recharge_every and changed - charged >= recharge_every:
            recharge(problem, window, tables)
            charged, seen = changed, changed - every
        if changed - seen >= every:
            refresh(problem, window, class_size, temperature, tables, scratch.extra)
            seen = changed
        if nothing_to_choose(problem, window, j, cutting):
            continue
        m = cut_up(problem, window, j, cutting, scratch, rng)
        q = class_of[window.block[j]]
        if not _forward(problem, window, j, q, class_size[q], m, temperature, cutting, tables, scratch):
            continue
        if _backward(problem, window, j, q, m, temperature, tables, scratch, rng) <= 0:
            continue
        kept = _overfull(window, j, tables.anywhere)
        allowed = 0.0 if temperature <= 0.0 else _MOST_LOSS * temperature * math.sqrt(m)
        for turn in range(2):
            delta = carry_out(problem, window, j, m, scratch, tables, class_size)
            kept |= turn == 0 and delta < allowed
            if kept:
                break
            # The scratch has kept the old path: back to it.
        if kept:
            write_path(window, j, m, problem.lane[window.block[j]], problem.n_lanes, scratch)
            changed += 1
    return changed


@piece
def _fits(problem, window, t, state, old, size):
    """Whether all tiers of a state have room for the block in slot t, in which it is in state ``old`` now."""
    for k in range(window.held.shape[0]):
        inside = problem.inside[k]
        if inside >> state & 1:
            held = window.held[k, t] + (0.0 if inside >> old & 1 else size)
            if held > problem.capacity[k]:
                return False
    return True


@piece
def _price_slots(problem, window, j, c, y, z, first, size, scratch):
    """Exact cost of a change from y to z in each slot of a cut's lane step from offset ``first`` on, in
    ``scratch.slots``."""
    n_lanes = problem.n_lanes
    lane = problem.lane[window.block[j]]
    own = np.int64(scratch.cut[c]) * n_lanes + lane
    old_y, old_z, old_when = scratch.z_old[c], scratch.z_old[c + 1], scratch.when_old[c]
    out = scratch.slots
    charged = 0.0
    bad_y, bad_z = n_lanes, first  # First slot that y does not fit, and the last that z does not.
    for o in range(max(first, 1), n_lanes):
        old = old_y if o <= old_when else old_z
        if bad_y == n_lanes and not _fits(problem, window, own + o, y, old, size):
            bad_y = o
        if not _fits(problem, window, own + o, z, old, size):
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
        for channel in range(load.shape[1]):
            moved = size * problem.op[0, old_y, old_z, channel] if own_change else 0.0
            load[0, channel] = window.load[t, channel] - moved
        if problem.balanced:
            scratch.either[0] = window.either[t]
        now = time_of(
            load, scratch.either, 0, problem.swap, problem.balanced, window.relaxed.lean, window.relaxed.width, t
        )
        cost = idle_cost(problem, window, load, scratch.either, 0, t, size, y, z, scratch.extra, now)
        out[o] = max(charged, 0.0) + cost


@part(_nrt=False)
def _forward(problem, window, j, q, class_size, m, temperature, cutting, tables, scratch):
    """What all ways to each state at each cut cost together, or the best of them; False where there is none."""
    states, n_lanes = problem.states, problem.n_lanes
    n_states, n_classes = len(states), tables.full.shape[0] - 1
    i = window.block[j]
    size, lane = problem.size[i], problem.lane[i]
    last, loose_begin, loose_end = window.end[j] - 1, window.loose_begin[j], window.loose_end[j]
    written = loose_begin and not problem.prefilled[i]
    # What the loop reads, taken out of the tuples once: numba counts references to what is passed on.
    cut, z_old, when_old, held, load, either, charge, charged = (
        scratch.cut,
        scratch.z_old,
        scratch.when_old,
        window.held,
        window.load,
        window.either,
        window.charge,
        window.charged,
    )
    capacity, inside, kind, reached, way, own_way, stay = (
        problem.capacity,
        problem.inside,
        scratch.kind,
        scratch.reached,
        scratch.way,
        scratch.own,
        scratch.stay,
    )
    step_table, rest_table, read_table, stale, full, anywhere, change, rest = (
        tables.step[q, lane],
        tables.rest[q, lane],
        tables.read[q, lane],
        tables.stale,
        tables.full,
        tables.anywhere,
        scratch.change,
        scratch.rest,
    )
    op, op_price, write, write_price, swap, swappable, priced = tables_of(problem)
    second, balanced, base_load, base_either, extra = (
        problem.second,
        problem.balanced,
        scratch.load,
        scratch.either,
        scratch.extra,
    )
    lean, width = window.relaxed.lean, window.relaxed.width
    every = (1 << n_states) - 1
    bit, by_size = np.uint8(1 << q), size / class_size
    _enter(problem, window, j, size, scratch)
    was_closed = 0  # States that cannot be held throughout what is before.
    for at in range(m):
        n = np.int64(cut[at])
        t = n * n_lanes + lane
        if n == last and not loose_end:
            break  # What happens in its own slot hangs on a lane step beyond the window.
        y_old, x_old = z_old[at], z_old[at + 1]
        if at > 0 or loose_begin:
            shut = _shut(held, capacity, inside, t, y_old, size)
            for z in range(n_states):
                if shut >> z & 1 and shut != every:
                    reached[at, z] = NEVER
        own = kind[n] == READ or (written and at == 0)
        if own:
            read, born = 1 if kind[n] == READ else 0, written and at == 0
            after_old = x_old if n < last and when_old[at] == 0 else y_old
            for c in range(load.shape[1]):
                added = op[read, y_old, after_old, c] + (write[y_old, c] if born else 0.0)
                base_load[0, c] = load[t, c] - size * added
            if balanced:
                base_either[0] = either[t] - (size if read and swappable[y_old] else 0.0)
            now = time_of(base_load, base_either, 0, swap, balanced, lean, width, t)
            for y in range(n_states):
                for z in range(n_states):
                    for c in range(load.shape[1]):
                        extra[c] = op[read, y, z, c] + (write[y, c] if born else 0.0)
                    swapped = read == 1 and swappable[y]
                    longer = (
                        time_with(base_load, base_either, 0, swap, balanced, size, extra, swapped, lean, width, t) - now
                    )
                    cost = second * longer + charge[t, y] * size
                    if priced:
                        cost += size * (op_price[read, y, z] + (write_price[y] if born else 0.0))
                    change[y, z] = cost
        if n == last:
            _leave(problem, window, j, n, size, own, at, scratch)
            break
        # From the lane step after this one up to the next cut the block stays where it is.
        stop, closed_next = np.int64(cut[at + 1]), 0
        long = stop > n + 1
        if long:
            first_slot, stop_slot = t + n_lanes, stop * n_lanes + lane
            for k in range(held.shape[0]):
                row = n_classes if inside[k] >> x_old & 1 else q
                if lacks_room_between(full, anywhere, row, k, n + 1, stop, lane, n_lanes):
                    closed_next |= inside[k]
            for z in range(n_states):
                stay[z] = 0.0
            if kind[n + 1] == READ:
                for step in range(n + 1, stop):
                    slot = step * n_lanes + lane
                    if stale[slot] & bit:
                        stale[slot] &= ~bit
                        reprice_read(
                            problem,
                            load,
                            either,
                            slot,
                            class_size,
                            base_load,
                            base_either,
                            extra,
                            lean,
                            width,
                            read_table[step],
                        )
                    for z in range(n_states):
                        stay[z] += read_table[step, n_states * x_old + z]
            for z in range(n_states):
                stay[z] = by_size * stay[z] + size * (charged[stop_slot, z] - charged[first_slot, z])
                if closed_next >> z & 1:
                    stay[z] = NEVER
        closed = 0
        for k in range(held.shape[0]):
            row = n_classes if inside[k] >> y_old & 1 and inside[k] >> x_old & 1 else q
            if lacks_room(full, row, k, n, lane, n_lanes):
                closed |= inside[k]
        special = y_old != x_old and not (own and when_old[at] == 0)
        if closed and not special:
            # In a tier that is full at times a block can only come or go; that matters where it can stay before or
            # afterwards.
            shut = _shut(held, capacity, inside, t + n_lanes, x_old, size)
            if not long and n + 1 < last:
                for k in range(held.shape[0]):
                    row = n_classes if inside[k] >> x_old & 1 and inside[k] >> z_old[at + 2] & 1 else q
                    if lacks_room(full, row, k, n + 1, lane, n_lanes):
                        closed_next |= inside[k]
            coming = closed & ~shut & ~closed_next
            going = 0
            for z in range(n_states):
                if closed >> z & 1 and not was_closed >> z & 1 and reached[at, z] < NEVER:
                    going = 1
            special = coming != 0 or (cutting.linger and going != 0)
        was_closed = closed_next if long else closed
        scratch.special[at] = special
        if special:
            # Slot by slot: with what changes in the ones so far, and then staying.
            for y in range(n_states):
                for z in range(n_states):
                    rest[n_states * y + z] = 0.0 if y == z else NEVER
            for o in range(1 if own else 0, n_lanes):
                s = t + o
                here_old = y_old if o <= when_old[at] else x_old
                moves = y_old != x_old and o == when_old[at]
                shut = 0 if o == 0 else _shut(held, capacity, inside, s, here_old, size)
                for c in range(load.shape[1]):
                    base_load[0, c] = load[s, c] - (size * op[0, y_old, x_old, c] if moves else 0.0)
                if balanced:
                    base_either[0] = either[s]
                now = time_of(base_load, base_either, 0, swap, balanced, lean, width, s)
                for z in range(n_states):
                    held_here = NEVER if shut >> z & 1 else charge[s, z] * size
                    for y in range(n_states):
                        rest[n_states * y + z] += held_here
                for y in range(n_states):
                    for z in range(n_states):
                        if y != z and not shut >> y & 1:
                            for c in range(load.shape[1]):
                                extra[c] = op[0, y, z, c]
                            longer = (
                                time_with(base_load, base_either, 0, swap, balanced, size, extra, False, lean, width, s)
                                - now
                            )
                            cost = second * longer + size * op_price[0, y, z]
                            cost += rest[(n_states + 1) * y]
                            rest[n_states * y + z] = together(rest[n_states * y + z], cost, temperature)
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
        if long:
            for y in range(n_states):
                for z in range(n_states):
                    rest[n_states * y + z] += stay[z]
        for y in range(n_states):
            for z in range(n_states):
                p = n_states * y + z
                if not own:
                    way[at, p] = rest[p]
                elif y == z:
                    own_way[at, p] = NEVER
                    way[at, p] = change[y, y] + rest[p]
                else:
                    own_way[at, p] = change[y, z] + rest[(n_states + 1) * z]
                    way[at, p] = together(own_way[at, p], change[y, y] + rest[p], temperature)
        best = NEVER
        for z in range(n_states):
            total = NEVER
            for y in range(n_states):
                total = together(total, reached[at, y] + way[at, n_states * y + z], temperature)
            reached[at + 1, z] = total
            best = min(best, total)
        if best >= NEVER:
            return False
    return True


@piece
def _shut(held, capacity, inside, t, old, size):
    """States for which some tier has no room in slot t, as bits, the block being in state ``old`` there now."""
    shut = 0
    for k in range(held.shape[0]):
        if held[k, t] + (0.0 if inside[k] >> old & 1 else size) > capacity[k]:
            shut |= inside[k]
    return shut


@piece
def _leave(problem, window, j, n, size, own, at, scratch):
    """Weigh the block's last lane step n, of its last cut, in which it stays in its state."""
    t, reached = n * problem.n_lanes + problem.lane[window.block[j]], scratch.reached
    for z in range(len(problem.states)):
        reached[at, z] += scratch.change[z, z] if own else window.charge[t, z] * size
        for later in range(t + 1, closing(problem, window, j, n)):
            if not _fits(problem, window, later, z, scratch.z_old[at], size):
                reached[at, z] = NEVER


@piece
def _enter(problem, window, j, size, scratch):
    """What it costs to be in each state in the block's first own slot of the window."""
    lane, reached = problem.lane[window.block[j]], scratch.reached[0]
    for z in range(len(problem.states)):
        if not window.loose_begin[j]:
            reached[z] = 0.0 if z == scratch.z_old[0] else NEVER
            continue
        cost, fits = 0.0, True
        if not born_in(problem, window, j):
            # There since slot 0.
            for t in range(lane):
                cost += window.charge[t, z] * size
                fits = fits and _fits(problem, window, t, z, scratch.z_old[0], size)
        reached[z] = cost if fits else NEVER


@part(_nrt=False)
def _backward(problem, window, j, q, m, temperature, tables, scratch, rng):
    """Draw or trace back the path into the scratch.

    Returns
    -------
    int
        -1 where there is no way, 0 where the path is the old one, 1 where it is another.
    """
    n_states, reached, way = len(problem.states), scratch.reached, scratch.way
    z_old, when_old, new_z, new_when = scratch.z_old, scratch.when_old, scratch.z, scratch.when
    new_z[m - 1], new_z[m] = z_old[m - 1], z_old[m]
    new_when[m - 1] = when_old[m - 1]
    z = np.int64(z_old[m - 1])
    if window.loose_end[j]:
        z = _choose(reached, m - 1, way, -1, z, n_states, temperature, rng)
        new_z[m - 1] = new_z[m] = z
    elif reached[m - 1, z] >= NEVER:
        return -1
    different = 1 if z != z_old[m - 1] else 0
    for at in range(m - 2, -1, -1):
        if z < 0:
            return -1
        y = _choose(reached, at, way, z, np.int64(z_old[at]), n_states, temperature, rng)
        new_z[at], new_when[at] = y, 0
        if y != z and y >= 0:
            new_when[at] = _choose_slot(problem, window, j, q, at, y, z, temperature, tables, scratch, rng)
            different |= new_when[at] != when_old[at]
        different |= y != z_old[at]
        z = y
    return -1 if z < 0 else different


@piece
def _choose(reached, n, way, z, old, n_states, temperature, rng):
    """A state at cut n on the way to z (to any, if z < 0), drawn by its Boltzmann weight; or the best, ``old``
    among equals; -1 where none is possible."""
    best, least = np.int64(-1), NEVER
    for y in range(n_states):
        cost = reached[n, y] + (way[n, n_states * y + z] if z >= 0 else 0.0)
        if cost < least or (cost == least and y == old):
            best, least = np.int64(y), cost
    if temperature <= 0.0 or best < 0:
        return best
    total = 1.0
    for y in range(n_states):
        above = reached[n, y] + (way[n, n_states * y + z] if z >= 0 else 0.0) - least
        if y != best and above < NEGLIGIBLE * temperature:
            total += math.exp(-above / temperature)
    if total == 1.0:
        return best
    r = uniform(rng) * total - 1.0
    if r < 0.0:
        return best
    found = best
    for y in range(n_states):
        above = reached[n, y] + (way[n, n_states * y + z] if z >= 0 else 0.0) - least
        if y != best and above < NEGLIGIBLE * temperature:
            found = np.int64(y)
            r -= math.exp(-above / temperature)
            if r < 0.0:
                break
    return found


@part(_nrt=False)
def _choose_slot(problem, window, j, q, at, y, z, temperature, tables, scratch, rng):
    """In which slot of a cut's lane step the block changes from y to z, as slots after its own.

    Drawn by the tables where the cut was priced by them. Among equal costs the old one, else the latest to a faster
    tier and the earliest to a slower one.
    """
    n_states, n_lanes = len(problem.states), problem.n_lanes
    p = n_states * y + z
    size = problem.size[window.block[j]]
    first = 0
    if scratch.kind[scratch.cut[at]] == READ or (at == 0 and born_in(problem, window, j)):
        first = 1
        own, way = scratch.own[at, p], scratch.way[at, p]
        if n_lanes == 1 or (own <= way if temperature <= 0.0 else uniform(rng) < math.exp((way - own) / temperature)):
            return 0
    if n_lanes == 1:
        return 0
    if temperature > 0.0 and not scratch.special[at]:
        n, lane = np.int64(scratch.cut[at]), problem.lane[window.block[j]]
        return _draw_slot(tables.after, tables.before, q, n, lane, first, p, temperature, rng)
    _price_slots(problem, window, j, at, y, z, first, size, scratch)
    slots = scratch.slots
    best = first
    for o in range(first, n_lanes):
        if slots[o] < slots[best] or (slots[o] == slots[best] and z < y):
            best = o
    if temperature <= 0.0:
        same = scratch.z_old[at] == y and scratch.z_old[at + 1] == z
        old = np.int64(scratch.when_old[at])
        return old if same and old >= first and slots[old] == slots[best] else best
    least, total = slots[best], 0.0
    for o in range(first, n_lanes):
        slots[o] = math.exp((least - slots[o]) / temperature)
        total += slots[o]
    r = uniform(rng) * total
    for o in range(first, n_lanes):
        if slots[o] > 0.0:
            best = o
            r -= slots[o]
            if r < 0.0:
                break
    return best


@piece
def _draw_slot(after, before, q, n, lane, first, p, temperature, rng):
    """A slot of the change p in a lane step, drawn by the tables' free energies: its distance from the own one.

    The free energy of all slots from one on rises with that slot, and that of a uniform share of all is its own less
    the temperature times the share's logarithm: so the slot is found by bisection.
    """
    n_lanes = after.shape[2] - 1
    early, late = after[q, n, lane + first, p], before[q, n + 1, lane, p]
    share = uniform(rng)
    if share * (1.0 + math.exp(min((early - late) / temperature, 700.0))) < 1.0:
        most = early - temperature * math.log(max(uniform(rng), _LEAST_SHARE))
        low, high = lane + first, n_lanes
        while high - low > 1:
            middle = (low + high) >> 1
            if after[q, n, middle, p] <= most:
                low = middle
            else:
                high = middle
        return low - lane
    most = late - temperature * math.log(max(uniform(rng), _LEAST_SHARE))
    low, high = 0, lane
    while high - low > 1:
        middle = (low + high) >> 1
        if before[q, n + 1, middle, p] <= most:
            high = middle
        else:
            low = middle
    return n_lanes - lane + high - 1


@piece
def _overfull(window, j, anywhere):
    """Whether the block may be in a tier that holds too much."""
    for k in range(anywhere.shape[1]):
        if any_step(anywhere[-1, k], np.int64(window.begin[j]), np.int64(window.end[j])):
            return True
    return False
