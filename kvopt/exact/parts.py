"""Fix and optimise: parts of a placement made optimal by HiGHS, one after another, all else as it is.

A part is a stretch of slots, or some blocks for all their life. Its residency decisions are free, those of the others
columns with a known value, and what is left is a program small enough to be solved in a fraction of a second. When no
part of a size can be improved they grow, until the part is the whole. With a time limit, HiGHS also works on the whole
all the while, in a thread of its own.

References
----------
Sahling, Buschkühl, Tempelmeier and Helber (2009), fix-and-optimize; Danna, Rothberg and Le Pape (2005), neighbourhoods
for mixed-integer programs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kvopt import interrupts
from kvopt.evaluate import evaluate
from kvopt.exact import arrays, highs
from kvopt.exact.beside import Whole
from kvopt.exact.capacity import with_exact_rows
from kvopt.exact.layout import Layout
from kvopt.exact.program import Program, restricted
from kvopt.exact.rounds import PROVED_GAP
from kvopt.exact.solver import Backend, check, choose_backend
from kvopt.exact.tracker import Tracker
from kvopt.instance import Instance
from kvopt.lowering import lower
from kvopt.placement import Placement
from kvopt.result import OnProgress, Result, Termination, lies_above

MOST_COLUMNS = 60_000
"""Of the whole program, up to which this pays; ``tests/benchmarks/bench_proved.py`` measures."""
_FIRST, _LARGEST = 1_000, 4_000
"""Free residency decisions of the first parts, and of the largest where no time limit ends the growth."""
_GROWTH = 2
_POLL_S = 0.05
"""How long Ctrl-C may wait while only the whole is being solved."""
_NODES = 300
"""Of HiGHS's tree for each part, where a part is not yet the whole."""
_PROVED = 1e-9


@dataclass
class _Watch:
    """What HiGHS asks while a part is solved."""

    interrupted: bool = False
    enough: bool = False
    """Whether the whole has been solved meanwhile."""

    @property
    def stop(self) -> bool:
        return self.interrupted or self.enough

    @stop.setter
    def stop(self, stop: bool) -> None:
        self.interrupted = stop

    def end(self) -> None:
        """The whole has been solved."""
        self.enough = True

    def incumbent(self, values: np.ndarray, nodes: int) -> None:
        """Only the best of a part counts."""

    def bound(self, bound: float, nodes: int) -> None:
        """A part's bound says nothing of the whole."""


