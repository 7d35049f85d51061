"""The judge: loads, slot times and statistics of any placement, in plain numpy, straight from trace and platform.

It shares no code with the engines it judges: they work on :mod:`kvopt.lowering`, this counts bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvopt.instance import Instance
from kvopt.placement import Placement


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
    load_bytes : float64[C, T]
    read_bytes : int64[K, T]
        KV bytes read from each tier.
    new_bytes : int64[K, T]
        Bytes of new blocks written to each tier.
    up_bytes, down_bytes : int64[2, T]
        Bytes moved to the fast tier, and back, in each slot: paid in full [0], or read through [1].
    fast_bytes : int64[T]
        Occupancy of the fast tier.
    weight_bytes : float
        Weight bytes read in all slots.
    """

    latency_s: float
    tokens_per_s: float
    objective: float
    slot_s: np.ndarray
    load_bytes: np.ndarray
    read_bytes: np.ndarray
    new_bytes: np.ndarray
    up_bytes: np.ndarray
    down_bytes: np.ndarray
    fast_bytes: np.ndarray
    weight_bytes: float

    @property
    def moved_bytes(self) -> int:
        """All bytes moved between tiers."""
        return int(self.up_bytes.sum() + self.down_bytes.sum())

    @property
    def kv_hit_rate(self) -> float:
        """Share of the KV bytes read that came from the fast tier; nan when nothing is read."""
        fast, backing = self.read_bytes.sum(axis=1)
        return float(fast / (fast + backing)) if fast + backing else float("nan")

    @property
    def hit_rate_with_weights(self) -> float:
        """The same with weight bytes, always hits, counted in."""
        fast, backing = self.read_bytes.sum(axis=1)
        total = fast + backing + self.weight_bytes
        return float((fast + self.weight_bytes) / total) if total else float("nan")


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
    read = _read_bytes(instance, placement)
    new = _new_bytes(instance, placement)
    up = _moved(instance, placement.block, placement.start)
    if rules.inclusive:
        down = np.zeros_like(up)
    else:
        stays = placement.stop < instance.death_slot[placement.block]
        down = _moved(instance, placement.block[stays], placement.stop[stays])
    rho, omega, sigma = (platform.loads(role) for role in ("read", "write", "move_out"))
    load = rho.T @ read + omega.T @ new
    load += instance.weight_bytes_per_slot * rho[0][:, None]
    for source, target, moved in () if rules.free_moves else ((1, 0, up), (0, 1, down)):
        load += np.outer(omega[target], moved.sum(axis=0)) + np.outer(sigma[source], moved[0])
    slot_s = (load / platform.bandwidth_bytes_per_s[:, None]).max(axis=0)
    latency_s = float(slot_s.sum())
    in_fast = placement.fast_bytes(instance)
    return Evaluation(
        latency_s=latency_s,
        tokens_per_s=instance.tokens_per_s(latency_s) if latency_s > 0 else float("inf"),
        objective=instance.prices.per_second * latency_s + _linear(instance, read, new, up, down, in_fast),
        slot_s=slot_s,
        load_bytes=load,
        read_bytes=read,
        new_bytes=new,
        up_bytes=up,
        down_bytes=down,
        fast_bytes=in_fast,
        weight_bytes=instance.weight_bytes_per_slot * trace.n_slots,
    )


def _linear(instance: Instance, read, new, up, down, in_fast) -> float:
    """What the objective charges by the byte, whatever the time."""
    prices, rules = instance.prices, instance.rules
    if not prices.linear:
        return 0.0
    in_backing = instance.live_bytes if rules.inclusive else instance.live_bytes - in_fast
    total = prices.read @ read.sum(axis=1) + prices.write @ new.sum(axis=1)
    total += prices.hold @ np.array([in_fast.sum(), in_backing.sum()])
    total += prices.read[0] * instance.weight_bytes_per_slot * instance.n_slots
    for source, target, moved in () if rules.free_moves else ((1, 0, up), (0, 1, down)):
        total += prices.write[target] * moved.sum() + prices.move_out[source] * moved[0].sum()
    return float(total)


