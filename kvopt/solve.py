"""The front door: :func:`solve` one method, :func:`bound` what no method can beat."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from kvopt import interrupts
from kvopt.arguments import check_progress, check_seed, expect, flag, path_of, real, whole
from kvopt.errors import MethodError, shown
from kvopt.evaluate import evaluate
from kvopt.instance import Instance
from kvopt.objective import Objective, accepts, latency
from kvopt.placement import Placement, check_placement
from kvopt.result import Bound, Certificate, OnProgress, Progress, Result, Role, Termination, lies_above

ENGINES = ("anneal", "exact")
GUIDED = "guided"
"""Annealing of the look-ahead policy's two parameters: an engine's loop around a policy."""
ALIASES = {"static": "static-oldest"}
_BOUND_SHARE = 0.4
"""Share of a time limit that annealing gives the dual it starts from."""
_ANNEALING_SHARE = 0.4
"""Share of what is left that annealing takes where parts of its answer are then made optimal."""
_LANE_SHARE = 0.6
"""Share of what is left for one lane, where it stands for all."""
_HOW_TO_ANNEAL = {"schedule", "move", "windows", "restarts"}
"""Options that ask for something in particular."""
_WORTH_GOING_ON = 0.1
"""Share of a time limit for which the dual is gone on with; it takes some to be where it was."""


def methods() -> list[str]:
    """All names :func:`solve` takes: the engines, the guided policy and every registered policy."""
    from kvopt import policies

    return [*ENGINES, GUIDED, *policies.names()]


@interrupts.interruptible
def solve(
    instance: Instance,
    method: str = "anneal",
    *,
    time_limit: float | None = None,
    seed: int = 0,
    start: Placement | Result | str | None = None,
    bound: Bound | None = None,
    objective: Objective | None = None,
    on_progress: OnProgress | None = None,
    **options,
) -> Result:
    """Find a placement.

    Parameters
    ----------
    instance : Instance
    method : str
        "anneal", "exact", "guided" or a policy; :func:`methods` lists them.
    time_limit : float, optional
        Seconds. When they are over the best so far is returned, never an error.
    seed : int
        Equal seeds give equal results where no time limit cuts the run short.
    start : Placement, Result or str, optional
        Where to start: a placement, a result that has one, or the name of a policy. Policies take none, nor does
        "guided".
    bound : Bound, optional
        A bound computed before, to report the gap to; annealing also starts from a dual bound's multipliers.
        Without one, annealing computes its own.
    objective : Objective, optional
        In place of the instance's; see :mod:`kvopt.objective`. Policies take no notice of it, but are judged by it.
    on_progress : callable, optional
        Called with a :class:`kvopt.Progress` now and then.
    **options
        The method's own: of :func:`kvopt.anneal.solve_anneal`, :func:`kvopt.exact.solve_exact`,
        :func:`kvopt.anneal.guided.solve_guided` or the policy. And ``refine`` of "anneal": whether HiGHS makes parts
        of the annealed answer optimal (:func:`kvopt.exact.refine`); by default where the exact model has at most
        60,000 columns.

    Returns
    -------
    Result
        Its placement passed ``violations()`` and its time was recomputed by :func:`kvopt.evaluate`.

    Raises
    ------
    MethodError
        For an unknown method or option, or a value that means nothing.
    PlacementError
        For a start that is of another instance.
    """
    method = check_arguments(method, time_limit, start)
    check_instance(instance)
    seed = check_seed(seed)
    _check_bound(bound)
    check_progress(on_progress)
    if objective is not None:
        instance = instance.with_objective(objective)
    if method in ENGINES:
        check_accepts(instance, method)
    if method == "anneal":
        return _anneal(instance, time_limit, seed, _placement(instance, start), bound, on_progress, options)
    if method == "exact":
        return _exact(instance, time_limit, seed, _placement(instance, start), bound, on_progress, options)
    if method == GUIDED:
        return _guided(instance, time_limit, seed, bound, on_progress, options)
    return _policy(instance, method, bound, on_progress, options)


def check_instance(instance: Instance) -> None:
    """Refuse what is no instance.

    Raises
    ------
    MethodError
        When it is of another class.
    """
    expect(Instance, "instance", instance, "Give a kvopt.Instance(trace, platform)", MethodError)


def check_arguments(method: str, time_limit: float | None, start: Placement | Result | str | None = None) -> str:
    """The method's own name, after refusing what :func:`solve` would refuse: for callers with long work before it.

    Raises
    ------
    MethodError
        For an unknown method, a time limit that is not positive, or a start that the method does not take.
    """
    expect(str, "method", method, f"Choose one of: {', '.join(methods())}", MethodError)
    method = ALIASES.get(method, method)
    _check_time_limit(time_limit)
    if method not in methods():
        raise MethodError("method", f"there is no method {shown(method)}", f"Choose one of: {', '.join(methods())}")
    if start is not None and method not in ENGINES:
        raise MethodError("start", f"{method!r} takes no start", "Leave it out")
    fix = "Give a kvopt.Placement, a result that has one, or the name of a policy"
    expect((Placement, Result, str, type(None)), "start", start, fix, MethodError)
    if isinstance(start, str) and ALIASES.get(start, start) not in methods():
        raise MethodError("start", f"there is no method {shown(start)}", f"Choose one of: {', '.join(methods())}")
    return method


def check_accepts(instance: Instance, engine: str) -> None:
    """Refuse an instance whose objective an engine does not take, with the reason.

    Raises
    ------
    MethodError
        See :func:`kvopt.objective.accepts`.
    """
    reason = accepts(instance.objective, instance)[engine]
    if reason is not None:
        raise MethodError(
            f"{engine} of objective {instance.objective.name!r}", reason, "kvopt.accepts says which engines take it"
        )


def _check_time_limit(time_limit: float | None) -> None:
    if time_limit is not None:
        real("time_limit", time_limit, "Give seconds", MethodError, above=0, unlimited=True)


def _check_bound(bound: Bound | None) -> None:
    fix = "Give a kvopt.Bound, as kvopt.bound(instance) returns it"
    expect((Bound, type(None)), "bound", bound, fix, MethodError)
    if bound is not None:
        real("bound value", bound.value, fix, MethodError)


@interrupts.interruptible
def bound(
    instance: Instance,
    *,
    method: str = "dual",
    time_limit: float | None = None,
    objective: Objective | None = None,
    on_progress: OnProgress | None = None,
    **options,
) -> Bound:
    """A decode time no placement can beat, with its certificate, verified.

    Parameters
    ----------
    instance : Instance
    method : {"dual", "aggregate"}
        The Lagrangian dual, or the aggregate-bandwidth bound that ignores capacity and moves. The dual is never
        below the aggregate one.
    time_limit : float, optional
        Seconds.
    objective : Objective, optional
        In place of the instance's; see :mod:`kvopt.objective`.
    on_progress : callable, optional
    **options
        Of :func:`kvopt.bounds.dual_bound`: ``target_s`` and ``gap`` to stop by, ``checkpoint`` to go on from, or
        ``start``, an earlier bound.

    Raises
    ------
    MethodError
        For an unknown method or option, or a time limit that is not positive.
    """
    from kvopt import bounds

    check_instance(instance)
    expect(str, "bound method", method, "Choose one of: dual, aggregate", MethodError)
    _check_time_limit(time_limit)
    check_progress(on_progress)
    if objective is not None:
        instance = instance.with_objective(objective)
    check_accepts(instance, "bound")
    _check_bound_options(options)
    if method == "aggregate":
        _checked(bounds.aggregate_bound, options)
        return bounds.aggregate_bound(instance)
    if method == "dual":
        return bounds.dual_bound(
            instance, time_limit_s=time_limit, on_progress=on_progress, **_checked(bounds.dual_bound, options)
        )
    raise MethodError("bound method", f"there is no {shown(method)}", "Choose one of: dual, aggregate")


def _check_bound_options(options: dict) -> None:
    """Refuse options of a wrong class; what they mean is checked where they are used."""
    fix = "Give a kvopt.Bound of this instance, or its certificate"
    expect((Bound, Certificate, type(None)), "start", options.get("start"), fix, MethodError)
    for name in ("target_s", "gap", "tolerance"):
        if options.get(name) is not None:
            real(name, options[name], "Give a number", MethodError)
    if options.get("threads") is not None:
        whole("threads", options["threads"], "Give the number of threads", MethodError)
    if options.get("checkpoint") is not None:
        path_of("checkpoint", options["checkpoint"], MethodError)


def _placement(instance: Instance, start: Placement | Result | str | None) -> Placement | None:
    if isinstance(start, str):
        start = solve(instance, start)
        if start.termination is Termination.INTERRUPTED:
            raise KeyboardInterrupt
    if isinstance(start, Result):
        if start.placement is None:
            raise MethodError("start", f"the result of {start.method!r} has no placement", "Start from another")
        return start.placement
    if start is not None:
        check_placement(instance, start, "start")
    return start


def _anneal(instance, time_limit, seed, start, given, on_progress, options) -> Result:
    from kvopt.anneal import Schedule, solve_anneal
    from kvopt.anneal.lanes import one_for_all

    began = time.perf_counter()
    refines = _refines(instance, options.pop("refine", None))
    options = _checked(solve_anneal, options, "start", "multipliers", "guides", "bound_s")
    known = given
    if known is None or known.certificate is None:
        # Of an objective that nothing bounds, the decode time's multipliers guide the annealer, and bound nothing.
        bounded = instance if not instance.custom else instance.with_objective(latency())
        limit = None if time_limit is None else _BOUND_SHARE * time_limit
        known = bound(bounded, time_limit=limit, on_progress=None if instance.custom else on_progress)
    left = None if time_limit is None else max(time_limit - (time.perf_counter() - began), 0.0)
    guides, certificate = known.guides, known.certificate
    interrupted = known.termination is Termination.INTERRUPTED
    if interrupted:
        left = 0.0  # Ctrl-C during the bound: what is owed is one feasible answer, not a long run.
    elif not _HOW_TO_ANNEAL & options.keys() and one_for_all(instance):
        lane = _of_one_lane(instance, left, seed, options, _later(on_progress, time.perf_counter() - began))
        if lane.placement is not None and _less(instance, lane.placement, start):
            # What it is worth is in the placement; multipliers would have it drawn anew.
            start, guides, certificate = lane.placement, (), None
            options |= {"schedule": Schedule(sweeps=0), "restarts": 1}
        if left is not None:
            left = max(time_limit - (time.perf_counter() - began), 0.0)
        if lane.termination is Termination.INTERRUPTED:
            interrupted, left = True, 0.0
    before_s = time.perf_counter() - began
    result = solve_anneal(
        instance,
        time_limit_s=left if left is None or not refines else _ANNEALING_SHARE * left,
        seed=seed,
        start=start,
        multipliers=certificate,
        guides=guides,
        bound_s=None if instance.custom else known.value,
        on_progress=_later(on_progress, before_s),
        **options,
    )
    result = replace(result, history=_shifted(result.history, before_s))
    proved = None if instance.custom else _better(given, known)
    enough = result.objective is not None and result.objective <= (options.get("enough_s") or -math.inf)
    if interrupted:
        result = replace(result, termination=Termination.INTERRUPTED)
    if refines and result.placement is not None and not enough and result.termination is not Termination.INTERRUPTED:
        before_s = time.perf_counter() - began
        left = None if time_limit is None else time_limit - before_s
        found = _refined(instance, result, left, seed, proved, _later(on_progress, before_s))
        result = replace(found, history=result.history + _shifted(found.history, before_s))
    if not instance.custom and known is not given and known.termination is Termination.TIME_LIMIT and not enough:
        further = _proved_further(instance, known, result, time_limit, began, on_progress)
        proved = _better(proved, further)
        if further is not None and further.termination is Termination.INTERRUPTED:
            result = replace(result, termination=Termination.INTERRUPTED)
    return replace(result, bound=proved, elapsed_s=time.perf_counter() - began)


def _of_one_lane(instance, left, seed, options, on_progress) -> Result:
    """What is annealed of one lane, with its share of the room, made a placement of all lanes."""
    from kvopt.anneal.lanes import widened

    part, began = instance.with_lanes(1), time.perf_counter()

    def tell(event: Progress) -> None:
        detail = f"{event.detail}, on 1 of {instance.trace.n_lanes} lanes"
        on_progress(Progress(time.perf_counter() - began, detail=detail, unit=event.unit))

    options = {name: value for name, value in options.items() if name != "enough_s"}
    limit = None if left is None else _LANE_SHARE * left
    found = solve(part, "anneal", time_limit=limit, seed=seed, on_progress=tell if on_progress else None, **options)
    wide = None if found.placement is None else widened(found.placement, part, instance)
    return replace(found, placement=wide)


def _less(instance: Instance, placement: Placement, start: Placement | None) -> bool:
    """Whether a placement is worth more than a start that may be infeasible."""
    if start is None or start.violations(instance, most=1):
        return True
    return evaluate(instance, placement).objective < evaluate(instance, start).objective


def _proved_further(instance, known, result, time_limit, began, on_progress) -> Bound | None:
    """The bound that had to make way for annealing, gone on with in what that has left of the time."""
    left = time_limit - (time.perf_counter() - began)
    done = result.termination in (Termination.FINISHED, Termination.OPTIMAL)
    if not done or result.objective is None or left < _WORTH_GOING_ON * time_limit:
        return None
    tell = _later(on_progress, time_limit - left)
    return bound(instance, start=known, target_s=result.objective, time_limit=left, on_progress=tell)


def _refines(instance: Instance, wanted: bool | None) -> bool:
    from kvopt.exact import column_count
    from kvopt.exact.parts import MOST_COLUMNS

    if wanted is not None and flag("refine", wanted) and instance.custom:
        raise MethodError("refine", "takes no function of the loads", "Leave it out")
    return not instance.custom and (column_count(instance) <= MOST_COLUMNS if wanted is None else wanted)


def _refined(instance, result, left, seed, proved, on_progress) -> Result:
    """An annealed result with parts of it made optimal."""
    from kvopt.exact import refine

    found = refine(
        instance, result.placement, time_limit_s=left, bound=proved.value, seed=seed, on_progress=on_progress
    )
    return replace(found, method=result.method, details={**result.details, **found.details})


def _later(on_progress: OnProgress | None, by_s: float) -> OnProgress | None:
    """What takes events of work that began so much later."""
    return None if on_progress is None else lambda event: on_progress(*_shifted((event,), by_s))


def _shifted(events: tuple[Progress, ...], by_s: float) -> tuple[Progress, ...]:
    return tuple(replace(event, elapsed_s=event.elapsed_s + by_s) for event in events)


def _exact(instance, time_limit, seed, start, given, on_progress, options) -> Result:
    from kvopt.exact import solve_exact

    result = solve_exact(
        instance,
        time_limit_s=time_limit,
        seed=seed,
        start=start,
        on_progress=on_progress,
        **_checked(solve_exact, options, "start"),
    )
    if given is not None and given.role is Role.CERTIFIED and result.objective is not None:
        _check_certified(given, result)
    return replace(result, bound=_better(given, result.bound))


def _check_certified(given: Bound, result: Result) -> None:
    """A proof that an optimum in hand contradicts is of another instance, or wrong."""
    if lies_above(given.value, result.objective):
        raise AssertionError(
            f"the certified bound given ({given.value!r}, {given.source}) lies above a feasible placement "
            f"({result.objective!r}): it is of another instance or objective, or the proof is wrong"
        )


def _guided(instance, time_limit, seed, given, on_progress, options) -> Result:
    from kvopt import policies
    from kvopt.anneal.guided import solve_guided

    def place(searched: Instance, window_steps: int, ratio: float) -> Placement:
        return policies.simulate(searched, policies.get("look-ahead", window_steps=window_steps, ratio=ratio))

    result = solve_guided(
        instance, place, time_limit_s=time_limit, seed=seed, on_progress=on_progress, **_checked(solve_guided, options)
    )
    return replace(result, bound=given)


def _policy(instance, name, given, on_progress, options) -> Result:
    from kvopt import policies

    began = time.perf_counter()
    policy = policies.get(name, **options)
    placement = policies.simulate(instance, policy, on_progress=on_progress)
    result = Result.judge(
        name,
        instance,
        placement,
        termination=Termination.FINISHED,
        elapsed_s=time.perf_counter() - began,
        bound=given,
        details={"clairvoyant": policy.clairvoyant},
    )
    if on_progress is not None:
        bound_s = None if given is None else given.value
        on_progress(
            Progress(result.elapsed_s, result.objective, bound_s, "finished", instance.objective.unit, last=True)
        )
    return result


def _better(*bounds: Bound | None) -> Bound | None:
    """The highest of the bounds there are."""
    known = [b for b in bounds if b is not None]
    return max(known, key=lambda b: b.value) if known else None


def _checked(function, options: dict, *own: str) -> dict:
    """Options the function takes and does not get from here; a typo is named together with what exists."""
    import inspect

    keywords = {name for name, p in inspect.signature(function).parameters.items() if p.kind is p.KEYWORD_ONLY}
    allowed = keywords - {"time_limit_s", "seed", "on_progress", *own}
    for name in options:
        if name not in allowed:
            raise MethodError(
                f"option {name!r}",
                f"{function.__name__} has none of that name",
                f"Options: {', '.join(sorted(allowed))}",
            )
    return options
