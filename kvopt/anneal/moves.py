"""Moves of the annealer: one block's whole path, drawn at a temperature or optimised; and the textbook single flip.

*Whole-path resampling* takes a block out, prices every slot of its life by the exact change of the slot's time, and
draws its path from the Boltzmann distribution of those changes by forward filtering and backward sampling: a
heat-bath move over S^(life) neighbours at once, never rejected. At temperature 0 the same recursion in (min, +) gives
the block's best path. Where the objective is no sum over slots, both are proposals: :mod:`kvopt.anneal.steps`.

Capacity is hard: a state that would overfill a tier in a slot has weight 0, so a chain that starts overfull is
feasible after one sweep. Early on, a rent on the tiers (the dual's capacity prices, faded out as the chain cools)
keeps room free for blocks that need it more.
"""

from __future__ import annotations

import math

import numpy as np

from kvopt.anneal.state import add_held, add_op, add_write, cost_of_steps, pair, refresh_slot, slot_time, slot_time_with
from kvopt.jit import njit, part, piece, tuple_setitem
from kvopt.trellis import rows
from kvopt.trellis.rng import uniform

_LEAST_WEIGHT = 1e-290
_MOST_COST = 300.0
"""Costs of one slot count at most this many temperatures. A state then weighs at least exp(-600) of the other, the
price of a move and a rent, which a double still holds; were it to underflow, a path could enter it without paying. So
temperatures far below 1/300 of a slot's dearest change order paths wrongly, and schedules stay above that."""
_NEVER = 1e30
_SURE = 1e-14
"""Odds below which an alternative is not worth a random number."""


@njit(cache=True, nogil=True, _nrt=False)
def shuffle(order, rng):
    """Fisher and Yates, in place."""
    for i in range(order.shape[0] - 1, 0, -1):
        j = int(uniform(rng) * (i + 1))
        order[i], order[j] = order[j], order[i]


@part(_nrt=False)
def _block(problem, state, i, blocked):
    """blocked[t - birth] = the states that block i, now taken out, must not have, as bits: some tier has no room.

    Where no state has, which only a placement that was infeasible from the start allows, all are admitted.
    """
    birth, life, size = problem.birth[i], problem.death[i] - problem.birth[i], problem.size[i]
    every = (1 << len(problem.states)) - 1
    rows.fill(blocked, 0, life, 0)
    for k in range(problem.capacity.shape[0]):
        held, room, inside = state.held[k], problem.capacity[k] - size, np.uint16(problem.inside[k])
        for j in range(life):
            if held[birth + j] > room:
                blocked[j] |= inside
    if problem.capacity.shape[0] > 1:
        for j in range(life):
            if blocked[j] == every:
                blocked[j] = 0
    if problem.initial[i] >= 0:
        blocked[0] = every - (1 << problem.initial[i])


@part(_nrt=False)
def _changes(states, tables, load, either, second, t, size, read, born, extra, out):
    """Exact cost in slot t of each pair of states of a block of this size, now taken out: out[z, z'].

    ``tables`` are of the problem; ``extra`` float64[C] is room to work in.
    """
    op, op_price, write, write_price, swap, swappable, priced = tables
    now = slot_time(load, either, swap, t)
    for z in range(len(states)):
        swapped = read == 1 and swappable[z]
        for after in range(len(states)):
            for c in range(extra.shape[0]):
                extra[c] = op[read, z, after, c] + (write[z, c] if born else 0.0)
            cost = second[t] * (slot_time_with(load, either, swap, t, size, extra, swapped) - now)
            if priced:
                cost += size * (op_price[read, z, after] + (write_price[z] if born else 0.0))
            out[z, after] = cost


@njit(cache=True, nogil=True, inline="always")
def tables_of(problem):
    """Take what prices a block's changes in a slot out of the problem.

    Returns arrays, which a piece must not.
    """
    return (
        problem.op,
        problem.op_price,
        problem.write,
        problem.write_price,
        problem.swap,
        problem.swappable,
        problem.priced,
    )


@piece
def _weight(cost, temperature):
    """Boltzmann weight of a cost, kept away from underflow."""
    return math.exp(-min(cost / temperature, _MOST_COST))


