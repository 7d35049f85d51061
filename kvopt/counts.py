"""What a placement reads, writes and moves in each slot, in bytes, straight from the trace.

The blocks are gone through in parts (:mod:`kvopt.tallies`), so that little memory is needed beside trace and placement.
All counts are whole numbers, and the parts change none.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.tallies import add_steps, block_ranges, owners


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


def counted(instance: Instance, placement: Placement) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What all blocks do, by slot.

    Parameters
    ----------
    instance : Instance
    placement : Placement
        Its intervals must lie inside the blocks' lives.

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
