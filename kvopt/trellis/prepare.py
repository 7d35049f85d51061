"""What the kernels of all three readings share: the blocks by lane, and the price of every slot."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from kvopt.lowering import Lowered
from kvopt.trellis.ranges import most_entries

_WORTH_A_THREAD = 5000
"""Runs and slots below which handing lanes to threads takes longer than the work."""


class LaneBlocks(NamedTuple):
    """The blocks of one lane, contiguous, in the order of their numbers (b blocks, r runs)."""

    block: np.ndarray
    """int64[b]: number in the trace."""
    size_bytes: np.ndarray
    """float64[b]"""
    first_step: np.ndarray
    """int64[b]"""
    last_step: np.ndarray
    """int64[b]"""
    prefilled: np.ndarray
    """bool[b]"""
    run_ptr: np.ndarray
    """int64[b + 1]"""
    run_start: np.ndarray
    """int32[r]"""
    run_stop: np.ndarray
    """int32[r]"""
    room: int
    """Table entries that the block with the most runs may use."""


@dataclass(frozen=True, eq=False)
class Prices:
    """What one byte of a block pays in each slot (T slots; states 0 fast, 1 backing).

    Parameters
    ----------
    slot : float64[2, T, 4]
        Cost per byte when idle [0] or read [1], from state z in the slot to z' in the next, at index 2 * z + z'.
    write : float64[T, 2]
        Cost per byte of a new block written in the slot in state z.
    constant : float
        Part of the dual that no block pays: sum of lambda * base - mu * C.
    """

    slot: np.ndarray
    write: np.ndarray
    constant: float


@dataclass(frozen=True, eq=False)
class Trellis:
    """A lowered instance, its blocks grouped by lane, ready for the kernels.

    Parameters
    ----------
    lowered : Lowered
    threads : int
        Lanes are worked on in parallel; results do not depend on the number.
    """

    lowered: Lowered
    threads: int = os.cpu_count() or 1

    @cached_property
    def lanes(self) -> tuple[LaneBlocks, ...]:
        """The blocks of each lane."""
        low = self.lowered
        return tuple(_lane_blocks(low, lane) for lane in range(low.n_lanes))

    def prices(self, channel_price: np.ndarray, capacity_price: np.ndarray) -> Prices:
        """Price every slot.

        Parameters
        ----------
        channel_price : float64[C, T]
            lambda.
        capacity_price : float64[2, T]
            mu, seconds per byte; must be 0 for a tier of infinite capacity.
        """
        low = self.lowered
        op = low.op_s_per_byte.reshape(2, 4, low.n_channels)
        slot = np.ascontiguousarray((op @ channel_price).transpose(0, 2, 1))
        slot += np.repeat(capacity_price.T @ low.occupancy.T, 2, axis=1)
        finite = np.isfinite(low.capacity_bytes)
        held = np.sum(capacity_price[finite] * low.capacity_bytes[finite][:, None])
        return Prices(
            slot=slot,
            write=np.ascontiguousarray(channel_price.T @ low.write_s_per_byte.T),
            constant=float(np.sum(channel_price * low.base_s) - held),
        )

    def expected(self, slot_bytes: np.ndarray, write_bytes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected loads and occupancy: the derivatives of the dual by lambda and by -mu, before the constants.

        Parameters
        ----------
        slot_bytes : float64[2, T, 4]
            Expected bytes that are idle or read and pass from z to z' in each slot.
        write_bytes : float64[T, 2]

        Returns
        -------
        load_s : float64[C, T]
            With the base load.
        held_bytes : float64[2, T]
        """
        low = self.lowered
        op = low.op_s_per_byte.reshape(2, 4, low.n_channels)
        load = low.base_s + sum((slot_bytes[r] @ op[r]).T for r in range(2))
        load += (write_bytes @ low.write_s_per_byte).T
        in_state = slot_bytes.sum(axis=0).reshape(-1, 2, 2).sum(axis=2)
        return load, (in_state @ low.occupancy).T

    def for_each_lane(self, work: Callable[[int, LaneBlocks], object]) -> list:
        """``work(lane, blocks)`` for every lane, in parallel; results in order of lanes."""
        jobs = list(enumerate(self.lanes))
        small = len(self.lowered.run_start) + self.lowered.n_slots < _WORTH_A_THREAD
        if self.threads == 1 or len(jobs) == 1 or small:
            return [work(lane, blocks) for lane, blocks in jobs]
        return list(self._pool.map(lambda job: work(*job), jobs))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Kept, because ascending the dual asks for hundreds of evaluations a second.
        return ThreadPoolExecutor(self.threads)


def _lane_blocks(low: Lowered, lane: int) -> LaneBlocks:
    mine = np.flatnonzero(low.lane == lane)
    counts = np.diff(low.run_ptr)[mine]
    ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    runs = np.repeat(low.run_ptr[mine] - ptr[:-1], counts) + np.arange(ptr[-1])
    return LaneBlocks(
        block=mine,
        size_bytes=low.size_bytes[mine],
        first_step=low.first_step[mine],
        last_step=low.last_step[mine],
        prefilled=low.prefilled[mine],
        run_ptr=ptr,
        run_start=low.run_start[runs],
        run_stop=low.run_stop[runs],
        room=most_entries(ptr),
    )
