"""The true optimum of a tiny case: a dynamic program over the joint states of all blocks, in whole numbers.

From slot to slot it knows the least cost of being in each joint state that the tiers hold. Where single steps count, it
keeps, for each joint state, every way there that no other beats in cost, in the time of the step so far and in the
times of the steps before, sorted: the objective grows with each of them, and does not ask which step is which.

All times and charges are first multiplied by the least common multiple of their denominators, so that nothing rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, product

import numpy as np

from tests.campaigns.tiny.page import Page

MOST_LABELS = 3000
"""Ways kept in one slot; a case with more is left out."""
_SAFE = 2**61


class TooLarge(Exception):
    """More ways than are kept."""


@dataclass(frozen=True)
class Optimum:
    """The least objective of any placement, and paths that attain it."""

    value: Fraction
    paths: list[list[int]]


def feasible_states(page: Page, t: int) -> list[tuple[int, ...]]:
    """The joint states of the blocks alive in a slot that the tiers hold, and that begin as given."""
    alive = page.alive(t)
    choices = []
    for i in alive:
        given = page.begins_given(i) if t == 0 else None
        choices.append(range(len(page.states)) if given is None else (given,))
    found = []
    for joint in product(*choices):
        held = [
            sum(page.size[i] for i, z in zip(alive, joint, strict=True) if page.states[z][k])
            for k in range(page.n_tiers)
        ]
        if all(bytes_ <= room for bytes_, room in zip(held, page.capacity, strict=True)):
            found.append(joint)
    return found


def optimum(page: Page) -> Optimum | None:
    """The optimum, or None where no placement is feasible.

    Raises
    ------
    TooLarge
        Where single steps count and too many ways have to be kept.
    """
    feasible = [feasible_states(page, t) for t in range(page.n_slots)]
    if not all(feasible):
        return None
    slots = [_Slot(page, t, feasible) for t in range(page.n_slots)]
    units = _Units.of(page)
    tables = [slot.costs(units) for slot in slots]
    stepwise = bool(page.prices.tails or page.prices.deadlines)
    value, joint = (_by_labels if stepwise else _by_sums)(page, slots, tables, units)
    return Optimum(value, _paths(page, feasible, joint))


@dataclass(frozen=True)
class _Units:
    """What times, charges and split bytes are multiplied by to be whole."""

    time: int
    price: int
    split: int

    @classmethod
    def of(cls, page: Page) -> _Units:
        seconds = [
            load / rate
            for loads in (*page.read, *page.write, *page.move_out, page.weights)
            for load, rate in zip(loads, page.rate, strict=True)
        ]
        time = math.lcm(*(s.denominator for s in seconds))
        split = 1
        if page.case.reads == "balanced":
            slope = [
                int((b - a) / rate * time) for a, b, rate in zip(page.read[0], page.read[-1], page.rate, strict=True)
            ]
            split = math.lcm(*(abs(p - q) for p, q in combinations(slope, 2) if p != q), 1)
        prices = page.prices
        charges = [*prices.read, *prices.write, *prices.move_out, *prices.hold, prices.per_second / time]
        charges.append(prices.read[0] * Fraction(page.case.weight_bytes_per_slot))
        return cls(time, math.lcm(*(charge.denominator for charge in charges)), split)


class _Slot:
    """One slot: from each feasible joint state to each next state of the blocks that go on."""

    def __init__(self, page: Page, t: int, feasible: list[list[tuple[int, ...]]]) -> None:
        self.page, self.t, self.states = page, t, feasible[t]
        self.alive = page.alive(t)
        self.goes_on = [i for i in self.alive if page.death[i] > t + 1]
        if t + 1 == page.n_slots:
            self.next, self.arrivals = [()], [0]
            return
        after = page.alive(t + 1)
        kept = [after.index(i) for i in self.goes_on]
        self.next = list(dict.fromkeys(tuple(joint[p] for p in kept) for joint in feasible[t + 1]))
        number = {joint: g for g, joint in enumerate(self.next)}
        self.arrivals = [number[tuple(joint[p] for p in kept)] for joint in feasible[t + 1]]
        """For each feasible joint state of the next slot, which of ``next`` it goes on from."""

    def costs(self, units: _Units) -> tuple[np.ndarray, np.ndarray]:
        """Time and charge of each way, int[n, m] in units of 1 / (time * split) s and 1 / (price * split)."""
        page, shape = self.page, (len(self.states), len(self.next))
        loads = [self._whole(page.weights[c] / page.rate[c], units.time * units.split) for c in range(len(page.rate))]
        weights = page.prices.read[0] * Fraction(page.case.weight_bytes_per_slot)
        charge: np.ndarray | int = self._whole(weights, units.price * units.split)
        either: np.ndarray | int = 0
        for place, i in enumerate(self.alive):
            here = np.array([joint[place] for joint in self.states])
            there = np.zeros(len(self.next), int)
            thens: list[int | None] = [None]
            if i in self.goes_on:
                there = np.array([joint[self.goes_on.index(i)] for joint in self.next])
                thens = list(range(len(page.states)))
            does = [[page.effect(i, self.t, z, then) for then in thens] for z in range(len(page.states))]
            pick = (here[:, None], there[None, :])
            for c in range(len(loads)):
                unit = units.time * units.split * page.size[i]
                table = [[self._whole(e.load[c] / page.rate[c], unit) for e in row] for row in does]
                loads[c] = loads[c] + _array(table)[pick]
            unit = units.price * units.split * page.size[i]
            charge = charge + _array([[self._whole(e.price, unit) for e in row] for row in does])[pick]
            either = either + _array([[e.either * page.size[i] for e in row] for row in does])[pick]
        loads = [np.broadcast_to(np.asarray(load, object), shape) for load in loads]
        charge = np.broadcast_to(np.asarray(charge, object), shape)
        if page.case.reads == "balanced":
            return self._split(loads, charge, np.broadcast_to(np.asarray(either, object), shape), units)
        return np.maximum.reduce(loads), charge

    @staticmethod
    def _whole(value: Fraction, unit: int) -> int:
        whole = value * unit
        if whole.denominator != 1:
            raise ArithmeticError(f"{value} times {unit} is not whole")
        return whole.numerator

    def _split(self, loads: list[np.ndarray], charge, either, units: _Units) -> tuple[np.ndarray, np.ndarray]:
        """Time and charge where bytes that may come from either tier come from where that costs least."""
        page = self.page
        by_byte = [
            self._whole((b - a) / rate, units.time)
            for a, b, rate in zip(page.read[0], page.read[-1], page.rate, strict=True)
        ]
        dearer = self._whole(page.prices.read[-1] - page.prices.read[0], units.price)
        stepwise = bool(page.prices.tails or page.prices.deadlines)
        second = self._whole(page.prices.per_second / units.time, units.price) or int(stepwise)
        most = either * units.split
        tried = [most * 0, most]
        for p, q in combinations(range(len(loads)), 2):
            if by_byte[p] != by_byte[q]:
                # Whole: the unit of split bytes is a multiple of every difference of slopes.
                meeting = (loads[p] - loads[q]) // (by_byte[q] - by_byte[p])
                tried.append(np.minimum(np.maximum(meeting, 0), most))
        best = None
        for y in tried:
            time = np.maximum.reduce([load + s * y for load, s in zip(loads, by_byte, strict=True)])
            found = (second * time + dearer * y, time, charge + dearer * y)
            if best is None:
                best = found
            else:
                better = (found[0] < best[0]).astype(bool)
                best = tuple(np.where(better, new, old) for new, old in zip(found, best, strict=True))
        return best[1], best[2]


def _array(table: list[list[int]]) -> np.ndarray:
    found = np.empty((len(table), len(table[0])), object)
    for row, values in enumerate(table):
        found[row] = values
    return found


def _by_sums(page: Page, slots: list[_Slot], tables, units: _Units) -> tuple[Fraction, list[int]]:
    """The least sum over slots, and the number of the joint state in each slot."""
    second = page.prices.per_second / units.time * units.price
    costs = [second.numerator * time + charge for time, charge in tables]
    if sum(int(abs(cost).max()) for cost in costs) < _SAFE:
        costs = [cost.astype(np.int64) for cost in costs]
    least = np.zeros(len(slots[0].states), costs[0].dtype)
    came_from = []
    for slot, cost in zip(slots, costs, strict=True):
        total = least[:, None] + cost
        best = total.argmin(axis=0)
        arrivals = np.array(slot.arrivals)
        came_from.append(best[arrivals])
        least = total[best, np.arange(total.shape[1])][arrivals]
    at, joint = 0, []
    for before in reversed(came_from):
        at = int(before[at])
        joint.append(at)
    return Fraction(int(least[0]), units.price * units.split), joint[::-1]


def _by_labels(page: Page, slots: list[_Slot], tables, units: _Units) -> tuple[Fraction, list[int]]:
    """The same where single steps count."""
    second = page.prices.per_second / units.time * units.price
    labels: list[list[_Label]] = [[_Label(0, 0, (), None, z)] for z in range(len(slots[0].states))]
    for slot, (time, charge) in zip(slots, tables, strict=True):
        ends_step = (slot.t + 1) % page.case.n_lanes == 0
        reached: list[list[_Label]] = [[] for _ in slot.next]
        for z, mine in enumerate(labels):
            for g, there in enumerate(reached):
                lasts, cost = int(time[z, g]), int(second.numerator * time[z, g] + charge[z, g])
                there += [label.after(cost, lasts, ends_step) for label in mine]
        reached = [_undominated(there) for there in reached]
        if sum(map(len, reached)) > MOST_LABELS:
            raise TooLarge
        labels = [[label.at(y) for label in reached[g]] for y, g in enumerate(slot.arrivals)]

    def total(label: _Label) -> Fraction:
        step_s = [Fraction(s, units.time * units.split) for s in label.steps]
        return Fraction(label.cost, units.price * units.split) + page.of_steps(step_s)

    best = min(labels[0], key=total)
    joint, label = [], best.before
    while label is not None:
        joint.append(label.state)
        label = label.before
    return total(best), joint[::-1]


@dataclass(frozen=True)
class _Label:
    """A way to a joint state."""

    cost: int
    step: int
    """Time of the step so far."""
    steps: tuple[int, ...]
    """Times of the steps before, sorted."""
    before: _Label | None
    state: int

    def after(self, cost: int, lasts: int, ends_step: bool) -> _Label:
        """One slot later."""
        step, steps = self.step + lasts, self.steps
        if ends_step:
            step, steps = 0, tuple(sorted((*steps, step)))
        return _Label(self.cost + cost, step, steps, self, -1)

    def at(self, state: int) -> _Label:
        """In a joint state."""
        return _Label(self.cost, self.step, self.steps, self.before, state)

    @property
    def measures(self) -> tuple[int, ...]:
        """Everything that the objective grows with."""
        return (self.cost, self.step, *self.steps)


def _undominated(labels: list[_Label]) -> list[_Label]:
    kept: list[_Label] = []
    for label in sorted(labels, key=lambda one: one.measures):
        mine = label.measures
        if not any(all(a <= b for a, b in zip(other.measures, mine, strict=True)) for other in kept):
            kept.append(label)
    return kept


def _paths(page: Page, feasible: list[list[tuple[int, ...]]], joint: list[int]) -> list[list[int]]:
    """The path of each block, from the number of the joint state in each slot."""
    paths: list[list[int]] = [[] for _ in range(page.n_blocks)]
    for t, number in enumerate(joint):
        for i, z in zip(page.alive(t), feasible[t][number], strict=True):
            paths[i].append(z)
    return paths


def by_force(page: Page) -> Fraction | None:
    """The optimum by evaluating every placement; for the smallest cases, to judge :func:`optimum` by."""
    lives = [page.death[i] - page.birth[i] for i in range(page.n_blocks)]
    every = [list(product(range(len(page.states)), repeat=life)) for life in lives]
    found = [page.evaluated(paths).objective for paths in product(*every) if not page.broken(paths)]
    return min(found, default=None)
