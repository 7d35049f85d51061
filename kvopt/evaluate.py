"""The judge: loads, slot times and statistics of any placement, in plain numpy, straight from trace and platform.

It shares no code with the engines it judges: they work on :mod:`kvopt.lowering`, this counts bytes
(:mod:`kvopt.counts`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from kvopt.arguments import expect
from kvopt.counts import counted
from kvopt.instance import Instance
from kvopt.placement import Placement, check_placement
from kvopt.tallies import exact_total


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a placement costs and does.

    Parameters
    ----------
    latency_s : float
        The decode time: sum of the slot times.
    tokens_per_s : float
    objective : float
        The instance's objective in its own unit; the decode time unless told otherwise.
    slot_s : float64[T]
        max over channels of ``load_bytes / bandwidth``.
    step_s : float64[N]
        Their sums by step.
    load_bytes : float64[C, T]
    read_bytes : int64[K, T], float64 where reads are balanced
        KV bytes read from each tier.
    new_bytes : int64[K, T]
        Bytes of new blocks written to each tier.
    move_bytes : int64[K, K, 2, T]
        Bytes copied from tier to tier in each slot: paid in full [0], or read through [1].
    held_bytes : int64[K, T]
        Occupancy of each tier.
    weight_bytes : float
        Weight bytes read in all slots.
    """

    latency_s: float
    tokens_per_s: float
    objective: float
    slot_s: np.ndarray
    step_s: np.ndarray
    load_bytes: np.ndarray
    read_bytes: np.ndarray
    new_bytes: np.ndarray
    move_bytes: np.ndarray
    held_bytes: np.ndarray
    weight_bytes: float

    @property
    def moved_bytes(self) -> int:
        """All bytes moved between tiers."""
        return exact_total(self.move_bytes)

    @property
    def up_bytes(self) -> np.ndarray:
        """int64[2, T]: bytes copied to the fastest tier, paid in full [0] or read through [1]."""
        return self.move_bytes[:, 0].sum(axis=0)

    @property
    def down_bytes(self) -> np.ndarray:
        """int64[2, T]: the same from the fastest tier to any other."""
        return self.move_bytes[0].sum(axis=0)

    @property
    def fast_bytes(self) -> np.ndarray:
        """int64[T]: occupancy of the fastest tier."""
        return self.held_bytes[0]

    @property
    def kv_hit_rate(self) -> float:
        """Share of the KV bytes read that came from the fastest tier; nan when nothing is read.

        Another figure than the hit rate of a plain cache (:func:`kvopt.policies.hits`), which counts blocks, and the
        writes among the requests for them.
        """
        by_tier = self.read_bytes.sum(axis=1)
        return float(by_tier[0] / by_tier.sum()) if by_tier.sum() else float("nan")

    @property
    def hit_rate_with_weights(self) -> float:
        """The same with weight bytes, always hits, counted in."""
        by_tier = self.read_bytes.sum(axis=1)
        total = by_tier.sum() + self.weight_bytes
        return float((by_tier[0] + self.weight_bytes) / total) if total else float("nan")


def evaluate(instance: Instance, placement: Placement) -> Evaluation:
    """Loads, slot times and statistics of a placement, feasible or not (see :meth:`Placement.violations`).

    Parameters
    ----------
    instance : Instance
    placement : Placement

    Returns
    -------
    Evaluation

    Raises
    ------
    PlacementError
        When it has intervals outside the blocks' lives, or is of another number of blocks: of another instance.
    """
    expect(Instance, "instance", instance, "Give a kvopt.Instance(trace, platform)")
    check_placement(instance, placement)
    return evaluated(instance, placement)


