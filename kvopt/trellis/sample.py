"""Sampling: each block's path from its Boltzmann distribution, by forward filtering and backward sampling.

The states at the ends of the table entries that cover a life are drawn first, backwards. Inside an entry the table's
own products give the states between lane steps, and inside a lane step the products of its slots give the rest.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kvopt.lowering import FAST
from kvopt.placement import Placement
from kvopt.trellis.forward import enter, forward
from kvopt.trellis.prepare import LaneBlocks, Prices, Trellis
from kvopt.trellis.ranges import entries_of_life, n_levels
from kvopt.trellis.rng import stream, uniform
from kvopt.trellis.scaled import product, share, slot_matrices
from kvopt.trellis.soft_tables import lane_tables


def sample_placement(trellis: Trellis, prices: Prices, tau_s_per_byte: float, seed: int) -> Placement:
    """Draw every block's path from exp(-cost / (s tau)), whatever the capacities.

    Parameters
    ----------
    trellis : Trellis
    prices : Prices
    tau_s_per_byte : float
        Temperature per byte, greater than 0.
    seed : int
        Each block has a stream of its own under it.

    Returns
    -------
    Placement
    """
    low = trellis.lowered
    slot_m, slot_e = slot_matrices(prices.slot / tau_s_per_byte)
    write = prices.write / tau_s_per_byte

    def work(lane: int, blocks: LaneBlocks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = lane_tables(slot_m, slot_e, lane, low.n_lanes, low.n_steps, n_levels(low.n_steps))
        return _sample_lane(blocks, lane, low.n_lanes, table, slot_m, slot_e, write, blocks.room, seed)

    parts = trellis.for_each_lane(work)
    block, start, stop = (np.concatenate([part[k] for part in parts]) for k in range(3))
    return Placement.from_intervals(low.n_blocks, block, start, stop)


@njit(cache=True, nogil=True, inline="always")
def _draw(a, ea, b, eb, rng):
    """State 0 with weight a, state 1 with weight b."""
    return 0 if uniform(rng) < share(a, ea, b, eb) else 1


@njit(cache=True, nogil=True)
def _sample_lane(blocks, lane, n_lanes, table, slot_m, slot_e, write, room, seed):
    """Intervals in the fast tier, (block, start, stop), of one drawn path for each block of a lane."""
    matrix, exponent, closed, closed_exp, prefix, prefix_exp = table
    n_steps = matrix.shape[2]
    kinds, levels, indices = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    before, before_exp = np.empty((room, 2)), np.empty((room, 2), np.int64)
    ends = np.empty(room + 1, np.int64)
    step_state = np.empty(n_steps + 1, np.int64)
    state = np.empty(n_steps * n_lanes, np.uint8)
    read = np.empty(n_steps, np.uint8)
    found = np.empty((1024, 3), np.int64)
    n_found = 0
    for i in range(blocks.size_bytes.shape[0]):
        rng = stream(seed, blocks.block[i])
        first, last = blocks.first_step[i], blocks.last_step[i]
        runs = slice(blocks.run_ptr[i], blocks.run_ptr[i + 1])
        n, read_last = entries_of_life(
            first, last, blocks.run_start[runs], blocks.run_stop[runs], kinds, levels, indices
        )
        v0, e0, v1, e1 = enter(blocks.prefilled[i], first * n_lanes + lane, lane, prefix, prefix_exp, write)
        v0, e0, v1, e1 = forward(n, (kinds, levels, indices), matrix, exponent, v0, e0, v1, e1, before, before_exp)
        c, x = closed[read_last, last], closed_exp[read_last, last]
        ends[n] = _draw(v0 * c[0], e0 + x[0], v1 * c[1], e1 + x[1], rng)
        _draw_ends(n, (kinds, levels, indices), matrix, exponent, before, before_exp, ends, rng)
        for a in range(n):
            _fill_entry(kinds[a], levels[a], indices[a], ends[a], ends[a + 1], matrix, exponent, step_state, read, rng)
        step_state[last], read[last] = ends[n], read_last
        birth = _fill_slots(
            first,
            last,
            lane,
            n_lanes,
            step_state,
            read,
            slot_m,
            slot_e,
            blocks.prefilled[i],
            prefix,
            prefix_exp,
            state,
            rng,
        )
        death = min((last + 1) * n_lanes + lane, n_steps * n_lanes)
        if n_found + (death - birth) // 2 + 1 > found.shape[0]:
            found = np.concatenate((found, np.empty((found.shape[0] + death - birth, 3), np.int64)))
        n_found = _record(blocks.block[i], state, birth, death, found, n_found)
    return found[:n_found, 0].copy(), found[:n_found, 1].copy(), found[:n_found, 2].copy()


@njit(cache=True, nogil=True)
def _draw_ends(n, entries, matrix, exponent, before, before_exp, ends, rng):
    """States at the start of each of the n entries, drawn backwards from that at the end of the last, ends[n]."""
    kinds, levels, indices = entries
    for a in range(n - 1, -1, -1):
        m, e = matrix[kinds[a], levels[a], indices[a]], exponent[kinds[a], levels[a], indices[a]]
        z = ends[a + 1]
        ends[a] = _draw(
            before[a, 0] * m[z], before_exp[a, 0] + e[z], before[a, 1] * m[2 + z], before_exp[a, 1] + e[2 + z], rng
        )


@njit(cache=True, nogil=True)
def _record(block, state, birth, death, found, n_found):
    """Append the block's stays in the fast tier, (block, start, stop); returns how many there are then."""
    entered = -1
    for t in range(birth, death + 1):
        inside = t < death and state[t] == FAST
        if inside and entered < 0:
            entered = t
        elif not inside and entered >= 0:
            found[n_found, 0], found[n_found, 1], found[n_found, 2] = block, entered, t
            n_found += 1
            entered = -1
    return n_found


