"""The exact engine: the model of :mod:`kvopt.models.placement`, built one of two ways, solved by HiGHS."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from enum import Enum

from kvopt import interrupts
from kvopt.arguments import real
from kvopt.errors import MethodError
from kvopt.evaluate import evaluate
from kvopt.exact import arrays, highs
from kvopt.exact.capacity import with_exact_rows
from kvopt.exact.highs import LpSolver
from kvopt.exact.layout import Layout, column_count
from kvopt.exact.plain import plain_placement
from kvopt.exact.program import Program
from kvopt.exact.rounds import Rounds
from kvopt.exact.scaling import LEAST
from kvopt.exact.tracker import Tracker
from kvopt.instance import Instance
from kvopt.lowering import Lowered, lower
from kvopt.objective import accepts
from kvopt.placement import Placement
from kvopt.result import Bound, OnProgress, Result, Role, Termination

PYOMO_COLUMNS = 5_000
"""Up to this size "auto" takes the Pyomo model, built in about 0.1 s; ``tests/benchmarks/bench_exact.py`` measures."""

_AGREEMENT = 1e-6
"""Between what a user's expression and its of_loads make of a placement, relative: HiGHS's tolerances, and rounding."""


class Backend(Enum):
    """How the model reaches HiGHS; the program is the same."""

    AUTO = "auto"
    """Pyomo for small models without a time limit, as importing it takes seconds; else arrays."""
    ARRAYS = "arrays"
    PYOMO = "pyomo"


_BUILD_S = {Backend.ARRAYS: 1e-6, Backend.PYOMO: 2e-5}
"""For each column, about: a model that cannot be built in the time that is left is not begun."""


@interrupts.interruptible
def solve_exact(
    instance: Instance,
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    seed: int = 0,
    start: Placement | None = None,
    on_progress: OnProgress | None = None,
    backend: Backend | str = Backend.AUTO,
) -> Result:
    """Find a placement that provably none beats, or the best within a time limit with HiGHS's lower bound.

    Parameters
    ----------
    instance : Instance
    time_limit_s : float, optional
        For building and solving together; kept to 5 % or a second, whichever is more.
    gap : float
        Relative gap at which to stop. With 0 (HiGHS's own default is 1e-4) "optimal" means optimal, within
        tolerances of 1e-9.
    seed : int
        HiGHS's random seed.
    start : Placement, optional
        A feasible placement; the result is never worse. Without one, what needs no search is in hand at first.
    on_progress : callable, optional
        Called with a :class:`kvopt.Progress` at once, at every better placement, and now and then as the bound rises.
    backend : Backend or str

    Returns
    -------
    Result
        Termination OPTIMAL when HiGHS's bound meets what the evaluator makes of the placement, and no placement in
        hand contradicts it; REFUTED when one does, the claim then being in ``refuted``; FINISHED when stopped at a gap
        greater than 0, or when what HiGHS calls optimal is not worth what it says; else the reason. Ctrl-C returns the
        best so far. The bound is HiGHS's claim. ``details`` has ``backend``, ``columns``, ``rows``, ``nonzeros``,
        ``nodes``, ``runs`` (of HiGHS), ``build_s``, ``solve_s``, ``gap`` (as HiGHS reports it) and ``highs_status``.

    Raises
    ------
    MethodError
        For a start that is infeasible, a gap below 0 or an unknown backend; for an objective that is a function of the
        loads without a linear ``expression``, or with one that disagrees with it.
    """
    began = time.perf_counter()
    backend = choose_backend(backend, instance, limited=time_limit_s is not None)
    check(instance, gap, start)
    low = lower(instance)
    layout = Layout(low)
    tracker = Tracker(instance, layout, 1.0, began, on_progress)
    _begin(tracker, start)
    deadline = math.inf if time_limit_s is None else began + time_limit_s
    details = {"backend": backend.value, "columns": column_count(instance), "build_s": 0.0}
    begun = start is not None
    rounds = Rounds(instance, low, layout, tracker, deadline=deadline, gap=gap, seed=seed, begun=begun)
    try:
        if not tracker.cancelled and rounds.left_s > _BUILD_S[backend] * details["columns"]:
            program = _build(instance, low, layout, backend)
            details["build_s"] = time.perf_counter() - began
            interrupts.heed()
            rounds.solve(program)
            details |= _details(rounds)
    except KeyboardInterrupt:  # Between two runs; while HiGHS runs it is told to stop.
        tracker.stop = True
    details["solve_s"] = time.perf_counter() - began - details["build_s"]
    tracker.conclude(rounds.words)
    if tracker.error is not None:
        raise tracker.error
    if instance.custom and rounds.outcome is not None:
        _check_expression(instance, layout, rounds.program, rounds.outcome, gap)
    return _result(instance, tracker, rounds, seed, details)


def _begin(tracker: Tracker, start: Placement | None) -> None:
    """Have a placement in hand, and tell of it, before anything takes time."""
    if start is not None:
        tracker.consider(start, "start", "the start")
        return
    plain = plain_placement(tracker.instance)
    if plain is not None:
        tracker.consider(plain, "without a search", "a placement without any search")


@interrupts.interruptible
def lp_bound(
    instance: Instance,
    *,
    solver: LpSolver | str = LpSolver.SIMPLEX,
    time_limit_s: float | None = None,
    seed: int = 0,
) -> Bound | None:
    """The optimum of the linear relaxation, as HiGHS claims it.

    Parameters
    ----------
    instance : Instance
    solver : LpSolver or str
        "simplex" or "ipm"; the latter ends in a crossover to a vertex, and was slower at every size tried.
    time_limit_s : float, optional
    seed : int

    Returns
    -------
    Bound or None
        None when stopped early: an unfinished linear program bounds nothing. Of role REFUTED when a placement beats it.
    """
    began = time.perf_counter()
    solver, backend = _enum(LpSolver, solver, "solver"), choose_backend(None, instance)
    left_s = math.inf if time_limit_s is None else time_limit_s
    if left_s <= _BUILD_S[backend] * column_count(instance):
        return None
    low = lower(instance)
    layout = Layout(low)
    program = with_exact_rows(_build(instance, low, layout, backend), instance, low, layout)
    tracker = Tracker(instance, layout, program.unit, began, None)
    _begin(tracker, None)
    left_s = None if time_limit_s is None else time_limit_s - (time.perf_counter() - began)
    outcome = highs.minimise_relaxed(program, tracker, solver=solver, time_limit_s=left_s, seed=seed)
    if outcome.bound is not None and 0 < outcome.bound < LEAST:
        # So little is within what HiGHS calls equal: once more, in units of it.
        factor = 2.0 ** -math.floor(math.log2(outcome.bound))
        unit = program.unit / factor
        program = replace(program, cost=program.cost * factor, offset=program.offset * factor, unit=unit)
        tracker.unit = unit
        left_s = None if time_limit_s is None else time_limit_s - (time.perf_counter() - began)
        outcome = highs.minimise_relaxed(program, tracker, solver=solver, time_limit_s=left_s, seed=seed)
    if tracker.cancelled:
        raise KeyboardInterrupt
    if outcome.bound is None:
        return None
    bound = Bound(
        outcome.bound * program.unit,
        "HiGHS LP",
        Role.CLAIMED,
        unit=instance.objective.unit,
        termination=outcome.termination,
        elapsed_s=time.perf_counter() - began,
    )
    return bound if tracker.best is None else bound.against(tracker.objective, tracker.found_by)


def _enum(kind: type[Enum], value: Enum | str, option: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(k.value for k in kind)
        raise MethodError(option, f"{value!r} is not known", f"Choose one of: {choices}") from None


def choose_backend(backend: Backend | str | None, instance: Instance, *, limited: bool = False) -> Backend:
    """ARRAYS or PYOMO; None, or AUTO where time is limited, for arrays wherever they are able to.

    Raises
    ------
    MethodError
        For an unknown backend, or an objective that the backend, or neither, can hold.
    """
    chosen = Backend.ARRAYS if backend is None else _enum(Backend, backend, "backend")
    if instance.custom:
        return _of_own_objective(instance, Backend.AUTO if backend is None else chosen)
    if chosen is not Backend.AUTO:
        return chosen
    return Backend.PYOMO if not limited and column_count(instance) <= PYOMO_COLUMNS else Backend.ARRAYS


def _of_own_objective(instance: Instance, backend: Backend) -> Backend:
    """PYOMO, after refusing what cannot be built."""
    reason = accepts(instance.objective, instance)["exact"]
    if reason is not None:
        raise MethodError(
            f"exact of objective {instance.objective.name!r}", reason, "kvopt.accepts says which engines take it"
        )
    if backend is Backend.ARRAYS:
        raise MethodError(
            "backend",
            f"'arrays' cannot hold objective {instance.objective.name!r}: its expression is over the Pyomo model",
            "Choose 'pyomo' or 'auto'",
        )
    return Backend.PYOMO


def check(instance: Instance, gap: float, start: Placement | None) -> None:
    """Refuse a gap below 0 and a start that is infeasible."""
    real("gap", gap, "Give a share, for example 0.001 for 0.1 %", least=0, unlimited=True, error=MethodError)
    wrong = start.violations(instance, most=1) if start is not None else []
    if wrong:
        raise MethodError("start", f"is infeasible: {wrong[0]}", "Start from a feasible placement")


def _build(instance: Instance, low: Lowered, layout: Layout, backend: Backend) -> Program:
    if backend is Backend.ARRAYS:
        return arrays.build(low, layout)
    from kvopt.exact import pyomo_driver  # On use: importing Pyomo takes a second.

    with interrupts.at_once():  # All of it is Python.
        return pyomo_driver.build(instance)


def _check_expression(instance: Instance, layout: Layout, program: Program, outcome: highs.Outcome, gap: float) -> None:
    """Refuse an expression that does not count what the objective's ``of_loads`` does.

    No point of the model may cost less than its placement is judged at; the optimum must cost just that.
    """
    if "unbounded" in outcome.status.lower():
        raise MethodError(
            f"objective {instance.objective.name!r} expression",
            "is unbounded below, or its constraints exclude every placement",
            "Bound the variables it adds",
        )
    if outcome.values is None:
        return
    placement = layout.placement(outcome.values)
    if placement.violations(instance, most=1):
        return
    judged, claimed = evaluate(instance, placement).objective, program.value(outcome.values)
    slack = _AGREEMENT * max(abs(judged), abs(claimed))
    optimal = outcome.termination is Termination.OPTIMAL and gap == 0
    if claimed < judged - slack or (optimal and claimed > judged + slack):
        raise MethodError(
            f"objective {instance.objective.name!r}",
            f"expression and of_loads disagree: HiGHS minimised {claimed!r}, of_loads makes {judged!r} of the same "
            "placement",
            "Count the same in both, in the same unit; the model's L are in units of time_unit_s, step_s in seconds",
        )


def _details(rounds: Rounds) -> dict[str, object]:
    n_rows, n_columns = rounds.program.matrix.shape
    return {
        "columns": n_columns,
        "rows": n_rows,
        "nonzeros": rounds.program.matrix.nnz,
        "nodes": rounds.outcome.nodes,
        "gap": rounds.outcome.gap,
        "highs_status": rounds.outcome.status,
        "runs": rounds.runs,
    }


def _result(instance: Instance, tracker: Tracker, rounds: Rounds, seed: int, details: dict) -> Result:
    elapsed_s, history, termination = time.perf_counter() - tracker.began, tuple(tracker.history), rounds.termination
    bound = None
    if tracker.bound_value is not None:
        bound = Bound(
            tracker.bound_value,
            "HiGHS MIP",
            Role.CLAIMED,
            unit=instance.objective.unit,
            termination=termination,
            elapsed_s=elapsed_s,
            history=history,
        )
    result = Result.judge(
        "exact",
        instance,
        tracker.best,
        termination=termination,
        elapsed_s=elapsed_s,
        bound=bound,
        seed=seed,
        history=history,
        details=details,
    )
    return result if tracker.best is None else result.against(tracker.objective, tracker.found_by)
