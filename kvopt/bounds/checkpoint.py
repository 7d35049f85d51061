"""Multipliers of an ascent under way, in a file from which it can go on.

The file is a certificate's (:mod:`kvopt.certificate_io`) of the best bound so far, which ``kvopt verify`` takes, with
the multipliers where the ascent is beside it, named alike after ``now_``, and its stage.
"""

from __future__ import annotations

import time
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np

from kvopt.admissible import admissible
from kvopt.certificate_io import about, arrays_of, read_multipliers, write_multipliers
from kvopt.errors import KvoptError, shown
from kvopt.instance import Instance
from kvopt.reading import reason
from kvopt.result import Certificate

_NOW = "now_"
_STAGE = "stage"
_FIX = "Name another file"
_FIELD = "checkpoint"
STAGES = 16
"""Of an ascent, from hot to cold."""
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
            When the file holds none, or one of another instance; the message says in what it differs. Also for
            multipliers that are not admissible, arrays that do not belong there, and a stage that no ascent has.
        """
        try:
            if not self.path.exists():
                return None
        except (OSError, ValueError) as found:  # ValueError: a name with a zero byte.
            raise KvoptError(_FIELD, f"cannot read {shown(str(self.path))} ({reason(found)})", _FIX) from None
        arrays, of = read_multipliers(self.path, self.instance, _FIELD)
        if _STAGE not in of:
            raise KvoptError(_FIELD, f"{self.path} is a certificate, no checkpoint", _FIX)
        now = {name.removeprefix(_NOW): array for name, array in arrays.items() if name.startswith(_NOW)}
        best = {name: array for name, array in arrays.items() if not name.startswith(_NOW)}
        return Reached(self._certificate(best, ""), self._certificate(now, _NOW), self._stage(of[_STAGE]))

    def _certificate(self, arrays: dict[str, np.ndarray], prefix: str) -> Certificate:
        known = {field.name: field.default for field in fields(Certificate)}
        for name, default in known.items():
            if default is MISSING and name not in arrays:
                raise KvoptError(_FIELD, f"{self.path} has no {prefix}{name}", _FIX)
        for name in arrays:
            if name not in known:
                raise KvoptError(_FIELD, f"{self.path} has {prefix}{name}, which belongs to none", _FIX)
        return admissible(self.instance, Certificate(**arrays), f"{_FIELD} {self.path}, {prefix or 'best '}".rstrip())

    def _stage(self, stage: object) -> int:
        if type(stage) is not int or not 0 <= stage <= STAGES:
            raise KvoptError(_FIELD, f"{self.path} has stage {shown(stage)}, outside 0..{STAGES}", _FIX)
        return stage

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
