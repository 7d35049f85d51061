"""Moves of the annealer: one block's whole path, drawn at a temperature or optimised; and the textbook single flip.

*Whole-path resampling* takes a block out, prices every slot of its life by the exact change of the slot's time, and
draws its path from the Boltzmann distribution of those changes by forward filtering and backward sampling: a
heat-bath move over 2^(life) neighbours at once, never rejected. At temperature 0 the same recursion in (min, +) gives
the block's best path.

Capacity is hard: a state that would overfill a tier in a slot has weight 0, so a chain that starts overfull is
feasible after one sweep. Early on, a rent on the fast tier (the dual's capacity prices, faded out as the chain cools)
keeps room free for blocks that need it more.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from kvopt.anneal.state import refresh, slot_time, slot_time_with
from kvopt.lowering import BACKING, FAST
from kvopt.trellis.rng import uniform

_LEAST_WEIGHT = 1e-290
_MOST_COST = 300.0
"""Costs of one slot count at most this many temperatures. A state then weighs at least exp(-600) of the other, the
price of a move and a rent, which a double still holds; were it to underflow, a path could enter it without paying. So
temperatures far below 1/300 of a slot's dearest change order paths wrongly, and schedules stay above that."""
_NEVER = 1e30
_SURE = 1e-14
"""Odds below which an alternative is not worth a random number."""


@njit(cache=True, nogil=True)
def shuffle(order, rng):
    """Fisher and Yates, in place."""
    for i in range(order.shape[0] - 1, 0, -1):
        j = int(uniform(rng) * (i + 1))
        order[i], order[j] = order[j], order[i]


@njit(cache=True, nogil=True)
def _allowed(problem, held, t, size):
    """Whether a block of this size, now taken out, may be in the fast and in the backing tier in slot t.

    Where neither fits, which only a placement that was infeasible from the start allows, both are admitted.
    """
    fast = held[t] + size <= problem.most_fast
    backing = held[t] >= problem.least_fast[t]
    if not fast and not backing:
        return True, True
    return fast, backing


@njit(cache=True, nogil=True)
def _changes(problem, state, i, t, read, extra, out):
    """Exact change of slot t's time for each pair of states of block i, now taken out: out[2 * z + z'].

    ``extra`` float64[C] is room to work in.
    """
    now = slot_time(state.load, t)
    born = t == problem.birth[i] and not problem.prefilled[i]
    for z in range(2):
        for after in range(2):
            for c in range(extra.shape[0]):
                extra[c] = problem.op[read, z, after, c] + (problem.write[z, c] if born else 0.0)
            out[2 * z + after] = slot_time_with(state.load, t, problem.size[i], extra) - now


@njit(cache=True, nogil=True, inline="always")
def _weight(cost, temperature):
    """Boltzmann weight of a cost, kept away from underflow."""
    return math.exp(-min(cost / temperature, _MOST_COST))


@njit(cache=True, nogil=True)
def _mark(problem, i, kind):
    """kind[t - birth] = 0 where block i is idle, 1 where idle but new, 2 where read."""
    birth = problem.birth[i]
    kind[: problem.death[i] - birth] = 0
    if not problem.prefilled[i]:
        kind[0] = 1
    for run in range(problem.run_ptr[i], problem.run_ptr[i + 1]):
        for n in range(problem.run_start[run], problem.run_stop[run]):
            kind[n * problem.n_lanes + problem.lane[i] - birth] = 2


@njit(cache=True, nogil=True)
def _shift(problem, state, i, sign, kind, temperature, up_weight, down_weight):
    """Add block i (sign 1) or take it out (-1); returns nothing, brings caches and weights up to date.

    Taken out, slots it is read or born in keep stale caches: they are priced directly while it is out, and put right
    when it comes back. ``up_weight`` and ``down_weight`` may have no rows where none are kept.
    """
    load, op, write = state.load, problem.op, problem.write
    amount = sign * problem.size[i]
    birth, life = problem.birth[i], problem.death[i] - problem.birth[i]
    cell = problem.cell[i] + birth
    here = state.z[cell]
    for j in range(life):
        t = birth + j
        after = state.z[cell + j + 1] if j + 1 < life else here
        if here == FAST:
            state.held[t] += amount
        what = kind[j]
        if what != 0 or here != after:
            read = 1 if what == 2 else 0
            born = j == 0 and not problem.prefilled[i]
            for c in range(load.shape[1]):
                load[t, c] += amount * (op[read, here, after, c] + (write[here, c] if born else 0.0))
            if what == 0 or sign > 0:
                refresh(problem, state, t)
                for k in range(up_weight.shape[0]):
                    up_weight[k, t] = _weight(state.up[k, t], temperature)
                    down_weight[k, t] = _weight(state.down[k, t], temperature)
        here = after


