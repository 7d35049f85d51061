"""HiGHS asked until its answer stands, or cannot be made to.

What HiGHS says is a claim within tolerances. Here each claim is held against what is known: its solution, made whole
blocks, against the evaluator and the capacities in bytes; its bound, and its word that nothing is feasible, against the
best placement in hand. Where they contradict each other, it is asked again, of rows that count every byte
(:mod:`kvopt.exact.capacity`), and then without presolving. And where a placement is found that the program's scale is
too coarse for, it is asked again at that placement's scale (:mod:`kvopt.exact.scaling`).
"""

from __future__ import annotations

import math
import time

from kvopt.evaluate import evaluate
from kvopt.exact import highs
from kvopt.exact.capacity import with_exact_rows
from kvopt.exact.layout import Layout
from kvopt.exact.program import Program
from kvopt.exact.scaling import LEAST, Scaled, scaled_to
from kvopt.exact.tracker import Tracker
from kvopt.instance import Instance
from kvopt.lowering import Lowered
from kvopt.result import Termination

PROVED_GAP = 1e-7
"""Between the value achieved and HiGHS's bound: a relative gap that is tolerance, not doubt."""


class Rounds:
    """All runs of HiGHS on one instance.

    Parameters
    ----------
    instance : Instance
    low : Lowered
    layout : Layout
    tracker : Tracker
        Gets what is found; what it has in hand at first, every claim is held against.
    deadline : float
        Of ``time.perf_counter()``; may be infinite.
    gap : float
        Relative gap to stop at.
    seed : int
    begun : bool
        Whether HiGHS is to start from what the tracker has in hand.

    Attributes
    ----------
    program : Program or None
        What the last run was of, before it was scaled; None without any.
    outcome : highs.Outcome or None
        Of the last run.
    runs : int
    """

    def __init__(
        self,
        instance: Instance,
        low: Lowered,
        layout: Layout,
        tracker: Tracker,
        *,
        deadline: float = math.inf,
        gap: float = 0.0,
        seed: int = 0,
        begun: bool = False,
    ) -> None:
        self.instance, self.low, self.layout, self.tracker = instance, low, layout, tracker
        self.deadline, self.gap, self.seed, self.begun = deadline, gap, seed, begun
        self.program: Program | None = None
        self.outcome: highs.Outcome | None = None
        self.runs = 0

    @property
    def left_s(self) -> float:
        """Seconds up to the deadline."""
        return self.deadline - time.perf_counter()

    @property
    def termination(self) -> Termination:
        """Why the last run ended: OPTIMAL only where what is in hand meets the bound."""
        tracker = self.tracker
        if tracker.cancelled:
            return Termination.INTERRUPTED
        if self.outcome is None or tracker.restarts:
            return Termination.TIME_LIMIT
        if self.outcome.termination is Termination.OPTIMAL and not self._proved():
            # HiGHS also says optimal when it stops at the gap it was given: what counts is the value achieved.
            return Termination.FINISHED
        return self.outcome.termination

    @property
    def words(self) -> str:
        """How the last run ended."""
        return "no time for HiGHS" if self.outcome is None else f"{self.outcome.nodes} nodes, {self.outcome.status}"

    def solve(self, program: Program) -> None:
        """Ask HiGHS until its answer stands, time is up or nothing else is left to try.

        Parameters
        ----------
        program : Program
            Of the instance.
        """
        self.program = with_exact_rows(program, self.instance, self.low, self.layout)
        presolve = every_byte = True
        while True:
            self._ask(presolve)
            if self.tracker.cancelled or self.left_s <= 0 or self.instance.custom:
                return
            if not self.tracker.restarts:
                if self._stands():
                    return
                if every_byte:
                    every_byte = False
                    self.program = with_exact_rows(program, self.instance, self.low, self.layout, always=True)
                elif presolve:
                    presolve = False
                else:
                    return
            # What was claimed at another scale, or was wrong, is no bound.
            self.tracker.bound_value, self.begun = None, self.tracker.best is not None

    def _ask(self, presolve: bool) -> None:
        tracker, instance = self.tracker, self.instance
        scaled, start = Scaled.same(self.program), None
        if tracker.best is not None:
            known = evaluate(instance, tracker.best)
            if not instance.custom:
                scaled = scaled_to(self.program, known.objective, known.latency_s, self.layout.split_shares)
            if self.begun:
                start = self.program.complete(self.layout.decisions(tracker.best, known.read_bytes))
        tracker.unit, tracker.original = scaled.program.unit, scaled.original
        tracker.restart_below = -math.inf if instance.custom else LEAST * scaled.program.unit
        self.outcome = highs.minimise(
            scaled.program,
            tracker,
            time_limit_s=None if self.deadline == math.inf else self.left_s,
            gap=self.gap,
            seed=self.seed,
            start=None if start is None else scaled.scaled(start),
            presolve=presolve,
        )
        self.runs += 1
        if self.outcome.values is not None:
            tracker.incumbent(self.outcome.values, self.outcome.nodes)
        if self.outcome.bound is not None:
            tracker.bound(self.outcome.bound, self.outcome.nodes)

    def _proved(self) -> bool:
        tracker = self.tracker
        if tracker.objective is None or tracker.bound_value is None:
            return False
        return tracker.objective - tracker.bound_value <= PROVED_GAP * abs(tracker.objective)

    def _stands(self) -> bool:
        """Whether nothing in hand contradicts the last answer, and it is as good as HiGHS says."""
        if self.outcome.termination is Termination.INFEASIBLE:
            return self.tracker.best is None
        if self.outcome.termination is Termination.FINISHED:
            return "error" not in self.outcome.status.lower()
        if self.outcome.termination is not Termination.OPTIMAL:
            return True
        return self.tracker.sound and (self.gap > 0 or self._proved())
