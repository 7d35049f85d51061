"""What is left of a time limit when what must follow the ascent is paid for: a last evaluation and the verification."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kvopt.bounds.paths import TILE_BLOCKS
from kvopt.lowering import Lowered

_RUN_S, _TABLE_S = 60e-9, 0.4e-6
"""Processor seconds of the hard minimum by run and by slot, measured with two states."""
_TILE_STEP_S, _BLOCK_STEP_S = 20e-6, 5e-9
"""Processor seconds of verification by step of a tile of blocks and by step of a block's life, likewise."""
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
    began : float
        On the clock of ``time.perf_counter``.
    limit_s : float
        Infinite where there is none.
    """

    low: Lowered
    began: float
    limit_s: float
    soft_s: float = 0.0
    """The last evaluation with gradient took so long."""
    hard_s: float = np.inf
    """The quickest without took so long: the first loads kernels."""
    asked: Lowered | None = None
    """What evaluations are of, where blocks alike are one; verification is of ``low``."""

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
        asked = self.low if self.asked is None else self.asked
        usual_s = _RUN_S * len(asked.run_start) + _TABLE_S * asked.n_slots
        return self._usual_verification_s * float(np.clip(self.hard_s / usual_s, _FASTEST, _SLOWEST))

    @cached_property
    def _usual_verification_s(self) -> float:
        low = self.low
        tiles = float(np.ceil(np.bincount(low.lane) / TILE_BLOCKS).sum())
        block_steps = float((low.last_step - low.first_step + 1).sum())
        return (low.n_states / 2) ** 2 * (_TILE_STEP_S * tiles * low.n_steps + _BLOCK_STEP_S * block_steps)
