"""The annealer: chains of whole-path moves from samples of the dual, cooled, then descended to a local optimum."""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import numpy as np

from kvopt import interrupts
from kvopt.admissible import admissible, admissible_guides
from kvopt.anneal.large import anneal_windows, guide_tau, schedule_of
from kvopt.anneal.moves import shuffle
from kvopt.anneal.pairs import descend_pairs, sweep_s
from kvopt.anneal.schedule import Schedule
from kvopt.anneal.state import Problem, State, even_price, excess_bytes, make_problem, make_state, rebuild, to_placement
from kvopt.anneal.sweeps import Sweeps, sweeps_of
from kvopt.arguments import check_seed, check_threads, expect, flag, real, whole
from kvopt.errors import MethodError, shown
from kvopt.evaluate import evaluate
from kvopt.instance import Instance
from kvopt.lowering import Lowered, lower, unit_per_byte
from kvopt.objective import latency
from kvopt.placement import Placement, check_placement
from kvopt.result import Certificate, Guide, OnProgress, Progress, Result, Termination
from kvopt.trellis import Trellis, sample_placement
from kvopt.trellis.multipliers import at_home
from kvopt.trellis.rng import stream

GUIDE_TAU = 0.0125
"""Temperature of the dual's multipliers that lead chains best."""
_CHAIN_STREAM, _PAIRS_STREAM = 1 << 40, 1 << 41
"""Streams of chains lie above those of blocks."""
_DESCENTS = 12
_PART_BLOCKS = 1000
"""Blocks between two looks at the clock while descending."""
_ANNEALING_SHARE = 0.8
"""Share of the time left after the first sweep that further sweeps may take; the rest is for the descent."""


class Move(Enum):
    """How a chain changes a placement."""

    PATH = "path"
    """Redraw a block's whole residency path."""
    FLIP = "flip"
    """Flip one block's tier in one slot: the textbook move."""


PORTFOLIO = (
    Schedule(),
    Schedule(first=0.02, rent_until=0.8),
    Schedule(first=0.1, rent_until=0.0),
    Schedule(first=1.0, rent_until=0.0),
)
"""Chains take these in turn. The first two differ in how far they trust the sample of the dual they start from; the
third suits channels in balance, where a block's exact gain is less than the price the dual puts on it; the fourth is
hot enough to forget its start, for instances so small that a single block matters."""
FROM_NOTHING = (
    Schedule(first=0.3, rent_until=0.0),
    Schedule(first=0.05, rent_until=0.0),
    Schedule(first=1.0, rent_until=0.0),
)
"""The same without multipliers, where a chain must find its structure by heat alone."""
_LEAST_PRICE = 1e-3
_SMALL_CELLS = 200_000
_LARGE_CELLS = 1_000_000
"""Block-slots from which on the annealer works by lane steps, in windows; see :mod:`kvopt.anneal.large`."""
_SAMPLE_RUN_S = 1.2e-6
"""Processor seconds by run that a sample of the dual takes; where it is hot, more."""
_BOTH_CELLS = 20_000
"""From here up to that it does both, and the better counts: at 1e5 accesses windows end at 0.1 % where the dense chains
do at 0.5 % (published-high), in a fifth of the time, and at 0.3 where those do at 0.1 (dram-bound)."""
_TINY_CELLS = 500
_SLOW_FACTOR = 8
_MOST_RESTARTS = 24
_PAIRS_S = 2.0
"""Processor seconds for a sweep over pairs of blocks, of as many of the best placements as that allows; further sweeps
are shorter."""
_TELL_EVERY_S = 2.0


