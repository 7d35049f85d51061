"""What a placement is to be good at.

An objective that every engine takes is *declared*: in a unit of its own, a weight on the decode time, on the longest
steps (``tails`` of :class:`kvopt.prices.Prices`: the worst step, CVaR), on steps over a deadline, and a price for every
byte that is read, written, moved or held. Shipped are :func:`latency`, :func:`energy`, :func:`traffic`,
:func:`worst_step`, :func:`cvar`, :func:`late_steps`, :func:`cost`, and weighted sums of any:
``0.7 * latency() + 0.3 * energy(...)``. Your own is any object with ``name``, ``unit`` and ``prices(platform)``; from
:class:`Summable` it has ``+`` and ``*``, so that ``latency() + 2e-9 * Wear()`` is an objective too::

    @dataclass(frozen=True)
    class Wear(Summable):                  # bytes written to flash
        name: str = "wear"
        unit: str = "B"

        def prices(self, platform):
            prices = Prices.zero(platform)
            prices.write[[t.name for t in platform.tiers].index("nvme")] = 1.0
            return prices

What cannot be declared can be *judged*: an object with ``name``, ``unit`` and ``of_loads(load_s, instance)``, any
number made of float64[C, T], the seconds that each channel is busy in each slot. The evaluator and the annealer take
it. With ``expression(model, instance)`` beside it, a linear Pyomo expression over :mod:`kvopt.models.placement`, so
does the exact model. A weighted sum with such a function in it is one itself; the declared terms in it may count time,
not single bytes. :func:`accepts` says which engine takes an objective, and why another does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from kvopt.arguments import as_float, expect, real, scalar
from kvopt.errors import shown
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
    "Summable",
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

    def __init_subclass__(cls, **options: Any) -> None:
        # A class that inherits this rather than just looking like it is summable as well.
        super().__init_subclass__(**options)
        if not issubclass(cls, Summable):
            for name in ("__add__", "__radd__", "__mul__", "__rmul__"):
                setattr(cls, name, cls.__dict__.get(name, getattr(Summable, name)))


class Summable:
    """Objectives that can be weighted and summed: ``0.7 * latency() + 0.3 * energy(...)``.

    A class of your own inherits this to be written so; without it, ``latency() + mine`` still is a sum, and
    ``WeightedSum(((2e-9, mine),))`` a multiple.
    """

    def __add__(self, other: Objective) -> WeightedSum:
        return WeightedSum((*_terms(self), *_terms(other)))

    def __radd__(self, other: Objective) -> WeightedSum:
        # Reached where the left one is a user's own, which need not know how to add; and by sum(), which begins with 0.
        return WeightedSum(_terms(self) if _is_zero(other) else (*_terms(other), *_terms(self)))

    def __mul__(self, weight: float) -> WeightedSum:
        weight = _number("objective weight", weight, "Multiply an objective by a number, as in 0.3 * worst_step()")
        return WeightedSum(tuple((weight * w, term) for w, term in _terms(self)))

    __rmul__ = __mul__


def _terms(objective: Objective) -> tuple[tuple[float, Objective], ...]:
    return objective.terms if isinstance(objective, WeightedSum) else ((1.0, objective),)


def _is_zero(value: object) -> bool:
    return isinstance(value, int | float) and value == 0


def _number(field: str, value: Any, fix: str, **limits: Any) -> Any:
    return real(field, value, fix, ObjectiveError, **limits)


def _text(field: str, value: Any) -> None:
    expect(str, field, value, "Give a text", ObjectiveError)


def _by_name(field: str, value: Any, *, optional: bool = False) -> None:
    """Refuse what is no mapping of tier names to numbers."""
    fix = "Give a mapping of tier name to a number per byte, as {'hbm': 3e-11}"
    if value is None and optional:
        return
    for name, price in expect(Mapping, field, value, fix, ObjectiveError).items():
        _text(f"{field} tier", name)
        if isinstance(price, bool) or not isinstance(scalar(price), Real):
            raise ObjectiveError(f"{field}[{name!r}]", f"must be a number, got {shown(price)}", fix)


@dataclass(frozen=True)
class Latency(Summable):
    """The decode time in seconds."""

    name: str = "latency"
    unit: str = "s"

    def prices(self, platform: Platform) -> Prices:
        """One unit a second."""
        return replace(Prices.zero(platform), per_second=1.0)


@dataclass(frozen=True)
class Energy(Summable):
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

    def __post_init__(self) -> None:
        _by_name("energy.read_j_per_byte", self.read_j_per_byte)
        _by_name("energy.write_j_per_byte", self.write_j_per_byte)
        _by_name("energy.hold_j_per_byte_slot", self.hold_j_per_byte_slot, optional=True)
        _number("energy.power_w", self.power_w, "Give watts")

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
class Traffic(Summable):
    """Bytes that one channel carries, weights included.

    Parameters
    ----------
    channel : str
    """

    channel: str
    name: str = "traffic"
    unit: str = "B"

    def __post_init__(self) -> None:
        _text("traffic.channel", self.channel)

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
class Tail(Summable):
    """The mean time of the steps that take longest.

    Parameters
    ----------
    share : float
        Of all steps, from 0 (the worst one alone) to 1 (all of them).
    """

    share: float = 0.0
    unit: str = "s"

    def __post_init__(self) -> None:
        _number("tail share", self.share, "Give 0 for the worst step, 1 for all", least=0, most=1)

    @property
    def name(self) -> str:
        """The worst step, or CVaR with what is left out in per cent."""
        return "worst-step" if self.share == 0 else f"CVaR {100 * (1 - self.share):g} %"

    def prices(self, platform: Platform) -> Prices:
        """One unit a second of that mean."""
        return replace(Prices.zero(platform), tails=((1.0, self.share),))


@dataclass(frozen=True)
class LateSteps(Summable):
    """How many steps take longer than a deadline: a service-level objective.

    Parameters
    ----------
    deadline_s : float
    """

    deadline_s: float
    name: str = "late-steps"
    unit: str = "steps"

    def __post_init__(self) -> None:
        _number("late_steps.deadline_s", self.deadline_s, "Give seconds, as 0.05 for 50 ms")

    def prices(self, platform: Platform) -> Prices:
        """One unit a late step."""
        return replace(Prices.zero(platform), deadlines=((1.0, self.deadline_s),))


@dataclass(frozen=True)
class Cost(Summable):
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

    def __post_init__(self) -> None:
        _number("cost.per_hour", self.per_hour, "Give money per hour")
        _by_name("cost.per_byte_written", self.per_byte_written, optional=True)
        _text("cost.currency", self.currency)

    @property
    def unit(self) -> str:
        """The currency."""
        return self.currency

    def prices(self, platform: Platform) -> Prices:
        """By the second, and by the byte written."""
        written = _by_tier(platform, "cost.per_byte_written", self.per_byte_written or {})
        return replace(Prices.zero(platform), per_second=self.per_hour / 3600.0, write=written)


@dataclass(frozen=True)
class WeightedSum(Summable):
    """Objectives times weights; the unit is the weights' affair.

    Parameters
    ----------
    terms : tuple of (float, Objective)
    """

    terms: tuple[tuple[float, Objective], ...]

    def __post_init__(self) -> None:
        fix = "Give (weight, objective) pairs, as ((0.7, latency()), (0.3, worst_step()))"
        pairs = isinstance(self.terms, tuple | list) and all(
            isinstance(t, tuple | list) and len(t) == 2 for t in self.terms
        )
        if not (pairs and self.terms):
            raise ObjectiveError(
                "objective terms", f"must be pairs of weight and objective, got {shown(self.terms)}", fix
            )
        for _, term in self.terms:
            _check_shape(term)
        terms = tuple((_number("objective weight", weight, fix), term) for weight, term in self.terms)
        object.__setattr__(self, "terms", terms)

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
        """The weighted sum of the prices of the declared terms; of the others there are none."""
        total = Prices.zero(platform)
        for weight, term in self.terms:
            if not is_custom(term):
                total = total + _declared(term, platform) * weight
        return total

    def of_loads(self, load_s: np.ndarray, instance: Instance) -> float:
        """The weighted sum of the terms, where one of them is a function of the loads.

        Parameters
        ----------
        load_s : float64[C, T]
        instance : Instance
        """
        total = sum(weight * term.of_loads(load_s, instance) for weight, term in self.terms if is_custom(term))
        slot_s = load_s.max(axis=0)
        step_s = slot_s.reshape(instance.trace.n_steps, -1).sum(axis=1)
        prices = self.prices(instance.platform)
        return float(total + prices.per_second * slot_s.sum() + prices.of_steps(step_s))


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
    return Energy(_plain(read_j_per_byte), _plain(write_j_per_byte), power_w, hold_j_per_byte_slot)


def _plain(by_tier: Any) -> Any:
    return dict(by_tier) if isinstance(by_tier, Mapping) else by_tier


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
    alpha = as_float(scalar(real("cvar alpha", alpha, "Give 0.95 for the longest twentieth", ObjectiveError)))
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
    """Whether it is a function of the loads, rather than declared; so is a weighted sum with such a term."""
    if isinstance(objective, WeightedSum):
        return any(is_custom(term) for _, term in objective.terms)
    declared = getattr(type(objective), "prices", Objective.prices) is not Objective.prices
    return hasattr(objective, "of_loads") and not (declared or "prices" in getattr(objective, "__dict__", ()))


def checked_prices(objective: Objective, platform: Platform) -> Prices:
    """The prices of an objective, after refusing what no engine could take.

    Of a function of the loads, those of the decode time, which engines that need prices are then guided by.

    Raises
    ------
    ObjectiveError
        When the object is no objective, or a price is negative or not finite, or everything is free; or a sum adds
        prices per byte to a function of the loads.
    """
    _check_shape(objective)
    if is_custom(objective):
        if isinstance(objective, WeightedSum):
            _check_mixed(objective, platform)
        return latency().prices(platform)
    return _declared(objective, platform).checked(objective.name, platform)


def _check_shape(objective: object) -> None:
    """Refuse an object that is no objective."""
    named = all(isinstance(getattr(objective, name, None), str) for name in ("name", "unit"))
    if not isinstance(objective, type) and named and (is_custom(objective) or isinstance(objective, Objective)):
        return
    if hasattr(objective, "expression") and not isinstance(objective, Objective):
        raise ObjectiveError(
            "objective",
            f"{shown(objective)} has an expression that nothing judges",
            "Give it of_loads(load_s, instance) as well: the two are held against each other",
        )
    made = ", made: this is the class itself" if isinstance(objective, type) else ""
    raise ObjectiveError(
        "objective",
        f"{shown(objective)} has no name, unit and prices(platform){made}",
        "See kvopt.objective for ten lines",
    )


def _declared(objective: Objective, platform: Platform) -> Prices:
    """What the objective's own ``prices`` says, of the right class."""
    field = f"prices of objective {objective.name!r}"
    return expect(Prices, field, objective.prices(platform), "Return a kvopt.objective.Prices", ObjectiveError)


def _check_mixed(objective: WeightedSum, platform: Platform) -> None:
    """Refuse a sum of functions of the loads and of prices per byte, which are none."""
    prices = objective.prices(platform)
    if prices.linear:
        custom = next(term.name for _, term in objective.terms if is_custom(term))
        raise ObjectiveError(
            f"objective {objective.name!r}",
            f"adds {custom!r}, a function of the loads, to prices per byte",
            "Write the whole sum as one of_loads(load_s, instance)",
        )
    if prices.per_second or prices.tails or prices.deadlines:
        prices.checked(objective.name, platform)


def _by_tier(platform: Platform, field: str, per_byte: Mapping[str, float]) -> np.ndarray:
    names = [t.name for t in platform.tiers]
    for name in per_byte:
        if name not in names:
            raise ObjectiveError(field, f"platform {platform.name!r} has no tier {name!r}", f"Use: {', '.join(names)}")
    values = np.array([as_float(per_byte.get(name, 0.0)) for name in names])
    if any(math.isnan(v) for v in values):
        raise ObjectiveError(field, "has a value that is not a number", "Give joules a byte")
    return values