@part(_nrt=False)
def mark(problem, i, kind):
    """kind[t - birth] = 0 where block i is idle, 1 where idle but new, 2 where read."""
    birth = problem.birth[i]
    rows.fill(kind, 0, problem.death[i] - birth, 0)
    if not problem.prefilled[i]:
        kind[0] = 1
    for run in range(problem.run_ptr[i], problem.run_ptr[i + 1]):
        for n in range(problem.run_start[run], problem.run_stop[run]):
            kind[n * problem.n_lanes + problem.lane[i] - birth] = 2


@part(_nrt=False)
def shift(problem, state, i, sign, kind, temperature, weights):
    """Add block i (sign 1) or take it out (-1); returns nothing, brings caches and weights up to date.

    Taken out, slots it is read or born in keep stale caches: they are priced directly while it is out, and put right
    when it comes back. ``weights`` may have no rows where none are kept.
    """
    amount = sign * problem.size[i]
    birth, life = problem.birth[i], problem.death[i] - problem.birth[i]
    cell = problem.cell[i] + birth
    states, swap, swappable = state.z, problem.swap, problem.swappable
    priced, price, idle_price = problem.priced, state.price, problem.idle_price
    load, either, second, idle, op, op_price = (
        state.load,
        state.either,
        state.second,
        state.idle,
        problem.op,
        problem.op_price,
    )
    every, class_size, balanced = problem.states, problem.class_size, problem.balanced
    for k in range(problem.capacity.shape[0]):
        held, inside = state.held[k], problem.inside[k]
        for j in range(life):
            if inside >> states[cell + j] & 1:
                held[birth + j] += amount
    here = states[cell]
    if not problem.prefilled[i]:
        add_write(problem, state, birth, here, amount)
    for j in range(life):
        after = states[cell + j + 1] if j + 1 < life else here
        if priced:
            price[0] += amount * idle_price[here]
        what = kind[j]
        if what != 0 or here != after:
            t, read = birth + j, 1 if what == 2 else 0
            for c in range(load.shape[1]):
                load[t, c] += amount * op[read, here, after, c]
            if priced:
                price[0] += amount * op_price[read, here, after]
            if balanced and read == 1 and swappable[here]:
                either[t] += amount
            if what == 0 or sign > 0:
                refresh_slot(every, op, op_price, class_size, swap, load, either, second, idle, t)
                _reweigh(every, idle, t, temperature, weights)
        here = after


@part(_nrt=False)
def _reweigh(states, idle, t, temperature, weights):
    """Recompute the weights of slot t."""
    n_states = len(states)
    for q in range(weights.shape[0]):
        for z in range(n_states):
            for after in range(n_states):
                if after != z:
                    cost = idle[q, t, pair(n_states, z, after)]
                    weights[q, t, after, z] = weights[q, t, z, z] * _weight(cost, temperature)


@njit(cache=True, nogil=True)
def above_least(problem, rent):
    """float64[T, S]: what a byte is charged for being in each state, less the least of the slot's.

    So no charge is below 0: weights above 1 would overflow when multiplied.
    """
    charge = np.empty(rent.shape)
    for t in range(charge.shape[0]):
        least = np.inf
        for z in range(charge.shape[1]):
            charge[t, z] = rent[t, z] + problem.idle_price[z]
            least = min(least, charge[t, z])
        for z in range(charge.shape[1]):
            charge[t, z] -= least
    return charge


@part
def idle_weights(problem, state, charge, temperature):
    """float64[Q, T, S, S]: Boltzmann weights of what an idle block of each class does in each slot, [z', z] for coming
    to z' from z: of what the slot charges for z, times that of the change."""
    n_states, n_slots = len(problem.states), state.load.shape[0]
    found = np.empty((problem.class_size.shape[0], n_slots, n_states, n_states))
    for t in range(n_slots):
        for q in range(found.shape[0]):
            for z in range(n_states):
                found[q, t, z, z] = _weight(charge[t, z] * problem.class_size[q], temperature)
        _reweigh(problem.states, state.idle, t, temperature, found)
    return found


@part
def path_room(problem, state):
    """Room to work out a path in: uint16[T], float64[S, S], float64[C]."""
    n_states = len(problem.states)
    n_slots, n_channels = state.load.shape
    return np.empty(n_slots, np.uint16), np.empty((n_states, n_states)), np.empty(n_channels)


