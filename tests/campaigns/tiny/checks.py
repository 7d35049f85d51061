"""What is asked of kvopt on every case: each check compares an engine with the page and the true optimum."""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import kvopt
from kvopt import KvoptError, SolutionStatus, Termination
from tests.campaigns.tiny.built import instance_of, paths_of, placement_of
from tests.campaigns.tiny.cases import Case, TierSpec
from tests.campaigns.tiny.optimum import Optimum, TooLarge, optimum
from tests.campaigns.tiny.page import Page

CERTIFIED, CLAIMED = Fraction(1, 10**9), Fraction(1, 10**6)
"""How far a bound may lie above the optimum, relative: by rounding; by a solver's tolerances."""
_FLOATS = Fraction(1, 10**12)
"""Share of what bad placements cost that no solver in floating point can be asked to resolve."""
_USELESS = 1e-3
"""How far what cannot matter may lower a bound, relative."""
_USEFUL = 0.98
"""Share of the linear relaxation that a finished dual reaches at least; it reaches all but a thousandth as a rule."""
_PLAIN_UNITS = 10_000
"""Units of their greatest common divisor up to which sizes make plain rows: above, the program counts bytes by whole
digits with carries, and its relaxation may be the stronger."""
_RANDOM_PLACEMENTS = 4
_MOST_STATES = 4
"""A tier is added where blocks then have no more states than this; for each number of them kernels are compiled."""
_LARGEST_TOTAL = 2**53
"""Bytes alive together above which an instance may be refused as too large."""
_SOLVER_RATIO, _SOLVER_WEIGHT = 10**5, 1e-5
"""Sizes and weights of terms further apart than this a plain solver need not tell apart."""

Fault = tuple[str, str]
"""(kind, words)"""


@dataclass
class Trial:
    """A case on its way through the checks.

    Parameters
    ----------
    case : Case
    most_states : int
        Engines are asked of no case whose blocks have more: they would compile kernels for it.
    counts : Counter
        Comparisons made, and remarks, by name.
    values : dict of str to float
        What engines said, for a person to look at.
    """

    case: Case
    most_states: int
    counts: Counter = field(default_factory=Counter)
    values: dict[str, float | None] = field(default_factory=dict)

    @cached_property
    def page(self) -> Page:
        """Its mathematics."""
        return Page(self.case)

    @cached_property
    def best(self) -> Optimum | None:
        """The true optimum; None where no placement is feasible."""
        return optimum(self.page)

    @cached_property
    def instance(self) -> kvopt.Instance:
        """As kvopt takes it."""
        return instance_of(self.case)

    @cached_property
    def dual(self) -> kvopt.Bound:
        """Its dual bound."""
        return kvopt.bound(self.instance)

    @property
    def roomy(self) -> bool:
        """Whether the backing tier alone holds all blocks, so that every heuristic finds a placement."""
        page = self.page
        live = max(sum(page.size[i] for i in page.alive(t)) for t in range(page.n_slots))
        return self.case.initial is None and page.capacity[-1] >= live

    @property
    def ordinary(self) -> bool:
        """Whether sizes and terms lie near enough for a plain solver to tell them apart."""
        sizes = [block.size for block in self.case.blocks]
        near = max(sizes) <= _SOLVER_RATIO * min(sizes)
        return near and all(term.weight >= _SOLVER_WEIGHT for term in self.case.terms)

    @cached_property
    def dear(self) -> Fraction:
        """What the worst of the simplest placements costs, that of all blocks in one state for good."""
        page = self.page
        lives = [death - birth for birth, death in zip(page.birth, page.death, strict=True)]
        return max(page.evaluated([[z] * life for life in lives]).objective for z in range(len(page.states)))

    def nearly_best(self, value: float) -> bool:
        """Whether a value is the optimum as far as a solver in floating point can tell."""
        return at_most(value, self.best.value + _FLOATS * self.dear, CLAIMED) and value >= 0

    @property
    def rng(self) -> random.Random:
        """The same stream for each check."""
        return random.Random(f"checks {self.case.seed}")


