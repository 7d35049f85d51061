"""The curve of the decode time over memory or bandwidth: at every value a certified bound below, a placement above.

More capacity or bandwidth never hurts: every placement stays feasible and no slot takes longer, so the optimum falls as
either grows. What is certified at a value therefore holds at all smaller ones, and what is achieved at a value can be
achieved at all larger ones. Once the points are in, each takes over the better of its own and its neighbours' ends, so
both edges of the band fall, and say from which value they come.

It also holds between the points: there the optimum lies between the bound of the next larger value and the time
achieved at the next smaller one.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from numbers import Real
from typing import TYPE_CHECKING, Any

from kvopt import interrupts
from kvopt.arguments import amount, as_float, check_progress, check_seed, expect, items, real, scalar, whole
from kvopt.compare import compare
from kvopt.errors import KvoptError, MethodError, shown
from kvopt.fingerprint import fingerprint
from kvopt.instance import Instance
from kvopt.result import Progress, Role, relative_gap, versions
from kvopt.solve import check_arguments
from kvopt.vary import Axis, axis
from kvopt.workers import run_each

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("static-hottest", "belady", "look-ahead", "anneal")
"""Quick placements, and the annealer, which starts from the best of them."""

OnValueProgress = Callable[[str, Progress], None]


_STORED_FIX = "Keep points as SweepPoint.to_json writes them"


def _stored(field: str, value: Any) -> float:
    """A finite number of 0 or more from a file."""
    return float(real(field, value, _STORED_FIX, least=0))


@dataclass(frozen=True)
class SweepPoint:
    """One value, and between which times the optimum lies there.

    Parameters
    ----------
    value : float
        Bytes, or bytes per second.
    bound_s : float
        No placement is faster, in seconds.
    bound_source : str
    bound_role : Role
    verified : bool
        Whether the certificate was re-evaluated by the independent slow path, at the instance of ``lower_from``.
    achieved_s : float
        The time of a placement at the instance of ``upper_from``, which here takes no longer.
    method : str
        What found that placement.
    lower_from, upper_from : float
        The values the bound and the placement come from: the point's own, or a larger one's, a smaller one's.
    elapsed_s : float
        What the point itself took.
    """

    value: float
    bound_s: float
    bound_source: str
    bound_role: Role
    verified: bool
    achieved_s: float
    method: str
    lower_from: float
    upper_from: float
    elapsed_s: float

    @property
    def gap(self) -> float | None:
        """``achieved_s / bound_s - 1``; None where the bound is 0."""
        return relative_gap(self.achieved_s, self.bound_s)

    def to_json(self) -> dict[str, Any]:
        """Plain data, which :meth:`from_json` reads."""
        return {
            "value": self.value,
            "bound": {
                "value": self.bound_s,
                "source": self.bound_source,
                "role": self.bound_role.value,
                "verified": self.verified,
            },
            "achieved": {"objective": self.achieved_s, "method": self.method, "role": Role.ACHIEVED.value},
            "gap": self.gap,
            "lower_from": self.lower_from,
            "upper_from": self.upper_from,
            "elapsed_s": self.elapsed_s,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SweepPoint:
        """The point that :meth:`to_json` wrote.

        Raises
        ------
        KeyError, TypeError, ValueError
            When it did not write this.
        """
        bound, achieved = data["bound"], data["achieved"]
        return cls(
            value=_stored("value", data["value"]),
            bound_s=_stored("bound.value", bound["value"]),
            bound_source=expect(str, "bound.source", bound["source"], _STORED_FIX),
            bound_role=Role(bound["role"]),
            verified=expect(bool, "bound.verified", bound["verified"], _STORED_FIX),
            achieved_s=_stored("achieved.objective", achieved["objective"]),
            method=expect(str, "achieved.method", achieved["method"], _STORED_FIX),
            lower_from=_stored("lower_from", data["lower_from"]),
            upper_from=_stored("upper_from", data["upper_from"]),
            elapsed_s=_stored("elapsed_s", data["elapsed_s"]),
        )


@dataclass(frozen=True, eq=False)
class Sweep:
    """The band.

    Parameters
    ----------
    instance : Instance
    vary : str
    unit : str
        "bytes" or "bytes_per_s".
    points : tuple of SweepPoint
        By ascending value; bounds and achieved times never rise.
    seed : int
    time_limit_s : float or None
        Seconds for the bound and for annealing, of each point.
    interrupted : bool
        Ctrl-C left values without a point.
    """

    instance: Instance
    vary: str
    unit: str
    points: tuple[SweepPoint, ...]
    seed: int
    time_limit_s: float | None
    interrupted: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One flat record a point."""
        return [
            {
                "value": p.value,
                "bound_s": p.bound_s,
                "bound_role": p.bound_role.value,
                "bound_source": p.bound_source,
                "achieved_s": p.achieved_s,
                "achieved_role": Role.ACHIEVED.value,
                "method": p.method,
                "gap": p.gap,
                "lower_from": p.lower_from,
                "upper_from": p.upper_from,
                "elapsed_s": p.elapsed_s,
            }
            for p in self.points
        ]

    @property
    def frame(self) -> pd.DataFrame:
        """The points as a DataFrame, values in bytes or bytes per second, times in seconds."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data; :func:`kvopt.sweep_file.load` takes points up from it."""
        return {
            "instance": self.instance.summary(),
            "fingerprint": fingerprint(axis(self.instance, self.vary).neutral),
            "vary": self.vary,
            "unit": self.unit,
            "points": [p.to_json() for p in self.points],
            "seed": self.seed,
            "time_limit_s": self.time_limit_s,
            "interrupted": self.interrupted,
            "versions": versions(),
        }

    def plot(self, ax=None):
        """Draw the band; see :func:`kvopt.plotting.plot_sweep`."""
        from kvopt.plotting import plot_sweep

        return plot_sweep(self, ax)

    def _repr_html_(self) -> str:
        return self.frame._repr_html_()


