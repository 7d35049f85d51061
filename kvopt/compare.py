"""One table that compares methods under one cost model, each with its gap to one certified bound."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kvopt import interrupts
from kvopt.arguments import check_progress, check_seed, expect, items
from kvopt.errors import MethodError, shown
from kvopt.instance import Instance
from kvopt.objective import Objective
from kvopt.result import Bound, Progress, Result, Role, Termination, relative_gap, versions
from kvopt.solve import ALIASES, ENGINES, GUIDED, bound, check_accepts, check_instance, methods, solve

if TYPE_CHECKING:
    import pandas as pd

    from kvopt.platform import Platform
    from kvopt.trace import Trace

DEFAULT_METHODS = ("static-oldest", "static-hottest", "lru", "belady", "look-ahead", "anneal", "exact")
BASELINE = "static-oldest"
TIMED = (*ENGINES, GUIDED)
"""Methods that heed a time limit."""
_EXACT_STEPS = 8
_EXACT_COLUMNS = 10_000
"""Above this many columns "exact" is run on a sub-instance, and the table says so."""

OnMethodProgress = Callable[[str, Progress], None]


@dataclass(frozen=True, eq=False)
class Comparison:
    """Results side by side.

    Parameters
    ----------
    instance : Instance
    bound : Bound
        What every gap refers to.
    ideal : Bound
        The aggregate-bandwidth bound: all bytes at full aggregate bandwidth, no capacity, no moves.
    results : dict of method to Result
    sub : Comparison or None
        Where "exact" was asked for but the instance is too large: the same comparison on a sub-instance.
    seed : int
    """

    instance: Instance
    bound: Bound
    ideal: Bound
    results: dict[str, Result]
    sub: Comparison | None = None
    seed: int = 0
    interrupted: bool = field(default=False)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One record a method; None where a method has nothing."""
        baseline = self.results.get(BASELINE)
        reference = baseline.evaluation.latency_s if baseline and baseline.evaluation else None
        return [self._row(result, reference) for result in self.results.values()]

    def _row(self, result: Result, reference: float | None) -> dict[str, Any]:
        found = result.evaluation
        latency = found.latency_s if found else None
        return {
            "method": result.method,
            "role": Role.ACHIEVED.value if found else None,
            "latency_s": latency,
            "tokens_per_s": _finite(found.tokens_per_s) if found else None,
            "speedup_vs_static": reference / latency if reference and latency else None,
            "objective": result.objective,
            "objective_unit": self.bound.unit,
            "gap": relative_gap(result.objective, self.bound.value),
            "kv_hit_rate": _finite(found.kv_hit_rate) if found else None,
            "hit_rate_with_weights": _finite(found.hit_rate_with_weights) if found else None,
            "moved_bytes": found.moved_bytes if found else None,
            "elapsed_s": result.elapsed_s,
            "status": result.termination.value,
            "error": result.error,
            "refuted": None if result.refuted is None else bound_record(result.refuted),
        }

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    @property
    def best(self) -> Result | None:
        """The result with the least decode time."""
        return _best(self.results)

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        data = {
            "instance": self.instance.summary(),
            "bound": bound_record(self.bound),
            "ideal": bound_record(self.ideal),
            "rows": self.rows,
            "seed": self.seed,
            "interrupted": self.interrupted,
            "versions": versions(),
        }
        if self.sub is not None:
            data["sub_instance"] = self.sub.to_json()
        return data

    def _repr_html_(self) -> str:
        return self.frame._repr_html_()


def _best(results: dict[str, Result]) -> Result | None:
    found = [r for r in results.values() if r.objective is not None]
    return min(found, key=lambda r: r.objective) if found else None


def bound_record(bound: Bound) -> dict[str, Any]:
    """A bound as plain data, without its certificate; a value of None is the claim that there is no placement."""
    value, by = _finite(bound.value), bound.refuted_by
    return {
        "value_s": value if bound.unit == "s" else None,
        "value": value,
        "unit": bound.unit,
        "source": bound.source,
        "role": bound.role.value,
        "verified": bound.verified,
        "elapsed_s": bound.elapsed_s,
        "status": bound.termination.value,
        "refuted_by": None if by is None else {"value": by.value, "source": by.source},
    }