def near(value: float, exact: Fraction, share: Fraction = CERTIFIED) -> bool:
    """Whether a number equals an exact one but for rounding."""
    return math.isfinite(value) and abs(Fraction(float(value)) - exact) <= share * abs(exact)


def at_most(value: float, exact: Fraction, share: Fraction) -> bool:
    """Whether a number is no more than an exact one, but for rounding."""
    return value == -math.inf or (math.isfinite(value) and Fraction(float(value)) <= exact + share * abs(exact))


def check_refusal(trial: Trial) -> Iterator[Fault]:
    """An instance is refused exactly when it has no placement."""
    page, case = trial.page, trial.case
    live = max((sum(page.size[i] for i in page.alive(t)) for t in range(page.n_slots)), default=0)
    try:
        trial.instance  # noqa: B018
    except kvopt.Infeasible as refused:
        if trial.best is not None:
            yield "a placement exists", f"refused: {refused}"
    except KvoptError as refused:
        if live * page.n_slots < _LARGEST_TOTAL:
            yield "refused", str(refused)
        else:
            trial.counts["too large for kvopt"] += 1
    else:
        # Of more tiers that share the blocks, and beside a given start, the check does not see everything.
        seen = len(case.tiers) == 2 or (case.copies == "inclusive" and case.writes == "through")
        if trial.best is None and seen and case.initial is None:
            yield "no placement exists", "was not refused"


def check_evaluator(trial: Trial) -> Iterator[Fault]:
    """The evaluator and ``violations()`` on random paths, and on the best ones."""
    page, rng = trial.page, trial.rng
    every = [
        [[rng.randrange(len(page.states)) for _ in range(d - b)] for b, d in zip(page.birth, page.death, strict=True)]
        for _ in range(_RANDOM_PLACEMENTS)
    ]
    if trial.best is not None:
        every.append(trial.best.paths)
    for paths in every:
        yield from _judged(trial, paths)
    yield from _broken_intervals(trial, every[0])


def _judged(trial: Trial, paths) -> Iterator[Fault]:
    page, instance = trial.page, trial.instance
    placement, own = placement_of(page, paths), page.evaluated(paths)
    theirs = kvopt.evaluate(instance, placement)
    trial.counts["evaluations"] += 1
    if not near(theirs.objective, own.objective):
        yield "objective", f"evaluate says {theirs.objective!r}, the page {float(own.objective)!r} of {paths}"
    if page.case.reads != "balanced" or page.prices.per_second or page.case.stepwise:
        yield from _same_times(page, theirs, own, paths)
    for k, held in enumerate(own.held_bytes):
        if theirs.held_bytes[k].tolist() != held:
            yield "held bytes", f"tier {k}: evaluate says {theirs.held_bytes[k].tolist()}, the page {held} of {paths}"
    found = placement.violations(instance, most=10**6)
    kinds = {
        (v.tier, v.slot, float(v.amount_bytes)) if v.kind.value == "capacity" else ("begins", v.block)
        for v in found
        if v.kind.value in ("capacity", "initial")
    }
    broken = {(b[0], b[1], float(b[2])) if len(b) == 3 else b for b in page.broken(paths)}
    if kinds != broken or len(kinds) != len(found):
        yield "violations", f"says {[str(v) for v in found]}, the page {broken} of {paths}"


def _same_times(page: Page, theirs, own, paths) -> Iterator[Fault]:
    pairs = [
        ("latency", [theirs.latency_s], [own.latency_s]),
        ("slot times", theirs.slot_s, own.slot_s),
        ("step times", theirs.step_s, own.step_s),
    ]
    if page.case.reads != "balanced":
        pairs += [(f"load of {name}", theirs.load_bytes[c], own.load_bytes[c]) for c, name in enumerate(page.channels)]
    for name, found, wanted in pairs:
        if len(found) != len(wanted) or not all(map(near, found, wanted)):
            kind = "loads" if name.startswith("load") else "times"
            yield kind, f"{name}: evaluate says {list(found)}, the page {[float(w) for w in wanted]} of {paths}"


