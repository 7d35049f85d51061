"""What an instance means, straight from the definition: loops over blocks, slots and tiers, and brute force.

Nothing here uses kvopt.residency, kvopt.lowering or kvopt.evaluate, so that it can judge them.
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from kvopt import Instance, Placement

TierSet = frozenset[int]


def state_sets(instance: Instance) -> list[TierSet]:
    """The sets of tiers that may hold a block, those with faster tiers first: the order of the states' numbers."""
    n_tiers, rules = len(instance.platform.tiers), instance.rules
    found = [frozenset(s) for r in range(1, n_tiers + 1) for s in combinations(range(n_tiers), r)]
    if rules.copies.value == "exclusive":
        found = [s for s in found if len(s) == 1]
    elif rules.writes.value == "through":
        found = [s for s in found if n_tiers - 1 in s]
    return sorted(found, key=lambda s: [k not in s for k in range(n_tiers)])


def reads(instance: Instance) -> np.ndarray:
    """bool[B, T]: which block is read in which slot."""
    trace = instance.trace
    read = np.zeros((trace.n_blocks, trace.n_slots), bool)
    for i in range(trace.n_blocks):
        for k in range(trace.run_ptr[i], trace.run_ptr[i + 1]):
            for n in range(trace.run_start[k], trace.run_stop[k]):
                read[i, n * trace.n_lanes + trace.lane[i]] = True
    return read


class Effects:
    """What one block does when it is where ``path`` says, slot by slot of its life.

    Attributes
    ----------
    load : float64[T, C]
        Bytes on each channel; what may be read from either copy counts as read from the faster.
    either : float64[T]
        Bytes that may be.
    held : float64[T, K]
    price : float
        What the objective charges by the byte.
    """

    def __init__(self, instance: Instance, i: int, path: tuple[TierSet, ...], read: np.ndarray) -> None:
        platform, rules, prices = instance.platform, instance.rules, instance.prices
        self.names = {c.name: c_ for c_, c in enumerate(platform.channels)}
        self.size, self.platform, self.prices = float(instance.trace.size_bytes[i]), platform, prices
        self.load = np.zeros((instance.n_slots, len(self.names)))
        self.either, self.price = np.zeros(instance.n_slots), 0.0
        self.held = np.zeros((instance.n_slots, len(platform.tiers)))
        for j, here in enumerate(path):
            t = int(instance.birth_slot[i]) + j
            for k in here:
                self.held[t, k] += self.size
                self.price += self.size * prices.hold[k]
                if j == 0 and instance.trace.write_step[i] >= 0:
                    self._use(t, k, "write")
            near = min(here)
            if read[i, t]:
                self._use(t, near, "read")
                if rules.reads.value == "balanced" and len(here) == 2:
                    self.either[t] += self.size
            if j + 1 == len(path) or rules.moves.value == "free":
                continue
            for k in path[j + 1] - here:
                self._use(t, k, "write")
                if not (rules.moves.value == "read-through" and read[i, t]):
                    self._use(t, near, "move_out")

    def _use(self, t: int, k: int, role: str) -> None:
        for channel, per_byte in getattr(self.platform.tiers[k], role).items():
            self.load[t, self.names[channel]] += per_byte * self.size
        self.price += self.size * getattr(self.prices, role)[k]


