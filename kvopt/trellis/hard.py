"""The hard minimum: shortest paths in the (min, +) algebra, and the paths themselves."""

from __future__ import annotations

import numpy as np
from numba import njit

from kvopt.placement import Placement
from kvopt.trellis.prepare import LaneBlocks, Prices, Trellis
from kvopt.trellis.ranges import entries_of_life, n_levels


def hard_minimum(trellis: Trellis, prices: Prices) -> np.ndarray:
    """Cost of the cheapest path of every block.

    Parameters
    ----------
    trellis : Trellis
    prices : Prices

    Returns
    -------
    float64[B]
        Seconds, sizes included. Their sum and ``prices.constant`` make the Lagrangian dual value.
    """
    low = trellis.lowered

    def work(lane: int, blocks: LaneBlocks) -> np.ndarray:
        table, closed, prefix = _lane_tables(prices.slot, lane, low.n_lanes, low.n_steps, n_levels(low.n_steps))
        return _block_minima(blocks, lane, low.n_lanes, table, closed, prefix, prices.write, blocks.room)

    minima = np.empty(low.n_blocks)
    for blocks, found in zip(trellis.lanes, trellis.for_each_lane(work), strict=True):
        minima[blocks.block] = found
    return minima


def cheapest_placement(trellis: Trellis, prices: Prices) -> Placement:
    """The cheapest path of every block at the given prices, whatever the capacities. Ties go to the backing tier.

    Works slot by slot: it is for looking at and for small instances, the bound needs only :func:`hard_minimum`.
    """
    low = trellis.lowered
    in_fast = np.zeros((low.n_blocks, low.n_slots), np.bool_)
    for lane, blocks in enumerate(trellis.lanes):
        _cheapest_paths(blocks, lane, low.n_lanes, low.n_slots, prices.slot, prices.write, in_fast)
    return Placement.from_dense(in_fast)


@njit(cache=True, nogil=True, inline="always")
def _product(p, q, out):
    """(min, +) product of two 2 x 2 matrices."""
    out[0] = min(p[0] + q[0], p[1] + q[2])
    out[1] = min(p[0] + q[1], p[1] + q[3])
    out[2] = min(p[2] + q[0], p[3] + q[2])
    out[3] = min(p[2] + q[1], p[3] + q[3])


@njit(cache=True, nogil=True)
def _lane_tables(slot, lane, n_lanes, n_steps, levels):
    """Range table, closed last steps and the way from slot 0 to the lane's first slot.

    Returns
    -------
    table : float64[2, levels, N, 4]
    closed : float64[2, N, 2]
        Cost of a lane step that is the block's last, from state z on.
    prefix : float64[2]
        Cheapest way to state z in the lane's first slot, for a block there since slot 0.
    """
    n_slots = n_steps * n_lanes
    table = np.empty((2, levels, n_steps, 4))
    closed = np.empty((2, n_steps, 2))
    after = np.empty(4)
    swap = np.empty(4)
    for n in range(n_steps):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_slots)
        end0, end1 = 0.0, 0.0
        after[0], after[1], after[2], after[3] = 0.0, np.inf, np.inf, 0.0
        for t in range(own + 1, stop):
            if t == stop - 1:
                end0 = min(after[0] + slot[0, t, 0], after[1] + slot[0, t, 3])
                end1 = min(after[2] + slot[0, t, 0], after[3] + slot[0, t, 3])
            _product(after, slot[0, t], swap)
            after[:] = swap
        for r in range(2):
            w = slot[r, own]
            _product(w, after, table[r, 0, n])
            if stop == own + 1:
                closed[r, n, 0], closed[r, n, 1] = w[0], w[3]
            else:
                closed[r, n, 0] = min(w[0] + end0, w[1] + end1)
                closed[r, n, 1] = min(w[2] + end0, w[3] + end1)
    for r in range(2):
        _fill_levels(table[r])
    prefix = np.zeros(2)
    for t in range(lane):
        w = slot[0, t]
        to0 = min(prefix[0] + w[0], prefix[1] + w[2])
        prefix[1] = min(prefix[0] + w[1], prefix[1] + w[3])
        prefix[0] = to0
    return table, closed, prefix


