"""What a placement is to be good at.

An objective is, in a unit of its own, a weight on the decode time plus a price for every byte that is read, written,
moved or held. That form goes through every engine: a price is a linear term, and

    sum_t (max_c load[c, t]) + linear[t]   =   sum_t max_c (load[c, t] + linear[t]),

so the one lowering adds it to all channels of its slot, and the exact model, the annealer's exact deltas, the
trellis and the dual bound need not know. The evaluator, the verification of certificates and the Pyomo page keep the
two apart, and so check it.

Shipped: :func:`latency`, :func:`energy`, :func:`traffic`, and weighted sums: ``0.7 * latency() + 0.3 * energy(...)``.
Your own is any object with ``name``, ``unit`` and ``prices(platform) -> Prices``::

    @dataclass(frozen=True)
    class Wear:                            # bytes written to flash
        name: str = "wear"
        unit: str = "B"

        def prices(self, platform):
            prices = Prices.zero(platform)
            prices.write[[t.name for t in platform.tiers].index("nvme")] = 1.0
            return prices
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from kvopt.errors import KvoptError
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

    @property
    def linear(self) -> bool:
        """Whether anything but the decode time counts."""
        return any(getattr(self, n).any() for n in _BY_TIER)

    @property
    def stepwise(self) -> bool:
        """Whether single steps count, not only their sum."""
        return bool(self.tails or self.deadlines)

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


@runtime_checkable
class Objective(Protocol):
    """What :class:`kvopt.Instance` takes as its ``objective``."""

    name: str
    unit: str

    def prices(self, platform: Platform) -> Prices:
        """The objective in numbers.

        Raises
        ------
        ObjectiveError
            When the platform lacks what it names.
        """
        ...


class _Summable:
    """``0.7 * latency() + 0.3 * energy(...)``."""

    def __add__(self, other: Objective) -> WeightedSum:
        return WeightedSum((*_terms(self), *_terms(other)))

    def __mul__(self, weight: float) -> WeightedSum:
        return WeightedSum(tuple((weight * w, term) for w, term in _terms(self)))

    __rmul__ = __mul__


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)


@dataclass(frozen=True)
class Latency(_Summable):
    """The decode time in seconds."""

    name: str = "latency"
    unit: str = "s"

    def prices(self, platform: Platform) -> Prices:
        """One unit a second."""
        return replace(Prices.zero(platform), per_second=1.0)


@dataclass(frozen=True)
class Energy(_Summable):
    """Joules.

    Parameters
    ----------
    read_j_per_byte, write_j_per_byte : mapping of tier name to float
        A tier left out costs nothing. A move is a read of one tier and a write of another.
    power_w : float
        Drawn as long as decoding takes.
    hold_j_per_byte_slot : mapping of tier name to float
        Refresh and leakage, for each byte held through one slot: the power a byte takes times a slot's usual time.
    """

    read_j_per_byte: Mapping[str, float]
    write_j_per_byte: Mapping[str, float]
    power_w: float = 0.0
    hold_j_per_byte_slot: Mapping[str, float] | None = None
    name: str = "energy"
    unit: str = "J"

    def prices(self, platform: Platform) -> Prices:
        """By tier."""
        read = _by_tier(platform, "energy.read_j_per_byte", self.read_j_per_byte)
        return Prices(
            per_second=self.power_w,
            read=read,
            write=_by_tier(platform, "energy.write_j_per_byte", self.write_j_per_byte),
            move_out=read,
            hold=_by_tier(platform, "energy.hold_j_per_byte_slot", self.hold_j_per_byte_slot or {}),
        )


@dataclass(frozen=True)
class Traffic(_Summable):
    """Bytes that one channel carries, weights included.

    Parameters
    ----------
    channel : str
    """

    channel: str
    name: str = "traffic"
    unit: str = "B"

    def prices(self, platform: Platform) -> Prices:
        """What each operation loads on the channel."""
        names = [c.name for c in platform.channels]
        if self.channel not in names:
            raise ObjectiveError(
                "traffic.channel", f"platform {platform.name!r} has no {self.channel!r}", f"Choose: {', '.join(names)}"
            )
        c = names.index(self.channel)
        read, write, out = (platform.loads(role)[:, c] for role in ("read", "write", "move_out"))
        return Prices(0.0, read, write, out, np.zeros(len(read)))


@dataclass(frozen=True)
class WeightedSum(_Summable):
    """Objectives times weights; the unit is the weights' affair.

    Parameters
    ----------
    terms : tuple of (float, Objective)
    """

    terms: tuple[tuple[float, Objective], ...]

    @property
    def name(self) -> str:
        """Its terms, in words."""
        return " + ".join(f"{weight:g} {term.name}" for weight, term in self.terms)

    @property
    def unit(self) -> str:
        """The terms' unit if they share one and weigh 1, else "units"."""
        units = {term.unit for _, term in self.terms}
        return units.pop() if len(units) == 1 and all(w == 1 for w, _ in self.terms) else "units"

    def prices(self, platform: Platform) -> Prices:
        """The weighted sum of the terms' prices."""
        total = Prices.zero(platform)
        for weight, term in self.terms:
            total = total + term.prices(platform) * weight
        return total


