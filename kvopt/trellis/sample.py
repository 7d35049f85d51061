"""Sampling: each block's path from its Boltzmann distribution, by forward filtering and backward sampling.

The states at the ends of the table entries that cover a life are drawn first, backwards. Inside an entry the table's
own products give the states between lane steps, and inside a lane step the products of its slots give the rest.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kvopt.placement import Placement
from kvopt.trellis.chains import idle_chains
from kvopt.trellis.forward import enter, forward
from kvopt.trellis.prepare import LaneBlocks, Prices, Trellis
from kvopt.trellis.ranges import entries_of_life, n_levels
from kvopt.trellis.rng import stream, uniform
from kvopt.trellis.scaled import product, slot_matrices, terms
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
    low, states = trellis.lowered, trellis.states
    slots = slot_matrices(prices.slot / tau_s_per_byte)
    chains = idle_chains(states, slots, low.n_lanes)
    write = prices.write / tau_s_per_byte

    def work(lane: int, blocks: LaneBlocks) -> np.ndarray:
        table = lane_tables(states, slots, chains, lane, low.n_lanes, low.n_steps, n_levels(low.n_steps))
        return _sample_lane(states, blocks, lane, low.n_lanes, table, slots, write, blocks.room, seed)

    return Placement.from_intervals(low.n_blocks, *np.concatenate(list(trellis.for_each_lane(work))).T)


@njit(cache=True, nogil=True, inline="always")
def _draw(states, p, i, di, q, j, dj, rng, part):
    """A state, each with the product of its entries in two rows as weight; ``part`` is scratch."""
    total, _ = terms(states, p, i, di, q, j, dj, part)
    left = uniform(rng) * total
    drawn, seen = 0, part[0]
    # Summed as ``terms`` does, so that the sum ends at the total, which is above ``left``.
    while left >= seen and drawn < len(states) - 1:
        drawn += 1
        seen += part[drawn]
    return drawn


@njit(cache=True, nogil=True)
def _sample_lane(states, blocks, lane, n_lanes, table, slots, write, room, seed):
    """Intervals in other states than the last, (block, start, stop, state), of one drawn path for each block.

    Returns
    -------
    int64[I, 4]
    """
    matrix, closed, prefix = table
    n_states, n_steps = len(states), matrix[0].shape[2]
    entries = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    before = np.empty((room + 1, n_states)), np.empty((room + 1, n_states), np.int64)
    ends = np.empty(room + 1, np.int64)
    steps = np.empty(n_steps + 1, np.int64), np.empty(n_steps, np.uint8)
    way = np.empty((n_lanes + 1, n_states**2)), np.empty((n_lanes + 1, n_states**2), np.int64)
    state = np.empty(n_steps * n_lanes, np.int64)
    part = np.empty(n_states)
    found = np.empty((1024, 4), np.int64)
    n_found = 0
    for i in range(blocks.size_bytes.shape[0]):
        rng = stream(seed, blocks.block[i])
        first, last = blocks.first_step[i], blocks.last_step[i]
        runs = slice(blocks.run_ptr[i], blocks.run_ptr[i + 1])
        n, read_last = entries_of_life(
            first, last, blocks.run_start[runs], blocks.run_stop[runs], entries[0], entries[1], entries[2]
        )
        enter(states, blocks.prefilled[i], blocks.initial[i], first * n_lanes + lane, lane, prefix, write, before)
        forward(states, n, entries, matrix, before)
        end = closed[0][read_last, last], closed[1][read_last, last]
        ends[n] = _draw(states, (before[0][n], before[1][n]), 0, 1, end, 0, 1, rng, part)
        _draw_ends(states, n, entries, matrix, before, ends, rng, part)
        for a in range(n):
            entry = entries[0][a], entries[1][a], entries[2][a]
            _fill_entry(states, entry, ends[a], ends[a + 1], matrix, steps, rng, part)
        steps[0][last], steps[1][last] = ends[n], read_last
        birth, death = first * n_lanes + lane, min((last + 1) * n_lanes + lane, n_steps * n_lanes)
        if blocks.prefilled[i]:
            _fill_prefix(states, lane, ends[0], blocks.initial[i], slots, prefix, state, rng, part)
            birth = 0
        _fill_slots(states, first, last, lane, n_lanes, steps, slots, way, state, rng, part)
        if n_found + death - birth > found.shape[0]:
            found = np.concatenate((found, np.empty((found.shape[0] + death - birth, 4), np.int64)))
        n_found = _record(blocks.block[i], state, birth, death, n_states - 1, found, n_found)
    return found[:n_found].copy()


@njit(cache=True, nogil=True)
def _draw_ends(states, n, entries, matrix, before, ends, rng, part):
    """States at the start of each of the n entries, drawn backwards from that at the end of the last, ends[n]."""
    kinds, levels, indices = entries
    for a in range(n - 1, -1, -1):
        m = matrix[0][kinds[a], levels[a], indices[a]], matrix[1][kinds[a], levels[a], indices[a]]
        v = before[0][a], before[1][a]
        ends[a] = _draw(states, v, 0, 1, m, ends[a + 1], len(states), rng, part)


@njit(cache=True, nogil=True)
def _record(block, state, birth, death, unstored, found, n_found):
    """Append the block's stays in states but one, (block, start, stop, state); returns how many there are then."""
    since = birth
    for t in range(birth + 1, death + 1):
        if t < death and state[t] == state[since]:
            continue
        if state[since] != unstored:
            found[n_found, 0], found[n_found, 1], found[n_found, 2] = block, since, t
            found[n_found, 3] = state[since]
            n_found += 1
        since = t
    return n_found


