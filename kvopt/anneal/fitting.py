"""Paths made to fit: a feasible answer from a sample of the dual, before any of it has been annealed.

A sample's tiers hold what they may on average, so they are too full in about half of the slots, by a little. In the
order of time, a block that finds no room where its path takes it goes to the backing tier instead, until its path next
changes; whoever is there stays. That is one pass over the events.
"""

from __future__ import annotations

import numpy as np

from kvopt.anneal.paths import Paths
from kvopt.anneal.state import Problem
from kvopt.jit import njit, part
from kvopt.trellis import rows

_SLOTS = 4096
"""Slots whose events are put in order together."""


def fitted(problem: Problem, paths: Paths) -> Paths:
    """Paths of which no tier holds too much, unless the backing tier may be full: then it may hold too much.

    Parameters
    ----------
    problem : Problem
    paths : Paths
        Left as they are.

    Returns
    -------
    Paths
        With events that may change nothing.
    """
    state = paths.state.copy()
    _fit(problem, paths, state, np.argsort(problem.death, kind="stable"))
    return paths._replace(state=state)


@njit(cache=True, nogil=True)
def _fit(problem, paths, state, by_death):
    """Replace states that find no room, in place."""
    n_slots, n_blocks, last = problem.base.shape[0], problem.size.shape[0], len(problem.states) - 1
    held = np.zeros(problem.capacity.shape[0])
    now = np.empty(n_blocks, np.int8)  # Where each block is; -1 before its life.
    rows.fill(now, 0, n_blocks, -1)
    following = rows.resized(paths.ptr, n_blocks)  # The next event of each.
    dead = 0
    for first in range(0, n_slots, _SLOTS):
        block, event, ptr = _in_order(paths, following, first, min(first + _SLOTS, n_slots))
        for t in range(ptr.shape[0] - 1):
            while dead < n_blocks and problem.death[by_death[dead]] <= first + t:
                _hold(problem, held, by_death[dead], now, -1)
                dead += 1
            for k in range(ptr[t], ptr[t + 1]):
                _hold(problem, held, np.int64(block[k]), now, -1)
            # What begins where it is given comes before what is written in the first slot, and finds its room.
            for given in (True, False):
                for k in range(ptr[t], ptr[t + 1]):
                    i, z = np.int64(block[k]), np.int64(state[event[k]])
                    if (first + t == 0 and problem.initial[i] >= 0) != given:
                        continue
                    for tier in range(held.shape[0]):
                        if problem.inside[tier] >> z & 1 and held[tier] + problem.size[i] > problem.capacity[tier]:
                            z = last
                    state[event[k]] = z
                    _hold(problem, held, i, now, z)


@part
def _in_order(paths, following, first, stop):
    """The blocks and events of the slots from ``first`` up to ``stop``, by slot: int32, int64 and where each slot's
    begin. ``following`` moves past them."""
    ptr = np.zeros(stop - first + 2, np.int64)
    begun = rows.resized(following, following.shape[0])
    for i in range(following.shape[0]):
        while following[i] < paths.ptr[i + 1] and paths.slot[following[i]] < stop:
            ptr[paths.slot[following[i]] - first + 2] += 1
            following[i] += 1
    for t in range(2, ptr.shape[0]):
        ptr[t] += ptr[t - 1]
    block, event = np.empty(ptr[-1], np.int32), np.empty(ptr[-1], np.int64)
    for i in range(following.shape[0]):
        for e in range(begun[i], following[i]):
            at = ptr[paths.slot[e] - first + 1]
            block[at], event[at] = i, e
            ptr[paths.slot[e] - first + 1] += 1
    return block, event, ptr[:-1]


@part(_nrt=False)
def _hold(problem, held, i, now, z):
    """Have block i leave where it is, if anywhere, for state z, if any."""
    for tier in range(held.shape[0]):
        if now[i] >= 0 and problem.inside[tier] >> now[i] & 1:
            held[tier] -= problem.size[i]
        if z >= 0 and problem.inside[tier] >> z & 1:
            held[tier] += problem.size[i]
    now[i] = z
