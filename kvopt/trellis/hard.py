"""The hard minimum: shortest paths in the (min, +) algebra, and the paths themselves."""

from __future__ import annotations

import numpy as np

from kvopt.jit import njit, part, piece, tuple_setitem
from kvopt.placement import Placement
from kvopt.trellis import rows
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
    if trellis.classes:
        minima = np.empty(low.n_blocks)
        for of in trellis.classes:
            minima[of.blocks] = hard_minimum(of.trellis, of.prices(prices))
        return minima

    def work(lane: int, blocks: LaneBlocks) -> np.ndarray:
        table = _lane_tables(trellis.states, prices.slot, lane, low.n_lanes, low.n_steps, n_levels(low.n_steps))
        room = (0.0,) * low.n_states
        return np.concatenate(
            trellis.for_each_part(
                blocks,
                lambda part: _block_minima(
                    trellis.states, room, part, lane, low.n_lanes, table, prices.write, part.room
                ),
            )
        )

    minima = np.empty(low.n_blocks)
    for blocks, found in zip(trellis.lanes, trellis.for_each_lane(work), strict=True):
        minima[blocks.block] = found
    return minima


def cheapest_placement(trellis: Trellis, prices: Prices) -> Placement:
    """The cheapest path of every block at the given prices, whatever the capacities. Ties go to the last state.

    Works slot by slot: it is for looking at and for small instances, the bound needs only :func:`hard_minimum`.
    """
    low = trellis.lowered
    states = np.full((low.n_blocks, low.n_slots), low.n_states - 1, np.int8)
    if trellis.classes:
        for of in trellis.classes:
            found = cheapest_placement(of.trellis, of.prices(prices))
            states[of.blocks] = found.to_states(low.n_slots, low.n_states)
        return Placement.from_states(states, low.n_states)
    for lane, blocks in enumerate(trellis.lanes):
        _cheapest_paths(trellis.states, blocks, lane, low.n_lanes, prices.slot, prices.write, states)
    return Placement.from_states(states, low.n_states)


@piece
def _least(states, p, i, di, q, j, dj):
    """Least of the sums of two rows, each an array, its first index and its stride."""
    least = p[i] + q[j]
    for z in range(1, len(states)):
        least = min(least, p[i + di * z] + q[j + dj * z])
    return least


@piece
def _product(states, p, q, out):
    """(min, +) product of two S x S matrices."""
    n = len(states)
    for y in range(n):
        for z in range(n):
            out[n * y + z] = _least(states, p, n * y, 1, q, z, n)


@njit(cache=True, nogil=True)
def _lane_tables(states, slot, lane, n_lanes, n_steps, levels):
    """Range table, closed last steps and the ways from slot 0 to the lane's first slot.

    Parameters
    ----------
    states : tuple of int
        As :attr:`kvopt.trellis.Trellis.states`.
    slot : float64[2, T, S * S]

    Returns
    -------
    table : float64[2, levels, N, S * S]
    closed : float64[2, N, S]
        Cost of a lane step that is the block's last, from state z on.
    prefix : float64[S + 1, S]
        Cheapest way from each state in slot 0 to state z in the lane's first slot; the last row from any.
    """
    n_states, n_slots = len(states), n_steps * n_lanes
    table = np.empty((2, levels, n_steps, n_states * n_states))
    closed = np.empty((2, n_steps, n_states))
    after, swap = np.empty(n_states * n_states), np.empty(n_states * n_states)
    end = np.empty(n_states)
    for n in range(n_steps):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_slots)
        _idle(states, slot, own + 1, stop, after, swap, end)
        for r in range(2):
            if stop == own + 1:
                rows.copy(slot[r, own], table[r, 0, n])
                for z in range(n_states):
                    closed[r, n, z] = slot[r, own, (n_states + 1) * z]
                continue
            _product(states, slot[r, own], after, table[r, 0, n])
            for z in range(n_states):
                closed[r, n, z] = _least(states, slot[r, own], n_states * z, 1, end, 0, 1)
    for r in range(2):
        _fill_levels(states, table[r])
    return table, closed, _prefix(states, slot, lane)


@part(_nrt=False)
def _idle(states, slot, start, stop, after, swap, end):
    """Product of the idle slots start..stop-1 in ``after``, and where nothing moves in the last, in ``end``."""
    n_states = len(states)
    for t in range(start, stop):
        if t == start:
            rows.copy(slot[0, t], after)
            for z in range(n_states):
                end[z] = slot[0, t, (n_states + 1) * z]
            continue
        if t == stop - 1:
            for z in range(n_states):
                end[z] = _least(states, after, n_states * z, 1, slot[0, t], 0, n_states + 1)
        _product(states, after, slot[0, t], swap)
        rows.copy(swap, after)