def _broken_intervals(trial: Trial, paths) -> Iterator[Fault]:
    """Intervals outside lives, overlapping, or of states that there are not, are told."""
    page, rng = trial.page, trial.rng
    whole = placement_of(page, paths)
    ptr, start, stop, state = (getattr(whole, name).tolist() for name in ("ptr", "start", "stop", "state"))
    if not start:
        return
    v = rng.randrange(len(start))
    i = next(i for i in range(page.n_blocks) if ptr[i] <= v < ptr[i + 1])
    broken = {
        "lifetime": (start, [s if w != v else page.death[i] + 1 for w, s in enumerate(stop)], state),
        "order": (start, [s if w != v else start[v] for w, s in enumerate(stop)], state),
        "state": (start, stop, [z if w != v else len(page.states) - 1 for w, z in enumerate(state)]),
    }
    for kind, columns in broken.items():
        found = {one.kind.value for one in kvopt.Placement(ptr, *columns).violations(trial.instance)}
        trial.counts["broken placements"] += 1
        if kind not in found:
            yield "violations", f"broken by {kind}, says {found or 'nothing'}: block {i}, {columns}"


def check_aggregate(trial: Trial) -> Iterator[Fault]:
    """The aggregate bound is certified and no higher than the optimum."""
    yield from _certified(trial, kvopt.bound(trial.instance, method="aggregate"))


def check_dual(trial: Trial) -> Iterator[Fault]:
    """The dual bound is certified, no higher than the optimum, and no lower than the aggregate one."""
    yield from _certified(trial, trial.dual)
    aggregate = kvopt.bound(trial.instance, method="aggregate").value
    if trial.dual.value < aggregate - 1e-7 * abs(aggregate):
        yield "below aggregate", f"dual {trial.dual.value!r}, aggregate {aggregate!r}"


def _certified(trial: Trial, bound: kvopt.Bound) -> Iterator[Fault]:
    trial.counts["certified bounds"] += 1
    trial.values[f"bound, {bound.source}"] = bound.value
    if not _holds(trial, bound.value, CERTIFIED):
        yield "above the optimum", f"{bound.source} {bound.value!r}, optimum {float(trial.best.value)!r}"
    proved = kvopt.verify(trial.instance, bound.certificate)
    # The aggregate bound is what its slots add up to where its certificate proves more.
    if proved < bound.value or (bound.source == "dual" and proved != bound.value):
        yield "verification", f"{bound.source} {bound.value!r}, its certificate proves {proved!r}"


def _holds(trial: Trial, value: float, share: Fraction) -> bool:
    """Whether a lower bound is one; a claim may be wrong by what floating point cannot resolve."""
    if trial.best is None:
        return True
    slack = _FLOATS * trial.dear if share == CLAIMED else 0
    return at_most(value, trial.best.value + slack, share)


def check_relaxation(trial: Trial) -> Iterator[Fault]:
    """The linear relaxation is no higher than the optimum, and the dual all but reaches it."""
    from kvopt.exact import lp_bound

    bound = lp_bound(trial.instance)
    if bound is None:
        trial.counts["no relaxation"] += 1
        if trial.best is not None:
            yield "no relaxation", "HiGHS has none, though a placement exists"
        return
    trial.counts["claimed bounds"] += 1
    trial.values["bound, linear relaxation"] = bound.value
    if not _holds(trial, bound.value, CLAIMED):
        yield "above the optimum", f"relaxation {bound.value!r}, optimum {float(trial.best.value)!r}"
        return
    has_deadline = bool(trial.page.prices.deadlines)
    finished = trial.dual.termination is not Termination.TIME_LIMIT
    sizes = [block.size for block in trial.case.blocks]
    plain = trial.ordinary and max(sizes) <= _PLAIN_UNITS * math.gcd(*sizes)
    told = bound.value > _FLOATS * trial.dear
    if finished and plain and told and not has_deadline and trial.dual.value < _USEFUL * bound.value:
        yield "dual far below", f"dual {trial.dual.value!r}, relaxation {bound.value!r}"


