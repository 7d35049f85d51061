"""The page of mathematics as a program: states, loads, times, objective and rules of a tiny case, in exact fractions.

During slot t a block is in one *state*, the set of tiers that hold it. In slot t it loads channel c with its size times

- ``read`` of the fastest tier that holds it, when slot t reads it; where reads are balanced and both tiers hold it,
  any share of either, as costs least;
- ``write`` of every tier that holds it, when slot t writes it;
- for every tier that holds it from slot t + 1 on and not before: ``write`` of that tier and ``move_out`` of the fastest
  tier that holds it in slot t; the latter not under read-through moves when slot t reads it, neither under free moves.

A slot lasts as long as its busiest channel, a step as long as its slots together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, product

from tests.campaigns.tiny.cases import Case

LEEWAY = Fraction(1, 10**6)
"""A step is late when it takes longer than a deadline by more than this share of it."""

Path = Sequence[int]
"""The states of a block in the slots of its life."""


@dataclass
class Prices:
    """What the objective charges, in fractions of its unit: per second, and per byte by tier."""

    per_second: Fraction
    read: list[Fraction]
    write: list[Fraction]
    move_out: list[Fraction]
    hold: list[Fraction]
    tails: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    """(weight, share of the steps that take longest)"""
    deadlines: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    """(weight, seconds)"""


@dataclass(frozen=True)
class Evaluated:
    """What paths of all blocks come to."""

    objective: Fraction
    latency_s: Fraction
    slot_s: list[Fraction]
    step_s: list[Fraction]
    load_bytes: list[list[Fraction]]
    """[c][t]"""
    held_bytes: list[list[int]]
    """[k][t]"""


@dataclass(frozen=True)
class Effect:
    """What a block does in one slot, per byte of it.

    Parameters
    ----------
    load : list of Fraction
        Bytes on each channel; a read that may come from either tier counts with the fast one.
    price : Fraction
        What the objective charges for that, whatever the time.
    either : int
        1 where it is read and may come from either tier.
    """

    load: list[Fraction]
    price: Fraction
    either: int


class Page:
    """A case, ready to be judged."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.n_blocks, self.n_tiers = len(case.blocks), len(case.tiers)
        self.n_slots = case.n_steps * case.n_lanes
        self.channels = list(case.rates)
        self.rate = [Fraction(rate) for rate in case.rates.values()]
        self.states = numbered_states(case)
        self.nearest = [held.index(True) for held in self.states]
        self.size = [block.size for block in case.blocks]
        self.birth = [0 if b.write < 0 else b.write * case.n_lanes + b.lane for b in case.blocks]
        self.death = [min(b.free * case.n_lanes + b.lane, self.n_slots) for b in case.blocks]
        self.read_in = [
            {n * case.n_lanes + b.lane for start, stop in b.runs for n in range(start, stop)} for b in case.blocks
        ]
        self.read, self.write, self.move_out = (
            [self._loads(_role(tier, role)) for tier in case.tiers] for role in ("read", "write", "move_out")
        )
        self.weights = [Fraction(case.weight_bytes_per_slot) * load for load in self.read[0]]
        # In whole bytes, as sizes are.
        rooms = [tier.capacity for tier in case.tiers]
        rooms[0] -= case.weight_bytes
        self.capacity = [math.floor(room) if math.isfinite(room) else room for room in rooms]
        self.prices = _prices(case, self)

    def _loads(self, by_channel: dict[str, float]) -> list[Fraction]:
        return [Fraction(by_channel.get(name, 0.0)) for name in self.channels]

    def alive(self, t: int) -> list[int]:
        """The blocks that exist in a slot."""
        return [i for i in range(self.n_blocks) if self.birth[i] <= t < self.death[i]]

    def begins_given(self, i: int) -> int | None:
        """The state that a block is given to begin in, if there is one."""
        return None if self.case.initial is None or self.case.blocks[i].write >= 0 else self.case.initial[i]

    def effect(self, i: int, t: int, z: int, then: int | None) -> Effect:
        """What block i does in slot t in state z, being in state ``then`` in the next (None: it exists no more)."""
        held, prices = self.states[z], self.prices
        load, price, either = [Fraction(0)] * len(self.channels), Fraction(0), 0

        def add(loads: list[Fraction], charge: Fraction) -> None:
            nonlocal load, price
            load = [a + b for a, b in zip(load, loads, strict=True)]
            price += charge

        source, is_read = self.nearest[z], t in self.read_in[i]
        if is_read:
            add(self.read[source], prices.read[source])
            either = int(self.case.reads == "balanced" and all(held))
        for k in range(self.n_tiers):
            if held[k]:
                price += prices.hold[k]
                if t == self.birth[i] and self.case.blocks[i].write >= 0:
                    add(self.write[k], prices.write[k])
            elif then is not None and self.states[then][k] and self.case.moves != "free":
                add(self.write[k], prices.write[k])
                if not (is_read and self.case.moves == "read-through"):
                    add(self.move_out[source], prices.move_out[source])
        return Effect(load, price, either)

    def evaluated(self, paths: Sequence[Path]) -> Evaluated:
        """What paths of all blocks come to, whether the tiers hold them or not."""
        n_channels = len(self.channels)
        load = [[self.weights[c]] * self.n_slots for c in range(n_channels)]
        either, price = (
            [0] * self.n_slots,
            self.prices.read[0] * Fraction(self.case.weight_bytes_per_slot) * self.n_slots,
        )
        held = [[0] * self.n_slots for _ in range(self.n_tiers)]
        for i, path in enumerate(paths):
            for t, z in enumerate(path, self.birth[i]):
                then = path[t + 1 - self.birth[i]] if t + 1 < self.death[i] else None
                does = self.effect(i, t, z, then)
                either[t] += does.either * self.size[i]
                price += does.price * self.size[i]
                for c in range(n_channels):
                    load[c][t] += does.load[c] * self.size[i]
                for k in range(self.n_tiers):
                    held[k][t] += self.size[i] * self.states[z][k]
        slot_s = []
        for t in range(self.n_slots):
            swapped = self._least_split([load[c][t] for c in range(n_channels)], either[t])
            for c in range(n_channels):
                load[c][t] += swapped * (self.read[-1][c] - self.read[0][c])
            price += swapped * (self.prices.read[-1] - self.prices.read[0])
            slot_s.append(max(load[c][t] / self.rate[c] for c in range(n_channels)))
        lanes = self.case.n_lanes
        step_s = [sum(slot_s[n * lanes : (n + 1) * lanes], Fraction(0)) for n in range(self.case.n_steps)]
        latency_s = sum(slot_s, Fraction(0))
        objective = self.prices.per_second * latency_s + price + self.of_steps(step_s)
        return Evaluated(objective, latency_s, slot_s, step_s, load, held)

    def _least_split(self, load: list[Fraction], either: int) -> Fraction:
        """How many of the bytes that may come from either tier come from the backing one, at the least cost."""
        if not either:
            return Fraction(0)
        second = self.prices.per_second or Fraction(bool(self.prices.tails or self.prices.deadlines))
        dearer = self.prices.read[-1] - self.prices.read[0]
        at_zero = [a / rate for a, rate in zip(load, self.rate, strict=True)]
        slope = [(b - a) / rate for a, b, rate in zip(self.read[0], self.read[-1], self.rate, strict=True)]
        ends = [Fraction(0), Fraction(either)]
        for p, q in combinations(range(len(load)), 2):
            if slope[p] != slope[q]:
                ends.append((at_zero[p] - at_zero[q]) / (slope[q] - slope[p]))

        def cost(y: Fraction) -> Fraction:
            return second * max(a + s * y for a, s in zip(at_zero, slope, strict=True)) + dearer * y

        return min((y for y in ends if 0 <= y <= either), key=cost)

    def of_steps(self, step_s: Sequence[Fraction]) -> Fraction:
        """What single steps cost."""
        total = sum((weight * tail_mean(step_s, share) for weight, share in self.prices.tails), Fraction(0))
        for weight, deadline in self.prices.deadlines:
            total += weight * sum(s > deadline * (1 + LEEWAY) for s in step_s)
        return total

    def broken(self, paths: Sequence[Path]) -> set[tuple]:
        """Every (tier, slot, bytes) beyond a capacity, and every block that does not begin as given."""
        held = self.evaluated(paths).held_bytes
        found: set[tuple] = {
            (self.case.tiers[k].name, t, held[k][t] - self.capacity[k])
            for k, t in product(range(self.n_tiers), range(self.n_slots))
            if held[k][t] > self.capacity[k]
        }
        for i, path in enumerate(paths):
            if self.begins_given(i) not in (None, path[0]):
                found.add(("begins", i))
        return found