def evaluated(instance: Instance, placement: Placement) -> Evaluation:
    """As :func:`evaluate`, of a placement that is known to be of the instance."""
    platform, rules, trace = instance.platform, instance.rules, instance.trace
    rate = platform.bandwidth_bytes_per_s[:, None]
    in_state, new, moved = counted(instance, placement)
    read = np.zeros((len(platform.tiers), instance.n_slots), np.int64)
    np.add.at(read, np.argmax(instance.states, axis=1), in_state)
    rho, omega, sigma = (platform.loads(role) for role in ("read", "write", "move_out"))
    load = omega.T @ new
    load += instance.weight_bytes_per_slot * rho[0][:, None]
    if not rules.free_moves:
        load += omega.T @ moved.sum(axis=(0, 2)) + sigma.T @ moved[:, :, 0].sum(axis=1)
    if rules.balanced:
        read = _balanced(instance, load / rate, read, in_state[instance.states.all(axis=1)].sum(axis=0))
    load += rho.T @ read
    slot_s = (load / rate).max(axis=0)
    latency_s = float(slot_s.sum())
    step_s = slot_s.reshape(trace.n_steps, trace.n_lanes).sum(axis=1)
    held = placement.held_bytes(instance)
    return Evaluation(
        latency_s=latency_s,
        tokens_per_s=instance.tokens_per_s(latency_s) if latency_s > 0 else float("inf"),
        objective=_objective(instance, latency_s, step_s, load / rate) + _linear(instance, read, new, moved, held),
        slot_s=slot_s,
        step_s=step_s,
        load_bytes=load,
        read_bytes=read,
        new_bytes=new,
        move_bytes=moved,
        held_bytes=held,
        weight_bytes=instance.weight_bytes_per_slot * trace.n_slots,
    )


def _objective(instance: Instance, latency_s: float, step_s: np.ndarray, load_s: np.ndarray) -> float:
    """What the objective makes of the times."""
    if instance.custom:
        return float(instance.objective.of_loads(load_s, instance))
    return instance.prices.per_second * latency_s + instance.prices.of_steps(step_s)


def _linear(instance: Instance, read, new, moved, held) -> float:
    """What the objective charges by the byte, whatever the time."""
    prices = instance.prices
    if not prices.linear:
        return 0.0
    # Reads and writes have limits in all; what is held or moved in each of many slots has more than 64 bits.
    total = prices.read @ read.sum(axis=1) + prices.write @ new.sum(axis=1)
    total += prices.hold @ held.sum(axis=1, dtype=float)
    total += prices.read[0] * instance.weight_bytes_per_slot * instance.n_slots
    if not instance.rules.free_moves:
        total += prices.write @ moved.sum(axis=(0, 2, 3), dtype=float)
        total += prices.move_out @ moved[:, :, 0].sum(axis=(1, 2), dtype=float)
    return float(total)


def _balanced(instance: Instance, other_s: np.ndarray, read: np.ndarray, either: np.ndarray) -> np.ndarray:
    """float64[2, T]: bytes read from each tier when some may come from either, at the least cost of each slot.

    The cost of a slot is a maximum of lines in the bytes y that are taken from the backing tier instead. Its minimum
    is at an end of [0, either] or where two lines cross.

    Parameters
    ----------
    other_s : float64[C, T]
        Seconds of each channel without reads.
    read : int64[2, T]
        All of those bytes counted with the fast tier.
    either : int64[T]
    """
    platform, prices = instance.platform, instance.prices
    by_tier_s = platform.loads("read") / platform.bandwidth_bytes_per_s
    at_zero, slope = other_s + by_tier_s.T @ read, by_tier_s[1] - by_tier_s[0]
    dearer = prices.read[1] - prices.read[0]
    # Where only single steps count, a slot is still best short: no objective falls when a slot takes longer.
    second = prices.per_second or float(prices.stepwise)

    def cost(y: np.ndarray) -> np.ndarray:
        return second * (at_zero + slope[:, None] * y).max(axis=0) + dearer * y

    best, least = np.zeros(instance.n_slots), cost(np.zeros(instance.n_slots))
    candidates = [either.astype(float)]
    for a, b in combinations(range(len(slope)), 2):
        if slope[a] != slope[b]:
            candidates.append(np.clip((at_zero[a] - at_zero[b]) / (slope[b] - slope[a]), 0.0, either))
    for y in candidates:
        value = cost(y)
        better = value < least
        best[better], least[better] = y[better], value[better]
    return np.stack([read[0] - best, read[1] + best])