def slot_times(instance: Instance, load: np.ndarray, either: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of every slot, and bytes read from the slower copy, when each slot reads as costs it least.

    Parameters
    ----------
    load : float64[..., T, C]
        Bytes.
    either : float64[..., T]
    """
    platform, prices = instance.platform, instance.prices
    rates = np.array([c.bandwidth_bytes_per_s for c in platform.channels])
    if not either.any():
        return (load / rates).max(axis=-1), np.zeros_like(either)
    fast, slow = ([t.read.get(c.name, 0.0) for c in platform.channels] for t in platform.tiers)
    slope = (np.array(slow) - np.array(fast)) / rates
    start = load / rates
    second = prices.per_second if prices.per_second or not (prices.tails or prices.deadlines) else 1.0

    def seconds(y):
        return (start + slope * y[..., None]).max(axis=-1)

    tried = [np.zeros_like(either), either]
    for a, b in combinations(range(len(rates)), 2):
        if slope[a] != slope[b]:
            tried.append(np.clip((start[..., a] - start[..., b]) / (slope[b] - slope[a]), 0.0, either))
    cost = np.array([second * seconds(y) + (prices.read[1] - prices.read[0]) * y for y in tried])
    best = np.take_along_axis(np.array(tried), cost.argmin(axis=0)[None], axis=0)[0]
    return seconds(best), best


def objective_of(instance: Instance, load: np.ndarray, either: np.ndarray, price: np.ndarray) -> np.ndarray:
    """The objective of each of many placements; arguments as of :func:`slot_times`, and charges by the byte."""
    prices, trace = instance.prices, instance.trace
    slot_s, swapped = slot_times(instance, load, either)
    step_s = slot_s.reshape(*slot_s.shape[:-1], trace.n_steps, trace.n_lanes).sum(axis=-1)
    total = prices.per_second * step_s.sum(axis=-1) + price
    total = total + (prices.read[-1] - prices.read[0]) * swapped.sum(axis=-1)
    longest = -np.sort(-step_s, axis=-1)
    for weight, share in prices.tails:
        count = max(1.0, share * trace.n_steps)
        counted = np.clip(count - np.arange(trace.n_steps), 0.0, 1.0)
        total = total + weight * (longest @ counted) / count
    for weight, deadline_s in prices.deadlines:
        total = total + weight * (step_s > deadline_s * (1 + 1e-6)).sum(axis=-1)
    return total


def _weights(instance: Instance) -> tuple[np.ndarray, float]:
    """Bytes of weights on each channel in every slot, and what the objective charges for them in all."""
    base = np.array([instance.platform.tiers[0].read.get(c.name, 0.0) for c in instance.platform.channels])
    charge = instance.prices.read[0] * instance.weight_bytes_per_slot * instance.n_slots
    return instance.weight_bytes_per_slot * base, charge


def _path(instance: Instance, placement: Placement, i: int) -> tuple[TierSet, ...]:
    sets = state_sets(instance)
    states = placement.to_states(instance.n_slots, len(sets))[i]
    return tuple(sets[z] for z in states[instance.birth_slot[i] : instance.death_slot[i]])


def slow_objective(instance: Instance, placement: Placement) -> float:
    """The objective by the definition, block by block and slot by slot."""
    base, price = _weights(instance)
    read = reads(instance)
    load, either = np.tile(base, (instance.n_slots, 1)), np.zeros(instance.n_slots)
    for i in range(instance.trace.n_blocks):
        does = Effects(instance, i, _path(instance, placement, i), read)
        load, either, price = load + does.load, either + does.either, price + does.price
    return float(objective_of(instance, load, either, np.float64(price)))


def slow_latency(instance: Instance, placement: Placement) -> float:
    """Decode time by the definition."""
    base, _ = _weights(instance)
    read = reads(instance)
    load, either = np.tile(base, (instance.n_slots, 1)), np.zeros(instance.n_slots)
    for i in range(instance.trace.n_blocks):
        does = Effects(instance, i, _path(instance, placement, i), read)
        load, either = load + does.load, either + does.either
    return float(slot_times(instance, load, either)[0].sum())


def combinations_of(instance: Instance) -> float:
    """How many placements there are, feasible or not."""
    return float(len(state_sets(instance))) ** int((instance.death_slot - instance.birth_slot).sum())


def brute_force(instance: Instance) -> tuple[float, Placement]:
    """The optimum and a placement that attains it, by trying every path of every block.

    Raises
    ------
    ValueError
        When no placement is feasible.
    """
    trace, read, sets = instance.trace, reads(instance), state_sets(instance)
    base, charge = _weights(instance)
    # Every combination so far: its loads, bytes held, charges, and the paths chosen.
    loads = np.tile(base, (1, instance.n_slots, 1))
    either = np.zeros((1, instance.n_slots))
    price = np.array([charge])
    held = np.zeros((1, instance.n_slots, len(instance.platform.tiers)))
    chosen: np.ndarray = np.zeros((1, 0), int)
    paths = [_paths(instance, i, len(sets)) for i in range(trace.n_blocks)]
    for i in range(trace.n_blocks):
        does = [Effects(instance, i, tuple(sets[z] for z in path), read) for path in paths[i]]
        loads = _sums(loads, [d.load for d in does])
        either = _sums(either, [d.either for d in does])
        held = _sums(held, [d.held for d in does])
        price = _sums(price, [d.price for d in does])
        pick = np.tile(np.arange(len(does)), len(chosen))[:, None]
        chosen = np.hstack([np.repeat(chosen, len(does), axis=0), pick])
        fits = (held <= np.array(instance.capacity_bytes)).all(axis=(1, 2))
        loads, either, held, price, chosen = (a[fits] for a in (loads, either, held, price, chosen))
    if not len(loads):
        raise ValueError("no residency is feasible")
    total = objective_of(instance, loads, either, price)
    best = int(np.argmin(total))
    states = np.full((trace.n_blocks, instance.n_slots), len(sets) - 1)
    for i, number in enumerate(chosen[best]):
        states[i, instance.birth_slot[i] : instance.death_slot[i]] = paths[i][number]
    return float(total[best]), Placement.from_states(states, len(sets))


def _paths(instance: Instance, i: int, n_states: int) -> list[tuple[int, ...]]:
    """All paths of a block that begin where they must."""
    life = int(instance.death_slot[i] - instance.birth_slot[i])
    found = list(product(range(n_states), repeat=life))
    if instance.initial is None or instance.trace.write_step[i] >= 0:
        return found
    return [path for path in found if path[0] == instance.initial[i]]


def _sums(so_far: np.ndarray, own: list) -> np.ndarray:
    """Every combination so far with every path of one more block."""
    return (so_far[:, None] + np.array(own)[None]).reshape(-1, *so_far.shape[1:])