def _read_bytes(instance: Instance, placement: Placement) -> np.ndarray:
    """int64[2, T]: KV bytes read from each tier in each slot."""
    trace = instance.trace
    block = trace.run_block
    total = _spread(instance, block, trace.run_start, trace.run_stop)
    fast = _spread(instance, *_reads_in_fast(instance, placement))
    return np.stack([fast, total - fast])


def _spread(instance: Instance, block: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """int64[T]: bytes of reads of ``block`` in its lane's slots of steps [start, stop), summed."""
    trace = instance.trace
    change = np.zeros((trace.n_steps + 1, trace.n_lanes), np.int64)
    lane, size = trace.lane[block], trace.size_bytes[block]
    np.add.at(change, (start, lane), size)
    np.subtract.at(change, (stop, lane), size)
    return np.cumsum(change, axis=0)[:-1].ravel()


def _reads_in_fast(instance: Instance, placement: Placement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(block, first step, one past the last) of every stretch of a run during which the block is in the fast tier."""
    trace = instance.trace
    lanes = trace.n_lanes
    owner = placement.block
    # The first step whose slot in this lane is at or after the given slot.
    enter, leave = (-((trace.lane[owner] - slot) // lanes) for slot in (placement.start, placement.stop))
    # Blocks laid end to end on one axis, so that one binary search finds all overlaps of runs and intervals.
    span = trace.n_steps + 1
    run_block = trace.run_block
    run_key, interval_key = run_block * span, owner * span
    first = np.searchsorted(interval_key + leave, run_key + trace.run_start, side="right")
    last = np.searchsorted(interval_key + enter, run_key + trace.run_stop, side="left")
    count = np.maximum(last - first, 0)
    run = np.repeat(np.arange(trace.n_runs), count)
    interval = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    start = np.maximum(trace.run_start[run], enter[interval])
    stop = np.minimum(trace.run_stop[run], leave[interval])
    some = start < stop
    return run_block[run][some], start[some], stop[some]


def _new_bytes(instance: Instance, placement: Placement) -> np.ndarray:
    """int64[2, T]: bytes of new blocks written to each tier in each slot."""
    trace = instance.trace
    born_fast = np.zeros(trace.n_blocks, bool)
    owner = placement.block
    born_fast[owner[placement.start == instance.birth_slot[owner]]] = True
    written = trace.write_step >= 0
    new = np.zeros((2, trace.n_slots), np.int64)
    to_backing = written if instance.rules.inclusive else written & ~born_fast
    for tier, which in ((0, written & born_fast), (1, to_backing)):
        np.add.at(new[tier], instance.birth_slot[which], trace.size_bytes[which])
    return new


def _moved(instance: Instance, block: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """int64[2, T]: bytes that change tier between slot - 1 and slot: paid in full [0], read through [1].

    A residency that begins with the block itself is no move.
    """
    trace = instance.trace
    real = slot > instance.birth_slot[block]
    block, during = block[real], slot[real] - 1
    through = _is_read(instance, block, during) if instance.rules.read_through else np.zeros(len(block), bool)
    moved = np.zeros((2, trace.n_slots), np.int64)
    np.add.at(moved, (through.astype(int), during), trace.size_bytes[block])
    return moved


def _is_read(instance: Instance, block: np.ndarray, slot: np.ndarray) -> np.ndarray:
    """bool: whether the block is read in the slot."""
    trace = instance.trace
    step, lane = np.divmod(slot, trace.n_lanes)
    span = trace.n_steps + 1
    run_key = trace.run_block * span
    latest = np.searchsorted(run_key + trace.run_start, block * span + step, side="right") - 1
    inside = latest >= 0
    inside[inside] = (run_key + trace.run_stop)[latest[inside]] > (block * span + step)[inside]
    return inside & (lane == trace.lane[block])