@njit(cache=True, nogil=True)
def _fill_entry(kind, level, index, z_left, z_right, matrix, exponent, step_state, read, rng):
    """States at the start of the lane steps that one table entry covers, given those at its two ends."""
    middle = ((index >> level) | 1) << level if level else index + 1
    m, e = matrix[kind, level], exponent[kind, level]
    single, single_exp = matrix[kind, 0], exponent[kind, 0]
    if level == 0 or index < middle:
        # index..middle-1, drawn from the left: one step, then the rest of the half.
        stop = index + 1 if level == 0 else middle
        z = z_left
        for j in range(index, stop):
            step_state[j], read[j] = z, kind
            if j + 1 < stop:
                z = _draw(
                    single[j, 2 * z] * m[j + 1, z_right],
                    single_exp[j, 2 * z] + e[j + 1, z_right],
                    single[j, 2 * z + 1] * m[j + 1, 2 + z_right],
                    single_exp[j, 2 * z + 1] + e[j + 1, 2 + z_right],
                    rng,
                )
        return
    z = z_right
    for j in range(index, middle, -1):
        # middle..index, drawn from the right: the half up to here, then one step.
        z = _draw(
            m[j - 1, 2 * z_left] * single[j, z],
            e[j - 1, 2 * z_left] + single_exp[j, z],
            m[j - 1, 2 * z_left + 1] * single[j, 2 + z],
            e[j - 1, 2 * z_left + 1] + single_exp[j, 2 + z],
            rng,
        )
        step_state[j], read[j] = z, kind
    step_state[middle], read[middle] = z_left, kind


@njit(cache=True, nogil=True)
def _fill_slots(
    first, last, lane, n_lanes, step_state, read, slot_m, slot_e, prefilled, prefix, prefix_exp, state, rng
):
    """States in every slot of a life, given those in its lane's own slots; returns the first slot of the life."""
    birth = first * n_lanes + lane
    if prefilled:
        z = step_state[first]
        for t in range(lane - 1, -1, -1):
            m, e = slot_m[0, t], slot_e[0, t]
            v, x = prefix[t], prefix_exp[t]
            z = _draw(v[0] * m[z], x[0] + e[z], v[1] * m[2 + z], x[1] + e[2 + z], rng)
            state[t] = z
        birth = 0
    way, way_exp = np.empty((n_lanes + 1, 4)), np.empty((n_lanes + 1, 4), np.int64)
    n_slots = state.shape[0]
    for n in range(first, last + 1):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_slots)
        state[own] = step_state[n]
        if stop == own + 1:
            continue
        z = step_state[n]
        # way[k]: from the own slot to slot own + k.
        way[1], way_exp[1] = slot_m[read[n], own], slot_e[read[n], own]
        for k in range(2, stop - own):
            m, e = slot_m[0, own + k - 1], slot_e[0, own + k - 1]
            product(way[k - 1], way_exp[k - 1], m, e, way[k], way_exp[k])
        for t in range(stop - 1, own, -1):
            k = t - own
            m, e = slot_m[0, t], slot_e[0, t]
            w, x = way[k], way_exp[k]
            if n == last and t == stop - 1:  # Nothing follows: stay, whatever the state.
                to0, to1 = 0, 3
            else:
                after = state[t + 1] if t < stop - 1 else step_state[n + 1]
                to0, to1 = after, 2 + after
            state[t] = _draw(w[2 * z] * m[to0], x[2 * z] + e[to0], w[2 * z + 1] * m[to1], x[2 * z + 1] + e[to1], rng)
    return birth