@njit(cache=True, nogil=True)
def resample_sweep(problem, state, order, temperature, rent, rng):
    """Draw the path of every block in ``order`` anew.

    Parameters
    ----------
    temperature : float
        In the objective's unit, greater than 0.
    rent : float64[T, S]
        What a byte is charged for being in each state in each slot.
    rng : uint64[1]
    """
    n_slots, n_states = state.load.shape[0], len(problem.states)
    charge = above_least(problem, rent)
    weights = idle_weights(problem, state, charge, temperature)
    kind = np.empty(n_slots, np.uint8)
    weight, forward = np.empty((n_slots, n_states, n_states)), np.empty((n_slots, n_states))
    room = path_room(problem, state)
    for i in order:
        mark(problem, i, kind)
        shift(problem, state, i, -1.0, kind, temperature, weights)
        filter_forward(problem, state, i, kind, temperature, charge, weights, weight, forward, room)
        draw_path(problem, state, i, weight, forward, rng)
        shift(problem, state, i, 1.0, kind, temperature, weights)


@part(_nrt=False)
def filter_forward(problem, state, i, kind, temperature, charge, weights, weight, forward, room):
    """Forward filtering: fill the weights of each slot's transitions, and of reaching each state before it.

    ``room`` is as :func:`path_room` makes it.
    """
    birth, life, size, q = problem.birth[i], problem.death[i] - problem.birth[i], problem.size[i], problem.size_class[i]
    n_states = len(problem.states)
    tables, load, either, second = tables_of(problem), state.load, state.either, state.second
    blocked, change, extra = room
    _block(problem, state, i, blocked)
    reached, row = problem.states, np.uint64(max(q, 0))
    for j in range(life):
        t = np.uint64(birth + j)  # Unsigned, or numba tests every index for counting from the end.
        for z in range(n_states):
            forward[j, z] = reached[z]
        if kind[j] == 0 and q >= 0:
            for after in range(n_states):
                for z in range(n_states):
                    weight[j, after, z] = weights[row, t, after, z]
        else:
            read, born = 1 if kind[j] == 2 else 0, j == 0 and not problem.prefilled[i]
            _changes(problem.states, tables, load, either, second, t, size, read, born, extra, change)
            for z in range(n_states):
                own = weights[row, t, z, z] if q >= 0 else _weight(charge[t, z] * size, temperature)
                for after in range(n_states):
                    weight[j, after, z] = own * _weight(change[z, after], temperature)
        shut = blocked[j]
        if shut:
            for z in range(n_states):
                if shut >> z & 1:
                    for after in range(n_states):
                        weight[j, after, z] = 0.0
        before, total = reached, 0.0
        for after in range(n_states):
            weigh = 0.0
            for z in range(n_states):
                weigh += before[z] * weight[j, after, z]
            # A state that underflows must stay reachable: the others may be forbidden further on.
            reached = tuple_setitem(reached, after, max(weigh, _LEAST_WEIGHT))
            total += weigh
        if total < 1e-100:
            largest = max(reached)
            for z in range(n_states):
                reached = tuple_setitem(reached, z, max(reached[z] / largest, _LEAST_WEIGHT))


@part(_nrt=False)
def draw_path(problem, state, i, weight, forward, rng):
    """Backward sampling: draw the block's states, last slot first."""
    life, n_states, states = problem.death[i] - problem.birth[i], len(problem.states), state.z
    cell = problem.cell[i] + problem.birth[i]
    # Nothing follows the last slot: a block stays there, whatever its state.
    for z in range(n_states):
        for a in range(n_states):
            weight[life - 1, a, z] = weight[life - 1, z, z]
    z = n_states - 1
    for left in range(life, 0, -1):
        j = np.uint64(left - 1)
        stays, leaves = 0.0, 0.0
        for a in range(n_states):
            if a == z:
                stays = forward[j, a] * weight[j, z, a]
            else:
                leaves += forward[j, a] * weight[j, z, a]
        if leaves > _SURE * stays:
            r = uniform(rng) * (stays + leaves)
            if r < leaves:
                z = _other(forward, weight, j, z, r)
        elif stays == 0.0 and weight[j, z, z] == 0.0:
            # All underflow: go wherever the slot admits the block, the state it has for preference.
            z = _likeliest(forward, weight, j, z)
        states[cell + left - 1] = z


