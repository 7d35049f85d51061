"""What the kernels of all three readings share: the blocks by lane, and the price of every slot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from kvopt.lowering import Lowered
from kvopt.trellis.ranges import full_reach, most_entries, n_levels, reach_of_lane

T = TypeVar("T")
_MOST_COST = 1e10
"""Temperatures that a slot costs at most: nothing is drawn at that, and exponents of a million slots stay in range."""
_MOST_PATH = 1e16
"""So many does a path through a million such slots."""
_WORTH_A_THREAD = 5000
"""Runs and slots below which handing lanes to threads takes longer than the work."""
_PART_RUNS, _PART_STEPS, _MOST_PARTS = 10_000, 0.5, 4
"""A part of a single lane has at least so many runs, and so many lane steps a run at most: it keeps flows of its own,
by lane step, which are added up. ``tests.benchmarks.bench_trellis`` prints what two threads gain."""
_DENSE = 16
"""Runs a lane step from which on nearly all of the table is used, and not worth the look at which entries are."""


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
    initial: np.ndarray
    """int8[b]: state in slot 0 of a prefilled block, -1 where free."""
    run_ptr: np.ndarray
    """int64[b + 1]"""
    run_start: np.ndarray
    """int32[r]"""
    run_stop: np.ndarray
    """int32[r]"""
    room: int
    """Table entries that the block with the most runs may use."""
    reach: np.ndarray
    """int32[2, levels, N // 4 + 1, 2]: the part of the table that is used, see :mod:`kvopt.trellis.ranges`"""


@dataclass(frozen=True, eq=False)
class Prices:
    """What one byte of a block pays in each slot (T slots, S states).

    Parameters
    ----------
    slot : float64[2, T, S * S]
        Cost per byte when idle [0] or read [1], from state z in the slot to z' in the next, at index S * z + z'.
    write : float64[T, S]
        Cost per byte of a new block written in the slot in state z.
    constant : float
        Part of the dual that no block pays: sum of lambda * base - mu * C.
    swap_share : float64[T], optional
        Share of the reads that may come from either of two tiers which comes from the slower; none unless given.
    """

    slot: np.ndarray
    write: np.ndarray
    constant: float
    swap_share: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class BlockClass:
    """Blocks that are larger than the same tiers, which they are kept out of by a price that no path is worth.

    A placement that has none of them there pays nothing of it, so that the dual is one all the same, and higher.

    Parameters
    ----------
    blocks : int64[b]
    trellis : Trellis
        Of these alone.
    kept_out : bool[S]
        The states of those tiers.
    """

    blocks: np.ndarray
    trellis: Trellis
    kept_out: np.ndarray

    def prices(self, prices: Prices, tau: float = 0.0) -> Prices:
        """Those of all blocks, with that price.

        Parameters
        ----------
        prices : Prices
        tau : float
            Temperature per byte.
        """
        low = self.trellis.lowered
        most = _MOST_PATH * tau / low.n_slots if tau > 0 else np.inf
        price = min(low.dearest_price, most)
        return replace(prices, slot=prices.slot + np.repeat(price * self.kept_out, low.n_states))


@dataclass(frozen=True, eq=False)
class Trellis:
    """A lowered instance, its blocks grouped by lane, ready for the kernels.

    Parameters
    ----------
    lowered : Lowered
    threads : int
        Lanes are worked on in parallel, or parts of a single lane; results do not depend on the number.
    """

    lowered: Lowered
    threads: int = os.cpu_count() or 1

    @cached_property
    def states(self) -> tuple[int, ...]:
        """The S states, for kernels: numba compiles them for the length of a tuple, so that loops over it unroll."""
        return tuple(range(self.lowered.n_states))

    @cached_property
    def lanes(self) -> tuple[LaneBlocks, ...]:
        """The blocks of each lane."""
        low = self.lowered
        return tuple(_lane_blocks(low, lane) for lane in range(low.n_lanes))

    @cached_property
    def classes(self) -> tuple[BlockClass, ...]:
        """The blocks by which tiers they are larger than; none where no block is larger than any."""
        low = self.lowered
        kinds = np.unique(low.shut)
        if not kinds.any():
            return ()
        found = []
        for kind in kinds:
            blocks = np.flatnonzero(low.shut == kind)
            part = low if len(kinds) == 1 else low.of_blocks(blocks)
            part = replace(part, shut=np.zeros(len(blocks), np.int64))
            tiers = kind >> np.arange(low.n_tiers) & 1
            found.append(BlockClass(blocks, replace(self, lowered=part), low.holds @ tiers > 0))
        return tuple(found)

    def prices(self, channel_price: np.ndarray, capacity_price: np.ndarray, tau: float = 0.0) -> Prices:
        """Price every slot.

        Parameters
        ----------
        channel_price : float64[C, T]
            lambda: the objective's units a second of each channel.
        capacity_price : float64[K, T]
            mu, units per byte; must be 0 for a tier of infinite capacity.
        tau : float
            Temperature per byte, at which a choice between two copies to read is smoothed; 0 for the cheaper.
        """
        low = self.lowered
        op = low.op_s_per_byte.reshape(2, -1, low.n_channels)
        slot = np.ascontiguousarray(np.einsum("rqc,ct->rtq", op, channel_price))
        slot += low.op_price_per_byte.reshape(2, 1, -1)
        slot += np.repeat(capacity_price.T @ low.occupancy.T, low.n_states, axis=1)
        swap_share = self._swap(slot, channel_price, tau)
        if tau > 0:
            np.minimum(slot, _MOST_COST * tau, out=slot)
        write = np.ascontiguousarray(channel_price.T @ low.write_s_per_byte.T + low.write_price_per_byte)
        if tau > 0:
            np.minimum(write, _MOST_COST * tau, out=write)
        finite = np.isfinite(low.capacity_bytes)
        held = np.sum(capacity_price[finite] * low.capacity_bytes[finite][:, None])
        return Prices(
            slot=slot,
            write=write,
            constant=float(np.sum(channel_price * low.base_s) - held) + low.base_price,
            swap_share=swap_share,
        )

    def _swap(self, slot: np.ndarray, channel_price: np.ndarray, tau: float) -> np.ndarray | None:
        """Lower the price of reads that may come from either copy, in place; returns the share from the slower."""
        low = self.lowered
        if not low.swappable.any():
            return None
        dearer = low.swap_s_per_byte @ channel_price + low.swap_price_per_byte
        if tau > 0:
            from scipy import special  # Imported on use: it takes a quarter of a second, which few instances need.

            share = special.expit(-dearer / tau)
            saved = -tau * np.logaddexp(0.0, -dearer / tau)
        else:
            share, saved = (dearer < 0).astype(float), np.minimum(dearer, 0.0)
        slot[1] += np.repeat(np.outer(saved, low.swappable), low.n_states, axis=1)
        return share

    def expected(
        self, prices: Prices, slot_bytes: np.ndarray, write_bytes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Expected loads and occupancy: the derivatives of the dual by lambda and by -mu, before the constants.

        Parameters
        ----------
        prices : Prices
            Those that the rest was computed at.
        slot_bytes : float64[2, T, S * S]
            Expected bytes that are idle or read and pass from z to z' in each slot.
        write_bytes : float64[T, S]

        Returns
        -------
        load_s : float64[C, T]
            With the base load.
        held_bytes : float64[K, T]
        """
        low = self.lowered
        op = low.op_s_per_byte.reshape(2, -1, low.n_channels)
        load = low.base_s + sum((slot_bytes[r] @ op[r]).T for r in range(2))
        load += (write_bytes @ low.write_s_per_byte).T
        by_state = slot_bytes.reshape(2, low.n_slots, low.n_states, low.n_states).sum(axis=3)
        if low.swappable.any():
            either = by_state[1] @ low.swappable
            load += np.outer(low.swap_s_per_byte, either * prices.swap_share)
        return load, (by_state.sum(axis=0) @ low.occupancy).T

    def for_each_lane(self, work: Callable[[int, LaneBlocks], T]) -> Iterator[T]:
        """``work(lane, blocks)`` for every lane, in parallel; results in order of lanes, forgotten once taken."""
        jobs = list(enumerate(self.lanes))
        if self.threads == 1 or len(jobs) == 1 or self._small:
            return (work(lane, blocks) for lane, blocks in jobs)
        return self._pool.map(lambda job: work(*job), jobs)

    def for_each_part(self, blocks: LaneBlocks, work: Callable[[LaneBlocks], T]) -> list[T]:
        """``work(part)`` for every part of a lane's blocks: all of them, or where it is the only lane, shares for
        threads. What the parts are does not depend on their number."""
        parts = (blocks,) if self.lowered.n_lanes > 1 or self._small else self._parts
        if self.threads == 1 or len(parts) == 1:
            return [work(part) for part in parts]
        return list(self._pool.map(work, parts))

    @cached_property
    def _parts(self) -> tuple[LaneBlocks, ...]:
        """Shares of the only lane, with about as many runs each."""
        (blocks,) = self.lanes
        n_runs, n_blocks = len(blocks.run_start), len(blocks.size_bytes)
        count = int(np.clip(n_runs // max(_PART_RUNS, self.lowered.n_steps / _PART_STEPS), 1, _MOST_PARTS))
        ends = np.searchsorted(blocks.run_ptr, np.arange(1, count) * n_runs // count)
        return tuple(_part(blocks, *cut) for cut in pairwise([0, *ends.tolist(), n_blocks]))

    @property
    def _small(self) -> bool:
        return len(self.lowered.run_start) + self.lowered.n_slots < _WORTH_A_THREAD

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        # Kept, because ascending the dual asks for hundreds of evaluations a second.
        return ThreadPoolExecutor(self.threads)


def _lane_blocks(low: Lowered, lane: int) -> LaneBlocks:
    """Views where the lane's blocks follow one another, copies where they do not."""
    mine = np.flatnonzero(low.lane == lane)
    if len(mine) and mine[-1] - mine[0] == len(mine) - 1:
        blocks = slice(mine[0], mine[-1] + 1)
        begin, end = low.run_ptr[blocks.start], low.run_ptr[blocks.stop]
        ptr, runs = low.run_ptr[blocks.start : blocks.stop + 1] - begin, slice(begin, end)
    else:
        counts = np.diff(low.run_ptr)[mine]
        ptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        blocks, runs = mine, np.repeat(low.run_ptr[mine] - ptr[:-1], counts) + np.arange(ptr[-1])
    first, last, room = _shown(low.first_step[blocks]), _shown(low.last_step[blocks]), most_entries(ptr)
    used = _shown(ptr), _shown(low.run_start[runs]), _shown(low.run_stop[runs])
    if ptr[-1] >= _DENSE * low.n_steps:
        reach = full_reach(low.n_steps)
    else:
        reach = reach_of_lane(first, last, *used, room, low.n_steps, n_levels(low.n_steps))
    return LaneBlocks(
        block=_shown(mine),
        size_bytes=_shown(low.size_bytes[blocks]),
        first_step=first,
        last_step=last,
        prefilled=_shown(low.prefilled[blocks]),
        initial=_shown(low.initial[blocks]),
        run_ptr=used[0],
        run_start=used[1],
        run_stop=used[2],
        room=room,
        reach=_shown(reach),
    )


def _part(blocks: LaneBlocks, begin: int, end: int) -> LaneBlocks:
    """Some of a lane's blocks, with the runs of all."""
    of_blocks = ("block", "size_bytes", "first_step", "last_step", "prefilled", "initial")
    some = {name: getattr(blocks, name)[begin:end] for name in of_blocks}
    return blocks._replace(**some, run_ptr=blocks.run_ptr[begin : end + 1])


def _shown(array: np.ndarray) -> np.ndarray:
    """A read-only view: numba compiles anew for arrays that may be written, and some of these may not."""
    view = array.view()
    view.setflags(write=False)
    return view
