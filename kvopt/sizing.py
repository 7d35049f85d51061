"""The least memory or bandwidth with which a decode time can be met: an interval, proven below and achieved above.

More capacity or bandwidth never hurts: every placement stays feasible and no slot takes longer, so the optimum falls as
either grows. A certified bound above the target at one value therefore rules out all smaller values, and a placement
that meets the target at one value meets it at all larger ones.

For a capacity C one certificate says more: with its multipliers fixed, the bound is a straight line in C of slope
``-sum_t mu[k, t]`` of its tier k, and it reaches the target at a C* below which nothing can meet it, whatever C itself
was. So every probe raises the proven end, also those whose own bound lies below the target.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvopt import interrupts
from kvopt.arguments import check_progress, check_seed, real
from kvopt.errors import Infeasible, MethodError, shown
from kvopt.instance import Instance
from kvopt.result import Bound, Certificate, Progress, Result, Termination
from kvopt.solve import bound, solve
from kvopt.vary import Axis, axis

_SHARE_OF_LOWER = 0.4
"""Share of the time limit for the proven end."""
_START_TAU = 0.0125
"""Temperature of the multipliers from which the dual of the next value starts."""
_PROBES = 6
"""Annealing runs the time left is divided among."""
_POLICIES = ("belady", "look-ahead")
"""Quick placements to try before annealing."""

OnSizingProgress = Callable[[str, Progress], None]


@dataclass(frozen=True, eq=False)
class Sizing:
    """Between which values the least one lies.

    Parameters
    ----------
    instance : Instance
    vary : str
    unit : str
        "bytes" or "bytes_per_s".
    target_s : float
    lower : float or None
        No value up to this one meets the target, proven; infinite if none at all does; None when nothing is proven.
    upper : float or None
        A placement meets the target with this value; None when none was found.
    certificate : Certificate or None
        Proves the lower end, at the instance with that value.
    result : Result or None
        Achieves the upper end.
    lower_source, upper_source : str or None
    probes : tuple of dict
        ``value``, ``bound_s`` and ``achieved_s`` of every instance looked at; None where not asked.
    termination : Termination
    elapsed_s : float
    """

    instance: Instance
    vary: str
    unit: str
    target_s: float
    lower: float | None
    upper: float | None
    certificate: Certificate | None
    result: Result | None
    lower_source: str | None
    upper_source: str | None
    probes: tuple[dict[str, float | None], ...]
    termination: Termination
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; ``attainable`` is False when no value meets the target."""
        finite = self.lower is not None and math.isfinite(self.lower)
        return {
            "instance": self.instance.summary(),
            "vary": self.vary,
            "target_latency_s": self.target_s,
            f"lower_{self.unit}": self.lower if finite else None,
            "lower_source": self.lower_source,
            f"upper_{self.unit}": self.upper,
            "upper_source": self.upper_source,
            "attainable": None if self.upper is None and (self.lower is None or finite) else self.upper is not None,
            "probes": list(self.probes),
            "status": self.termination.value,
            "elapsed_s": self.elapsed_s,
        }


@interrupts.interruptible
def size(
    instance: Instance,
    target_latency_s: float,
    *,
    vary: str = "hbm_bytes",
    time_limit: float | None = 60.0,
    seed: int = 0,
    tolerance: float = 0.01,
    on_progress: OnSizingProgress | None = None,
) -> Sizing:
    """The least capacity or bandwidth that meets a decode time.

    Parameters
    ----------
    instance : Instance
        What it has of ``vary`` itself does not matter.
    target_latency_s : float
    vary : str
        "hbm_bytes", "backing_bytes", or a channel, or several joined by "+" that get the same bandwidth.
    time_limit : float, optional
        Seconds for everything. The interval in hand is returned when it is over, or at Ctrl-C.
    seed : int
    tolerance : float
        Stop when the ends are this close, relative to the lower one.
    on_progress : callable, optional
        Called with "lower" or "upper" and the progress of the engine at work.

    Raises
    ------
    MethodError
        For a target, limit or tolerance that is not positive.
    KvoptError
        For an unknown ``vary``.
    """
    along = check(instance, target_latency_s, vary, time_limit, tolerance)
    seed = check_seed(seed)
    check_progress(on_progress)
    search = _Search(along, target_latency_s, time_limit, seed, tolerance, on_progress)
    termination = Termination.FINISHED
    try:
        search.rule_out()
        search.achieve()
    except KeyboardInterrupt:
        termination = Termination.INTERRUPTED
    if termination is Termination.FINISHED and search.late(1.0):
        termination = Termination.TIME_LIMIT
    return search.found(instance, termination)