def check_exact(trial: Trial, backend: str) -> Iterator[Fault]:
    """What is said to be optimal is, and nothing feasible is called infeasible."""
    result = kvopt.solve(trial.instance, "exact", backend=backend)
    trial.counts["exact runs"] += 1
    yield from _feasible(trial, result)
    if result.bound is not None and _claims(result.bound) and not _holds(trial, result.bound.value, CLAIMED):
        yield "above the optimum", f"its bound {result.bound.value!r}, optimum {float(trial.best.value)!r}"
    says_infeasible = result.termination is Termination.INFEASIBLE
    if trial.best is None:
        if not says_infeasible:
            yield "not infeasible", f"no placement exists, and it says {result.termination.value}"
        return
    if says_infeasible:
        yield "says infeasible", f"a placement exists: {trial.best.paths}"
    elif result.placement is None:
        yield "no placement", f"one exists: {trial.best.paths}"
    optimal = Termination.OPTIMAL is result.termination or result.solution_status is SolutionStatus.OPTIMAL
    if optimal and result.placement is not None:
        if not trial.nearly_best(result.objective):
            yield "says optimal", f"{result.objective!r}, optimum {float(trial.best.value)!r}"
    else:
        trial.counts["exact runs not proved"] += 1
        if result.placement is not None and trial.ordinary and trial.best.value > 0:
            yield "not proved", f"{result.termination.value} at {result.objective!r}, without a limit"


def _claims(bound: kvopt.Bound) -> bool:
    """Whether it is still said to be a bound: a claim that was refuted is not."""
    return bound.role.value in ("certified", "claimed") and not getattr(bound, "refuted", False)


def _feasible(trial: Trial, result: kvopt.Result) -> Iterator[Fault]:
    """Its placement keeps the rules, and is worth what it says, which is no less than the optimum."""
    trial.values[f"achieved, {result.method}"] = result.objective
    if result.placement is None:
        return
    page = trial.page
    try:
        paths = paths_of(page, result.placement)
    except ValueError as error:
        yield "infeasible", str(error)
        return
    trial.counts["placements judged"] += 1
    if page.broken(paths):
        yield "infeasible", f"{paths} breaks {page.broken(paths)}"
        return
    own = page.evaluated(paths).objective
    if not near(result.objective, own):
        yield "objective", f"says {result.objective!r}, the page {float(own)!r} of {paths}"
    if own < trial.best.value:
        yield "better than the optimum", f"{float(own)!r} of {paths}, optimum {float(trial.best.value)!r}"


def check_anneal(trial: Trial) -> Iterator[Fault]:
    """The annealer's placement is feasible, its bound a bound, and equal seeds repeat it."""
    result = kvopt.solve(trial.instance, "anneal", bound=trial.dual, seed=trial.case.seed)
    trial.counts["annealed"] += 1
    yield from _feasible(trial, result)
    if result.bound is not None and _claims(result.bound):
        share = CERTIFIED if result.bound.certificate is not None else CLAIMED
        if not _holds(trial, result.bound.value, share):
            yield "above the optimum", f"its bound {result.bound.value!r}, optimum {float(trial.best.value)!r}"
    if result.placement is None:
        yield from _found_none(trial, "anneal")
    else:
        trial.counts["annealed to the optimum"] += near(result.objective, trial.best.value)
        if result.solution_status is SolutionStatus.OPTIMAL and not trial.nearly_best(result.objective):
            yield "says optimal", f"{result.objective!r}, optimum {float(trial.best.value)!r}"
    if trial.case.seed % 8 == 0:
        again = kvopt.solve(trial.instance, "anneal", bound=trial.dual, seed=trial.case.seed)
        yield from _same(trial, result, again)