@interrupts.interruptible
def compare(
    instance: Instance,
    methods: Sequence[str] = DEFAULT_METHODS,
    *,
    time_limit: float | None = 15.0,
    seed: int = 0,
    objective: Objective | None = None,
    threads: int | None = None,
    on_progress: OnMethodProgress | None = None,
) -> Comparison:
    """Run methods on one instance and set each beside the certified bound.

    Parameters
    ----------
    instance : Instance
    methods : sequence of str
        See :func:`kvopt.methods`. "exact" runs on a sub-instance when the instance is too large for it. One chain of
        "anneal" starts from the best of the methods before it, which it is never worse than.
    time_limit : float, optional
        Seconds for each of: the bound, annealing, the exact model, the guided policy. Policies take what they take.
    seed : int
    objective : Objective, optional
        In place of the instance's; see :mod:`kvopt.objective`.
    threads : int, optional
        Of the bound and of annealing; by default as many as there are cores.
    on_progress : callable, optional
        Called with the method's name and its progress.

    Returns
    -------
    Comparison
        After Ctrl-C, with what was finished by then. Of several methods, one that ends in an error has a row that says
        so (``Termination.FAILED``) and costs the others nothing. What a solver claims is held against all placements
        found: see :meth:`kvopt.Result.against`.

    Raises
    ------
    KvoptError
        Before any work, for an unknown method or an objective without a bound; afterwards where the bound fails, or the
        only method asked for.
    """
    check_instance(instance)
    names = check_methods(methods)
    check_seed(seed)
    check_progress(on_progress)
    if objective is not None:
        instance = instance.with_objective(objective)

    def progress_of(name: str):
        return None if on_progress is None else lambda event: on_progress(name, event)

    check_accepts(instance, "bound")  # Every row is set beside a bound.
    ideal = bound(instance, method="aggregate")
    certified = bound(instance, time_limit=time_limit, threads=threads, on_progress=progress_of("bound"))
    results: dict[str, Result] = {}
    sub = None
    stopped = certified.termination is Termination.INTERRUPTED
    for name in names:
        if stopped:
            break
        limits = {"time_limit": time_limit if name in TIMED else None, "seed": seed, "bound": certified}
        if name == "anneal":
            limits |= {"start": _best(results), "threads": threads}
        try:
            if name == "exact" and _too_large(instance):
                sub = _compare_sub(instance, time_limit, seed, progress_of(name))
                stopped = sub.interrupted
                continue
            results[name] = solve(instance, name, on_progress=progress_of(name), **limits)
            stopped = results[name].termination is Termination.INTERRUPTED
            interrupts.heed()
        except KeyboardInterrupt:
            stopped = True
        except Exception as error:
            if len(names) == 1:
                raise
            results[name] = _failed(name, error, seed, progress_of(name))
    return Comparison(instance, certified, ideal, held_against_best(results, certified), sub, seed, stopped)


def _failed(name: str, error: Exception, seed: int, on_progress: Callable[[Progress], None] | None) -> Result:
    """The row of a method that raised an error, told of at once."""
    failed = Result.failed(name, error, seed=seed)
    if on_progress is not None:
        on_progress(Progress(0.0, detail=f"failed: {failed.error}", last=True))
    return failed


def held_against_best(results: dict[str, Result], certified: Bound | None = None) -> dict[str, Result]:
    """The results, less claims of a solver that the best placement among them contradicts.

    Parameters
    ----------
    results : dict of method to Result
        Of one instance.
    certified : Bound, optional
        What stands in for a refuted claim.
    """
    best = _best(results)
    if best is None:
        return results
    return {name: r.against(best.objective, best.method, certified) for name, r in results.items()}