@dataclass
class _Run:
    """What all chains of one call share."""

    problem: Problem
    sweeps: Sweeps
    schedules: tuple[Schedule, ...]
    move: Move
    rent: np.ndarray
    unit_s: float
    deadline: float
    began: float
    on_progress: OnProgress | None
    bound_s: float | None
    objective_unit: str = "s"
    enough_s: float = -np.inf
    cancelled: threading.Event = field(default_factory=threading.Event)
    history: list[Progress] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    best_s: float = np.inf
    told: float = 0.0
    """When an event was last handed on."""
    interrupted: bool = False
    in_hand: bool = False
    """Whether there is a feasible placement to return, whatever the chains come to."""
    cut_short: bool = False
    """Whether there was no time for all that was planned, though some may be left."""

    @property
    def over(self) -> bool:
        return self.cancelled.is_set() or time.perf_counter() > self.deadline

    def schedule_of(self, number: int) -> Schedule:
        return self.schedules[number % len(self.schedules)]

    def in_time(self, schedule: Schedule, sweep_s: float) -> Schedule:
        """The schedule, shortened if the time left does not hold all its sweeps and the descent: a run that is cut off
        hot has gained nothing from its heat."""
        affordable = _ANNEALING_SHARE * (self.deadline - time.perf_counter()) / max(sweep_s, 1e-9)
        return schedule if affordable >= schedule.sweeps - 1 else schedule.shortened(1 + max(1, int(affordable)))

    def interrupt(self) -> None:
        """Let all chains end with what they have."""
        self.interrupted = True
        self.cancelled.set()

    def report(self, feasible: bool, cost: float, detail: str) -> None:
        with self.lock:
            if feasible:
                self.best_s = min(self.best_s, cost)
                if self.best_s <= self.enough_s:
                    self.cancelled.set()
            self.history.append(self._hand_on(detail))

    def tell(self, detail: str) -> None:
        """Hand on how far long work is, every few seconds; the history has no need of it."""
        with self.lock:
            if time.perf_counter() - self.told >= _TELL_EVERY_S:
                self._hand_on(detail)

    def _hand_on(self, detail: str) -> Progress:
        best = self.best_s if np.isfinite(self.best_s) else None
        self.told = time.perf_counter()
        event = Progress(self.told - self.began, best, self.bound_s, detail, self.objective_unit)
        try:
            if self.on_progress:
                self.on_progress(event)
        except KeyboardInterrupt:  # Raised in a chain's thread, where nobody else would see it.
            self.interrupt()
        return event