@njit(cache=True, nogil=True)
def _fill_entry(states, entry, z_left, z_right, matrix, steps, rng, part):
    """States at the start of the lane steps that one table entry covers, given those at its two ends."""
    n_states = len(states)
    kind, level, index = entry
    step_state, read = steps
    middle = ((index >> level) | 1) << level if level else index + 1
    m, e = matrix[0][kind, level], matrix[1][kind, level]
    single, single_exp = matrix[0][kind, 0], matrix[1][kind, 0]
    if level == 0 or index < middle:
        # index..middle-1, drawn from the left: one step, then the rest of the half.
        stop = index + 1 if level == 0 else middle
        z = z_left
        for j in range(index, stop):
            step_state[j], read[j] = z, kind
            if j + 1 < stop:
                one, rest = (single[j], single_exp[j]), (m[j + 1], e[j + 1])
                z = _draw(states, one, n_states * z, 1, rest, z_right, n_states, rng, part)
        return
    z = z_right
    for j in range(index, middle, -1):
        # middle..index, drawn from the right: the half up to here, then one step.
        rest, one = (m[j - 1], e[j - 1]), (single[j], single_exp[j])
        z = _draw(states, rest, n_states * z_left, 1, one, z, n_states, rng, part)
        step_state[j], read[j] = z, kind
    step_state[middle], read[middle] = z_left, kind


@njit(cache=True, nogil=True)
def _fill_prefix(states, lane, z, initial, slots, prefix, state, rng, part):
    """States in the slots before the lane's first, of a block that is there since slot 0 and in z in that first."""
    for t in range(lane - 1, -1, -1):
        ways, step = (prefix[0][t, initial], prefix[1][t, initial]), (slots[0][0, t], slots[1][0, t])
        z = _draw(states, ways, 0, 1, step, z, len(states), rng, part)
        state[t] = z


@njit(cache=True, nogil=True)
def _fill_slots(states, first, last, lane, n_lanes, steps, slots, way, state, rng, part):
    """States in every slot from the block's first lane step on, given those in its lane's own slots.

    ``way`` is scratch: entry k is from the own slot to slot own + k.
    """
    n_states, n_slots = len(states), state.shape[0]
    step_state, read = steps
    for n in range(first, last + 1):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_slots)
        z = step_state[n]
        state[own] = z
        if stop == own + 1:
            continue
        way[0][1], way[1][1] = slots[0][read[n], own], slots[1][read[n], own]
        for k in range(2, stop - own):
            step = slots[0][0, own + k - 1], slots[1][0, own + k - 1]
            product(states, (way[0][k - 1], way[1][k - 1]), step, way[0][k], way[1][k])
        for t in range(stop - 1, own, -1):
            here, step = (way[0][t - own], way[1][t - own]), (slots[0][0, t], slots[1][0, t])
            if n == last and t == stop - 1:  # Nothing follows: stay, whatever the state.
                to, stride = 0, n_states + 1
            else:
                to, stride = state[t + 1] if t < stop - 1 else step_state[n + 1], n_states
            state[t] = _draw(states, here, n_states * z, 1, step, to, stride, rng, part)
