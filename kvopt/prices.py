"""An objective in numbers: what time, single steps and bytes cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from kvopt.arguments import as_float, scalar
from kvopt.errors import KvoptError, shown
from kvopt.platform import Platform


class ObjectiveError(KvoptError):
    """An objective that names what the platform does not have, or prices that are no numbers."""


@dataclass(frozen=True, eq=False)
class Prices:
    """An objective in numbers, for one platform (K tiers, fast to slow).

    Parameters
    ----------
    per_second : float
        Units a second of decode time; 0 or more.
    read, write, move_out : float64[K]
        Units a byte read from a tier, written to it, and read from it for a move; 0 or more. A move from j to k costs
        ``move_out[j] + write[k]``, under read-through moves of a block that is being read ``write[k]`` alone.
    hold : float64[K]
        Units a byte held in a tier for one slot; 0 or more.
    tails : tuple of (float, float)
        (units a second, share): charged on the mean time of that share of the steps which take longest, at least one.
        A share of 0 is the worst step, 1 the mean of all; CVaR_alpha is a share of 1 - alpha.
    deadlines : tuple of (float, float)
        (units, seconds): charged for every step that takes longer.
    """

    per_second: float
    read: np.ndarray
    write: np.ndarray
    move_out: np.ndarray
    hold: np.ndarray
    tails: tuple[tuple[float, float], ...] = ()
    deadlines: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        fix = "See kvopt.objective.Prices for what each field holds"
        _check_number("prices per_second", self.per_second, fix)
        for name in _BY_TIER:
            given = getattr(self, name)
            try:
                values = np.asarray(given, float)
            except (TypeError, ValueError, OverflowError):
                values = None
            if values is None or values.ndim != 1:
                raise ObjectiveError(f"prices {name}", f"must be one number for each tier, got {shown(given)}", fix)
            object.__setattr__(self, name, values)
        for name in ("tails", "deadlines"):
            pairs = getattr(self, name)
            if not (
                isinstance(pairs, tuple | list) and all(isinstance(p, tuple | list) and len(p) == 2 for p in pairs)
            ):
                raise ObjectiveError(f"prices {name}", f"must be pairs of numbers, got {shown(pairs)}", fix)
            for number in (number for pair in pairs for number in pair):
                _check_number(f"prices {name}", number, fix)
            object.__setattr__(self, name, tuple(tuple(pair) for pair in pairs))

    @classmethod
    def zero(cls, platform: Platform) -> Prices:
        """Nothing costs anything."""
        return cls(0.0, *(np.zeros(len(platform.tiers)) for _ in range(4)))

    def __add__(self, other: Prices) -> Prices:
        return Prices(
            self.per_second + other.per_second,
            *(getattr(self, n) + getattr(other, n) for n in (*_BY_TIER, "tails", "deadlines")),
        )

    def __mul__(self, weight: float) -> Prices:
        return Prices(
            weight * self.per_second,
            *(weight * getattr(self, n) for n in _BY_TIER),
            *(tuple((weight * w, at) for w, at in getattr(self, n)) for n in ("tails", "deadlines")),
        )

    def checked(self, name: str, platform: Platform) -> Prices:
        """Themselves, after refusing what no engine could take.

        Parameters
        ----------
        name : str
            The objective's.
        platform : Platform

        Raises
        ------
        ObjectiveError
            When a price is negative or not finite, or everything is free.
        """
        for field in ("per_second", *_BY_TIER):
            values = np.atleast_1d(as_float(self.per_second) if field == "per_second" else getattr(self, field))
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ObjectiveError(
                    f"objective {name!r} {field}",
                    f"must be finite and 0 or more, got {values.tolist()}",
                    "Objectives are minimised, and a price below 0 would pay for moving to and fro",
                )
            if field != "per_second" and len(values) != len(platform.tiers):
                raise ObjectiveError(
                    f"objective {name!r} {field}",
                    f"has {len(values)} entries, platform {platform.name!r} has {len(platform.tiers)} tiers",
                    "Give one a tier, fast to slow",
                )
        _check_steps(name, self)
        if not (self.per_second > 0 or self.linear or self.stepwise):
            raise ObjectiveError(f"objective {name!r}", "costs nothing whatever is done", "Price something")
        return self

    @property
    def linear(self) -> bool:
        """Whether anything but the decode time counts."""
        return any(getattr(self, n).any() for n in _BY_TIER)

    @property
    def stepwise(self) -> bool:
        """Whether single steps count, not only their sum."""
        return any(weight > 0 for weight, _ in (*self.tails, *self.deadlines))

    def of_steps(self, step_s: np.ndarray) -> float:
        """What single steps cost, beyond their share of the decode time.

        Parameters
        ----------
        step_s : float64[N]
        """
        total = 0.0
        for weight, share in self.tails:
            total += weight * tail_mean(step_s, share)
        for weight, deadline_s in self.deadlines:
            total += weight * int(np.count_nonzero(step_s > deadline_s * (1 + LATE)))
        return total


LATE = 1e-6
"""A step is late when it exceeds its deadline by more than this share: less is rounding, a solver's or ours."""
_BY_TIER = ("read", "write", "move_out", "hold")


def tail_steps(n_steps: int, share: float) -> float:
    """How many steps a share of them is: at least one, and not always a whole number."""
    return max(1.0, share * n_steps)


def tail_mean(step_s: np.ndarray, share: float) -> float:
    """The mean time of that share of the steps which take longest.

    Where the share is no whole number of steps, the last of them counts in part (Rockafellar and Uryasev, 2002).
    """
    count = tail_steps(len(step_s), share)
    longest = np.sort(step_s)[::-1]
    whole = int(count)
    part = longest[whole] * (count - whole) if whole < len(longest) else 0.0
    return float((longest[:whole].sum() + part) / count)


def _check_number(field: str, value: Any, fix: str) -> None:
    """Refuse what is no number; which numbers make sense is asked when a platform is known."""
    if isinstance(value, bool) or not isinstance(scalar(value), Real):
        raise ObjectiveError(field, f"must be a number, got {shown(value)}", fix)


def _check_steps(name: str, prices: Prices) -> None:
    for weight, share in prices.tails:
        if not (math.isfinite(weight) and weight >= 0 and 0 <= share <= 1):
            raise ObjectiveError(
                f"objective {name!r} tails",
                f"must be weights of 0 or more and shares from 0 to 1, got {(weight, share)!r}",
                "Give 0 for the worst step, 0.05 for the mean of the longest twentieth",
            )
    for weight, deadline_s in prices.deadlines:
        if not (math.isfinite(weight) and weight >= 0 and math.isfinite(deadline_s) and deadline_s > 0):
            raise ObjectiveError(
                f"objective {name!r} deadlines",
                f"must be weights of 0 or more and seconds greater than 0, got {(weight, deadline_s)!r}",
                "Give a deadline in seconds, as 0.05 for 50 ms",
            )
