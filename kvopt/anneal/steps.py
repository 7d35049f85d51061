r"""Objectives in which single steps count: whole-path proposals from a surrogate, accepted by Metropolis and Hastings.

A mean of the longest steps, or a count of late ones, is no sum over slots, so a block's path cannot be drawn from its
Boltzmann distribution by a recursion. What can be drawn is a path under a *surrogate* in which a second of step n
costs w_n >= 0, fixed for a sweep. With dPhi and dS the changes of the objective and of the surrogate from the old path
to the new one, accepting it with probability

    min(1, exp(-(dPhi - dS) / T))

leaves exp(-Phi / T) invariant, whatever the weights: the surrogate's own Boltzmann distribution is what the proposal
comes from, and it does not depend on the block's path. Charges by the byte and rents are the same in both and cancel.
Weights are the slopes of the objective, smoothed, where the chain is when the sweep begins; good ones only make
acceptance likely.

Exact, but slow to mix where many steps are about equally long: shortening one of them is a gain to the surrogate and
none to the objective. So a chain begins without rejections, by drawing from the surrogate alone while its weights
follow the steps, from those of the dual where there are any. That is how prices of steps settle in the dual, too: a
step that is among the longest becomes dearer until it no longer is.

At temperature 0 the surrogate's best path is kept where the objective does not rise.
"""

from __future__ import annotations

import math

import numpy as np

from kvopt.anneal.moves import above_least, best_path, draw_path, filter_forward, idle_weights, mark, path_room, shift
from kvopt.anneal.state import Problem, State, cost_of_steps, even_price, refresh, slot_time_with
from kvopt.jit import njit, part
from kvopt.trellis import rows
from kvopt.trellis.rng import uniform

_EVEN_SHARE = 0.1
"""Share of the weight that is spread evenly over all steps: where a step costs nothing, its paths would be drawn from
all there are alike, and whole-path proposals be turned down for the few slots of theirs that matter."""
_FOLLOWED = 0.3
"""How far weights go in a sweep that follows the steps: all the way, they would swing to and fro."""
_DEADLINE_BLOCKS = 3.0
_DEADLINE_SHARE = 0.05
"""A deadline pulls on steps within so many reads of a mean block from the backing tier, or that share of it if more,
as on those just late."""
_SHARPEST = 1e-9
"""Steps that differ by less than this share are not told apart."""
_ROUNDING = 1e-13


def weigh_steps(problem: Problem, state: State, temperature: float) -> None:
    """Set what a second of each slot costs in the surrogate, to the objective's slopes smoothed at the temperature.

    Parameters
    ----------
    problem : Problem
    state : State
    temperature : float
        In the objective's unit; 0 for the slopes themselves.
    """
    widths = temperature * problem.tails[:, 1] / np.maximum(problem.tails[:, 0], 1e-300)
    take_weights(problem, state, slopes(problem, state.step_s, widths))


def follow_steps(problem: Problem, state: State, share: float) -> None:
    """Move those costs on towards the slopes, smoothed over a share of the mean step."""
    width = share * float(state.step_s.mean())
    target = slopes(problem, state.step_s, np.full(len(problem.tails), width))
    take_weights(problem, state, (1 - _FOLLOWED) * state.second[:: problem.n_lanes] + _FOLLOWED * target)


