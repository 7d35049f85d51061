"""Where a move may change a block's path: the cuts of its life in a window.

A block that lives for thousands of steps is read in a few runs of them. Lane steps at which its path may change are
*cuts*: where runs begin and end, where the path changes now, and some in between, drawn anew for each move. From one
cut to the next the block stays where it is, which costs a difference of prefix sums where it is idle and a plain sum
where it is read. So a move takes time in proportion to runs, not to lane steps. With strides of 1 every lane step is a
cut, and nothing is left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.jit import part, piece
from kvopt.trellis import rows
from kvopt.trellis.rng import uniform

IDLE, READ = 0, 1
_MOST_IN_RUNS, _MOST_BETWEEN = 16, 4
"""Cuts within one run, and between two."""


class Cutting(NamedTuple):
    """Where to cut, and where to look slot by slot."""

    in_runs: int
    """Steps from cut to cut within runs."""
    between: int
    """Likewise between them."""
    linger: bool
    """Whether a block may gain by leaving a tier in another slot than one that reads it."""
    at_rest: bool
    """Whether an idle block is best off in the last state."""


def cutting_of(problem, in_runs: int, between: int) -> Cutting:
    """With what the rules say."""
    faster, slower = np.triu_indices(len(problem.states), 1)
    costs = problem.op[0, faster, slower].max(axis=-1), problem.op_price[0, faster, slower]
    at_rest = problem.idle_price[-1] <= problem.idle_price.min()
    return Cutting(in_runs, between, bool(max(cost.max() for cost in costs) > 0.0), bool(at_rest))


class Scratch(NamedTuple):
    """One block's cuts, and room to work in (W steps, L lanes, S states, C channels)."""

    kind: np.ndarray
    """uint8[W]: whether the block is idle or read in each own slot."""
    marked: np.ndarray
    """bool[W]: the lane steps that are cuts."""
    cut: np.ndarray
    """int32[W]: they in order, the first and last of the block's own slots in the window included."""
    z_old: np.ndarray
    """uint8[W + 1]: state in the own slot of each cut; at last, that in the own slot after the last one's lane step,
    or, where that is not in the block's life, the state before. From one cut's lane step to the next cut the state is
    that of the latter."""
    when_old: np.ndarray
    """uint16[W]: how many slots after the own one a change in the cut's lane step happens."""
    z: np.ndarray
    """uint8[W + 1]: the new path; once it is carried out, the old one."""
    when: np.ndarray
    """uint16[W]"""
    reached: np.ndarray
    """float64[W, S]: of all ways to each state at each cut."""
    way: np.ndarray
    """float64[W, S * S]: of each cut's lane step, and of staying up to the next cut."""
    special: np.ndarray
    """bool[W]: whether its slots were priced one by one."""
    own: np.ndarray
    """float64[W, S * S]: the part of it whose change is in an own slot that reads the block, or writes it."""
    change: np.ndarray
    """float64[S, S]"""
    rest: np.ndarray
    """float64[S * S]: of a lane step, without its own slot if that is priced by itself."""
    stay: np.ndarray
    """float64[S]: of staying from the lane step after a cut up to the next."""
    slots: np.ndarray
    """float64[L]: of a change in each slot of a lane step."""
    extra: np.ndarray
    """float64[C]"""
    load: np.ndarray
    """float64[1, C]: of one slot without the block."""
    either: np.ndarray
    """float64[1], or empty"""
    touched: np.ndarray
    """bool[W + 1]: steps whose occupancy has changed."""


def make_scratch(problem, n_steps: int) -> Scratch:
    """Room for a window of that many steps."""
    n_states, n_channels = len(problem.states), problem.base.shape[1]
    pairs = n_states * n_states
    return Scratch(
        kind=np.zeros(n_steps, np.uint8),
        marked=np.zeros(n_steps, bool),
        cut=np.empty(n_steps, np.int32),
        z_old=np.empty(n_steps + 1, np.uint8),
        when_old=np.empty(n_steps, np.uint16),
        z=np.empty(n_steps + 1, np.uint8),
        when=np.empty(n_steps, np.uint16),
        reached=np.empty((n_steps, n_states)),
        way=np.empty((n_steps, pairs)),
        special=np.zeros(n_steps, bool),
        own=np.empty((n_steps, pairs)),
        change=np.empty((n_states, n_states)),
        rest=np.empty(pairs),
        stay=np.empty(n_states),
        slots=np.empty(problem.n_lanes),
        extra=np.empty(n_channels),
        load=np.empty((1, n_channels)),
        either=np.zeros(1 if problem.balanced else 0),
        touched=np.zeros(n_steps + 1, bool),
    )