@part
def _prefix(states, slot, lane):
    """float64[S + 1, S]: ways through the idle slots before the lane's first."""
    n_states = len(states)
    prefix = np.zeros((n_states + 1, n_states))
    prefix[:n_states] = np.inf
    for z in range(n_states):
        prefix[z, z] = 0.0
    for t in range(lane):
        before = prefix.copy()
        for y in range(n_states + 1):
            for z in range(n_states):
                prefix[y, z] = _least(states, before[y], 0, 1, slot[0, t], z, n_states)
    return prefix


@part(_nrt=False)
def _fill_levels(states, table):
    """Levels 1 and up from level 0, which holds the lane steps themselves."""
    levels, n_steps = table.shape[0], table.shape[1]
    for k in range(1, levels):
        half = 1 << k
        for middle in range(half, n_steps, 2 * half):
            rows.copy(table[0, middle - 1], table[k, middle - 1])
            for j in range(middle - 2, middle - half - 1, -1):
                _product(states, table[0, j], table[k, j + 1], table[k, j])
            rows.copy(table[0, middle], table[k, middle])
            for j in range(middle + 1, min(middle + half, n_steps)):
                _product(states, table[k, j - 1], table[0, j], table[k, j])


@njit(cache=True, nogil=True)
def _block_minima(states, here, blocks, lane, n_lanes, tables, write, room):
    """float64[b]: cheapest path of each block of a lane.

    ``here`` is room for a row of S: as a tuple it stays in registers, which takes 8 ns a run less than an array.
    """
    minima = np.empty(blocks.size_bytes.shape[0])
    entries = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    _fill_minima(states, here, blocks, lane, n_lanes, tables, write, entries, minima)
    return minima


@part(_nrt=False)
def _fill_minima(states, here, blocks, lane, n_lanes, tables, write, entries, minima):
    """The loop over the blocks, without counting references to rows of arrays (see ``soft._add_blocks``)."""
    table, closed, prefix = tables
    kinds, levels, indices = entries
    for i in range(minima.shape[0]):
        first, last = blocks.first_step[i], blocks.last_step[i]
        runs = slice(blocks.run_ptr[i], blocks.run_ptr[i + 1])
        n, read_last = entries_of_life(
            first, last, blocks.run_start[runs], blocks.run_stop[runs], kinds, levels, indices
        )
        start = prefix[blocks.initial[i]] if blocks.prefilled[i] else write[first * n_lanes + lane]
        for z in range(len(states)):
            here = tuple_setitem(here, z, start[z])
        for e in range(n):
            m = table[kinds[e], levels[e], indices[e]]
            there = here
            for z in range(len(states)):
                there = tuple_setitem(there, z, _least(states, here, 0, 1, m, z, len(states)))
            here = there
        minima[i] = blocks.size_bytes[i] * _least(states, here, 0, 1, closed[read_last, last], 0, 1)


@njit(cache=True, nogil=True)
def _cheapest_paths(states, blocks, lane, n_lanes, slot, write, found):
    """Set found[block, t] along each block's cheapest path, slot by slot."""
    n_states, n_slots = len(states), found.shape[1]
    came_from = np.empty((n_slots, n_states), np.int8)
    here, there = np.empty(n_states), np.empty(n_states)
    for i in range(blocks.size_bytes.shape[0]):
        own = blocks.first_step[i] * n_lanes + lane
        birth = 0 if blocks.prefilled[i] else own
        death = min((blocks.last_step[i] + 1) * n_lanes + lane, n_slots)
        for z in range(n_states):
            elsewhere = blocks.initial[i] >= 0 and blocks.initial[i] != z
            here[z] = (np.inf if elsewhere else 0.0) if blocks.prefilled[i] else write[own, z]
        run = blocks.run_ptr[i]
        for t in range(birth, death - 1):
            r, run = _read_in(blocks, i, run, t, lane, n_lanes)
            for z in range(n_states):
                way = here + slot[r, t, z::n_states]
                came_from[t + 1, z] = _last_least(way)
                there[z] = way[came_from[t + 1, z]]
            rows.copy(there, here)
        r, run = _read_in(blocks, i, run, death - 1, lane, n_lanes)
        for z in range(n_states):
            here[z] += slot[r, death - 1, (n_states + 1) * z]
        z = _last_least(here)
        for t in range(death - 1, birth - 1, -1):
            found[blocks.block[i], t] = z
            if t > birth:
                z = came_from[t, z]


@part(_nrt=False)
def _read_in(blocks, i, run, t, lane, n_lanes):
    """Whether block i is read in slot t, and the first of its runs from ``run`` on that is not over before."""
    if t % n_lanes != lane:
        return 0, run
    while run < blocks.run_ptr[i + 1] and blocks.run_stop[run] <= t // n_lanes:
        run += 1
    return (1 if run < blocks.run_ptr[i + 1] and blocks.run_start[run] <= t // n_lanes else 0), run


@part(_nrt=False)
def _last_least(costs):
    """Index of the least entry, the last of equals."""
    best = 0
    for z in range(1, costs.shape[0]):
        if costs[z] <= costs[best]:
            best = z
    return best
