"""What is known while HiGHS runs: the best placement, the bound, and the events that tell of them."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from kvopt.evaluate import evaluate
from kvopt.exact.layout import Layout
from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.result import OnProgress, Progress, lies_above

_REPORT_EVERY_S = 0.1
"""HiGHS asks thousands of times a second; a rising bound is told of no more often than this."""


class Tracker:
    """Watches a run of :func:`kvopt.exact.highs.minimise`. Times are the evaluator's, never HiGHS's own.

    Parameters
    ----------
    instance : Instance
    layout : Layout
    unit : float
        What a unit of the program's cost is in the objective's own unit.
    began : float
        ``time.perf_counter()`` when the engine was called.
    on_progress : callable, optional

    Attributes
    ----------
    best : Placement or None
    objective, bound_value : float or None
        What HiGHS claims may lie above what is achieved: then it is wrong, and no event tells of it as a bound.
    found_by : str
        What has found the best placement.
    overfull : int
        Solutions of HiGHS that break a rule once they are whole blocks and bytes.
    original : callable
        From a solution of HiGHS to the columns of the layout's program.
    restart_below : float
        A better placement than this stops the run: the program's scale is too coarse for it.
    history : list of Progress
    cancelled : bool
        Whether somebody wants the run to stop.
    error : Exception or None
        What ``on_progress`` raised; the run stops, and whoever started it should raise this.
    """

    def __init__(
        self, instance: Instance, layout: Layout, unit: float, began: float, on_progress: OnProgress | None
    ) -> None:
        self.instance = instance
        self.layout = layout
        self.unit = unit
        self.began = began
        self.on_progress = on_progress
        self.best: Placement | None = None
        self.objective: float | None = None
        self.bound_value: float | None = None
        self.found_by = ""
        self.overfull = 0
        self.original: Callable[[np.ndarray], np.ndarray] = lambda values: values
        self.restart_below = -np.inf
        self.history: list[Progress] = []
        self.cancelled = False
        self.error: Exception | None = None
        self._reported = -np.inf

    @property
    def stop(self) -> bool:
        """Whether the run is to end soon."""
        return self.cancelled or self.restarts

    @stop.setter
    def stop(self, stop: bool) -> None:
        self.cancelled = stop

    @property
    def restarts(self) -> bool:
        """Whether the best placement is below what the program's scale was made for."""
        return self.objective is not None and 0 < self.objective < self.restart_below

    @property
    def sound(self) -> bool:
        """Whether the bound, if there is one, does not lie above what is achieved."""
        known = self.objective is not None and self.bound_value is not None
        return not (known and lies_above(self.bound_value, self.objective))

    def incumbent(self, values: np.ndarray, nodes: int) -> None:
        """A solution of HiGHS: kept and told of if it is the best so far."""
        self.consider(self.layout.placement(self.original(values)), f"{nodes} nodes", "a placement of HiGHS's own")

    def consider(self, placement: Placement, detail: str, found_by: str = "") -> None:
        """Keep a feasible placement, and tell of it, if it is the best so far."""
        if placement.violations(self.instance, most=1):
            self.overfull += 1
            return  # Full to the last byte, and then by HiGHS's tolerance over it.
        objective = evaluate(self.instance, placement).objective
        if self.objective is None or objective < self.objective:
            self.best, self.objective, self.found_by = placement, objective, found_by or detail
            self._report(detail)

    def bound(self, bound: float, nodes: int) -> None:
        """HiGHS's lower bound: kept if it rose, and told of now and then."""
        value = bound * self.unit
        if np.isfinite(value) and (self.bound_value is None or value > self.bound_value):
            self.bound_value = value
            if time.perf_counter() - self._reported > _REPORT_EVERY_S:
                self._report(f"{nodes} nodes")

    def conclude(self, detail: str) -> None:
        """Tell of the end, after making little of what is rounding between the bound and what is achieved."""
        if self.sound and self.bound_value is not None and self.objective is not None:
            self.bound_value = min(self.bound_value, self.objective)
        self._report(detail, last=True)

    def _report(self, detail: str, last: bool = False) -> None:
        self._reported = time.perf_counter()
        event = Progress(
            self._reported - self.began,
            self.objective,
            self.bound_value if self.sound else None,
            detail,
            self.instance.objective.unit,
            last,
        )
        self.history.append(event)
        if self.on_progress is None:
            return
        try:
            self.on_progress(event)
        except KeyboardInterrupt:
            self.stop = True
        except Exception as error:  # Held back: it must not unwind through HiGHS.
            self.error, self.stop = error, True