@interrupts.interruptible
def solve_anneal(
    instance: Instance,
    *,
    time_limit_s: float | None = None,
    seed: int = 0,
    start: Placement | None = None,
    multipliers: Certificate | None = None,
    guides: Sequence[Guide] = (),
    bound_s: float | None = None,
    enough_s: float | None = None,
    schedule: Schedule | None = None,
    move: Move | str = Move.PATH,
    restarts: int | None = None,
    windows: bool | None = None,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
) -> Result:
    """Anneal a placement.

    Parameters
    ----------
    instance : Instance
    time_limit_s : float, optional
        The best so far is kept when it is over, or at Ctrl-C. Results depend on the machine only when it cuts a run
        short.
    seed : int
    start : Placement, optional
        The result is never worse than a feasible start. With ``multipliers`` one chain starts here, the others from
        samples; without, every chain. By default chains without multipliers start with everything in the backing tier.
    multipliers : Certificate, optional
        A dual certificate: its samples to start from, its capacity prices as rent.
    guides : sequence of Guide, optional
        The dual's multipliers at several temperatures, of which chains take those that suit them, in place of
        ``multipliers``.
    bound_s : float, optional
        A lower bound for progress events.
    enough_s : float, optional
        Stop as soon as a feasible placement is this fast: for those who only ask whether there is one.
    schedule : Schedule, optional
        For all chains; else they take those of ``PORTFOLIO`` in turn, or of ``FROM_NOTHING`` without multipliers.
    move : Move or str
        "path", or "flip" for comparison: it does without the final descent by paths, too.
    restarts : int, optional
        Independent chains, the best of which counts; by default 2, and more on small instances, where they cost
        nothing.
    windows : bool, optional
        Whether to work by lane steps in windows of time, as large instances need (:mod:`kvopt.anneal.large`): one chain
        then, on all threads. Unless given the size decides, and in between both kinds of chains run. Only for
        sums over slots and moves by paths.
    threads : int, optional
        Chains, or windows, run side by side; the result does not depend on it.
    on_progress : callable, optional

    Returns
    -------
    Result

    Raises
    ------
    MethodError
        For multipliers or guides that are not admissible, and for numbers that mean nothing.
    PlacementError
        For a start that is of another instance.

    References
    ----------
    Kirkpatrick, Gelatt and Vecchi (1983), optimization by simulated annealing; Geman and Geman (1984), the heat bath;
    Frühwirth-Schnatter (1994), forward filtering and backward sampling.
    """
    began = time.perf_counter()
    move = _known_move(move)
    _check(instance, seed, threads, restarts, start, schedule, bound_s, enough_s)
    low = lower(instance)
    multipliers, guides = _checked_multipliers(instance, low, multipliers, guides)
    problem = make_problem(low)
    cells = int((low.death_slot - low.birth_slot).sum())
    steps_count = problem.stepwise or instance.custom
    large = _in_windows(windows, cells, move, steps_count)
    able = windows is None and move is Move.PATH and not (steps_count or large)
    both = able and bool(guides) and cells >= _BOTH_CELLS
    in_windows, in_chains = (_guide(problem, guides, multipliers, tau) for tau in (guide_tau(low), GUIDE_TAU))
    multipliers = (in_windows if large else in_chains)[0]
    restarts = restarts or min(max(2, _SMALL_CELLS // max(cells, 1)), _MOST_RESTARTS)
    run = _Run(
        problem=problem,
        sweeps=sweeps_of(problem, instance, None if multipliers is None else multipliers.step_price),
        schedules=(schedule,) if schedule else _portfolio(multipliers is not None, cells),
        move=move,
        rent=_rent(low, multipliers),
        unit_s=unit_per_byte(low, even_price(problem, low.n_steps)) * float(low.size_bytes.mean()),
        deadline=began + (np.inf if time_limit_s is None else time_limit_s),
        began=began,
        on_progress=on_progress,
        bound_s=bound_s,
        objective_unit=instance.objective.unit,
        enough_s=-np.inf if enough_s is None else enough_s,
        in_hand=start is not None and not start.violations(instance, most=1),
    )
    threads = threads or os.cpu_count() or 1
    best, interrupted = [], False
    if large or both:
        prices, guide = in_windows
        tau = guide.tau if guide else PORTFOLIO[0].sample_tau
        plan = schedule or schedule_of(low, prices is not None)
        aside = run if large else replace(run, rent=_rent(low, prices))
        try:
            sample_s = _SAMPLE_RUN_S * len(low.run_start) / threads
            soon_over = run.in_hand and time.perf_counter() + sample_s > run.deadline
            begin = start if soon_over else _start(low, instance, start, prices, tau, seed)
            followed = () if schedule or prices is None else guides
            found = anneal_windows(aside, low, begin, plan, seed, threads, followed)
            best = [] if found is None else [found]
        except KeyboardInterrupt:  # Between two rounds, or before the first.
            aside.interrupt()
        run.cut_short, interrupted = large and aside.cut_short, aside.interrupted
        run.in_hand |= bool(best)
        run.best_s = min(run.best_s, aside.best_s)
    if not (large or interrupted):
        starts = []
        for chain in range(restarts):
            if starts and interrupts.asked():
                break  # Chains have what there is; they heed it.
            from_start = start is not None and (chain == restarts - 1 or (run.over and run.in_hand))
            tau = run.schedule_of(chain).sample_tau
            starts.append(start if from_start else _start(low, instance, start, multipliers, tau, seed + chain))
        chains = [functools.partial(_chain, run, begin, seed, number) for number, begin in enumerate(starts)]
        dense, interrupted = _side_by_side(run, chains, threads)
        best += dense
    if best and move is Move.PATH and not (steps_count or interrupted or run.over):
        few = _least_distinct(best, int(_PAIRS_S / max(sweep_s(problem), 1e-9)))
        paired, interrupted = _side_by_side(
            run, [functools.partial(_by_pairs, run, one, seed, number) for number, one in enumerate(few)], threads
        )
        best += paired
    placement = _best_of(instance, best, start)
    termination = Termination.FINISHED
    if interrupted:
        termination = Termination.INTERRUPTED
    elif run.cut_short or time.perf_counter() > run.deadline:
        termination = Termination.TIME_LIMIT
    return Result.judge(
        "anneal",
        instance,
        placement,
        termination=termination,
        elapsed_s=time.perf_counter() - began,
        seed=seed,
        history=tuple(run.history),
        details={"schedules": run.schedules, "move": run.move.value, "restarts": restarts},
    )


def _check(instance: Instance, seed, threads, restarts, start, schedule, bound_s, enough_s) -> None:
    """Refuse what no chain could be given."""
    check_seed(seed)
    check_threads(threads)
    if restarts is not None:
        whole("restarts", restarts, "Give one", MethodError)
    if schedule is not None and not isinstance(schedule, Schedule):
        raise MethodError("schedule", f"is a {type(schedule).__name__}", "Give a kvopt.anneal.Schedule")
    for name, value in (("bound_s", bound_s), ("enough_s", enough_s)):
        if value is not None:
            real(name, value, "Give one", MethodError)
    if start is not None:
        check_placement(instance, start, "start")


def _checked_multipliers(
    instance: Instance, low: Lowered, multipliers: Certificate | None, guides: Sequence[Guide]
) -> tuple[Certificate | None, tuple[Guide, ...]]:
    """Multipliers that the kernels can be given, of admissible ones."""
    if instance.custom:
        # Of an objective that nothing bounds: the decode time's, of the same shapes.
        instance = instance.with_objective(latency())
    if multipliers is not None:
        multipliers = at_home(low, admissible(instance, multipliers, "multipliers"))
    guides = admissible_guides(instance, guides)
    return multipliers, tuple(replace(guide, certificate=at_home(low, guide.certificate)) for guide in guides)


def _guide(
    problem: Problem, guides: Sequence[Guide], multipliers: Certificate | None, tau: float
) -> tuple[Certificate | None, Guide | None]:
    """The multipliers to follow, of the guide nearest to a temperature where there is one, and that."""
    guide = min(guides, key=lambda guide: abs(math.log(guide.tau / tau)), default=None)
    if guide is not None:
        multipliers = guide.certificate
    if multipliers is not None and not _worth_following(multipliers, problem):
        multipliers = None
    return multipliers, guide


def _in_windows(windows: bool | None, cells: int, move: Move, steps_count: bool) -> bool:
    able = move is Move.PATH and not steps_count
    if windows is not None:
        flag("windows", windows)
    if windows and not able:
        raise MethodError("windows", "take moves by paths and sums over slots only", "Leave it out")
    return able and (cells >= _LARGE_CELLS if windows is None else windows)


def _known_move(move: Move | str) -> Move:
    fix = "Choose 'path' or 'flip'"
    expect((str, Move), "move", move, fix, MethodError)
    try:
        return Move(move)
    except ValueError:
        raise MethodError("move", f"{shown(move)} is not known", fix) from None


def _portfolio(with_multipliers: bool, cells: int) -> tuple[Schedule, ...]:
    """Schedules for an instance of that many block-slots: slower cooling where sweeps cost next to nothing."""
    schedules = PORTFOLIO if with_multipliers else FROM_NOTHING
    if not _TINY_CELLS <= cells < _SMALL_CELLS:
        return schedules
    return tuple(replace(s, sweeps=_SLOW_FACTOR * s.sweeps) for s in schedules)


def _worth_following(multipliers: Certificate, problem: Problem) -> bool:
    """Whether the dual priced any step: late ones that no placement can help are all it knows of deadlines."""
    price = multipliers.step_price
    return price is None or float(price.max()) > _LEAST_PRICE * even_price(problem, len(price))


def _rent(low: Lowered, multipliers: Certificate | None) -> np.ndarray:
    """float64[T, S]: what a byte pays for the tiers of each state, more than for those of the last."""
    if multipliers is None:
        return np.zeros((low.n_slots, low.n_states))
    paid = multipliers.capacity_price_s_per_byte.T @ low.occupancy.T
    return paid - paid[:, -1:]


def _start(
    low: Lowered,
    instance: Instance,
    start: Placement | None,
    multipliers: Certificate | None,
    tau: float,
    seed: int,
) -> Placement:
    """A sample of the dual at a temperature, in units of what a byte read from the backing tier costs."""
    if multipliers is None:
        return Placement.backing(instance) if start is None else start
    trellis = Trellis(low)
    tau *= unit_per_byte(low)
    second = multipliers.second_price(low.prices.per_second)
    prices = trellis.prices(second, multipliers.capacity_price_s_per_byte, tau)
    return sample_placement(trellis, prices, tau, seed)


def _side_by_side(
    run: _Run, jobs: list[Callable[[], tuple[float, Placement] | None]], threads: int
) -> tuple[list[tuple[float, Placement]], bool]:
    """(time, placement) of each job that ended feasible, and whether Ctrl-C ended them."""
    found = interrupts.side_by_side(jobs, threads, run.interrupt)
    return [chain for chain in found if chain is not None], run.interrupted


def _least_distinct(found: list[tuple[float, Placement]], count: int) -> list[Placement]:
    """So many placements of the least objective, one of each that have the same."""
    distinct: dict[str, Placement] = {}
    for cost, placement in sorted(found, key=lambda one: one[0]):
        distinct.setdefault(f"{cost:.9e}", placement)
    return list(distinct.values())[:count]


def _by_pairs(run: _Run, placement: Placement, seed: int, number: int) -> tuple[float, Placement] | None:
    """A placement with the paths of blocks made the best, two at a time."""
    state = make_state(run.problem, placement)

    def over() -> bool:
        run.tell(f"placement {number}, descending pairs of blocks")
        return run.over

    descend_pairs(run.problem, state, stream(seed, _PAIRS_STREAM + number), over)
    feasible, cost = excess_bytes(run.problem, state) == 0.0, run.sweeps.cost(state)
    run.report(feasible, cost, f"placement {number}, pairs of blocks descended")
    return (cost, to_placement(run.problem, state.z)) if feasible else None


def _chain(run: _Run, start: Placement, seed: int, number: int) -> tuple[float, Placement] | None:
    """One chain: cool, then descend; None when it did not reach a feasible placement."""
    state = make_state(run.problem, start)
    run.sweeps.begin(state)
    rng = stream(seed, _CHAIN_STREAM + number)
    order = np.arange(len(run.problem.size))
    schedule = run.schedule_of(number)
    best_s, best_z = np.inf, state.z
    sweep = 0
    while sweep < schedule.sweeps and not run.over:
        started = time.perf_counter()
        _sweep(run, state, order, schedule.temperature(sweep) * run.unit_s, schedule.rent(sweep), rng)
        sweep += 1
        feasible, cost = excess_bytes(run.problem, state) == 0.0, run.sweeps.cost(state)
        run.report(feasible, cost, f"chain {number}, sweep {sweep}/{schedule.sweeps}")
        if feasible and cost < best_s:
            best_s, best_z = cost, state.z.copy()
        if sweep == 1:
            schedule = run.in_time(schedule, time.perf_counter() - started)
    if best_s < np.inf:
        state.z[:] = best_z
    rebuild(run.problem, state)
    _descend(run, state, order)
    rebuild(run.problem, state)
    feasible = excess_bytes(run.problem, state) == 0.0
    run.report(feasible, run.sweeps.cost(state), f"chain {number}, descended")
    if not feasible:
        return None
    return run.sweeps.cost(state), to_placement(run.problem, state.z)


def _descend(run: _Run, state: State, order: np.ndarray) -> None:
    """Best paths until none improves, or time is over.

    A descent sweep is also what makes an overfull start feasible: where nothing feasible is in hand, that one is owed
    even then.
    """
    parts = np.array_split(order, max(1, len(order) // _PART_BLOCKS))
    for _ in range(_DESCENTS):
        changed = 0
        for part in parts:
            stop = run.over or run.move is Move.FLIP
            if stop and (run.in_hand or excess_bytes(run.problem, state) == 0.0):
                return
            changed += run.sweeps.improve(state, part)
        if changed == 0:
            return


def _sweep(run: _Run, state: State, order: np.ndarray, temperature: float, rent: float, rng: np.ndarray) -> None:
    """One sweep, cut short when the run is over."""
    if run.move is Move.FLIP:
        parts = run.sweeps.flip(state, temperature, rng)
    else:
        shuffle(order, rng)
        parts = run.sweeps.draw(state, order, temperature, run.rent * rent, rent, rng)
    for _ in parts:
        if run.over:
            break
    rebuild(run.problem, state)


def _best_of(instance: Instance, chains: list[tuple[float, Placement]], start: Placement | None) -> Placement | None:
    """The chain with the least time, or the start if it is feasible and better; without either what can be had for
    nothing, everything in the backing tier, if that is feasible."""
    candidates = list(chains)
    if start is not None and not start.violations(instance, most=1):
        candidates.append((evaluate(instance, start).objective, start))
    if not candidates:
        backing = Placement.backing(instance)
        return None if backing.violations(instance, most=1) else backing
    return min(candidates, key=lambda found: found[0])[1]
