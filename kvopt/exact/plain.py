"""A feasible placement without any search: what an exact run has in hand from its first moment on.

It is shown at once, it is the answer when time is up before HiGHS has one, and a claim that nothing is feasible, or
nothing is as good, is held against it.
"""

from __future__ import annotations

import numpy as np

from kvopt.instance import Instance
from kvopt.placement import Placement


def plain_placement(instance: Instance) -> Placement | None:
    """Everything in the backing tier, or else each block in one tier all its life; None where neither is feasible.

    Parameters
    ----------
    instance : Instance
        Where it gives the states in slot 0, blocks are there in slot 0, or all their life.
    """
    for attempt in (_all_backing, _one_tier_each):
        placement = attempt(instance)
        if placement is not None and not placement.violations(instance, most=1):
            return placement
    return None


def _all_backing(instance: Instance) -> Placement:
    """The backing tier holds all, from the second slot on where the first is given."""
    if instance.initial is None:
        return Placement.backing(instance)
    given = _given(instance)
    return Placement.from_intervals(
        len(given[0]), given[0][given[1]], np.zeros(given[1].sum(), int), np.ones(given[1].sum(), int), given[2]
    )


def _given(instance: Instance) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All blocks, which of them begin elsewhere than in the backing tier, and the states those are given."""
    blocks, last = np.arange(instance.trace.n_blocks), len(instance.states) - 1
    away = (instance.trace.write_step < 0) & (instance.initial != last)
    return blocks, away, instance.initial[away]


def _one_tier_each(instance: Instance) -> Placement | None:
    """The largest blocks first, each in the slowest tier with room; those given a state stay in it."""
    size, held = np.asarray(instance.trace.size_bytes, np.int64), instance.states
    n_tiers, last = held.shape[1], len(held) - 1
    alone = {int(np.flatnonzero(row)[0]): state for state, row in enumerate(held) if row.sum() == 1}
    room = np.array([np.full(instance.n_slots, min(c, 2.0**62)) for c in instance.capacity_bytes]).astype(np.int64)
    state = np.full(len(size), last)
    given = np.zeros(len(size), bool)
    if instance.initial is not None:
        given = instance.trace.write_step < 0
        state[given] = instance.initial[given]
        for i in np.flatnonzero(given):
            room[held[state[i]], instance.birth_slot[i] : instance.death_slot[i]] -= size[i]
    for i in np.argsort(-size, kind="stable"):
        life = slice(instance.birth_slot[i], instance.death_slot[i])
        fitting = (k for k in reversed(range(n_tiers)) if k in alone and room[k, life].min() >= size[i])
        tier = None if given[i] else next(fitting, None)
        if tier is not None:
            room[tier, life] -= size[i]
            state[i] = alone[tier]
        elif not given[i]:
            return None
    away = np.flatnonzero(state != last)
    return Placement.from_intervals(
        len(size), away, instance.birth_slot[away], instance.death_slot[away], state[away].astype(np.int8)
    )