def check(
    instance: Instance, target_latency_s: float, vary: str, time_limit: float | None, tolerance: float = 0.01
) -> Axis:
    """What is varied, after refusing what :func:`size` would refuse: for callers with long work before it.

    Parameters and Raises as of :func:`size`.
    """
    along = axis(instance, vary)
    for name, value in (("target_latency_s", target_latency_s), ("time_limit", time_limit), ("tolerance", tolerance)):
        if value is None and name == "time_limit":
            continue
        if not real(name, value, "Give seconds, or a share", MethodError) > 0:
            raise MethodError(
                name, f"must be finite and greater than 0, got {shown(value)}", "Give seconds, or a share"
            )
    if not instance.timed:
        raise MethodError("objective", f"{instance.objective.name!r} is not the decode time", "Size for that")
    return along


class _Search:
    """Both ends of the interval so far."""

    def __init__(
        self,
        along: Axis,
        target_s: float,
        time_limit: float | None,
        seed: int,
        tolerance: float,
        on_progress: OnSizingProgress | None,
    ) -> None:
        self.axis, self.target_s, self.seed, self.tolerance = along, target_s, seed, tolerance
        self.began = time.perf_counter()
        self.time_limit, self.on_progress = time_limit, on_progress
        self.lower: float | None = None
        self.upper: float | None = None
        self.certificate: Certificate | None = None
        self.result: Result | None = None
        self.start: Certificate | None = None
        self.probes: list[dict[str, float | None]] = []

    def late(self, share: float) -> bool:
        """Whether that share of the time is over."""
        return self.time_limit is not None and time.perf_counter() - self.began > share * self.time_limit

    def left(self, parts: int, share: float = 1.0) -> float | None:
        """Seconds a probe may take when the time up to that share is to hold so many."""
        if self.time_limit is None:
            return None
        left = share * self.time_limit - (time.perf_counter() - self.began)
        return max(left / parts, 0.02 * self.time_limit)

    def rule_out(self) -> None:
        """Raise the proven end: first whether no value at all will do, then bisection."""
        at = self.axis.most
        if self._bound(at).value > self.target_s:
            self.lower = math.inf
            return
        low, high = self.axis.least, at
        while not self.late(_SHARE_OF_LOWER) and not self.axis.near(low, high, self.tolerance / 4):
            at = self.axis.between(low, high)
            if self._at(at) is None:
                low = at
                continue
            found = self._bound(at)
            if found.value > self.target_s:
                low = max(low, self.lower or low, at)
            else:
                high = at
                low = max(low, self.lower or low)

    def _at(self, value: float) -> Instance | None:
        """The instance with this value, if blocks can be split over its tiers."""
        try:
            return self.axis.at(value)
        except Infeasible:
            return None

    def _bound(self, value: float) -> Bound:
        instance = self.axis.at(value)
        found = bound(
            instance,
            time_limit=self.left(3, _SHARE_OF_LOWER),
            start=self.start,
            target_s=self.target_s,
            on_progress=self._progress("lower"),
        )
        warm = found.guide(_START_TAU)
        self.start = found.certificate if warm is None else warm.certificate
        self.probes.append({"value": value, "bound_s": float(found.value), "achieved_s": None})
        self._prove(value, found)
        if found.termination is Termination.INTERRUPTED:
            raise KeyboardInterrupt
        return found

    def _prove(self, value: float, found: Bound) -> None:
        """Keep the highest value that this certificate rules out, if it is above what others do."""
        reach = value
        if self.axis.is_capacity:
            slope = float(np.sum(found.certificate.capacity_price_s_per_byte[self.axis.tier]))
            gain = found.value - self.target_s
            reach = value + gain / slope if slope > 0 else (value if gain > 0 else -math.inf)
        elif found.value <= self.target_s:
            return
        # The last byte may be lost to rounding, and the line has a step at every block: what counts is what verify
        # says there.
        for candidate in (reach, reach * (1 - 1e-6), reach * (1 - 1e-3), min(reach, value)):
            if not (math.isfinite(candidate) and self.axis.least <= candidate <= self.axis.most):
                continue
            candidate = self.axis.rounded(candidate)
            if self.lower is not None and candidate <= self.lower:
                return
            if self._verified(candidate, found.certificate) > self.target_s:
                self.lower, self.certificate = candidate, found.certificate
                return

    def _verified(self, value: float, certificate: Certificate) -> float:
        from kvopt.bounds.certificate import verify

        instance = self._at(value)
        return -math.inf if instance is None else verify(instance, certificate)

    def achieve(self) -> None:
        """Lower the achieved end by bisection between the ends."""
        if self.lower == math.inf:
            return
        self._try(self.axis.most)
        low = self.axis.least if self.lower is None else self.lower
        if self.upper is not None and self.lower is None:
            self._try(low)
        while self.upper is not None and not self.late(1.0) and not self.axis.near(low, self.upper, self.tolerance):
            at = self.axis.between(low, self.upper)
            if not self._try(at):
                low = at

    def _try(self, value: float) -> bool:
        """Whether some method meets the target there; keeps it if so."""
        instance = self._at(value)
        if instance is None:
            return False
        best: Result | None = None
        interrupted = False
        for method in (*_POLICIES, "anneal"):
            found = self._anneal(instance, best) if method == "anneal" else _by_rule(instance, method)
            interrupts.heed()
            if found is None:
                continue
            interrupted |= found.termination is Termination.INTERRUPTED
            if best is None or (found.objective or math.inf) < best.objective:
                best = found
            if best.objective <= self.target_s:
                break
        self.probes.append({"value": value, "bound_s": None, "achieved_s": best.objective})
        if best.objective <= self.target_s:
            self._keep(value, best)
        # Also when the best is a policy's: it was annealing that Ctrl-C cut short.
        if interrupted:
            raise KeyboardInterrupt
        return best.objective <= self.target_s

    def _anneal(self, instance: Instance, best: Result | None) -> Result:
        return solve(
            instance,
            "anneal",
            time_limit=self.left(_PROBES),
            seed=self.seed,
            start=best,
            # Less rounding, so that the evaluator agrees.
            enough_s=self.target_s * (1 - 1e-9),
            on_progress=self._progress("upper"),
        )

    def _keep(self, value: float, found: Result) -> None:
        """The placement needs no more of the tier than it fills at its fullest."""
        if self.axis.is_capacity:
            value = min(value, self.axis.rounded(float(found.evaluation.held_bytes[self.axis.tier].max())))
        if self.upper is None or value < self.upper:
            self.upper, self.result = value, found

    def _progress(self, end: str):
        return None if self.on_progress is None else lambda event: self.on_progress(end, event)

    def found(self, instance: Instance, termination: Termination) -> Sizing:
        """What is in hand."""
        return Sizing(
            instance=instance,
            vary=self.axis.name,
            unit=self.axis.unit,
            target_s=self.target_s,
            lower=self.lower,
            upper=self.upper,
            certificate=self.certificate,
            result=self.result,
            lower_source=None if self.lower is None else "dual, certified, verified",
            upper_source=None if self.result is None else f"{self.result.method}, achieved",
            probes=tuple(self.probes),
            termination=termination,
            elapsed_s=time.perf_counter() - self.began,
        )


def _by_rule(instance: Instance, policy: str) -> Result | None:
    """A policy's result; None where it finds no split of the blocks over full tiers."""
    try:
        return solve(instance, policy)
    except MethodError:
        return None