def sub_instance(instance: Instance, most_columns: int = _EXACT_COLUMNS, steps: int = _EXACT_STEPS) -> Instance:
    """A part of an instance that the exact model can solve: the fullest lane, its first steps, every k-th block.

    Capacities and weights shrink by the share of the live bytes that is kept, so that the part is as tight as the
    whole, but that its backing tier has room for all. It begins free, also where the whole does not.

    Parameters
    ----------
    instance : Instance
    most_columns : int
        Columns the exact model may have, about.
    steps : int
        Steps of the part.
    """
    check_instance(instance)
    trace = instance.trace
    first = max(int(trace.write_step.min()), 0)
    last = min(first + steps, trace.n_steps)
    steps = last - first
    alive = (trace.write_step < last) & (trace.free_step > first)
    lane = int(np.bincount(trace.lane[alive]).argmax())
    in_lane = np.flatnonzero(alive & (trace.lane == lane))
    # A variable for each state and each way from one to another, for every block and slot, is about what there are.
    keep = max(4, most_columns // (len(instance.states) ** 2 * steps))
    chosen = np.zeros(trace.n_blocks, bool)
    chosen[in_lane[np.linspace(0, len(in_lane) - 1, min(keep, len(in_lane))).astype(int)]] = True
    part = trace.window((first, last), lanes=[lane], blocks=chosen, name=f"{trace.name}, part")
    live = instance.live_bytes[first * trace.n_lanes : last * trace.n_lanes].mean()
    kept = part.summary()["peak_live_bytes"] / live
    return Instance(
        part,
        _shrunk(instance, part, kept),
        instance.rules,
        weight_bytes_per_slot=instance.weight_bytes_per_slot * kept,
        batch=instance.batch,
        objective=instance.objective,
    )


def _shrunk(instance: Instance, part: Trace, kept: float) -> Platform:
    """The platform with this share of every capacity, but room for all in the last tier, and in the first for any block
    that it had room for."""
    platform, last = instance.platform, len(instance.capacity_bytes) - 1
    fitting = part.size_bytes[part.size_bytes <= instance.capacity_bytes[0]]
    least = {0: float(fitting.max(initial=0)), last: float(part.size_bytes.sum())}
    for tier, capacity in enumerate(instance.capacity_bytes):
        if tier == 0 or math.isfinite(capacity):
            platform = platform.with_capacity(max(capacity * kept, least.get(tier, 0.0)), tier)
    return platform


def _compare_sub(instance: Instance, time_limit: float | None, seed: int, on_progress) -> Comparison:
    part = sub_instance(instance)
    certified = bound(part, time_limit=time_limit)
    if certified.termination is Termination.INTERRUPTED:
        raise KeyboardInterrupt
    results: dict[str, Result] = {}
    stopped = False
    for name in (BASELINE, "anneal", "exact"):
        limits = {"time_limit": time_limit if name in TIMED else None, "seed": seed, "bound": certified}
        if name == "exact":
            limits |= {"start": _best(results), "on_progress": on_progress}
        try:
            interrupts.heed()
            results[name] = solve(part, name, **limits)
            stopped = results[name].termination is Termination.INTERRUPTED
        except KeyboardInterrupt:
            stopped = True
        except Exception as error:
            results[name] = _failed(name, error, seed, on_progress)
        if stopped:
            break
    ideal = bound(part, method="aggregate")
    return Comparison(part, certified, ideal, held_against_best(results, certified), None, seed, stopped)


def _too_large(instance: Instance) -> bool:
    from kvopt.exact import column_count

    return column_count(instance) > _EXACT_COLUMNS


def check_methods(names: Sequence[str]) -> list[str]:
    """Names in the order given, aliases resolved: for callers with long work before :func:`compare`.

    Raises
    ------
    MethodError
        For a name that no method has.
    """
    known = methods()
    fix = f"Give a list of some of: {', '.join(known)}"
    given = items(names)
    if given is None:
        raise MethodError("methods", f"must be a list of names, got {shown(names)}", fix)
    resolved = []
    for name in given:
        expect(str, "methods", name, fix, MethodError)
        name = ALIASES.get(name, name)
        if name not in known:
            raise MethodError("methods", f"there is no method {shown(name)}", f"Choose from: {', '.join(known)}")
        if name not in resolved:
            resolved.append(name)
    return resolved


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
