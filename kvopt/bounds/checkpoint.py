"""Multipliers of an ascent under way, in a file from which it can go on.

The file is a certificate's (:mod:`kvopt.certificate_io`) of the best bound so far, which ``kvopt verify`` takes, with
the multipliers where the ascent is beside it, named alike after ``now_``, and its stage.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from kvopt.certificate_io import about, arrays_of, read_multipliers, write_multipliers
from kvopt.errors import KvoptError
from kvopt.instance import Instance
from kvopt.result import Certificate

_NOW = "now_"
_STAGE = "stage"
_FIELD = "checkpoint"
_LEAST_APART_S = 30.0
_LEAST_APART = 50.0
"""Writes lie so many times apart what one takes: 2 % of the time goes into them."""


@dataclass(frozen=True)
class Reached:
    """Where an ascent was.

    Parameters
    ----------
    best : Certificate
    now : Certificate
        Where it was, which need not be where it proved most.
    stage : int
        The stage to go on with.
    """

    best: Certificate
    now: Certificate
    stage: int


@dataclass
class Checkpoint:
    """The file.

    Parameters
    ----------
    path : Path
    instance : Instance
        What the multipliers are of.
    """

    path: Path
    instance: Instance
    written: float = 0.0
    took_s: float = 0.0

    def __post_init__(self) -> None:
        self.written = time.perf_counter()

    @cached_property
    def _about(self) -> dict:
        return about(self.instance)

    def read(self) -> Reached | None:
        """What was reached before; None where there is no file.

        Raises
        ------
        KvoptError
            When the file holds none, or one of another instance; the message says in what it differs.
        """
        if not self.path.exists():
            return None
        arrays, of = read_multipliers(self.path, self.instance, _FIELD)
        now = {name.removeprefix(_NOW): array for name, array in arrays.items() if name.startswith(_NOW)}
        stage = of.get(_STAGE)
        if not now or not isinstance(stage, int):
            raise KvoptError(_FIELD, f"{self.path} is a certificate, no checkpoint", "Name another file")
        best = {name: array for name, array in arrays.items() if not name.startswith(_NOW)}
        return Reached(Certificate(**best), Certificate(**now), stage)

    def due(self) -> bool:
        """Whether it is time to write again."""
        return time.perf_counter() - self.written > max(_LEAST_APART_S, _LEAST_APART * self.took_s)

    def write(self, reached: Reached) -> None:
        """Replace the file.

        Raises
        ------
        KvoptError
            When the place is not writable.
        """
        began = time.perf_counter()
        now = {_NOW + name: array for name, array in arrays_of(reached.now).items()}
        of = {**self._about, _STAGE: reached.stage}
        write_multipliers({**arrays_of(reached.best), **now}, self.path, of, _FIELD)
        self.written = time.perf_counter()
        self.took_s = self.written - began