@piece
def nothing_to_choose(problem, window, j, cutting):
    """Whether a block's states in the window are all given, or it is best off where it is, never read and at rest."""
    if window.loose_begin[j]:
        return False
    if window.end[j] - window.begin[j] < 2:
        return True
    run, last = window.first_run[j], window.first_step + window.end[j] - 1
    idle = run == problem.run_ptr[window.block[j] + 1] or problem.run_start[run] > last
    rests = window.count[j] == 1 and window.state[window.at[j]] == len(problem.states) - 1
    return cutting.at_rest and idle and rests


@part(_nrt=False)
def cut_up(problem, window, j, cutting, scratch, rng):
    """Find the cuts of a block's life, and its path at them; returns how many there are."""
    begin, last = np.int64(window.begin[j]), np.int64(window.end[j]) - 1
    kind, marked = scratch.kind, scratch.marked
    in_runs, between = cutting.in_runs, cutting.between
    rows.fill(kind, begin, last + 1, IDLE)
    rows.fill(marked, begin, last + 1, in_runs == 1 and between == 1)
    marked[begin], marked[last] = True, True
    i, first = window.block[j], window.first_step
    run, stop, covered = window.first_run[j], problem.run_ptr[window.block[j] + 1], begin
    while run < stop and problem.run_start[run] - first <= last:
        low, high = max(problem.run_start[run] - first, begin), min(problem.run_stop[run] - first, last + 1)
        rows.fill(kind, low, high, READ)
        if low > begin:
            marked[low - 1] = True
        marked[low], marked[high - 1] = True, True
        _mark_some(marked, covered, low - 1, between, _MOST_BETWEEN, rng)
        _mark_some(marked, low + 1, high - 1, in_runs, _MOST_IN_RUNS, rng)
        covered = high
        run += 1
    _mark_some(marked, covered, last, between, _MOST_BETWEEN, rng)
    return _path_at_cuts(window, j, problem.lane[i], problem.n_lanes, scratch)


@piece
def _mark_some(marked, first, stop, stride, most, rng):
    """Mark steps a stride apart, or more where they would be too many, the first drawn at random."""
    if first < stop and stride > 1:
        apart = max(stride, (stop - first) // most)
        for n in range(first + np.int64(uniform(rng) * apart), stop, apart):
            marked[n] = True


@piece
def _path_at_cuts(window, j, lane, n_lanes, scratch):
    """Fill cuts and the path at them from the marks and the block's events."""
    begin, last = np.int64(window.begin[j]), np.int64(window.end[j]) - 1
    slot, state, marked = window.slot, window.state, scratch.marked
    cut, z_old, when_old = scratch.cut, scratch.z_old, scratch.when_old
    origin = window.first_step * n_lanes + lane + 1  # One past the window's first own slot.
    e, high = window.at[j] + 1, window.at[j] + window.count[j]
    for event in range(e, high):
        marked[(slot[event] - origin) // n_lanes] = True
    z, m = state[e - 1], 0
    for n in range(begin, last + 1):
        if marked[n]:
            cut[m], z_old[m], when_old[m] = n, z, 0
            if e < high and slot[e] - origin - n * n_lanes < n_lanes:
                when_old[m], z = slot[e] - origin - n * n_lanes, state[e]
                e += 1
            m += 1
    z_old[m] = z
    return m


@piece
def write_path(window, j, m, lane, n_lanes, scratch):
    """Append the path that was carried out to the events, as the block's path from now on."""
    slot, state, z, when = window.slot, window.state, scratch.z_old, scratch.when_old
    at = window.used[0]
    slot[at], state[at] = slot[window.at[j]], z[0]
    count = 1
    origin = window.first_step * n_lanes + lane + 1
    for c in range(m):
        if z[c] != z[c + 1]:
            slot[at + count], state[at + count] = origin + scratch.cut[c] * n_lanes + when[c], z[c + 1]
            count += 1
    window.at[j], window.count[j], window.used[0] = at, count, at + count