@njit(cache=True, nogil=True)
def _fill_levels(table):
    """Levels 1 and up from level 0, which holds the lane steps themselves."""
    levels, n_steps = table.shape[0], table.shape[1]
    for k in range(1, levels):
        half = 1 << k
        for middle in range(half, n_steps, 2 * half):
            table[k, middle - 1] = table[0, middle - 1]
            for j in range(middle - 2, middle - half - 1, -1):
                _product(table[0, j], table[k, j + 1], table[k, j])
            table[k, middle] = table[0, middle]
            for j in range(middle + 1, min(middle + half, n_steps)):
                _product(table[k, j - 1], table[0, j], table[k, j])


@njit(cache=True, nogil=True)
def _block_minima(blocks, lane, n_lanes, table, closed, prefix, write, room):
    """float64[b]: cheapest path of each block of a lane."""
    n_blocks = blocks.size_bytes.shape[0]
    minima = np.empty(n_blocks)
    kinds, levels, indices = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    for i in range(n_blocks):
        first, last = blocks.first_step[i], blocks.last_step[i]
        runs = slice(blocks.run_ptr[i], blocks.run_ptr[i + 1])
        n, read_last = entries_of_life(
            first, last, blocks.run_start[runs], blocks.run_stop[runs], kinds, levels, indices
        )
        if blocks.prefilled[i]:
            v0, v1 = prefix[0], prefix[1]
        else:
            v0, v1 = write[first * n_lanes + lane, 0], write[first * n_lanes + lane, 1]
        for e in range(n):
            m = table[kinds[e], levels[e], indices[e]]
            to0 = min(v0 + m[0], v1 + m[2])
            v1 = min(v0 + m[1], v1 + m[3])
            v0 = to0
        end = closed[read_last, last]
        minima[i] = blocks.size_bytes[i] * min(v0 + end[0], v1 + end[1])
    return minima


@njit(cache=True, nogil=True)
def _cheapest_paths(blocks, lane, n_lanes, n_slots, slot, write, in_fast):
    """Set in_fast[block, t] along each block's cheapest path, slot by slot."""
    came_from = np.empty((n_slots, 2), np.uint8)
    for i in range(blocks.size_bytes.shape[0]):
        own = blocks.first_step[i] * n_lanes + lane
        birth = 0 if blocks.prefilled[i] else own
        death = min((blocks.last_step[i] + 1) * n_lanes + lane, n_slots)
        v0, v1 = (0.0, 0.0) if blocks.prefilled[i] else (write[own, 0], write[own, 1])
        run = blocks.run_ptr[i]
        for t in range(birth, death):
            r = 0
            if t % n_lanes == lane:
                while run < blocks.run_ptr[i + 1] and blocks.run_stop[run] <= t // n_lanes:
                    run += 1
                if run < blocks.run_ptr[i + 1] and blocks.run_start[run] <= t // n_lanes:
                    r = 1
            w = slot[r, t]
            if t == death - 1:
                v0, v1 = v0 + w[0], v1 + w[3]
                break
            came_from[t + 1, 0] = 0 if v0 + w[0] < v1 + w[2] else 1
            came_from[t + 1, 1] = 0 if v0 + w[1] < v1 + w[3] else 1
            to0 = min(v0 + w[0], v1 + w[2])
            v1 = min(v0 + w[1], v1 + w[3])
            v0 = to0
        z = 0 if v0 < v1 else 1
        for t in range(death - 1, birth - 1, -1):
            in_fast[blocks.block[i], t] = z == 0
            if t > birth:
                z = came_from[t, z]
