"""What a placement is to be good at.

An objective that every engine takes is *declared*: in a unit of its own, a weight on the decode time, on the longest
steps (``tails`` of :class:`kvopt.prices.Prices`: the worst step, CVaR), on steps over a deadline, and a price for every
byte that is read, written, moved or held. Shipped are :func:`latency`, :func:`energy`, :func:`traffic`,
:func:`worst_step`, :func:`cvar`, :func:`late_steps`, :func:`cost`, and weighted sums of any:
``0.7 * latency() + 0.3 * energy(...)``. Your own is any object with ``name``, ``unit`` and ``prices(platform)``::

    @dataclass(frozen=True)
    class Wear:                            # bytes written to flash
        name: str = "wear"
        unit: str = "B"

        def prices(self, platform):
            prices = Prices.zero(platform)
            prices.write[[t.name for t in platform.tiers].index("nvme")] = 1.0
            return prices

What cannot be declared can be *judged*: an object with ``name``, ``unit`` and ``of_loads(load_s, instance)``, any
number made of float64[C, T], the seconds that each channel is busy in each slot. The evaluator and the annealer take
it. With ``expression(model, instance)`` beside it, a linear Pyomo expression over :mod:`kvopt.models.placement`, so
does the exact model. :func:`accepts` says which engine takes an objective, and why another does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from kvopt.platform import Platform
from kvopt.prices import LATE, ObjectiveError, Prices, tail_mean, tail_steps

if TYPE_CHECKING:
    from kvopt.instance import Instance

__all__ = [
    "ENGINES",
    "LATE",
    "Objective",
    "ObjectiveError",
    "Prices",
    "accepts",
    "checked_prices",
    "cost",
    "cvar",
    "energy",
    "late_steps",
    "latency",
    "tail_mean",
    "tail_steps",
    "traffic",
    "worst_step",
]

ENGINES = ("evaluate", "anneal", "exact", "bound")
"""What :func:`accepts` speaks of."""


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

    def __radd__(self, other: Objective) -> WeightedSum:
        # Reached where the left one is a user's own, which need not know how to add.
        return WeightedSum((*_terms(other), *_terms(self)))

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
class Tail(_Summable):
    """The mean time of the steps that take longest.

    Parameters
    ----------
    share : float
        Of all steps, from 0 (the worst one alone) to 1 (all of them).
    """

    share: float = 0.0
    unit: str = "s"

    @property
    def name(self) -> str:
        """The worst step, or CVaR with what is left out in per cent."""
        return "worst-step" if self.share == 0 else f"CVaR {100 * (1 - self.share):g} %"

    def prices(self, platform: Platform) -> Prices:
        """One unit a second of that mean."""
        return replace(Prices.zero(platform), tails=((1.0, self.share),))


@dataclass(frozen=True)
class LateSteps(_Summable):
    """How many steps take longer than a deadline: a service-level objective.

    Parameters
    ----------
    deadline_s : float
    """

    deadline_s: float
    name: str = "late-steps"
    unit: str = "steps"

    def prices(self, platform: Platform) -> Prices:
        """One unit a late step."""
        return replace(Prices.zero(platform), deadlines=((1.0, self.deadline_s),))


@dataclass(frozen=True)
class Cost(_Summable):
    """Money: the machine's time, and what writing wears out.

    Parameters
    ----------
    per_hour : float
        Of the machine, in any currency.
    per_byte_written : mapping of tier name to float, optional
        A flash drive's price over the bytes it endures.
    """

    per_hour: float
    per_byte_written: Mapping[str, float] | None = None
    currency: str = "USD"
    name: str = "cost"

    @property
    def unit(self) -> str:
        """The currency."""
        return self.currency

    def prices(self, platform: Platform) -> Prices:
        """By the second, and by the byte written."""
        written = _by_tier(platform, "cost.per_byte_written", self.per_byte_written or {})
        return replace(Prices.zero(platform), per_second=self.per_hour / 3600.0, write=written)


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
        return " + ".join(term.name if weight == 1 else f"{weight:g} {term.name}" for weight, term in self.terms)

    @property
    def unit(self) -> str:
        """The terms' unit if they share one and weigh 1, else "units"."""
        units = {term.unit for _, term in self.terms}
        return units.pop() if len(units) == 1 and all(w == 1 for w, _ in self.terms) else "units"

    def prices(self, platform: Platform) -> Prices:
        """The weighted sum of the terms' prices."""
        total = Prices.zero(platform)
        for weight, term in self.terms:
            if is_custom(term):
                raise ObjectiveError(
                    f"objective {self.name!r}",
                    f"adds {term.name!r}, a function of the loads, to declared prices",
                    "Write the whole sum as one of_loads(load_s, instance)",
                )
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