def _found_none(trial: Trial, method: str) -> Iterator[Fault]:
    if trial.best is not None and trial.roomy:
        yield "no placement", f"{method} finds none, though the backing tier holds all blocks"
    elif trial.best is not None:
        trial.counts[f"no placement found where one exists ({method})"] += 1


def _same(trial: Trial, one: kvopt.Result, other: kvopt.Result) -> Iterator[Fault]:
    trial.counts["runs repeated"] += 1
    if one.placement != other.placement or one.objective != other.objective:
        yield "not repeated", f"{one.objective!r}, then {other.objective!r} with the same seed"


def check_guided(trial: Trial) -> Iterator[Fault]:
    """The guided policy, as annealing; on every third case."""
    if trial.case.seed % 3:
        return
    result = _of_policy(trial, "guided", seed=trial.case.seed)
    if result is not None and trial.case.seed % 12 == 0:
        yield from _same(trial, result, kvopt.solve(trial.instance, "guided", seed=trial.case.seed))
    if result is not None:
        yield from _feasible(trial, result)
    else:
        yield from _found_none(trial, "guided")


def check_policy(trial: Trial, name: str) -> Iterator[Fault]:
    """A policy's placement is feasible, and the compiled simulation's equals that of the slot-by-slot one."""
    result = _of_policy(trial, name)
    if result is None:
        yield from _found_none(trial, name)
        return
    trial.counts["policies run"] += 1
    yield from _feasible(trial, result)
    by_slots = _simulated_by_slots()
    if by_slots is not None:
        slow = by_slots(trial.instance, kvopt.policies.get(name))
        if slow != result.placement:
            yield "compiled", f"{paths_of(trial.page, result.placement)}, slot by slot {paths_of(trial.page, slow)}"


def _of_policy(trial: Trial, name: str, **options) -> kvopt.Result | None:
    """What a policy comes to; None where it finds no split of the blocks over full tiers, as documented."""
    try:
        return kvopt.solve(trial.instance, name, **options)
    except KvoptError as error:
        if "no split" not in str(error):
            raise
        return None


def _simulated_by_slots() -> Callable | None:
    """The simulator's slow way, wherever this kvopt has it."""
    import kvopt.policies  # noqa: F401

    for module in ("kvopt.policies.simulate", "kvopt.policies.simulator.simulate"):
        try:
            return __import__(module, fromlist=["simulate_by_slots"]).simulate_by_slots
        except (ImportError, AttributeError):
            continue
    return None


def check_useless(trial: Trial) -> Iterator[Fault]:
    """A tier, a channel or capacity that cannot matter leaves the bound where it is; on every other case."""
    if trial.best is None or trial.case.seed % 2:
        return
    case, rng = replace(trial.case, initial=None), trial.rng
    peak = max(sum(trial.page.size[i] for i in trial.page.alive(t)) for t in range(trial.page.n_slots))
    ample = [k for k, room in enumerate(trial.page.capacity) if peak <= room < math.inf]
    smallest = min(block.size for block in case.blocks)
    last = case.tiers[-1]
    useless = TierSpec("useless", float(rng.choice((0, smallest - 1, smallest - 0.5))), *(last.read, last.write), None)
    with_tier = case.with_tier(useless, rng.randint(1, len(case.tiers) - 1))
    others = {"channel": replace(case, rates={**case.rates, "useless": rng.choice((1e-3, 1.0, 1e12))})}
    if with_tier.n_states <= min(trial.most_states, _MOST_STATES) and case.reads != "balanced":
        others["tier"] = with_tier
    if ample:
        others["capacity"] = case.with_capacity(case.tiers[ample[0]].capacity * 1000.0, ample[0])
    what = rng.choice(sorted(others))
    before = trial.dual if trial.case.initial is None else kvopt.bound(instance_of(case))
    after = kvopt.bound(instance_of(others[what]))
    trial.counts[f"useless {what}s added"] += 1
    if after.value < before.value - _USELESS * abs(before.value):
        yield f"useless {what}", f"bound {before.value!r}, with it {after.value!r}"
    alone = optimum(Page(case))
    if not at_most(after.value, alone.value, CERTIFIED):
        yield "above the optimum", f"with a useless {what} {after.value!r}, optimum {float(alone.value)!r}"