def numbered_states(case: Case) -> list[tuple[bool, ...]]:
    """The sets of tiers that may hold a block, those with faster tiers first."""
    n_tiers = len(case.tiers)
    sets = sorted(product((True, False), repeat=n_tiers), reverse=True)
    if case.copies == "exclusive":
        return [held for held in sets if sum(held) == 1]
    return [held for held in sets if held[-1] or (case.writes == "back" and any(held))]


def tail_mean(step_s: Sequence[Fraction], share: Fraction) -> Fraction:
    """The mean of a share of the steps, of at least one, that take longest; the last of them may count in part."""
    count = max(Fraction(1), share * len(step_s))
    left, total = count, Fraction(0)
    for s in sorted(step_s, reverse=True):
        part = min(left, Fraction(1))
        total += part * s
        left -= part
    return total / count


def _role(tier, role: str) -> dict[str, float]:
    return tier.read if role == "move_out" and tier.move_out is None else getattr(tier, role)


def _prices(case: Case, page: Page) -> Prices:
    """The objective, term by term."""
    names, n = [tier.name for tier in case.tiers], len(case.tiers)
    total = Prices(Fraction(0), *([Fraction(0)] * n for _ in range(4)))

    def add(role: str, weight: Fraction, per_byte: Sequence) -> None:
        setattr(total, role, [a + weight * Fraction(b) for a, b in zip(getattr(total, role), per_byte, strict=True)])

    for term in case.terms:
        weight, values = Fraction(term.weight), term.values
        if term.name == "latency":
            total.per_second += weight
        elif term.name == "energy":
            joules = {r: [values.get(r, {}).get(name, 0.0) for name in names] for r in values if r != "power_w"}
            total.per_second += weight * Fraction(values["power_w"])
            add("read", weight, joules["read_j_per_byte"])
            add("move_out", weight, joules["read_j_per_byte"])
            add("write", weight, joules["write_j_per_byte"])
            add("hold", weight, joules.get("hold_j_per_byte_slot", [0] * n))
        elif term.name == "traffic":
            c = page.channels.index(values["channel"])
            for role in ("read", "write", "move_out"):
                add(role, weight, [loads[c] for loads in getattr(page, role)])
        elif term.name == "worst_step":
            total.tails.append((weight, Fraction(0)))
        elif term.name == "cvar":
            total.tails.append((weight, Fraction(1.0 - values["alpha"])))
        elif term.name == "late_steps":
            total.deadlines.append((weight, Fraction(values["deadline_s"])))
        elif term.name == "cost":
            total.per_second += weight * Fraction(values["per_hour"]) / 3600
            add("write", weight, [values["per_byte_written"].get(name, 0.0) for name in names])
    return total
