"""The whole program in a thread of its own, beside whoever improves its solution by parts."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from kvopt.exact import highs
from kvopt.exact.program import Program
from kvopt.result import Termination


class Whole:
    """HiGHS on the whole program. It lets go of the interpreter while it runs, so both have a core where there are two.

    Parameters
    ----------
    program : Program
    start : float64[n]
        A feasible solution.
    time_limit_s : float
    seed : int
    stands : callable
        Whether a solution, float64[n], and the bound that HiGHS claims with it, in the program's unit, agree with all
        that is known.
    when_optimal : callable
        Called from the thread when HiGHS has come to an end that stands.

    Attributes
    ----------
    stop : bool
        Asked by HiGHS; :meth:`end` sets it.
    optimal : bool
        Whether HiGHS has come to an end that stands.
    """

    def __init__(
        self,
        program: Program,
        start: np.ndarray,
        time_limit_s: float,
        seed: int,
        stands: Callable[[np.ndarray, float], bool],
        when_optimal: Callable[[], None],
    ) -> None:
        self.stop, self.optimal = False, False
        self._found: np.ndarray | None = None
        self._error: Exception | None = None
        self._stands, self._when_optimal = stands, when_optimal
        self._thread = threading.Thread(target=self._run, args=(program, start, time_limit_s, seed))
        self._thread.start()

    def incumbent(self, values: np.ndarray, nodes: int) -> None:
        """HiGHS has found a better solution."""
        self._found = values

    def bound(self, bound: float, nodes: int) -> None:
        """Of no use here: what HiGHS claims is no certificate."""

    def found(self) -> np.ndarray | None:
        """The best solution since last asked; None without any."""
        found, self._found = self._found, None
        return found

    def wait(self, seconds: float) -> bool:
        """Whether HiGHS has ended, after so many seconds at most."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def end(self, patience_s: float | None = None) -> None:
        """Make HiGHS stop, and wait until it has, or for so long.

        Raises
        ------
        Exception
            What the thread ended with, if it did.
        """
        self.stop = True
        self._thread.join(patience_s)
        if self._error is not None:
            raise self._error

    def _run(self, program: Program, start: np.ndarray, time_limit_s: float, seed: int) -> None:
        try:
            outcome = highs.minimise(program, self, time_limit_s=time_limit_s, seed=seed, start=start)
            if outcome.values is not None:
                self._found = outcome.values
            ended = outcome.termination is Termination.OPTIMAL and outcome.bound is not None
            self.optimal = ended and outcome.values is not None and self._stands(outcome.values, outcome.bound)
            if self.optimal:
                self._when_optimal()
        except Exception as error:  # Raised again by end(), where somebody sees it.
            self._error = error