@part(_nrt=False)
def _other(forward, weight, j, z, r):
    """The state other than z at which the sum of weights exceeds r."""
    found = z
    for a in range(forward.shape[1]):
        own = forward[j, a] * weight[j, z, a]
        if a != z and own > 0.0:
            found = a
            r -= own
            if r < 0.0:
                break
    return found


@part(_nrt=False)
def _likeliest(forward, weight, j, z):
    """The admitted state that is reached most easily; z where none is."""
    best = -1.0
    for a in range(forward.shape[1]):
        if weight[j, a, a] > 0.0 and forward[j, a] > best:
            z, best = a, forward[j, a]
    return z


@njit(cache=True, nogil=True)
def shift_path(problem, state, i, path):
    """Put block i on a given path."""
    kind, none = np.empty(path.shape[0], np.uint8), np.empty((0, 0, 0, 0))
    cell = problem.cell[i] + problem.birth[i]
    mark(problem, i, kind)
    shift(problem, state, i, -1.0, kind, 1.0, none)
    rows.copy_range(path, 0, path.shape[0], state.z, cell)
    shift(problem, state, i, 1.0, kind, 1.0, none)


@njit(cache=True, nogil=True)
def improve_sweep(problem, state, order, rent):
    """Give every block in ``order`` its best path, all others fixed; returns how many paths changed.

    The objective, a sum over slots, never rises. Ties keep a block in the state it has, so that a sweep without gain
    changes nothing.
    """
    n_slots, n_states = state.load.shape[0], len(problem.states)
    charge = above_least(problem, rent)
    kind = np.empty(n_slots, np.uint8)
    came_from = np.empty((n_slots + 1, n_states), np.uint8)
    none = np.empty((0, n_slots, n_states, n_states))
    here, reached, room, changed = np.empty(n_states), np.empty(n_states), path_room(problem, state), 0
    for i in order:
        mark(problem, i, kind)
        shift(problem, state, i, -1.0, kind, 1.0, none)
        changed += best_path(problem, state, i, kind, charge, came_from, here, reached, room)
        shift(problem, state, i, 1.0, kind, 1.0, none)
    return changed


@part(_nrt=False)
def best_path(problem, state, i, kind, charge, came_from, here, reached, room):
    """Give block i, now taken out, its best path; returns whether it is another than before.

    ``room`` is as :func:`path_room` makes it; ``here`` and ``reached``, float64[S], are room to work in, too.
    """
    birth, life, size, q = problem.birth[i], problem.death[i] - problem.birth[i], problem.size[i], problem.size_class[i]
    states, idle = state.z, state.idle
    cell, n_states = problem.cell[i] + birth, len(problem.states)
    tables, load, either, second = tables_of(problem), state.load, state.either, state.second
    blocked, change, extra = room
    _block(problem, state, i, blocked)
    for z in range(n_states):
        reached[z] = 0.0
    for j in range(life):
        t = np.uint64(birth + j)
        if kind[j] == 0 and q >= 0:
            for z in range(n_states):
                for after in range(n_states):
                    change[z, after] = 0.0 if after == z else idle[q, t, pair(n_states, z, after)]
        else:
            read, born = 1 if kind[j] == 2 else 0, j == 0 and not problem.prefilled[i]
            _changes(problem.states, tables, load, either, second, t, size, read, born, extra, change)
        for z in range(n_states):
            here[z] = reached[z] + (_NEVER if blocked[j] >> z & 1 else charge[t, z] * size)
        if j == life - 1:
            for z in range(n_states):
                reached[z] = here[z] + change[z, z]
            break
        old = states[cell + j]
        for after in range(n_states):
            best, least = np.int64(old), here[old] + change[old, after]
            for z in range(n_states):
                if here[z] + change[z, after] < least:
                    best, least = z, here[z] + change[z, after]
            came_from[j + 1, after], reached[after] = best, least
    z = np.int64(states[cell + life - 1])
    for a in range(n_states):
        if reached[a] < reached[z]:
            z = a
    different = False
    for j in range(life - 1, -1, -1):
        different = different or states[cell + j] != z
        states[cell + j] = z
        if j > 0:
            z = np.int64(came_from[j, z])
    return different


