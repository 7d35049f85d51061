"""The judge: loads, slot times and statistics of any placement, in plain numpy, straight from trace and platform.

It shares no code with the engines it judges: they work on :mod:`kvopt.lowering`, this counts bytes. It goes through the
blocks in parts (:mod:`kvopt.tallies`), so that it needs little memory beside trace and placement; all counts are whole
numbers of bytes, and the parts change none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.tallies import add_steps, block_ranges, owners


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
        return int(self.move_bytes.sum())

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
        """Share of the KV bytes read that came from the fastest tier; nan when nothing is read."""
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
        Its intervals must lie inside the blocks' lives.

    Returns
    -------
    Evaluation
    """
    platform, rules, trace = instance.platform, instance.rules, instance.trace
    rate = platform.bandwidth_bytes_per_s[:, None]
    in_state, new, moved = _counted(instance, placement)
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
    total = prices.read @ read.sum(axis=1) + prices.write @ new.sum(axis=1) + prices.hold @ held.sum(axis=1)
    total += prices.read[0] * instance.weight_bytes_per_slot * instance.n_slots
    if not instance.rules.free_moves:
        total += prices.write @ moved.sum(axis=(0, 2, 3)) + prices.move_out @ moved[:, :, 0].sum(axis=(1, 2))
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


@dataclass(frozen=True, eq=False)
class _Part:
    """The reads and the intervals of consecutive blocks."""

    run_block: np.ndarray
    run_start: np.ndarray
    run_stop: np.ndarray
    block: np.ndarray
    """int64: of each interval"""
    start: np.ndarray
    stop: np.ndarray
    state: np.ndarray

    @classmethod
    def of(cls, instance: Instance, placement: Placement, lo: int, hi: int) -> _Part:
        """Of the blocks [lo, hi)."""
        trace = instance.trace
        runs = slice(trace.run_ptr[lo], trace.run_ptr[hi])
        intervals = slice(placement.ptr[lo], placement.ptr[hi])
        return cls(
            owners(trace.run_ptr, lo, hi),
            trace.run_start[runs],
            trace.run_stop[runs],
            owners(placement.ptr, lo, hi),
            *(getattr(placement, name)[intervals] for name in ("start", "stop", "state")),
        )


