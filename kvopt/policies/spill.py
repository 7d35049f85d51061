"""What a lower tier cannot take: a block that finds no room there stays above."""

from __future__ import annotations

import numpy as np

from kvopt.policies.tiers import Plan


def hold_back(plan: Plan) -> bool:
    """Change a plan until every tier can hold what it is given.

    From the backing tier up, blocks are lifted to the tier above, at last to the fastest, whatever the policy said:
    first those that came from above in this slot, of the evicted ones the last named, then the arriving ones, then any
    others, latest used first. When that leaves a remainder that no block fits into, and there are tiers between the
    two, all blocks stay where they were; and when that will not do either, all are placed anew, the largest first.

    Parameters
    ----------
    plan : Plan
        Modified in place.

    Returns
    -------
    bool
        False when no packing is found.
    """
    live = np.flatnonzero(plan.view.live)
    latest = live[np.argsort(-plan.view.last_use[live], kind="stable")]
    for tier in range(plan.last, 0, -1):
        _lift(plan, tier, np.concatenate([plan.pushed.get(tier, live[:0]), plan.view.arriving, latest]))
    if not plan.fits and plan.last > 1:
        leave_alone(plan)
    if not plan.fits:
        _pack(plan, live[np.argsort(-plan.size[live], kind="stable")])
    return plan.fits


def _lift(plan: Plan, tier: int, candidates: np.ndarray) -> None:
    """Lift candidates in order, passing over what does not fit, until the tier can hold what is left.

    A tier in between may hold too much after that; it is next.
    """
    for block in candidates:
        if plan.used[tier] <= plan.capacity[tier]:
            return
        held = plan.used[0] if tier == 1 else 0
        if plan.level[block] == tier and held + plan.size[block] <= plan.capacity[tier - 1]:
            plan.move_one(block, tier - 1)


def leave_alone(plan: Plan) -> bool:
    """Every block where it was, and the arriving ones wherever there is room, in the fastest tier last.

    Parameters
    ----------
    plan : Plan
        Modified in place.

    Returns
    -------
    bool
        False when there is no room for all.
    """
    level = plan.tiers.level.copy()
    level[plan.view.arriving] = plan.last
    plan.restart(level)
    _fill(plan, 0, plan.write_new(plan.view.arriving, range(1, plan.last)))
    return plan.fits


def _pack(plan: Plan, candidates: np.ndarray) -> None:
    """Fill tier after tier with candidates in order."""
    plan.restart(np.where(plan.view.live, plan.last, plan.last + 1))
    for tier in range(plan.last):
        _fill(plan, tier, candidates)


def _fill(plan: Plan, tier: int, candidates: np.ndarray) -> None:
    """Move candidates from the backing tier, in order, passing over what does not fit, until it can hold the rest."""
    for block in candidates:
        if plan.used[plan.last] <= plan.capacity[plan.last]:
            return
        if plan.level[block] == plan.last and plan.used[tier] + plan.size[block] <= plan.capacity[tier]:
            plan.move_one(block, tier)