def slopes(problem: Problem, step_s: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """float64[N]: what a second of each step costs, smoothed.

    Parameters
    ----------
    problem : Problem
    step_s : float64[N]
    widths : float64[J]
        Seconds over which a step comes to be among the longest, for each tail.
    """
    weight = np.zeros(len(step_s))
    for (charge, count), width in zip(problem.tails, widths, strict=True):
        if charge > 0:
            weight += charge / count * longest_shares(step_s, count, width)
    reach_s = _DEADLINE_BLOCKS * float(problem.op[1, -1, -1].max() * problem.size.mean())
    for charge, deadline_s in problem.deadlines:
        reach = max(reach_s, _DEADLINE_SHARE * deadline_s)
        over = step_s - deadline_s
        slope = np.where(over > 0, 1.0 / (reach + np.maximum(over, 0)), np.exp(np.minimum(over, 0) / reach) / reach)
        weight += charge * slope
    return problem.second + (1 - _EVEN_SHARE) * weight + _EVEN_SHARE * weight.mean()


def weigh_evenly(problem: Problem, state: State) -> None:
    """Let a second of all slots cost the same: the surrogate is the decode time."""
    take_weights(problem, state, np.full(len(state.step_s), even_price(problem, len(state.step_s))))


def longest_shares(step_s: np.ndarray, count: float, width: float) -> np.ndarray:
    """float64[N] in [0, 1], summing to ``count``: how far each step is among that many longest.

    Parameters
    ----------
    step_s : float64[N]
    count : float
    width : float
        Logistic functions of ``(step_s - eta) / width``, for the eta at which they sum up; of the smallest width that
        numbers tell apart at least.
    """
    if count >= len(step_s):
        return np.ones(len(step_s))
    from scipy import special  # Imported on use, as it is slow to import.

    a = step_s / max(width, _SHARPEST * float(step_s.max()), 1e-300)
    low, high = a.min() - 50.0, a.max() + 50.0
    for _ in range(100):
        eta = 0.5 * (low + high)
        low, high = (eta, high) if special.expit(a - eta).sum() > count else (low, eta)
    share = special.expit(a - low)
    return share * (count / share.sum())


@njit(cache=True, nogil=True, _nrt=False)
def take_weights(problem, state, weight):
    """Let a second of each step cost what ``weight`` float64[N] says."""
    for t in range(state.second.shape[0]):
        state.second[t] = weight[t // problem.n_lanes]
        refresh(problem, state, t)


@njit(cache=True, nogil=True)
def resample_steps(problem, state, order, temperature, rent, rng):
    """Propose a path for every block in ``order``; returns how many were accepted.

    Parameters are those of ``moves.resample_sweep``.
    """
    n_slots, n_states = state.load.shape[0], len(problem.states)
    charge = above_least(problem, rent)
    weights = idle_weights(problem, state, charge, temperature)
    kind, kept = np.empty(n_slots, np.uint8), np.empty(n_slots, np.uint8)
    weight, forward = np.empty((n_slots, n_states, n_states)), np.empty((n_slots, n_states))
    step_s = np.empty_like(state.step_s)
    room = path_room(problem, state)
    cost, accepted = cost_of_steps(problem, state.step_s), 0
    for i in order:
        mark(problem, i, kind)
        path = state.z[problem.cell[i] + problem.birth[i] : problem.cell[i] + problem.death[i]]
        old = kept[: path.shape[0]]
        rows.copy(path, old)
        shift(problem, state, i, -1.0, kind, temperature, weights)
        filter_forward(problem, state, i, kind, temperature, charge, weights, weight, forward, room)
        draw_path(problem, state, i, weight, forward, rng)
        rows.copy(state.step_s, step_s)
        surrogate, _ = _compare(problem, state, i, kind, old, path, step_s)
        new_cost = cost_of_steps(problem, step_s)
        dearer = new_cost - cost - surrogate
        if dearer <= 0.0 or uniform(rng) < math.exp(-dearer / temperature):
            rows.copy(step_s, state.step_s)
            cost = new_cost
            accepted += 1
        else:
            rows.copy(old, path)
        shift(problem, state, i, 1.0, kind, temperature, weights)
    return accepted


@njit(cache=True, nogil=True)
def improve_steps(problem, state, order):
    """Offer every block in ``order`` the surrogate's best path, and keep it where the objective falls, or where it
    stays and the surrogate falls; returns how many paths changed."""
    n_slots, n_states = state.load.shape[0], len(problem.states)
    charge = above_least(problem, np.zeros((n_slots, n_states)))
    kind, kept = np.empty(n_slots, np.uint8), np.empty(n_slots, np.uint8)
    came_from, none = np.empty((n_slots + 1, n_states), np.uint8), np.empty((0, n_slots, n_states, n_states))
    step_s = np.empty_like(state.step_s)
    here, reached, room = np.empty(n_states), np.empty(n_states), path_room(problem, state)
    cost, changed = cost_of_steps(problem, state.step_s), 0
    for i in order:
        mark(problem, i, kind)
        path = state.z[problem.cell[i] + problem.birth[i] : problem.cell[i] + problem.death[i]]
        old = kept[: path.shape[0]]
        rows.copy(path, old)
        shift(problem, state, i, -1.0, kind, 1.0, none)
        fits = path_fits(problem, state, i)
        if best_path(problem, state, i, kind, charge, came_from, here, reached, room):
            rows.copy(state.step_s, step_s)
            surrogate, price = _compare(problem, state, i, kind, old, path, step_s)
            new_cost = cost_of_steps(problem, step_s)
            rise, allowance = new_cost - cost + price, _ROUNDING * cost
            if not fits or rise < -allowance or (rise <= allowance and surrogate + price < -allowance):
                rows.copy(step_s, state.step_s)
                cost = new_cost
                changed += 1
            else:
                rows.copy(old, path)
        shift(problem, state, i, 1.0, kind, 1.0, none)
    return changed


@part(_nrt=False)
def path_fits(problem, state, i):
    """Whether all tiers have room for block i, now taken out, where it was: if not, any path with room is better."""
    for k in range(problem.capacity.shape[0]):
        for t in range(problem.birth[i], problem.death[i]):
            inside = problem.inside[k] >> state.z[problem.cell[i] + t] & 1
            if inside and state.held[k, t] + problem.size[i] > problem.capacity[k]:
                return False
    return True


@part
def _compare(problem, state, i, kind, old, new, step_s):
    """What it changes that block i, now taken out, comes back on another path than it left.

    Steps' times are changed in place; returns the change of the surrogate's cost of time, and that of charges.
    """
    birth, size = problem.birth[i], problem.size[i]
    extra = np.empty(state.load.shape[1])
    surrogate = price = 0.0
    last = old.shape[0] - 1
    for j in range(last + 1):
        following = min(j + 1, last)
        a, a_next, b, b_next = old[j], old[following], new[j], new[following]
        if a == b and a_next == b_next:
            continue
        t = birth + j
        longer = _time_with(problem, state, i, t, kind[j], b, b_next, extra)
        longer -= _time_with(problem, state, i, t, kind[j], a, a_next, extra)
        step_s[t // problem.n_lanes] += longer
        surrogate += state.second[t] * longer
        price += size * (_price(problem, i, t, kind[j], b, b_next) - _price(problem, i, t, kind[j], a, a_next))
    return surrogate, price


@part(_nrt=False)
def _time_with(problem, state, i, t, what, here, after, extra):
    """Seconds slot t takes when block i, now taken out, is in state ``here`` and then ``after``."""
    read = 1 if what == 2 else 0
    born = t == problem.birth[i] and not problem.prefilled[i]
    for c in range(extra.shape[0]):
        extra[c] = problem.op[read, here, after, c] + (problem.write[here, c] if born else 0.0)
    swapped = read == 1 and problem.swappable[here]
    return slot_time_with(state.load, state.either, problem.swap, t, problem.size[i], extra, swapped)


@part(_nrt=False)
def _price(problem, i, t, what, here, after):
    """What a byte of block i is charged in slot t, but for its time."""
    born = t == problem.birth[i] and not problem.prefilled[i]
    price = problem.op_price[1 if what == 2 else 0, here, after] + problem.idle_price[here]
    return price + (problem.write_price[here] if born else 0.0)