OnPoint = Callable[[Sweep], None]


@dataclass(frozen=True, eq=False)
class _Job:
    """What all points of one sweep share."""

    axis: Axis
    time_limit: float | None
    seed: int
    threads: int
    labels: dict[float, str]


@interrupts.interruptible
def sweep(
    instance: Instance,
    vary: str,
    values: Iterable[float],
    *,
    time_limit: float | None = 15.0,
    seed: int = 0,
    processes: int | None = None,
    on_progress: OnValueProgress | None = None,
    on_point: OnPoint | None = None,
    done: Sequence[SweepPoint] = (),
) -> Sweep:
    """Bound and place an instance at every value of one of its numbers.

    Parameters
    ----------
    instance : Instance
        What it has of ``vary`` itself does not matter.
    vary : str
        "hbm_bytes", "backing_bytes", or a channel, or several joined by "+" that get the same bandwidth.
    values : iterable of float
        Bytes, cut to whole ones, or bytes per second. In any order; equal ones count once.
    time_limit : float, optional
        Seconds for the bound and for annealing, each, of each point.
    seed : int
        Equal seeds give equal points where no time limit cuts them short, however many processes there are.
    processes : int, optional
        How many points are worked on at a time, the machine's cores shared out among them; by default as many as there
        are cores. With 1, no process is started. A script that calls this with more needs the usual guard
        ``if __name__ == "__main__":``, since processes are spawned.
    on_progress : callable, optional
        Called with the number and text of a value, and its progress.
    on_point : callable, optional
        Called with the sweep so far whenever a point is finished.
    done : sequence of SweepPoint
        Points of an earlier sweep of this instance: kept, and not computed again. :func:`kvopt.sweep_file.load` reads
        them from a file, and checks that they belong here.

    Returns
    -------
    Sweep
        After Ctrl-C, with the points that were finished.

    Raises
    ------
    MethodError
        When there is no value, for a limit or a number of processes that is not positive, or an objective other than
        the decode time.
    KvoptError
        For an unknown ``vary``, or a value at which there is no instance.
    """
    along, wanted = check(instance, vary, values, time_limit=time_limit, processes=processes)
    seed = check_seed(seed)
    check_progress(on_progress)
    for point in expect((tuple, list), "done", done, "Give points of an earlier sweep", MethodError):
        expect(SweepPoint, "done", point, "Give points of an earlier sweep", MethodError)
    known = {point.value for point in done}
    left = [value for value in wanted if value not in known]
    cores = os.cpu_count() or 1
    processes = max(1, min(processes or cores, len(left)))
    labels = {value: f"{k}/{len(wanted)}: {along.text(value)}" for k, value in enumerate(wanted, start=1)}
    points = list(done)

    def found(interrupted: bool = False) -> Sweep:
        return Sweep(instance, along.name, along.unit, tightened(points), seed, time_limit, interrupted)

    def take(point: SweepPoint) -> None:
        points.append(point)
        if on_point is not None:
            on_point(found())

    def relay(event: tuple[str, Progress]) -> None:
        if on_progress is not None:
            on_progress(*event)

    job = _Job(along, time_limit, seed, max(1, cores // processes), labels)
    try:
        run_each(_measure, job, left, processes=processes, on_event=relay, on_done=take)
    except KeyboardInterrupt:
        return found(interrupted=True)
    return found()


def check(
    instance: Instance, vary: str, values: Iterable[float], *, time_limit: float | None, processes: int | None = None
) -> tuple[Axis, list[float]]:
    """What is varied and its values, ascending, after refusing what :func:`sweep` would: for callers with work first.

    Parameters and Raises as of :func:`sweep`.
    """
    along = axis(instance, vary)
    check_arguments("anneal", time_limit)
    if not instance.timed:
        raise MethodError("objective", f"{instance.objective.name!r} is not the decode time", "Sweep that")
    if processes is not None:
        whole("processes", processes, "Give the number of processes", MethodError)
    return along, _values(along, values)


def _values(along: Axis, values: Iterable[float]) -> list[float]:
    """Ascending and distinct; each has been seen to make an instance, so that no hour of work ends in an error."""
    given = items(values)
    if given is None:
        raise MethodError("values", f"must be numbers, got {shown(values)}", "Give at least one value, in a list")
    numbers = [_number(along, value) for value in given]
    wanted = sorted({float(math.floor(v)) if along.is_capacity and math.isfinite(v) else v for v in numbers})
    if not wanted:
        raise MethodError("values", "there is none", "Give at least one value")
    for value in wanted:
        along.at(value)
    return wanted


def _number(along: Axis, value: Any) -> float:
    """A value as a float; amounts such as "3MB" are taken as well."""
    if isinstance(value, str):
        value = amount(along.name, value, f"Give {along.unit}, as in 3e6 or '3MB'")
    value = scalar(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        raise KvoptError(along.name, f"must be a number, got {shown(value)}", f"Give {along.unit}")
    return as_float(value)


def _measure(job: _Job, value: float, tell: Callable[[tuple[str, Progress]], None]) -> SweepPoint:
    """One point by itself.

    Raises
    ------
    KeyboardInterrupt
        When Ctrl-C cut it short: half a point would stay in the file as if it were a whole one.
    """
    # Imported on use: ``python -m kvopt.warmup`` is a command, which ``import kvopt`` should not have imported before.
    from kvopt.warmup import load_kernels

    label, instance = job.labels[value], job.axis.at(value)
    tell((label, Progress(0.0, detail="starting")))
    load_kernels(instance)
    began = time.perf_counter()

    def relay(_method: str, event: Progress) -> None:
        # One row a value: its clock is the point's, not that of the method at work.
        tell((label, replace(event, elapsed_s=time.perf_counter() - began)))

    found = compare(instance, METHODS, time_limit=job.time_limit, seed=job.seed, threads=job.threads, on_progress=relay)
    if found.interrupted:
        raise KeyboardInterrupt
    elapsed_s, bound, best = time.perf_counter() - began, found.bound, found.best
    if best is None:
        reasons = "; ".join(f"{name}: {result.error}" for name, result in found.results.items())
        raise MethodError("sweep", f"no method has a placement at {job.axis.text(value)} ({reasons})", "Leave it out")
    tell((label, Progress(elapsed_s, best.objective, bound.value, "finished", last=True)))
    return SweepPoint(
        value=value,
        bound_s=float(bound.value),
        bound_source=bound.source,
        bound_role=bound.role,
        verified=bound.verified,
        achieved_s=float(best.objective),
        method=best.method,
        lower_from=value,
        upper_from=value,
        elapsed_s=elapsed_s,
    )


def tightened(points: Iterable[SweepPoint]) -> tuple[SweepPoint, ...]:
    """Points by ascending value, each with the highest bound at or above it and the least time achieved at or below it.

    Of equal ones the nearest counts. Tightening some points, and then those with others, is the same as all at once:
    so a sweep that is taken up again ends like one that never stopped.
    """
    points = sorted(points, key=lambda p: p.value)
    bounds = [*accumulate(reversed(points), lambda right, own: max(own, right, key=_bound_rank))][::-1]
    achieved = accumulate(points, lambda left, own: min(own, left, key=_achieved_rank))
    return tuple(
        replace(
            point,
            bound_s=lower.bound_s,
            bound_source=lower.bound_source,
            bound_role=lower.bound_role,
            verified=lower.verified,
            lower_from=lower.lower_from,
            achieved_s=upper.achieved_s,
            method=upper.method,
            upper_from=upper.upper_from,
        )
        for point, lower, upper in zip(points, bounds, achieved, strict=True)
    )


def _bound_rank(point: SweepPoint) -> tuple[float, float]:
    return point.bound_s, -point.lower_from


def _achieved_rank(point: SweepPoint) -> tuple[float, float]:
    return point.achieved_s, -point.upper_from
