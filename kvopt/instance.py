"""A placement problem: a trace on a platform, under rules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvopt import feasibility
from kvopt.arguments import MOST_COUNT, amount, expect, whole
from kvopt.errors import InstanceError, shown
from kvopt.frozen import ReadOnlyArrays
from kvopt.memory import check_fits
from kvopt.model_spec import ModelSpec
from kvopt.objective import Objective, Prices, checked_prices, is_custom, latency
from kvopt.objective_text import parse, spell
from kvopt.platform import Platform
from kvopt.residency import states
from kvopt.trace import PREFILL, Trace
from kvopt.trace_checks import MOST_TOTAL_BYTES

if TYPE_CHECKING:
    from kvopt.placement import Placement

_PLATFORM_FIX = "Give a kvopt.Platform, the name of a preset, or the path of a .toml file"
_RULES_FIX = "Give a kvopt.Rules, or a mapping such as {'copies': 'inclusive'}"
_SECONDS_PER_BYTE = 1e-30, 1e30
"""From the least to the most: far beyond any machine, and far from where products of a few of them end."""


class Copies(Enum):
    """How many copies of a block there are."""

    EXCLUSIVE = "exclusive"
    """One: a block leaves a tier by moving to another."""
    INCLUSIVE = "inclusive"
    """Several tiers may hold a block, and copies are dropped free. Unless written back, the backing tier keeps all."""


class Moves(Enum):
    """What a move loads."""

    EXPLICIT = "explicit"
    """Reading the source and writing the destination, always."""
    READ_THROUGH = "read-through"
    """Only writing the destination when the block is read in that slot anyway: its bytes are passing by."""
    FREE = "free"
    """Nothing. No machine does this; it is the relaxation that shows what moving costs (:func:`kvopt.explain`)."""


class Reads(Enum):
    """Which copy is read."""

    NEAREST = "nearest"
    """The one in the fastest tier that holds the block."""
    BALANCED = "balanced"
    """Of inclusive copies in two tiers, any share of either: in each slot the split that costs least."""


class Writes(Enum):
    """Where a new block under inclusive copies is written."""

    THROUGH = "through"
    """To the backing tier at once, and to any others."""
    BACK = "back"
    """Wherever the placement says; to the backing tier when it is needed there, if ever."""


@dataclass(frozen=True)
class Rules:
    """The rules of the game.

    Parameters
    ----------
    copies : Copies or str
    moves : Moves or str
    reads : Reads or str
    writes : Writes or str

    Raises
    ------
    InstanceError
        For a rule of that name that there is not, or balanced reads or write-back of exclusive copies.
    """

    copies: Copies = Copies.EXCLUSIVE
    moves: Moves = Moves.EXPLICIT
    reads: Reads = Reads.NEAREST
    writes: Writes = Writes.THROUGH

    def __post_init__(self) -> None:
        for name, kind in (("copies", Copies), ("moves", Moves), ("reads", Reads), ("writes", Writes)):
            try:
                value = getattr(self, name)
                # What is neither would be written out by the enumeration's own error.
                object.__setattr__(self, name, kind(value if isinstance(value, kind | str) else ""))
            except ValueError:
                choices = ", ".join(repr(k.value) for k in kind)
                raise InstanceError(
                    f"rules.{name}", f"{shown(getattr(self, name))} is not known", f"Choose one of: {choices}"
                ) from None
        for name, special in (("reads", self.balanced), ("writes", self.write_back)):
            if special and not self.inclusive:
                raise InstanceError(
                    f"rules.{name}",
                    f"{getattr(self, name).value!r} asks for copies in several tiers; exclusive blocks have one",
                    "Choose copies='inclusive' as well",
                )

    @property
    def balanced(self) -> bool:
        """Whether reads are split over the copies of a block."""
        return self.reads is Reads.BALANCED

    @property
    def write_back(self) -> bool:
        """Whether the backing tier need not hold a block that another tier holds."""
        return self.writes is Writes.BACK

    @property
    def inclusive(self) -> bool:
        """Whether several tiers may hold a block at a time."""
        return self.copies is Copies.INCLUSIVE

    @property
    def free_moves(self) -> bool:
        """Whether moves load nothing."""
        return self.moves is Moves.FREE

    @property
    def read_through(self) -> bool:
        """Whether a move of a block that is being read pays for its write alone."""
        return self.moves is Moves.READ_THROUGH


@dataclass(frozen=True, eq=False)
class Instance(ReadOnlyArrays):
    """A trace, a platform and rules: everything a placement is judged by.

    Parameters
    ----------
    trace : Trace
    platform : Platform
        Or the name of a preset, or the path of a .toml file.
    rules : Rules
        Or a mapping of some of its fields, as ``{"copies": "inclusive"}``.
    weight_bytes : float
        Bytes of model weights that stay in the fastest tier; what is left of its capacity is for the KV cache.
    weight_bytes_per_slot : float
        Bytes of weights read from the fastest tier in every slot.
    batch : int
        Sequences that decode together; only tokens per second depend on it.
    objective : Objective
        What placements are to be good at; see :mod:`kvopt.objective`. Or a line of text (:mod:`kvopt.objective_text`).
    initial : int8[B], optional
        State (see :mod:`kvopt.residency`) of each prefilled block in slot 0; others' entries count for nothing. Free
        unless given.

    Raises
    ------
    ObjectiveError
        When the objective names what the platform does not have, or has a negative price.
    Infeasible
        When the tiers, the fastest less the weights, cannot hold the blocks alive in some slot;
        :mod:`kvopt.feasibility` says what is checked. A tier may be smaller than a block, and hold none.
    InstanceError
        For numbers that mean nothing, arguments of another class, or more slots than the machine's memory can count.
    """

    trace: Trace
    platform: Platform
    rules: Rules = field(default_factory=Rules)
    weight_bytes: float = 0.0
    weight_bytes_per_slot: float = 0.0
    batch: int = 1
    objective: Objective = field(default_factory=latency)
    initial: np.ndarray | None = None

    def __post_init__(self) -> None:
        self._take_arguments()
        _check_weights(self.weight_bytes, self.platform)
        _check_rates(self.platform)
        if self.rules.balanced and len(self.platform.tiers) != 2:
            raise InstanceError(
                "rules.reads",
                f"balanced reads are defined over two tiers, platform {self.platform.name!r} has "
                f"{len(self.platform.tiers)}",
                "Choose reads='nearest' or a platform of two tiers",
            )
        feasibility.check(self)
        if self.initial is not None:
            object.__setattr__(self, "initial", _checked_initial(self))
        prices = checked_prices(self.objective, self.platform)
        if self.rules.balanced and prices.stepwise and prices.read[0] != prices.read[1]:
            raise InstanceError(
                "rules.reads",
                f"balanced reads under {self.objective.name!r} weigh a tier's price against steps that may not count",
                "Choose reads='nearest', or an objective without either the price of reads or that of steps",
            )

    def _take_arguments(self) -> None:
        """Refuse arguments of a wrong class, and store what shorter forms stand for."""
        expect(Trace, "trace", self.trace, "Give a kvopt.Trace, as kvopt.load_trace(path) returns it", InstanceError)
        platform = expect((Platform, str, Path), "platform", self.platform, _PLATFORM_FIX, InstanceError)
        rules = expect((Rules, Mapping), "rules", self.rules, _RULES_FIX, InstanceError)
        taken = {
            "platform": platform if isinstance(platform, Platform) else Platform.preset(platform),
            "rules": rules if isinstance(rules, Rules) else _rules(rules),
            "objective": parse(self.objective) if isinstance(self.objective, str) else self.objective,
            "batch": whole("batch", self.batch, "Give the number of sequences", InstanceError),
        }
        for name in ("weight_bytes", "weight_bytes_per_slot"):
            limits = {"least": 0, "most": MOST_TOTAL_BYTES}
            taken[name] = amount(name, getattr(self, name), "Give bytes", InstanceError, **limits)
        for name, value in taken.items():
            object.__setattr__(self, name, value)
        _check_memory(self.trace, self.platform)

    @cached_property
    def prices(self) -> Prices:
        """The objective in numbers, on this platform."""
        return checked_prices(self.objective, self.platform)

    @property
    def custom(self) -> bool:
        """Whether the objective is a function of the loads, which :attr:`prices` only stand in for."""
        return is_custom(self.objective)

    @property
    def timed(self) -> bool:
        """Whether the objective is the decode time in seconds."""
        return not self.custom and self.prices.per_second == 1 and not self.prices.linear and not self.prices.stepwise

    @cached_property
    def states(self) -> np.ndarray:
        """bool[S, K]: the tiers that hold a block in each of its states; see :mod:`kvopt.residency`."""
        rules = self.rules
        return states(len(self.platform.tiers), inclusive=rules.inclusive, write_back=rules.write_back)

    def with_initial(self, placement: Placement) -> Instance:
        """The same problem, begun where a placement has its blocks in slot 0.

        Parameters
        ----------
        placement : Placement
            Of this instance; for a policy's, ``kvopt.solve(instance, "lru").placement``.
        """
        from kvopt.placement import Placement

        fix = "Give a kvopt.Placement; of a result, its placement"
        expect(Placement, "initial", placement, fix, InstanceError)
        if len(placement.ptr) != self.trace.n_blocks + 1:
            problem = f"places {len(placement.ptr) - 1} blocks, the trace has {self.trace.n_blocks}"
            raise InstanceError("initial", problem, "Give a placement of this instance")
        return replace(self, initial=placement.states_in(0, self))

    def with_objective(self, objective: Objective) -> Instance:
        """The same problem, to be solved for another objective."""
        return replace(self, objective=objective)

    @classmethod
    def from_specs(
        cls,
        model: ModelSpec | str | Path,
        platform: Platform | str | Path,
        trace: Trace,
        *,
        batch: int = 1,
        kv_bits: int | None = None,
        weight_bits: float | None = None,
        rules: Rules | None = None,
        hbm_bytes: float | str | None = None,
    ) -> Instance:
        """A published model's sizes on a platform, with the reads of a trace.

        A block is one token of every sequence in the batch, which all read alike. The output head, read once a step
        after the last layer, is in no slot: bounds hold without it.

        Parameters
        ----------
        model, platform : object, name of a preset, or path of a .toml file
        trace : Trace
            Its lanes are the model's layers, its blocks single tokens; :meth:`paged` makes pages of them afterwards.
        batch : int
            Sequences that decode together.
        kv_bits, weight_bits : number, optional
            Bits a number; the model's defaults unless given.
        rules : Rules, optional
        hbm_bytes : float or str, optional
            Bytes of the fastest tier left for the KV cache, next to the weights, as in 24e9 or "24GB"; by default what
            the platform has.

        Raises
        ------
        ModelError, PlatformError
            When there is no such model or platform, or its file breaks the schema.
        InstanceError
            When the trace's lanes are not the model's layers, or the weights or the KV cache do not fit.
        """
        expect(Trace, "trace", trace, "Give a kvopt.Trace, as kvopt.load_trace(path) returns it", InstanceError)
        model = model if isinstance(model, ModelSpec) else ModelSpec.preset(model)
        platform = platform if isinstance(platform, Platform) else Platform.preset(platform)
        batch = whole("batch", batch, "Give the number of sequences", InstanceError)
        _check_lanes(trace, model)
        read_bytes = model.weight_bytes_read_per_layer(batch, weight_bits)
        weight_bytes = model.weight_bytes(weight_bits)
        # Before hbm_bytes, which comes beside the weights, hides that the machine has no room for them.
        _check_weights(weight_bytes, platform)
        if hbm_bytes is not None:
            platform = _with_room(platform, hbm_bytes, weight_bytes)
        trace = trace.with_size_bytes(model.kv_bytes_per_token_layer(kv_bits) * batch)
        return cls(trace, platform, Rules() if rules is None else rules, weight_bytes, read_bytes, batch)

    @property
    def n_slots(self) -> int:
        """Number of slots T."""
        return self.trace.n_slots

    @property
    def capacity_bytes(self) -> tuple[float, ...]:
        """Capacity of each tier left for the KV cache, in whole bytes (as block sizes are), or infinite."""
        fast, *rest = (t.capacity_bytes for t in self.platform.tiers)
        # A product such as 0.3 * 10 may fall short of a whole number by its rounding alone.
        return tuple(math.floor(c + 1e-3) if math.isfinite(c) else c for c in (fast - self.weight_bytes, *rest))

    @cached_property
    def fillable_bytes(self) -> np.ndarray:
        """float64[K]: what blocks can fill of each tier at most: a multiple of the sizes' greatest common divisor, and
        nothing of a tier that is smaller than every block. What is beyond can never be used."""
        capacity, size = np.array(self.capacity_bytes, float), self.trace.size_bytes
        unit = int(size[0]) if (size == size[0]).all() else int(np.gcd.reduce(size))
        exact = capacity < 2.0**53  # More than that no blocks can fill: sums of their sizes are below.
        capacity[exact] -= np.mod(capacity[exact], unit)
        capacity[capacity < size.min()] = 0.0
        capacity.setflags(write=False)
        return capacity

    @cached_property
    def birth_slot(self) -> np.ndarray:
        """int64[B]: first slot in which the block exists: 0 after prefill, else the slot that writes it."""
        trace = self.trace
        written = trace.write_step.astype(np.int64) * trace.n_lanes + trace.lane
        return np.where(trace.write_step == PREFILL, 0, written)

    @cached_property
    def death_slot(self) -> np.ndarray:
        """int64[B]: one past the last slot in which the block exists."""
        trace = self.trace
        return np.minimum(trace.free_step.astype(np.int64) * trace.n_lanes + trace.lane, trace.n_slots)

    @cached_property
    def live_bytes(self) -> np.ndarray:
        """int64[T]: bytes of the blocks that exist in each slot."""
        change = np.zeros(self.n_slots + 1, np.int64)
        np.add.at(change, self.birth_slot, self.trace.size_bytes)
        np.subtract.at(change, self.death_slot, self.trace.size_bytes)
        return np.cumsum(change)[:-1]

    def with_hbm_bytes(self, hbm_bytes: float | str) -> Instance:
        """The same problem with this much of the fastest tier left for the KV cache, as in 3e6 or "3MB"."""
        return replace(self, platform=_with_room(self.platform, hbm_bytes, self.weight_bytes))

    def with_lanes(self, count: int) -> Instance:
        """A problem like it, of so many of the lanes, evenly spread, with their share of every tier but the last.

        The start is free, whatever is given: a given one may hold more of these lanes than their share.

        Parameters
        ----------
        count : int
            From 1 to the number of lanes.

        Raises
        ------
        InstanceError
            For another number.
        """
        n_lanes, platform = self.trace.n_lanes, self.platform
        count = whole("lanes", count, "Give a number of lanes", InstanceError, least=-MOST_COUNT)
        if not 1 <= count <= n_lanes:
            raise InstanceError("lanes", f"there are {n_lanes}, of which {count!r} cannot be had", "Give some of them")
        for tier, capacity in list(enumerate(self.capacity_bytes))[1:-1]:
            platform = platform.with_capacity(capacity * count / n_lanes, tier=tier)
        trace = self.trace.window(lanes=[k * n_lanes // count for k in range(count)])
        part = replace(self, trace=trace, platform=platform, initial=None)
        return part.with_hbm_bytes(self.capacity_bytes[0] * count / n_lanes)

    def paged(self, tokens_per_page: int) -> Instance:
        """The same problem on a machine that places whole pages of so many tokens; see :mod:`kvopt.pages`.

        Raises
        ------
        TraceError
            When :meth:`Trace.paged` refuses the number or the trace.
        Infeasible
            When the tiers cannot hold the pages alive in some slot.
        """
        return replace(self, trace=self.trace.paged(tokens_per_page))

    def tokens_per_s(self, latency_s: float) -> float:
        """Steps times batch over the decode time."""
        return self.trace.n_steps * self.batch / latency_s

    def summary(self) -> dict[str, Any]:
        """What defines the instance, ready for printing or JSON."""
        return {
            "trace": self.trace.summary(),
            "platform": self.platform.name,
            "tiers": [t.name for t in self.platform.tiers],
            "capacity_bytes": [c if math.isfinite(c) else None for c in self.capacity_bytes],
            "channels_bytes_per_s": {c.name: c.bandwidth_bytes_per_s for c in self.platform.channels},
            "copies": self.rules.copies.value,
            "moves": self.rules.moves.value,
            "reads": self.rules.reads.value,
            "writes": self.rules.writes.value,
            "initial": "free" if self.initial is None else "given",
            "weight_bytes_per_slot": self.weight_bytes_per_slot,
            "batch": self.batch,
            "objective": self.objective.name,
            "objective_text": spell(self.objective),
        }


def _rules(given: Mapping) -> Rules:
    """Rules by a mapping of their fields."""
    known = [f.name for f in fields(Rules)]
    for name in given:
        if name not in known:
            raise InstanceError(f"rules[{shown(name)}]", "no such rule", f"Known rules: {', '.join(known)}")
    return Rules(**given)


def _check_memory(trace: Trace, platform: Platform) -> None:
    """Refuse more slots than there is memory for: even the evaluator counts bytes by slot, tier, pair and channel."""
    tiers, channels = len(platform.tiers), len(platform.channels)
    by_slot = 8 * (2 + 3 * tiers + 2 * tiers**2 + 3 * channels)
    what = f"{trace.n_steps:,} steps of {trace.n_lanes:,} lanes over {tiers} tiers"
    fix = "Check n_steps and n_lanes, or take a window of the trace"
    check_fits(float(trace.n_slots) * by_slot, "trace", what, fix, InstanceError)


def _with_room(platform: Platform, hbm_bytes: float, weight_bytes: float) -> Platform:
    """The platform with a fastest tier that holds the weights and this much of the KV cache."""
    given = amount("hbm_bytes", hbm_bytes, error=InstanceError, least=0, unlimited=True)
    return platform.with_capacity(given + weight_bytes)


def _checked_initial(instance: Instance) -> np.ndarray:
    """The initial states as int8[B], read-only, after refusing what no placement could begin with."""
    trace, held = instance.trace, instance.states
    fix = f"Give one of the states 0 to {len(held) - 1} for each block, as kvopt.residency numbers them"
    try:
        given = np.asarray(instance.initial)
    except (ValueError, TypeError):
        raise InstanceError("initial", "is no array of states", fix) from None
    if given.dtype.kind not in "iu":
        raise InstanceError("initial", f"must be whole numbers, got {shown(instance.initial)}", fix)
    if given.shape != (trace.n_blocks,):
        raise InstanceError("initial", f"has shape {given.shape}, the trace {trace.n_blocks} blocks", "Give one each")
    prefilled = trace.write_step == PREFILL
    if given.dtype.kind not in "iuf":
        raise InstanceError("initial", f"has dtype {given.dtype}, not whole numbers", "Give int8")
    if given.dtype.kind == "f":
        broken = np.flatnonzero(prefilled & (given != np.floor(given)))
        if len(broken):
            problem = f"block {broken[0]} is in state {given[broken[0]]}, no whole number"
            raise InstanceError("initial", problem, "Give int8")
        given = np.where(prefilled, given, -1.0)
    wrong = np.flatnonzero(prefilled & ((given < 0) | (given >= len(held))))
    if len(wrong):
        raise InstanceError(
            "initial",
            f"block {wrong[0]} is in state {given[wrong[0]]}, there are {len(held)}",
            "Give states 0 to S - 1, as kvopt.residency numbers them",
        )
    given = np.where(prefilled, given, len(held) - 1).astype(np.int8)
    size = trace.size_bytes * prefilled
    for k, (tier, capacity) in enumerate(zip(instance.platform.tiers, instance.capacity_bytes, strict=True)):
        bytes_ = int(size[held[given, k]].sum())
        if bytes_ > capacity:
            raise InstanceError(
                "initial", f"puts {bytes_} bytes into tier {tier.name!r} of {capacity:.6g}", "Start with fewer there"
            )
    given.setflags(write=False)
    return given


def _check_lanes(trace: Trace, model: ModelSpec) -> None:
    if trace.n_lanes != model.layers:
        raise InstanceError(
            "trace",
            f"has {trace.n_lanes} lanes, but {model.name} has {model.layers} layers",
            f"Give a trace of {model.layers} lanes, or a model of {trace.n_lanes} layers",
        )


def _check_rates(platform: Platform) -> None:
    """Refuse times a byte that sums and quotients would not be told from nothing or from infinity with."""
    least, most = _SECONDS_PER_BYTE
    for role in ("read", "write", "move_out"):
        with np.errstate(over="ignore", under="ignore"):
            seconds = platform.loads(role) / platform.bandwidth_bytes_per_s
        wrong = np.argwhere((seconds != 0) & ~((seconds >= least) & (seconds <= most)))
        wrong = wrong if len(wrong) else np.argwhere((platform.loads(role) > 0) & (seconds == 0))
        if len(wrong):
            tier, channel = platform.tiers[wrong[0][0]], platform.channels[wrong[0][1]]
            problem = f"takes channel {channel.name!r} {seconds[tuple(wrong[0])]:.3g} s a byte"
            limits = f"Give loads and bandwidths that make {least:g} to {most:g}"
            raise InstanceError(f"tier {tier.name!r} {role}", problem, limits)


def _check_weights(weight_bytes: float, platform: Platform) -> None:
    fast = platform.tiers[0]
    if weight_bytes > fast.capacity_bytes:
        raise InstanceError(
            "weight_bytes",
            f"{weight_bytes:.6g} bytes of weights do not fit in tier {fast.name!r} of {fast.capacity_bytes:.6g} bytes",
            "Choose a smaller model, fewer bits a weight or a platform with more",
        )
