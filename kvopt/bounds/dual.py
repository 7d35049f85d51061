r"""The certified bound: Lagrangian dual, ascended through its entropic smoothing.

With prices on channels and on bytes of capacity every block chooses its own cheapest path, and what all pay is at most
the optimum (:mod:`kvopt.bounds.ascent`). At a temperature tau that is smooth, so a quasi-Newton method climbs it; tau
falls by a fixed factor from stage to stage, and each stage ends with evaluations at tau = 0, which are what counts.
Large instances are asked by samples (:mod:`kvopt.bounds.sample`), the larger the colder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from kvopt import interrupts
from kvopt.arguments import check_threads, real
from kvopt.bounds.aggregate import slotwise_prices, uniform_step_price
from kvopt.bounds.ascent import Ascent
from kvopt.bounds.begin import begun
from kvopt.bounds.certificate import surely_late, verify
from kvopt.bounds.checkpoint import Checkpoint, Reached
from kvopt.bounds.climb import Climb, Found, Wide
from kvopt.bounds.clock import Clock
from kvopt.bounds.lanes import lanes_first
from kvopt.bounds.merge import merged
from kvopt.bounds.paths import usual_s
from kvopt.bounds.spare import for_nothing, spare_tiers, without
from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.lowering import Lowered, lower, unit_per_byte
from kvopt.result import Bound, Certificate, Guide, OnProgress, Progress, Role, Termination
from kvopt.trellis import Trellis

_LANES_SHARE = 0.35
"""Share of a time limit for a few lanes, where they are asked first."""


@interrupts.interruptible
def dual_bound(
    instance: Instance,
    *,
    time_limit_s: float | None = None,
    start: Certificate | Bound | None = None,
    target_s: float | None = None,
    gap: float | None = None,
    tolerance: float = 2e-5,
    checkpoint: str | os.PathLike | None = None,
    on_progress: OnProgress | None = None,
    threads: int | None = None,
) -> Bound:
    """The best Lagrangian bound found, verified.

    Parameters
    ----------
    instance : Instance
    time_limit_s : float, optional
        The best multipliers so far are kept when it is over, or at Ctrl-C. Verification is within it.
    start : Certificate or Bound, optional
        Multipliers to start from; else the slot-wise prices of the aggregate bound. A bound of this instance is
        gone on with where its ascent was stopped, and what comes of it is no lower.
    target_s : float, optional
        An achieved value of the objective; progress events report the gap to it.
    gap : float, optional
        Stop when ``target_s`` lies above the bound by no more than this share of it.
    tolerance : float
        Stop when two temperatures in a row each change the bound by less than this share.
    checkpoint : path, optional
        File that the multipliers are written to now and then and at the end, and gone on from if it is there.
    on_progress : callable, optional
    threads : int, optional
        The value does not depend on it.

    Returns
    -------
    Bound
        Source "dual", with its certificate; ``value_s`` is what :func:`kvopt.bounds.certificate.verify` recomputed.

    Raises
    ------
    KvoptError
        When the checkpoint or the start is of another instance, or holds no admissible multipliers; when the checkpoint
        is not writable.
    MethodError
        For a gap that is negative, or without a target; for numbers that mean nothing.

    References
    ----------
    Everett (1963), generalized Lagrange multipliers; Nesterov (2005), smooth minimization of non-smooth functions;
    Bertsekas (1982), projected Newton methods; Liu and Nocedal (1989), L-BFGS.
    """
    check_threads(threads)
    real("tolerance", tolerance, "Give one", MethodError, least=0.0)
    goal = _goal(target_s, gap)
    file = None if checkpoint is None else Checkpoint(Path(checkpoint), instance)
    return _ascended(
        instance,
        time_limit_s=time_limit_s,
        start=start,
        target_s=target_s,
        goal=goal,
        tolerance=tolerance,
        file=file,
        on_progress=on_progress,
        threads=threads,
    )


def _ascended(
    instance: Instance,
    *,
    time_limit_s: float | None,
    tolerance: float,
    on_progress: OnProgress | None,
    threads: int | None,
    start: Certificate | Bound | None = None,
    target_s: float | None = None,
    goal: float = np.inf,
    file: Checkpoint | None = None,
    go_on: Callable[[Guide], bool] = lambda guide: True,
) -> Bound:
    """As :func:`dual_bound`; ``go_on`` is asked after every temperature."""
    began = time.perf_counter()
    low = merged(lower(instance))
    spare = spare_tiers(low)
    low = without(low, spare)
    start, reached, earlier = *begun(instance, low, start, file), start
    slotwise_s, slotwise = slotwise_prices(low)
    step_price = np.full(low.n_steps, uniform_step_price(low)) if low.prices.stepwise else None
    first = Certificate(slotwise, np.repeat(low.keep_out_price[:, None], low.n_slots, axis=1), step_price)
    late_price = slotwise_prices(low, seconds_only=True)[1] if low.prices.deadlines else None
    slot_s = _scale(low, slotwise_s)
    if slot_s <= 0:  # Nothing ever costs anything: the bound is 0, and there is no scale to climb in.
        nothing = Found(for_nothing(first, spare), low.base_price)
        return _finished(instance, nothing, Termination.OPTIMAL, began, (), late_price)
    clock = Clock(low, began, np.inf if time_limit_s is None else time_limit_s, usual_s(instance))
    trellis = Trellis(low, **({} if threads is None else {"threads": threads}))
    climb = Climb(Ascent(low, trellis, slot_s, clock), instance.objective.unit, target_s, goal, on_progress, file)
    climb.guides += earlier.guides if isinstance(earlier, Bound) else ()
    climb.go_on, climb.outward = go_on, partial(for_nothing, spare=spare)
    wide = None
    if reached is None and start is None and (count := lanes_first(low, instance)):
        wide = Wide(climb.ascent, instance.with_lanes(count), instance)
        asked = _ascended(
            wide.few,
            time_limit_s=None if time_limit_s is None else _LANES_SHARE * time_limit_s,
            tolerance=tolerance,
            on_progress=climb.of_lanes(count),
            threads=threads,
            go_on=wide,
        )
        climb.interrupted = asked.termination is Termination.INTERRUPTED
    start = start or first
    termination = climb.climb(reached or Reached(start, start, 0), first, tolerance, wide)
    best = replace(climb.best, certificate=climb.outward(climb.best.certificate))
    found = _finished(instance, best, termination, began, tuple(climb.history), late_price)
    # What keeps paths out of spare tiers keeps an annealer's out, too; but nothing has a price where it is endless.
    endless = spare & ~np.isfinite(instance.capacity_bytes)
    guides = (replace(guide, certificate=for_nothing(guide.certificate, endless)) for guide in climb.guides)
    now = climb.now and replace(climb.now, certificate=for_nothing(climb.now.certificate, endless))
    return replace(found, guides=tuple(guides), reached=now)


def _goal(target: float | None, gap: float | None) -> float:
    """The bound that is high enough."""
    if target is not None:
        real("target_s", target, "Give one", MethodError)
    if gap is None:
        return np.inf
    if target is None:
        raise MethodError("gap", "needs the achieved value it is a gap to", "Give target_s too")
    return target / (1.0 + real("gap", gap, "Give one", MethodError, least=0.0))


def _scale(low: Lowered, slotwise_s: np.ndarray) -> float:
    """About what a slot costs."""
    slot_s = float(slotwise_s.mean())
    if slot_s > 0:
        return slot_s
    # Where one tier's reads are free, no slot need cost anything by itself; moves may.
    return unit_per_byte(low, uniform_step_price(low)) * float(low.size_bytes.sum()) / low.n_slots


def _finished(
    instance: Instance,
    found: Found,
    termination: Termination,
    began: float,
    history: tuple[Progress, ...],
    late_price: np.ndarray | None,
) -> Bound:
    """Verify, and refuse to return a number on which the kernel and the slow path differ."""
    certificate = replace(found.certificate, late_price=late_price)
    value_s = found.value + surely_late(instance, late_price)
    with interrupts.held():  # Without it all was in vain.
        verified_s = verify(instance, certificate)
    mu, capacity = certificate.capacity_price_s_per_byte, instance.fillable_bytes[:, None]
    # Rent and paths may be far larger than their difference, and it is they that are rounded.
    rent_s = float(np.sum(np.multiply(mu, capacity, out=np.zeros_like(mu), where=mu > 0)))
    differ = (value_s - verified_s, verified_s - value_s if found.hard and np.isfinite(value_s) else 0.0)
    if max(differ) > 1e-8 * (abs(verified_s) + rent_s):
        raise AssertionError(f"the kernel says {value_s!r} s, verification {verified_s!r} s")
    if verified_s < 0:  # Without rent, paths of costs that are 0 or more prove 0 at least.
        certificate = replace(certificate, capacity_price_s_per_byte=np.zeros_like(mu))
        with interrupts.held():
            verified_s = verify(instance, certificate)
    return Bound(
        value=verified_s,
        unit=instance.objective.unit,
        source="dual",
        role=Role.CERTIFIED,
        verified=True,
        certificate=certificate,
        termination=termination,
        elapsed_s=time.perf_counter() - began,
        history=history,
    )