def latency() -> Latency:
    """The decode time: the default."""
    return Latency()


def energy(
    read_j_per_byte: Mapping[str, float],
    write_j_per_byte: Mapping[str, float],
    *,
    power_w: float = 0.0,
    hold_j_per_byte_slot: Mapping[str, float] | None = None,
) -> Energy:
    """Joules of reading, writing and moving, of power drawn while decoding, and of holding; see :class:`Energy`."""
    return Energy(dict(read_j_per_byte), dict(write_j_per_byte), power_w, hold_j_per_byte_slot)


def traffic(channel: str) -> Traffic:
    """Bytes over one channel; see :class:`Traffic`."""
    return Traffic(channel)


def checked_prices(objective: Objective, platform: Platform) -> Prices:
    """The prices of an objective, after refusing what no engine could take.

    Raises
    ------
    ObjectiveError
        When the object is no objective, or a price is negative or not finite, or everything is free.
    """
    if not isinstance(objective, Objective):
        raise ObjectiveError(
            "objective", f"{objective!r} has no name, unit and prices(platform)", "See kvopt.objective for ten lines"
        )
    prices = objective.prices(platform)
    for name in ("per_second", "read", "write", "move_out", "hold"):
        values = np.atleast_1d(np.asarray(getattr(prices, name), float))
        if not (np.isfinite(values).all() and (values >= 0).all()):
            raise ObjectiveError(
                f"objective {objective.name!r} {name}",
                f"must be finite and 0 or more, got {values.tolist()}",
                "Objectives are minimised, and a price below 0 would pay for moving to and fro",
            )
        if name != "per_second" and len(values) != len(platform.tiers):
            raise ObjectiveError(
                f"objective {objective.name!r} {name}",
                f"has {len(values)} entries, platform {platform.name!r} has {len(platform.tiers)} tiers",
                "Give one a tier, fast to slow",
            )
    _check_steps(objective.name, prices)
    if not (prices.per_second > 0 or prices.linear or prices.stepwise):
        raise ObjectiveError(f"objective {objective.name!r}", "costs nothing whatever is done", "Price something")
    return prices


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


def _by_tier(platform: Platform, field: str, per_byte: Mapping[str, float]) -> np.ndarray:
    names = [t.name for t in platform.tiers]
    for name in per_byte:
        if name not in names:
            raise ObjectiveError(field, f"platform {platform.name!r} has no tier {name!r}", f"Use: {', '.join(names)}")
    values = np.array([float(per_byte.get(name, 0.0)) for name in names])
    if any(math.isnan(v) for v in values):
        raise ObjectiveError(field, "has a value that is not a number", "Give joules a byte")
    return values