def _counted(instance: Instance, placement: Placement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What all blocks do, by slot.

    Returns
    -------
    in_state : int64[S, T]
        KV bytes read of blocks in each state.
    new : int64[K, T]
        Bytes of new blocks written to each tier.
    moved : int64[K, K, 2, T]
        Bytes copied from tier to tier: paid in full [0], read through [1].
    """
    trace, held = instance.trace, instance.states
    n_states, n_tiers = held.shape
    # Reads as changes from step to step; those of the last state's entry are of all reads, until the end.
    read = np.zeros((n_states, trace.n_steps + 1, trace.n_lanes), np.int64)
    born = np.full(trace.n_blocks, n_states - 1, np.int8)
    moved = np.zeros((n_tiers, n_tiers, 2, trace.n_slots), np.int64)
    for lo, hi in block_ranges(trace.run_ptr, placement.ptr):
        part = _Part.of(instance, placement, lo, hi)
        add_steps(read[-1], trace, part.run_block, part.run_start, part.run_stop)
        block, start, stop, state = _reads_inside(instance, part)
        for z in range(n_states - 1):
            here = state == z if n_states > 2 else slice(None)
            add_steps(read[z], trace, block[here], start[here], stop[here])
        first = part.start == instance.birth_slot[part.block]
        born[part.block[first]] = part.state[first]
        _add_moves(moved, instance, part)
    in_state = np.cumsum(read, axis=1)[:, :-1].reshape(n_states, -1)
    in_state[-1] -= in_state[:-1].sum(axis=0)
    return in_state, _new_bytes(instance, born), moved


def _reads_inside(instance: Instance, part: _Part) -> tuple[np.ndarray, ...]:
    """(block, first step, one past the last, state) of every stretch of a run that lies in one of the intervals."""
    trace = instance.trace
    lanes = trace.n_lanes
    # The first step whose slot in this lane is at or after the given slot.
    enter, leave = (-((trace.lane[part.block] - slot) // lanes) for slot in (part.start, part.stop))
    # Blocks laid end to end on one axis, so that one binary search finds all overlaps of runs and intervals.
    span = trace.n_steps + 1
    run_key, interval_key = part.run_block * span, part.block * span
    first = np.searchsorted(interval_key + leave, run_key + part.run_start, side="right")
    last = np.searchsorted(interval_key + enter, run_key + part.run_stop, side="left")
    count = np.maximum(last - first, 0)
    run = np.repeat(np.arange(len(count)), count)
    interval = np.arange(len(run)) - np.repeat(np.cumsum(count) - count - first, count)
    start = np.maximum(part.run_start[run], enter[interval])
    stop = np.minimum(part.run_stop[run], leave[interval])
    some = start < stop
    return part.run_block[run][some], start[some], stop[some], part.state[interval][some]


def _new_bytes(instance: Instance, born: np.ndarray) -> np.ndarray:
    """int64[K, T]: bytes of new blocks written to each tier in each slot, by the states int8[B] they begin in."""
    trace, held = instance.trace, instance.states
    written = trace.write_step >= 0
    new = np.zeros((held.shape[1], trace.n_slots), np.int64)
    for k in range(held.shape[1]):
        which = written & held[born, k]
        np.add.at(new[k], instance.birth_slot[which], trace.size_bytes[which])
    return new


def _add_moves(moved: np.ndarray, instance: Instance, part: _Part) -> None:
    """Count the bytes that some blocks have copied from tier to tier into ``moved`` int64[K, K, 2, T]."""
    trace, held = instance.trace, instance.states
    block, during, before, after = _changes(instance, part)
    through = np.zeros(len(block), bool)
    if instance.rules.read_through:
        through = _is_read(instance, part, block, during)
    source = np.argmax(held, axis=1)[before]
    size = trace.size_bytes[block]
    for target in range(held.shape[1]):
        copied = held[after, target] & ~held[before, target]
        for j, paid in product(range(held.shape[1]), (0, 1)):
            if j != target:
                here = copied & (source == j) & (through == bool(paid))
                np.add.at(moved[j, target, paid], during[here], size[here])


def _changes(instance: Instance, part: _Part) -> tuple[np.ndarray, ...]:
    """(block, slot, state in it, state in the next) of every change of a block's state during its life.

    A residency that begins with the block itself is no change, nor is one that ends with it.
    """
    owner, start, stop, state = part.block, part.start, part.stop, part.state
    last = np.int8(len(instance.states) - 1)
    joined = np.zeros(len(owner), bool)
    joined[1:] = (owner[1:] == owner[:-1]) & (start[1:] == stop[:-1])
    before = np.where(joined, np.roll(state, 1), last)
    goes_on = np.append(joined[1:], False)[: len(owner)]
    begins = start > instance.birth_slot[owner]
    ends = (stop < instance.death_slot[owner]) & ~goes_on
    return (
        np.concatenate([owner[begins], owner[ends]]),
        np.concatenate([start[begins], stop[ends]]) - 1,
        np.concatenate([before[begins], state[ends]]).astype(np.int64),
        np.concatenate([state[begins], np.full(ends.sum(), last)]).astype(np.int64),
    )


def _is_read(instance: Instance, part: _Part, block: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """bool: whether the block is read in the slot."""
    trace = instance.trace
    step, lane = np.divmod(slot, trace.n_lanes)
    span = trace.n_steps + 1
    run_key = part.run_block * span
    latest = np.searchsorted(run_key + part.run_start, block * span + step, side="right") - 1
    inside = latest >= 0
    inside[inside] = (run_key + part.run_stop)[latest[inside]] > (block * span + step)[inside]
    return inside & (lane == trace.lane[block])
