"""The shipped policies over two tiers, compiled: the placements of the slot-by-slot simulation, in less time.

:mod:`kvopt.policies.simulate` asks :func:`simulation_of` and takes its own loop where that has none.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from kvopt import interrupts
from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.policies.belady import Belady
from kvopt.policies.flush import ReactiveFlush
from kvopt.policies.look_ahead import LookAhead
from kvopt.policies.lru import Lru
from kvopt.policies.page import Page
from kvopt.policies.protocol import Policy
from kvopt.policies.static import StaticHottest, StaticOldest, by_token
from kvopt.result import OnProgress, Progress

if TYPE_CHECKING:
    from kvopt.policies.kernels.course import Course

EVENTS = 50
"""Progress events of one run; Ctrl-C is heard between them."""

Simulation = Callable[[Instance, Policy, OnProgress | None], Placement]


def simulation_of(instance: Instance, policy: Policy) -> Simulation | None:
    """The compiled simulation of a policy, if there is one for the instance.

    There is for the shipped policies (not for classes derived from them) over two tiers of which the lower one has room
    for all blocks, with a free start, and of written-back copies none. But for the static ones blocks must be of one
    size, those of a lane in a row.

    Parameters
    ----------
    instance : Instance
    policy : Policy
    """
    if len(instance.states) != 2 or instance.initial is not None:
        return None
    if not instance.rules.inclusive and instance.live_bytes.max() > instance.capacity_bytes[-1]:
        return None
    trace = instance.trace
    ordered = (trace.size_bytes == trace.size_bytes[0]).all() and (trace.lane[1:] >= trace.lane[:-1]).all()
    by_lanes = (Lru, Belady, LookAhead, Page, ReactiveFlush)
    for kinds, simulation in (((StaticOldest, StaticHottest), _static), (by_lanes, _by_lanes)):
        if type(policy) in kinds and (simulation is _static or ordered):
            return simulation
    return None


def _static(instance: Instance, policy: Policy, on_progress: OnProgress | None) -> Placement:
    """Whole lives in the fast tier: which, is decided in one go."""
    began = time.perf_counter()
    chosen = (_hottest if type(policy) is StaticHottest else _oldest)(instance)
    if on_progress is not None:
        on_progress(Progress(time.perf_counter() - began, detail=f"{np.count_nonzero(chosen)} blocks chosen"))
    ptr = np.concatenate([[0], np.cumsum(chosen)])
    return Placement(ptr, instance.birth_slot[chosen], instance.death_slot[chosen])


def _oldest(instance: Instance) -> np.ndarray:
    """bool[B]: the oldest tokens, as long as there is room."""
    from kvopt.policies.kernels.course import by_slot
    from kvopt.policies.kernels.static import first_fitting

    born, born_ptr = by_slot(instance.birth_slot, instance.n_slots)
    dying, dying_ptr = by_slot(instance.death_slot, instance.n_slots)
    born[: born_ptr[1]] = by_token(born[: born_ptr[1]], instance.trace.lane, instance.trace.n_lanes)
    return first_fitting(born, born_ptr, dying, dying_ptr, instance.trace.size_bytes, float(instance.capacity_bytes[0]))


def _hottest(instance: Instance) -> np.ndarray:
    """bool[B]: the most read, greedily."""
    from kvopt.policies.kernels.static import fitting_lives, reads_of

    trace = instance.trace
    reads = reads_of(trace.run_ptr, trace.run_start, trace.run_stop)
    ranked = np.argsort(-reads, kind="stable")[: np.count_nonzero(reads)]
    life = instance.birth_slot, instance.death_slot
    return fitting_lives(ranked, *life, trace.size_bytes, float(instance.capacity_bytes[0]), instance.n_slots)


def _by_lanes(instance: Instance, policy: Policy, on_progress: OnProgress | None) -> Placement:
    """A pass over a lane in each slot, so many slots at a time."""
    from kvopt.policies.kernels.course import course_of
    from kvopt.policies.kernels.log import Log

    began = time.perf_counter()
    course = course_of(instance)
    slots, state = _kernel(policy, instance, course)
    log = Log(course.n_blocks, course.n_slots)
    # As it stands the kernel decides during slot -1 what slot 0 holds, and has nothing to decide during the last.
    slot, last, every = -1, course.n_slots - 1, max(course.n_slots // EVENTS, 1)
    while slot < last:
        if on_progress is not None and slot >= 0:
            on_progress(Progress(time.perf_counter() - began, detail=f"slot {slot} of {course.n_slots}"))
        stop = min(slot + every, last) if slot >= 0 else 0
        while slot < stop:
            interrupts.heed()
            first, slot = slot, slots(course, state, log.page, slot, stop)
            log.turn_page(first + 1, slot + 1)
    return log.placement()


def _kernel(policy: Policy, instance: Instance, course: Course):
    """(kernel, its state before slot 0) of a policy."""
    if type(policy) is Lru:
        from kvopt.policies.kernels.lru import lru_slots, lru_state

        return lru_slots, lru_state(course)
    if type(policy) is Belady:
        from kvopt.policies.kernels.belady import belady_slots, belady_state

        return belady_slots, belady_state(course)
    if type(policy) is Page:
        from kvopt.policies.kernels.pages import pages_slots, pages_state

        return pages_slots, pages_state(course, policy.page_tokens, policy.whole, policy.all_lanes)
    if type(policy) is ReactiveFlush:
        from kvopt.policies.kernels.flush import flush_slots, flush_state

        lanes = 1 if policy.pooled else course.n_lanes
        share = instance.capacity_bytes[0] / lanes // int(instance.trace.size_bytes[0])
        return flush_slots, flush_state(course, int(min(share, course.n_blocks)))
    from kvopt.policies.kernels.look_ahead import look_ahead_slots, look_ahead_state

    return look_ahead_slots, look_ahead_state(course, policy.window_steps, policy.ratio)