def worst_step() -> Tail:
    """The time of the step that takes longest."""
    return Tail(0.0)


def cvar(alpha: float) -> Tail:
    """CVaR_alpha of the step time: the mean of the longest 1 - alpha of the steps, of one step at least.

    Parameters
    ----------
    alpha : float
        From 0, the mean of all steps, to 1, the worst one.

    Raises
    ------
    ObjectiveError
        When it is not in [0, 1].

    References
    ----------
    Rockafellar and Uryasev (2002), conditional value-at-risk for general loss distributions.
    """
    if not 0 <= alpha <= 1:
        raise ObjectiveError("cvar alpha", f"must be from 0 to 1, got {alpha!r}", "Give 0.95 for the longest twentieth")
    return Tail(1.0 - alpha)


def late_steps(deadline_s: float) -> LateSteps:
    """How many steps take longer than a deadline; see :class:`LateSteps`."""
    return LateSteps(deadline_s)


def cost(per_hour: float, *, per_byte_written: Mapping[str, float] | None = None, currency: str = "USD") -> Cost:
    """Money for time and wear; see :class:`Cost`."""
    return Cost(per_hour, per_byte_written, currency)


def accepts(objective: Objective, instance: Instance) -> dict[str, str | None]:
    """Which engines take an objective on an instance.

    Returns
    -------
    dict
        For each of :data:`ENGINES` None where it does, else the reason why not.

    Raises
    ------
    ObjectiveError
        When none can: the object is no objective, or does not suit the platform.
    """
    checked_prices(objective, instance.platform)
    if not is_custom(objective):
        return dict.fromkeys(ENGINES)
    refused = f"{objective.name!r} is a function of the loads, not prices by the second, step and byte: "
    found: dict[str, str | None] = dict.fromkeys(ENGINES)
    found["bound"] = refused + "no multipliers stand for it, so nothing bounds it from below"
    if not hasattr(objective, "expression"):
        found["exact"] = refused + "a mixed-integer program needs expression(model, instance), linear in the model"
    return found


def is_custom(objective: object) -> bool:
    """Whether it is a function of the loads, rather than declared."""
    return hasattr(objective, "of_loads") and not hasattr(objective, "prices")


def checked_prices(objective: Objective, platform: Platform) -> Prices:
    """The prices of an objective, after refusing what no engine could take.

    Of a function of the loads, those of the decode time, which engines that need prices are then guided by.

    Raises
    ------
    ObjectiveError
        When the object is no objective, or a price is negative or not finite, or everything is free.
    """
    if is_custom(objective) and hasattr(objective, "name") and hasattr(objective, "unit"):
        return latency().prices(platform)
    if hasattr(objective, "expression") and not isinstance(objective, Objective):
        raise ObjectiveError(
            "objective",
            f"{objective!r} has an expression that nothing judges",
            "Give it of_loads(load_s, instance) as well: the two are held against each other",
        )
    if not isinstance(objective, Objective):
        raise ObjectiveError(
            "objective",
            f"{objective!r} has no name, unit and prices(platform)",
            "See kvopt.objective for ten lines",
        )
    return objective.prices(platform).checked(objective.name, platform)


def _by_tier(platform: Platform, field: str, per_byte: Mapping[str, float]) -> np.ndarray:
    names = [t.name for t in platform.tiers]
    for name in per_byte:
        if name not in names:
            raise ObjectiveError(field, f"platform {platform.name!r} has no tier {name!r}", f"Use: {', '.join(names)}")
    values = np.array([float(per_byte.get(name, 0.0)) for name in names])
    if any(math.isnan(v) for v in values):
        raise ObjectiveError(field, "has a value that is not a number", "Give joules a byte")
    return values