@njit(cache=True, nogil=True)
def resample_sweep(problem, state, order, temperature, rent, rng):
    """Draw the path of every block in ``order`` anew.

    Parameters
    ----------
    temperature : float
        Seconds, greater than 0.
    rent : float64[T]
        Seconds a byte in the fast tier is charged in each slot.
    rng : uint64[1]
    """
    n_slots = state.load.shape[0]
    classes = problem.class_size.shape[0]
    # Weights of the idle moves, kept beside the caches they are computed from.
    up_weight = np.exp(-np.minimum(state.up / temperature, _MOST_COST))
    down_weight = np.exp(-np.minimum(state.down / temperature, _MOST_COST))
    # Weights must not exceed 1, or products of them overflow: a rent below 0 is charged to the backing tier.
    rent = rent + problem.hold
    rent_weight, stay_weight = np.empty((classes, n_slots)), np.empty((classes, n_slots))
    for k in range(classes):
        cost = np.maximum(np.minimum(rent * problem.class_size[k] / temperature, _MOST_COST), -_MOST_COST)
        rent_weight[k], stay_weight[k] = np.exp(-np.maximum(cost, 0.0)), np.exp(np.minimum(cost, 0.0))
    kind = np.empty(n_slots, np.uint8)
    weight, forward = np.empty((n_slots, 4)), np.empty((n_slots, 2))
    for i in order:
        _mark(problem, i, kind)
        _shift(problem, state, i, -1.0, kind, temperature, up_weight, down_weight)
        held_weight = (rent_weight, stay_weight)
        _filter(problem, state, i, kind, temperature, rent, up_weight, down_weight, held_weight, weight, forward)
        _draw_path(problem, state, i, weight, forward, rng)
        _shift(problem, state, i, 1.0, kind, temperature, up_weight, down_weight)


@njit(cache=True, nogil=True)
def _filter(problem, state, i, kind, temperature, rent, up_weight, down_weight, held_weight, weight, forward):
    """Forward filtering: fill the weights of each slot's four transitions and of reaching each state."""
    birth, life, size, k = problem.birth[i], problem.death[i] - problem.birth[i], problem.size[i], problem.size_class[i]
    change, extra = np.empty(4), np.empty(state.load.shape[1])
    p0, p1 = 1.0, 1.0
    for j in range(life):
        t = birth + j
        if kind[j] == 0 and k >= 0:
            w0, w1, w2, w3 = 1.0, down_weight[k, t], up_weight[k, t], 1.0
            in_fast, in_backing = held_weight[0][k, t], held_weight[1][k, t]
        else:
            _changes(problem, state, i, t, 1 if kind[j] == 2 else 0, extra, change)
            w0, w1 = _weight(change[0], temperature), _weight(change[1], temperature)
            w2, w3 = _weight(change[2], temperature), _weight(change[3], temperature)
            in_fast = _weight(max(rent[t], 0.0) * size, temperature)
            in_backing = _weight(max(-rent[t], 0.0) * size, temperature)
        fast, backing = _allowed(problem, state.held, t, size)
        if fast:
            w0 *= in_fast
            w1 *= in_fast
        else:
            w0, w1 = 0.0, 0.0
        if backing:
            w2 *= in_backing
            w3 *= in_backing
        else:
            w2, w3 = 0.0, 0.0
        forward[j, 0], forward[j, 1] = p0, p1
        weight[j, 0], weight[j, 1], weight[j, 2], weight[j, 3] = w0, w1, w2, w3
        to0 = p0 * w0 + p1 * w2
        p1 = p0 * w1 + p1 * w3
        p0 = to0
        if p0 + p1 < 1e-100:
            largest = max(p0, p1, 1e-300)
            p0, p1 = p0 / largest, p1 / largest
        # A state that underflows must stay reachable: the other may be forbidden further on.
        p0, p1 = max(p0, _LEAST_WEIGHT), max(p1, _LEAST_WEIGHT)


@njit(cache=True, nogil=True)
def _draw_path(problem, state, i, weight, forward, rng):
    """Backward sampling: draw the block's states, last slot first."""
    life = problem.death[i] - problem.birth[i]
    cell = problem.cell[i] + problem.birth[i]
    z = -1
    for j in range(life - 1, -1, -1):
        if z < 0:
            a, b = forward[j, 0] * weight[j, 0], forward[j, 1] * weight[j, 3]
            z = BACKING
        else:
            a, b = forward[j, 0] * weight[j, z], forward[j, 1] * weight[j, 2 + z]
        if a + b == 0.0:
            # Both underflow: go wherever the slot admits the block, the state it has for preference.
            if weight[j, 3 - z] == 0.0 and weight[j, 0] + weight[j, 1] == 0.0:
                z = BACKING
            elif weight[j, 2] + weight[j, 3] == 0.0:
                z = FAST
        elif z == BACKING:
            z = FAST if a > _SURE * b and uniform(rng) * (a + b) < a else BACKING
        else:
            z = BACKING if b > _SURE * a and uniform(rng) * (a + b) < b else FAST
        state.z[cell + j] = z


