"""What is left of a time limit when what must follow the ascent is paid for: a last evaluation and the verification."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from kvopt.lowering import Lowered

_RUN_S, _TABLE_S = 25e-9, 0.5e-6
"""Seconds of the hard minimum by run and by slot, on a core of the machine that
:func:`kvopt.bounds.paths.usual_s` is of."""
_SLOWEST, _FASTEST = 3.0, 0.5
"""Machines differ from the one measured on by no more than that; what seems to is something else."""
_MOST_RESERVED = 0.5
"""Share of the limit."""


@dataclass
class Clock:
    """A time limit, and the seconds that evaluations have been seen to take.

    Parameters
    ----------
    low : Lowered
        What evaluations are of.
    began : float
        On the clock of ``time.perf_counter``.
    limit_s : float
        Infinite where there is none.
    usual_verification_s : float
        By :func:`kvopt.bounds.paths.usual_s`.
    """

    low: Lowered
    began: float
    limit_s: float
    usual_verification_s: float = 0.0
    soft_s: float = 0.0
    """The last evaluation with gradient took so long."""
    hard_s: float = np.inf
    """The quickest without took so long: the first loads kernels."""

    @property
    def elapsed_s(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.began

    def allows(self, seconds: float) -> bool:
        """Whether there is time for that, and for what must follow."""
        return self.elapsed_s + seconds + self._reserved_s() <= self.limit_s

    def note_hard(self, seconds: float) -> None:
        """An evaluation without gradient has taken so long."""
        self.hard_s = min(self.hard_s, seconds)

    def _reserved_s(self) -> float:
        if not np.isfinite(self.hard_s):
            return 0.0
        return min(2 * self.hard_s + self.verification_s(), _MOST_RESERVED * self.limit_s)

    def verification_s(self) -> float:
        """What verification takes, judged from its size and from how quick this machine was at evaluating."""
        usual_s = _RUN_S * len(self.low.run_start) + _TABLE_S * self.low.n_slots
        return self.usual_verification_s * float(np.clip(self.hard_s / usual_s, _FASTEST, _SLOWEST))