def check_capacity(trial: Trial) -> Iterator[Fault]:
    """More of a tier never makes the optimum worse, nor any bound of it higher; on the others."""
    finite = [k for k, room in enumerate(trial.page.capacity) if room < math.inf]
    if trial.best is None or not finite or trial.case.seed % 2 == 0:
        return
    k = trial.rng.choice(finite)
    more = trial.rng.choice([block.size for block in trial.case.blocks])
    larger = Trial(trial.case.with_capacity(trial.case.tiers[k].capacity + more, k), trial.most_states, trial.counts)
    if larger.best.value > trial.best.value:
        yield "the page", f"optimum {float(trial.best.value)!r}, with more of tier {k} {float(larger.best.value)!r}"
    yield from _certified(larger, larger.dual)
    result = kvopt.solve(larger.instance, "exact", backend="arrays")
    trial.counts["capacities raised"] += 1
    optimal = result.solution_status is SolutionStatus.OPTIMAL
    if optimal and not at_most(result.objective, trial.best.value, CLAIMED):
        yield "more is worse", f"{result.objective!r} optimal with more of tier {k}, {float(trial.best.value)!r} before"
    if result.termination is Termination.INFEASIBLE:
        yield "says infeasible", f"with {more} bytes more of tier {k}, though it was not before"


def check_export(trial: Trial) -> Iterator[Fault]:
    """A written model has the optimum, as a plain solver finds it."""
    import highspy

    if trial.case.seed % 4 or trial.best is None or not trial.ordinary:
        return
    backend, kind = trial.rng.choice(("arrays", "pyomo")), trial.rng.choice(("lp", "mps"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"model.{kind}"
        made = kvopt.export_model(trial.instance, path, backend=backend)
        solver = highspy.Highs()
        solver.setOptionValue("output_flag", False)
        for name, value in (("mip_rel_gap", 0.0), ("mip_abs_gap", 0.0), ("primal_feasibility_tolerance", 1e-9)):
            solver.setOptionValue(name, value)
        solver.readModel(str(path))
        solver.run()
        found = solver.getInfo().objective_function_value * made.unit
    trial.counts["models exported"] += 1
    exact = trial.best.value
    if solver.getModelStatus() != highspy.HighsModelStatus.kOptimal or not (
        near(found, exact, 10 * CLAIMED) or abs(found - float(exact)) < 1e-6 * made.unit
    ):
        yield "exported", f"{kind} by {backend}: {found!r}, optimum {float(exact)!r}"


def checks() -> dict[str, Callable[[Trial], Iterator[Fault]]]:
    """All checks by name, in order; the first decides whether there is anything for the others."""
    policies = [name for name in kvopt.methods() if name not in ("anneal", "exact", "guided")]
    return {
        "refusal": check_refusal,
        "evaluator": check_evaluator,
        "aggregate": check_aggregate,
        "dual": check_dual,
        "relaxation": check_relaxation,
        "exact arrays": lambda trial: check_exact(trial, "arrays"),
        "exact pyomo": lambda trial: check_exact(trial, "pyomo"),
        "anneal": check_anneal,
        "guided": check_guided,
        **{f"policy {name}": lambda trial, name=name: check_policy(trial, name) for name in policies},
        "useless": check_useless,
        "capacity": check_capacity,
        "export": check_export,
    }


def built(trial: Trial) -> bool:
    """Whether kvopt takes the instance, and the true optimum is known."""
    try:
        trial.best  # noqa: B018
        trial.instance  # noqa: B018
    except (KvoptError, TooLarge):
        return False
    return True