@njit(cache=True, nogil=True)
def improve_sweep(problem, state, order, rent):
    """Give every block in ``order`` its best path, all others fixed; returns how many paths changed.

    The total time never rises. Ties keep a block in the state it has, so that a sweep without gain changes nothing.
    """
    n_slots = state.load.shape[0]
    rent = rent + problem.hold
    kind = np.empty(n_slots, np.uint8)
    came_from = np.empty((n_slots + 1, 2), np.uint8)
    change, extra = np.empty(4), np.empty(state.load.shape[1])
    none = np.empty((0, n_slots))
    changed = 0
    for i in order:
        _mark(problem, i, kind)
        _shift(problem, state, i, -1.0, kind, 1.0, none, none)
        birth, life, size, k = (
            problem.birth[i],
            problem.death[i] - problem.birth[i],
            problem.size[i],
            problem.size_class[i],
        )
        cell = problem.cell[i] + birth
        v0, v1 = 0.0, 0.0
        for j in range(life):
            t = birth + j
            if kind[j] == 0 and k >= 0:
                change[0], change[1], change[2], change[3] = 0.0, state.down[k, t], state.up[k, t], 0.0
            else:
                _changes(problem, state, i, t, 1 if kind[j] == 2 else 0, extra, change)
            fast, backing = _allowed(problem, state.held, t, size)
            here0 = v0 + (rent[t] * size if fast else _NEVER)
            here1 = v1 + (0.0 if backing else _NEVER)
            if j == life - 1:
                v0, v1 = here0 + change[0], here1 + change[3]
                break
            old = state.z[cell + j]
            a, b = here0 + change[0], here1 + change[2]
            came_from[j + 1, 0] = old if a == b else (0 if a < b else 1)
            v0 = min(a, b)
            a, b = here0 + change[1], here1 + change[3]
            came_from[j + 1, 1] = old if a == b else (0 if a < b else 1)
            v1 = min(a, b)
        z = state.z[cell + life - 1]
        if v0 != v1:
            z = 0 if v0 < v1 else 1
        different = False
        for j in range(life - 1, -1, -1):
            different = different or state.z[cell + j] != z
            state.z[cell + j] = z
            if j > 0:
                z = came_from[j, z]
        changed += different
        _shift(problem, state, i, 1.0, kind, 1.0, none, none)
    return changed


@njit(cache=True, nogil=True)
def flip_sweep(problem, state, flips, temperature, rng):
    """The textbook move: flip one block's state in one slot, accept by Metropolis; returns how many were accepted.

    Parameters
    ----------
    flips : int
        Proposals.
    temperature : float
        Seconds, greater than 0.
    rng : uint64[1]
    """
    n_blocks = problem.size.shape[0]
    n_channels = state.load.shape[1]
    new = np.empty((2, n_channels))
    accepted = 0
    for _ in range(flips):
        i = int(uniform(rng) * n_blocks)
        birth, death, cell, size = problem.birth[i], problem.death[i], problem.cell[i], problem.size[i]
        t = birth + int(uniform(rng) * (death - birth))
        old = state.z[cell + t]
        z = 1 - old
        held = state.held[t] + (size if z == FAST else -size)
        if (z == FAST and held > problem.most_fast) or (z == BACKING and held < problem.least_fast[t]):
            continue
        first = max(t - 1, birth)
        delta = problem.hold * (held - state.held[t])
        for s in range(first, t + 1):
            for c in range(n_channels):
                new[s - first, c] = state.load[s, c]
            _add_cell(problem, state.z, i, s, -1.0, new[s - first])
        state.z[cell + t] = z
        for s in range(first, t + 1):
            _add_cell(problem, state.z, i, s, 1.0, new[s - first])
            delta += np.max(new[s - first]) - slot_time(state.load, s)
        if delta <= 0.0 or uniform(rng) < math.exp(-delta / temperature):
            accepted += 1
            state.held[t] = held
            for s in range(first, t + 1):
                state.load[s] = new[s - first]
        else:
            state.z[cell + t] = old
    return accepted


@njit(cache=True, nogil=True)
def _add_cell(problem, states, i, t, sign, load):
    """Add or remove what block i does in slot t alone."""
    cell = problem.cell[i]
    here = states[cell + t]
    after = states[cell + t + 1] if t + 1 < problem.death[i] else here
    read = 0
    step, lane = t // problem.n_lanes, t % problem.n_lanes
    if lane == problem.lane[i]:
        low, high = problem.run_ptr[i], problem.run_ptr[i + 1]
        run = low + np.searchsorted(problem.run_stop[low:high], step, side="right")
        if run < high and problem.run_start[run] <= step:
            read = 1
    born = t == problem.birth[i] and not problem.prefilled[i]
    for c in range(load.shape[0]):
        extra = problem.op[read, here, after, c] + (problem.write[here, c] if born else 0.0)
        load[c] += sign * problem.size[i] * extra