@njit(cache=True, nogil=True)
def flip_sweep(problem, state, flips, temperature, rng):
    """The textbook move: another state for one block in one slot, by Metropolis; returns how many were accepted.

    Parameters
    ----------
    flips : int
        Proposals.
    temperature : float
        In the objective's unit, greater than 0.
    rng : uint64[1]
    """
    n_blocks, n_states = problem.size.shape[0], len(problem.states)
    n_channels = state.load.shape[1]
    load, either = np.empty((2, n_channels)), np.zeros(2)
    step_s = rows.resized(state.step_s, state.step_s.shape[0])
    accepted = 0
    for _ in range(flips):
        i = int(uniform(rng) * n_blocks)
        birth, death, cell, size = problem.birth[i], problem.death[i], problem.cell[i], problem.size[i]
        t = birth + int(uniform(rng) * (death - birth))
        old = state.z[cell + t]
        z = (old + 1 + (int(uniform(rng) * (n_states - 1)) if n_states > 2 else 0)) % n_states
        if (t == birth and problem.initial[i] >= 0) or _overfills(problem, state, t, size, old, z):
            continue
        first = max(t - 1, birth)
        price, delta = state.price[0], 0.0
        for s in range(first, t + 1):
            rows.copy(state.load[s], load[s - first])
            if problem.balanced:
                either[s - first] = state.either[s]
            delta -= state.second[s] * slot_time(state.load, state.either, problem.swap, s)
            if problem.stepwise:
                step_s[s // problem.n_lanes] -= slot_time(state.load, state.either, problem.swap, s)
            _add_cell(problem, state, i, s, -1.0)
        state.z[cell + t] = z
        for s in range(first, t + 1):
            _add_cell(problem, state, i, s, 1.0)
            delta += state.second[s] * slot_time(state.load, state.either, problem.swap, s)
            if problem.stepwise:
                step_s[s // problem.n_lanes] += slot_time(state.load, state.either, problem.swap, s)
        if problem.stepwise:
            delta = cost_of_steps(problem, step_s) - cost_of_steps(problem, state.step_s)
        delta += state.price[0] - price
        if delta <= 0.0 or uniform(rng) < math.exp(-delta / temperature):
            accepted += 1
            add_held(problem, state, t, old, -size)
            add_held(problem, state, t, z, size)
        else:
            state.z[cell + t], state.price[0] = old, price
            for s in range(first, t + 1):
                rows.copy(load[s - first], state.load[s])
                if problem.balanced:
                    state.either[s] = either[s - first]
        if problem.stepwise:
            for s in range(first, t + 1):
                n = s // problem.n_lanes
                if state.z[cell + t] == old:
                    step_s[n] = state.step_s[n]
                else:
                    state.step_s[n] = step_s[n]
    return accepted


@part(_nrt=False)
def _overfills(problem, state, t, size, old, z):
    """Whether a block would exceed the capacity of a tier that it enters."""
    for k in range(problem.capacity.shape[0]):
        enters = problem.inside[k] >> z & 1 and not problem.inside[k] >> old & 1
        if enters and state.held[k, t] + size > problem.capacity[k]:
            return True
    return False


@part(_nrt=False)
def _add_cell(problem, state, i, t, sign):
    """Add or remove what block i does in slot t alone, occupancy aside."""
    cell, amount = problem.cell[i], sign * problem.size[i]
    here = state.z[cell + t]
    after = state.z[cell + t + 1] if t + 1 < problem.death[i] else here
    read = 0
    step, lane = t // problem.n_lanes, t % problem.n_lanes
    if lane == problem.lane[i]:
        low, high = problem.run_ptr[i], problem.run_ptr[i + 1]
        run = rows.first_above(problem.run_stop, low, high, step)
        if run < high and problem.run_start[run] <= step:
            read = 1
    if t == problem.birth[i] and not problem.prefilled[i]:
        add_write(problem, state, t, here, amount)
    add_op(problem, state, t, read, here, after, amount)
    state.price[0] += amount * problem.idle_price[here]