@interrupts.interruptible
def refine(
    instance: Instance,
    start: Placement,
    *,
    time_limit_s: float | None = None,
    bound: float | None = None,
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Result:
    """Improve a placement by solving parts of it to optimality.

    Parameters
    ----------
    instance : Instance
        With an objective that the arrays can hold: no function of the loads.
    start : Placement
        Feasible; the result is never worse.
    time_limit_s : float, optional
        The best so far is kept when it is over, or at Ctrl-C.
    bound : float, optional
        A lower bound, in the objective's unit: what meets it is not refined further.
    seed : int
    on_progress : callable, optional

    Returns
    -------
    Result
        Termination FINISHED where no part can be improved. ``details`` has ``parts``, the number solved, and
        ``improved``, how many of them were for the better.

    Raises
    ------
    MethodError
        For a start that is infeasible, or an objective that is a function of the loads.
    """
    began = time.perf_counter()
    choose_backend(Backend.ARRAYS, instance)
    check(instance, 0.0, start)
    low = lower(instance)
    layout = Layout(low)
    program = with_exact_rows(arrays.build(low, layout), instance, low, layout)
    tracker = Tracker(instance, layout, program.unit, began, on_progress)
    tracker.consider(start, "start")
    watch, rng = _Watch(), np.random.default_rng(seed)
    deadline = np.inf if time_limit_s is None else began + time_limit_s
    best = _completed(instance, layout, program, start)
    solved = improved = 0
    size, whole, beside = _FIRST, layout.n_residency, None
    largest = whole if time_limit_s is not None else min(whole, _LARGEST)
    termination = _ended(tracker, watch, bound, deadline - time.perf_counter())
    if termination is None and time_limit_s is not None:

        def stands(values: np.ndarray, claimed: float) -> bool:
            return _stands(instance, layout.placement(values), claimed * program.unit, tracker)

        beside = Whole(program, best, deadline - time.perf_counter(), seed, stands, watch.end)
    try:
        while termination is None:
            before = improved
            for free in _parts(layout, low.n_slots, size, rng):
                interrupts.heed()
                termination = _ended(tracker, watch, bound, deadline - time.perf_counter())
                if termination is not None or (beside is not None and size >= whole):
                    break
                values = _solved(program, free, best, watch, deadline - time.perf_counter(), seed, _NODES)
                solved += 1
                objective = tracker.objective
                if values is not None:
                    tracker.consider(layout.placement(values), f"part {solved}, {int(free[:whole].sum())} decisions")
                values = None if beside is None else beside.found()
                if values is not None:
                    tracker.consider(layout.placement(values), "whole")
                if tracker.objective < objective:
                    best = _completed(instance, layout, program, tracker.best)
                    improved += 1
            if termination is None and size >= whole and beside is not None:
                termination = _waited(beside, tracker, watch, bound, deadline)
            elif termination is None and improved == before:
                termination = Termination.FINISHED if size >= largest else None
                size *= _GROWTH
    except KeyboardInterrupt:  # Between two parts; while HiGHS runs it is told to stop.
        termination = Termination.INTERRUPTED
    finally:
        if beside is not None:
            beside.end(interrupts.PATIENCE_S if termination in (None, Termination.INTERRUPTED) else None)
    values = None if beside is None else beside.found()
    if values is not None:
        objective = tracker.objective
        tracker.consider(layout.placement(values), "whole")
        improved += tracker.objective < objective
    if tracker.error is not None:
        raise tracker.error
    if watch.interrupted or tracker.stop:  # Also where the last part was solved meanwhile.
        termination = Termination.INTERRUPTED
    return Result.judge(
        "refine",
        instance,
        tracker.best,
        termination=termination,
        elapsed_s=time.perf_counter() - began,
        seed=seed,
        history=tuple(tracker.history),
        details={"parts": solved, "improved": improved},
    )


def _stands(instance: Instance, placement: Placement, claimed: float, tracker: Tracker) -> bool:
    """Whether a placement is feasible, worth what HiGHS claims to be the least, and not worse than what is in hand."""
    if placement.violations(instance, most=1) or lies_above(claimed, tracker.objective):
        return False
    objective = evaluate(instance, placement).objective
    return objective - claimed <= PROVED_GAP * abs(objective)


def _waited(beside: Whole, tracker: Tracker, watch: _Watch, bound: float | None, deadline: float) -> Termination:
    """Why to stop, once the whole has ended, which is all that is left to be solved."""
    while not beside.wait(_POLL_S):
        interrupts.heed()
        termination = _ended(tracker, watch, bound, deadline - time.perf_counter())
        if termination is not None:
            return termination
    return Termination.FINISHED if beside.optimal else Termination.TIME_LIMIT


def _ended(tracker: Tracker, watch: _Watch, bound: float | None, left_s: float) -> Termination | None:
    """Why to stop, if so."""
    if watch.interrupted or tracker.stop:
        return Termination.INTERRUPTED
    if watch.enough:
        return Termination.FINISHED
    if bound is not None and tracker.objective <= bound * (1 + _PROVED):
        return Termination.FINISHED
    return Termination.TIME_LIMIT if left_s <= 0 else None


def _completed(instance: Instance, layout: Layout, program: Program, placement: Placement) -> np.ndarray:
    """All columns of a placement at their best."""
    return program.complete(layout.decisions(placement, evaluate(instance, placement).read_bytes))


def _parts(layout: Layout, n_slots: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """bool[n_residency + ...]: the free columns of each part with about so many residency decisions."""
    if size >= layout.n_residency:
        yield np.ones(layout.slot_column, bool)
        return
    yield from _stretches(layout, n_slots, size, rng)
    yield from _groups(layout, size, rng)


def _stretches(layout: Layout, n_slots: int, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Slots in a row, each in two stretches, in random order."""
    by_slot = np.bincount(layout.pair_slot, minlength=n_slots) * len(layout.placed)
    before = np.concatenate([[0], np.cumsum(by_slot)])
    n_parts = max(1, int(np.ceil(before[-1] / size)))
    marks = np.searchsorted(before, np.linspace(0, before[-1], 2 * n_parts + 1))
    firsts = rng.permutation(2 * n_parts - 1) if n_parts > 1 else np.zeros(1, int)
    for k in firsts:
        first, stop = marks[k], max(marks[k + 2] if n_parts > 1 else n_slots, marks[k] + 1)
        yield _free(layout, (layout.pair_slot >= first) & (layout.pair_slot < stop))


def _groups(layout: Layout, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Blocks drawn together, each once."""
    lives = np.diff(layout.ptr) * len(layout.placed)
    order = rng.permutation(len(lives))
    group = np.empty(len(lives), np.int64)
    group[order] = np.cumsum(lives[order]) // size
    for g in range(group.max() + 1):
        yield _free(layout, group[layout.pair_block] == g)


def _free(layout: Layout, pairs: np.ndarray) -> np.ndarray:
    """bool[slot_column]: the columns of pairs, of moves from or to them, and of all that is read."""
    moved = pairs[layout.stay_pair] | pairs[layout.stay_pair + 1]
    parts = [pairs] * len(layout.placed) + [moved] * len(layout.moves)
    if layout.shared:
        slots = np.zeros(layout.n_slots, bool)
        slots[layout.pair_slot[pairs]] = True
        parts += [slots[layout.pair_slot[layout.read_pair]]] * layout.n_tiers
    return np.concatenate(parts)


def _doubtful(part: Program, outcome: highs.Outcome) -> bool:
    """Whether HiGHS calls optimal what its own bound does not prove: after presolving, given a start, it may."""
    if outcome.termination is not Termination.OPTIMAL or outcome.values is None or outcome.bound is None:
        return False
    cost = part.cost @ outcome.values + part.offset
    return cost - outcome.bound > PROVED_GAP * abs(cost)


def _solved(
    program: Program, free: np.ndarray, best: np.ndarray, watch: _Watch, time_limit_s: float, seed: int, nodes
) -> np.ndarray | None:
    """All columns with a part's at their best, as far as HiGHS came."""
    keep = np.concatenate([free, np.ones(len(best) - len(free), bool)])
    part, limit = restricted(program, keep, best), None if time_limit_s == np.inf else time_limit_s
    options = {"time_limit_s": limit, "seed": seed, "start": best[keep], "node_limit": nodes}
    outcome = highs.minimise(part, watch, **options)
    if _doubtful(part, outcome):
        outcome = highs.minimise(part, watch, presolve=False, **options)
    if outcome.values is None:
        return None
    values = best.copy()
    values[keep] = outcome.values
    return values
