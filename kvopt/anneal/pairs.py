"""Two blocks' paths together: what neither may do while the other stays as it is.

Where a tier is full, a block gets in only if another makes room in the same slots; where two channels are nearly
equally busy, moving one block shifts the maximum to the other channel. A block's best path, all others fixed, finds
neither. The best paths of two are a shortest path over pairs of states, exact like that of one, in time proportional to
S^4 by the slot. That is for small instances, where single blocks matter and all pairs of which one is read or written
can be tried.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from kvopt.anneal.moves import above_least, mark, shift, shuffle
from kvopt.anneal.state import Problem, State, best_split, rebuild
from kvopt.jit import njit, part, piece
from kvopt.trellis import rows

_NEVER = 1e30
_SWEEPS = 20
"""At most."""
_PART_S = 0.05
"""Between two looks at the clock."""
_SLOT_S, _CHANGE_S = 4e-7, 2e-9
"""What a slot of a pair takes, and what a channel of a pair of changes does."""
_MOST_STATES = 15
"""More, and pairs of states are more than a byte can number."""


def sweep_s(problem: Problem) -> float:
    """About how many seconds a sweep over all pairs takes; infinite where they cannot be told apart.

    Parameters
    ----------
    problem : Problem
    """
    if len(problem.states) > _MOST_STATES:
        return np.inf
    n_blocks = len(problem.size)
    n_idle = n_blocks - np.count_nonzero(_busy(problem))
    return (n_blocks * (n_blocks - 1) - n_idle * (n_idle - 1)) / 2 * _pair_s(problem)


def _pair_s(problem: Problem) -> float:
    """About how many seconds a pair takes."""
    slot_s = _SLOT_S + _CHANGE_S * len(problem.states) ** 4 * problem.base.shape[1]
    return float((problem.death - problem.birth).mean()) * slot_s


def _busy(problem: Problem) -> np.ndarray:
    """bool[B]: what is read or written."""
    return (np.diff(problem.run_ptr) > 0) | ~problem.prefilled


def _pairs(problem: Problem) -> np.ndarray:
    """int64[n, 2]: of blocks that live at the same time, the first of them busy."""
    busy, birth, death = _busy(problem), problem.birth, problem.death
    first, second = (side.ravel() for side in np.meshgrid(np.flatnonzero(busy), np.arange(len(busy)), indexing="ij"))
    once = (first < second) | ~busy[second]
    together = (birth[first] < death[second]) & (birth[second] < death[first])
    return np.stack([first[once & together], second[once & together]], axis=1)


def descend_pairs(problem: Problem, state: State, rng: np.ndarray, over: Callable[[], bool]) -> None:
    """Improve pair after pair: all, then those with a block whose path has changed, until none has.

    Parameters
    ----------
    problem : Problem
        With an objective that is a sum over slots.
    state : State
        Feasible; modified in place.
    rng : uint64[1]
    over : callable
        Asked now and then whether to stop.
    """
    pairs, part = _pairs(problem), max(1, int(_PART_S / _pair_s(problem)))
    moved = np.ones(len(problem.size), bool)
    for _ in range(_SWEEPS):
        order = np.flatnonzero(moved[pairs].any(axis=1))
        shuffle(order, rng)
        moved[:] = False
        for first in range(0, len(order), part):
            if over():
                break
            improve_pairs(problem, state, pairs[order[first : first + part]], moved)
        rebuild(problem, state)
        if over() or not moved.any():
            return


@njit(cache=True, nogil=True)
def improve_pairs(problem, state, pairs, moved):
    """Give pairs of blocks their best paths, all others fixed.

    The objective, a sum over slots, never rises: a placement must be feasible, and paths that cost the same are kept.

    Parameters
    ----------
    problem : Problem
    state : State
        Modified in place.
    pairs : int64[n, 2]
    moved : bool[B]
        Set where a path has changed.
    """
    n_slots, n_states = state.load.shape[0], len(problem.states)
    charge = above_least(problem, np.zeros((n_slots, n_states)))
    kinds = np.empty((2, n_slots), np.uint8)
    came_from = np.empty((n_slots + 1, n_states * n_states), np.uint8)
    none = np.empty((0, n_slots, n_states, n_states))
    change = np.empty((n_states, n_states, n_states, n_states))
    here, reached = np.empty(n_states * n_states), np.empty(n_states * n_states)
    one, both = np.empty(state.load.shape[1]), np.empty((1, state.load.shape[1]))
    room = change, here, reached, one, both
    for p in range(pairs.shape[0]):
        for side in range(2):
            mark(problem, pairs[p, side], kinds[side])
            shift(problem, state, pairs[p, side], -1.0, kinds[side], 1.0, none)
        if _best_paths(problem, state, pairs[p, 0], pairs[p, 1], kinds, charge, came_from, room):
            moved[pairs[p]] = True
        for side in range(2):
            shift(problem, state, pairs[p, side], 1.0, kinds[side], 1.0, none)


@part(_nrt=False)
def _best_paths(problem, state, i, j, kinds, charge, came_from, room):
    """Give blocks i and j, now taken out, their best paths; returns whether they are others than before.

    While one of them does not live it is in state 0 of one, which costs nothing and takes no room.
    """
    n_states, states = len(problem.states), state.z
    first, stop = min(problem.birth[i], problem.birth[j]), max(problem.death[i], problem.death[j])
    change, here, reached, one, both = room
    rows.fill(reached, 0, reached.shape[0], 0.0)
    for t in range(first, stop):
        ways_i, ways_j = _ways(problem, i, t), _ways(problem, j, t)
        next_i, next_j = _ways(problem, i, t + 1), _ways(problem, j, t + 1)
        _admit(problem, state, i, j, t, ways_i, ways_j, charge, reached, here)
        _price(problem, state, i, j, t, kinds, one, both, change)
        old = _together(problem, states, i, j, t)
        for after_i in range(next_i):
            for after_j in range(next_j):
                # In its last slot, and before its first, a block goes nowhere.
                stays_i, stays_j = ways_i == 1 or t + 1 == problem.death[i], ways_j == 1 or t + 1 == problem.death[j]
                z, y = old // n_states, old % n_states
                best = old
                least = here[old] + change[z, y, z if stays_i else after_i, y if stays_j else after_j]
                for z in range(ways_i):
                    to_i = z if stays_i else after_i
                    for y in range(ways_j):
                        cost = here[n_states * z + y] + change[z, y, to_i, y if stays_j else after_j]
                        if cost < least:
                            best, least = n_states * z + y, cost
                came_from[t + 1 - first, n_states * after_i + after_j] = best
                reached[n_states * after_i + after_j] = least
    # Past the last slot neither lives.
    different, at = False, np.int64(0)
    for t in range(stop - 1, first - 1, -1):
        at = np.int64(came_from[t + 1 - first, at])
        different = different or at != _together(problem, states, i, j, t)
        if _ways(problem, i, t) > 1:
            states[problem.cell[i] + t] = at // n_states
        if _ways(problem, j, t) > 1:
            states[problem.cell[j] + t] = at % n_states
    return different


@piece
def _ways(problem, i, t):
    """How many states there are for a block in a slot."""
    return len(problem.states) if problem.birth[i] <= t < problem.death[i] else 1


@piece
def _together(problem, states, i, j, t):
    """The number of the pair of states that two blocks are in."""
    z = np.int64(states[problem.cell[i] + t]) if problem.birth[i] <= t < problem.death[i] else 0
    y = np.int64(states[problem.cell[j] + t]) if problem.birth[j] <= t < problem.death[j] else 0
    return len(problem.states) * z + y


@part(_nrt=False)
def _admit(problem, state, i, j, t, ways_i, ways_j, charge, reached, here):
    """What each pair of states has cost by slot t, with what the slot charges; never, where there is no room."""
    n_states = len(problem.states)
    for z in range(ways_i):
        for y in range(ways_j):
            cost = reached[n_states * z + y]
            cost += problem.size[i] * charge[t, z] if ways_i > 1 else 0.0
            cost += problem.size[j] * charge[t, y] if ways_j > 1 else 0.0
            for k in range(problem.capacity.shape[0]):
                taken = 0.0
                if ways_i > 1 and problem.inside[k] >> z & 1:
                    taken += problem.size[i]
                if ways_j > 1 and problem.inside[k] >> y & 1:
                    taken += problem.size[j]
                if taken > 0.0 and state.held[k, t] + taken > problem.capacity[k]:
                    cost += _NEVER
            if ways_i > 1 and t == problem.birth[i] and 0 <= problem.initial[i] != z:
                cost += _NEVER
            if ways_j > 1 and t == problem.birth[j] and 0 <= problem.initial[j] != y:
                cost += _NEVER
            here[n_states * z + y] = cost


@part(_nrt=False)
def _price(problem, state, i, j, t, kinds, one, both, change):
    """Exact cost in slot t of each pair of changes of state: change[z, y, z', y']."""
    n_states, n_channels = len(problem.states), one.shape[0]
    alive_i, alive_j = problem.birth[i] <= t < problem.death[i], problem.birth[j] <= t < problem.death[j]
    what_i = kinds[0, t - problem.birth[i]] if alive_i else 0
    what_j = kinds[1, t - problem.birth[j]] if alive_j else 0
    read_i, read_j = 1 if what_i == 2 else 0, 1 if what_j == 2 else 0
    born_i = alive_i and t == problem.birth[i] and not problem.prefilled[i]
    born_j = alive_j and t == problem.birth[j] and not problem.prefilled[j]
    size_i, size_j = problem.size[i] if alive_i else 0.0, problem.size[j] if alive_j else 0.0
    op, write, load, weight = problem.op, problem.write, state.load, state.second[t]
    now = load[t, 0]
    for c in range(1, n_channels):
        now = max(now, load[t, c])
    if problem.balanced and state.either[t] > 0.0:
        now = best_split(load, t, 0.0, problem.swap, problem.swap, state.either[t])[1]
    for z in range(n_states):
        for to_z in range(n_states):
            for c in range(n_channels):
                one[c] = load[t, c] + size_i * (op[read_i, z, to_z, c] + (write[z, c] if born_i else 0.0))
            price_i = size_i * (problem.op_price[read_i, z, to_z] + (problem.write_price[z] if born_i else 0.0))
            for y in range(n_states):
                for to_y in range(n_states):
                    for c in range(n_channels):
                        both[0, c] = one[c] + size_j * (op[read_j, y, to_y, c] + (write[y, c] if born_j else 0.0))
                    most = 0.0
                    if problem.balanced:
                        most = state.either[t]
                        most += size_i if read_i and problem.swappable[z] else 0.0
                        most += size_j if read_j and problem.swappable[y] else 0.0
                    longest = both[0, 0]
                    for c in range(1, n_channels):
                        longest = max(longest, both[0, c])
                    if most > 0.0:
                        longest = best_split(both, 0, 0.0, problem.swap, problem.swap, most)[1]
                    price_j = size_j * (problem.op_price[read_j, y, to_y] + (problem.write_price[y] if born_j else 0.0))
                    change[z, y, to_z, to_y] = weight * (longest - now) + price_i + price_j
