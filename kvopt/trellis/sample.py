"""Sampling: each block's path from its Boltzmann distribution, by forward filtering and backward sampling.

The states at the ends of the table entries that cover a life are drawn first, backwards. Inside an entry a block mostly
stays where it is. How likely it is to stay throughout is known from sums of what staying costs; if it does not, the
lane step of its first move (of its last, in the right half of a block of the table) is drawn from the table's own
products, and within that lane step the slot. So a path takes time in proportion to its runs and moves, not to its
length.
"""

from __future__ import annotations

import math

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.placement import Placement
from kvopt.trellis import rows
from kvopt.trellis.chains import idle_chains
from kvopt.trellis.forward import enter, forward
from kvopt.trellis.prepare import LaneBlocks, Prices, Trellis
from kvopt.trellis.ranges import entries_of_life, n_levels
from kvopt.trellis.rng import stream, uniform
from kvopt.trellis.scaled import NOTHING, product, slot_matrices, terms, to_cost
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
    if not trellis.classes:
        return Placement.from_intervals(low.n_blocks, *_intervals(trellis, prices, tau_s_per_byte, seed))
    found = []
    for k, of in enumerate(trellis.classes):
        block, *rest = _intervals(of.trellis, of.prices(prices, tau_s_per_byte), tau_s_per_byte, seed + k)
        found.append((of.blocks[block], *rest))
    return Placement.from_intervals(low.n_blocks, *(np.concatenate(column) for column in zip(*found, strict=True)))


def _intervals(trellis: Trellis, prices: Prices, tau_s_per_byte: float, seed: int) -> list[np.ndarray]:
    """Block, start, stop and state of what is not in the last state."""
    low, states = trellis.lowered, trellis.states
    slots = slot_matrices(prices.slot / tau_s_per_byte)
    chains = idle_chains(states, slots, low.n_lanes)
    write = prices.write / tau_s_per_byte
    diagonal = np.arange(low.n_states) * (low.n_states + 1)
    staying = prices.slot[:, :, diagonal] / tau_s_per_byte

    def work(lane: int, blocks: LaneBlocks) -> tuple[np.ndarray, ...]:
        table = lane_tables(states, slots, chains, lane, low.n_lanes, low.n_steps, n_levels(low.n_steps), blocks.reach)
        stays = _costs_of_staying(staying, lane, low.n_lanes)
        return _sample_lane(states, blocks, lane, low.n_lanes, table, slots, stays, write, blocks.room, seed)

    found = list(trellis.for_each_lane(work))
    return [np.concatenate(column) for column in zip(*found, strict=True)]


@njit(cache=True, nogil=True)
def _costs_of_staying(staying, lane, n_lanes):
    """float64[2, S, N + 1]: what the lane steps before each cost a block that stays in a state in all their slots.

    Parameters
    ----------
    staying : float64[2, T, S]
        In units of the temperature.
    """
    n_states, n_slots = staying.shape[2], staying.shape[1]
    n_steps = n_slots // n_lanes
    found = np.zeros((2, n_states, n_steps + 1))
    for n in range(n_steps):
        own = n * n_lanes + lane
        for z in range(n_states):
            others = 0.0
            for t in range(own + 1, min(own + n_lanes, n_slots)):
                others += staying[0, t, z]
            for r in range(2):
                found[r, z, n + 1] = found[r, z, n] + staying[r, own, z] + others
    return found


@piece
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
def _sample_lane(states, blocks, lane, n_lanes, table, slots, stays, write, room, seed):
    """Intervals in other states than the last of one drawn path for each block.

    Parameters
    ----------
    states : tuple of int
    stays : float64[2, S, N + 1]
        As :func:`_costs_of_staying` returns it.

    Returns
    -------
    block, start, stop : int32[I]
    state : int8[I]
    """
    matrix, closed, prefix = table
    n_states, n_steps = len(states), matrix[0].shape[2]
    entries = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    before = np.empty((room + 1, n_states)), np.empty((room + 1, n_states), np.int64)
    ends = np.empty(room + 1, np.int64)
    suffix = np.empty((n_lanes + 1, n_states**2)), np.empty((n_lanes + 1, n_states**2), np.int64)
    first_slots, part = np.empty(n_lanes + 1, np.int64), np.empty(n_states)
    # The path being drawn: the first slot of each new state, in order but for the right halves of entries.
    at, to = np.empty(n_steps * n_lanes + 1, np.int64), np.empty(n_steps * n_lanes + 1, np.int64)
    block, start, stop = np.empty(1024, np.int32), np.empty(1024, np.int32), np.empty(1024, np.int32)
    state, n_found = np.empty(1024, np.int8), 0
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
        own = first * n_lanes + lane
        moves = 0
        if blocks.prefilled[i]:
            _fill_prefix(states, lane, ends[0], blocks.initial[i], slots, prefix, first_slots, rng, part)
            first_slots[lane] = ends[0]
            for t in range(lane + 1):
                moves = _append(at, to, moves, t, first_slots[t])
        else:
            moves = _append(at, to, moves, own, ends[0])
        for a in range(n):
            entry = entries[0][a], entries[1][a], entries[2][a]
            walk = states, matrix, slots, stays, suffix, lane, n_lanes
            moves = _walk_entry(walk, entry, ends[a], ends[a + 1], at, to, moves, rng, part)
        death = min((last + 1) * n_lanes + lane, n_steps * n_lanes)
        moves = _end(states, slots, read_last, last * n_lanes + lane, death, suffix, ends[n], at, to, moves, rng, part)
        if n_found + moves > state.shape[0]:
            room_now = 2 * state.shape[0] + moves
            block, start = rows.resized(block, room_now), rows.resized(start, room_now)
            stop, state = rows.resized(stop, room_now), rows.resized(state, room_now)
        for k in range(moves):
            if to[k] != n_states - 1:
                block[n_found], start[n_found] = blocks.block[i], at[k]
                stop[n_found] = at[k + 1] if k + 1 < moves else death
                state[n_found] = to[k]
                n_found += 1
    # Copies, for what is room behind them is not kept.
    block, start = rows.resized(block, n_found), rows.resized(start, n_found)
    return block, start, rows.resized(stop, n_found), rows.resized(state, n_found)


@piece
def _append(at, to, moves, slot, z):
    """Put a state at the end of a path, if it is another; returns how many there are then."""
    if moves > 0 and to[moves - 1] == z:
        return moves
    at[moves], to[moves] = slot, z
    return moves + 1


@part(_nrt=False)
def _draw_ends(states, n, entries, matrix, before, ends, rng, part):
    """States at the start of each of the n entries, drawn backwards from that at the end of the last, ends[n]."""
    kinds, levels, indices = entries
    for a in range(n - 1, -1, -1):
        m = matrix[0][kinds[a], levels[a], indices[a]], matrix[1][kinds[a], levels[a], indices[a]]
        v = before[0][a], before[1][a]
        ends[a] = _draw(states, v, 0, 1, m, ends[a + 1], len(states), rng, part)


@part(_nrt=False)
def _walk_entry(walk, entry, z_left, z_right, at, to, moves, rng, part):
    """Append the moves within one table entry, given the states at its two ends; returns how many there are then."""
    states, matrix, slots, stays, suffix, lane, n_lanes = walk
    kind, level, index = entry
    middle = ((index >> level) | 1) << level if level else index + 1
    if level > 0 and index >= middle:
        return _walk_left(walk, entry, middle, z_left, z_right, at, to, moves, rng, part)
    z, j = z_left, index
    while j < middle:
        n, y = _first_move(states, matrix, stays, kind, level, j, middle, z, z_right, rng, part)
        if n == middle:
            break
        moves = _fill_step(
            states, slots, suffix, kind, n * n_lanes + lane, n_lanes, z, y, at, to, moves, rng, part, False
        )
        z, j = y, n + 1
    return moves


@part(_nrt=False)
def _first_move(states, matrix, stays, kind, level, start, middle, z, z_right, rng, part):
    """The first of the lane steps start..middle-1 in which a block in state z moves at all, on its way to z_right at
    their end, and its state after it; ``middle`` if it never does."""
    n_states = len(states)
    m, e = matrix[0][kind, level], matrix[1][kind, level]
    single, single_exp = matrix[0][kind, 0], matrix[1][kind, 0]
    stay = stays[kind, z]
    p = n_states * z + z_right
    whole = to_cost(m[start, p], e[start, p])
    left = uniform(rng)
    if z == z_right:
        left -= math.exp(min(whole - (stay[middle] - stay[start]), 0.0))
        if left < 0.0:
            return middle, z
    for n in range(start, middle):
        so_far = stay[n] - stay[start]
        for y in range(n_states):
            p = n_states * z + y
            weight = _moving(single[n, p], single_exp[n, p], y == z, stay[n + 1] - stay[n])
            if weight >= np.inf:
                continue
            onward = 0.0
            if n + 1 < middle:
                p = n_states * y + z_right
                onward = to_cost(m[n + 1, p], e[n + 1, p])
            elif y != z_right:
                continue
            left -= math.exp(min(whole - so_far - weight - onward, 0.0))
            if left < 0.0:
                return n, y
    # Rounding has left something over: no move where that is possible, else the last chance.
    if z == z_right:
        return middle, z
    return middle - 1, z_right


@piece
def _moving(m, e, same, staying):
    """Cost of the ways through a lane step that are not to stay in one state: of all, unless they begin and end in the
    ``same`` one."""
    cost = to_cost(m, e) if m > 0.0 else np.inf
    if not same or cost == np.inf:
        return cost
    detours = -math.expm1(min(cost - staying, 0.0))
    return cost - math.log(detours) if detours > 0.0 else np.inf


@part(_nrt=False)
def _walk_left(walk, entry, middle, z_left, z_right, at, to, moves, rng, part):
    """The same for an entry of a right half, whose products are from ``middle`` on: moves are drawn from the last to
    the first."""
    states, matrix, slots, stays, suffix, lane, n_lanes = walk
    kind, level, index = entry
    begun = moves
    z, j = z_right, index
    while j >= middle:
        n, y = _last_move(states, matrix, stays, kind, level, middle, j, z_left, z, rng)
        if n < middle:
            break
        # Backwards: the moves of a lane step are drawn forwards behind those drawn so far, and turned round.
        count = moves
        moves = _fill_step(
            states, slots, suffix, kind, n * n_lanes + lane, n_lanes, y, z, at, to, moves, rng, part, True
        )
        _turn(at, to, count, moves)
        z, j = y, n - 1
    _turn(at, to, begun, moves)
    return moves


@piece
def _turn(at, to, start, stop):
    """Turn part of a path round."""
    i, j = start, stop - 1
    while i < j:
        at[i], at[j], to[i], to[j] = at[j], at[i], to[j], to[i]
        i += 1
        j -= 1


@part(_nrt=False)
def _last_move(states, matrix, stays, kind, level, middle, stop, z_left, z, rng):
    """The last of the lane steps middle..stop in which a block moves on its way from z_left to z, and its state before
    it; ``middle - 1`` if it never does."""
    n_states = len(states)
    m, e = matrix[0][kind, level], matrix[1][kind, level]
    single, single_exp = matrix[0][kind, 0], matrix[1][kind, 0]
    stay = stays[kind, z]
    p = n_states * z_left + z
    whole = to_cost(m[stop, p], e[stop, p])
    left = uniform(rng)
    if z == z_left:
        left -= math.exp(min(whole - (stay[stop + 1] - stay[middle]), 0.0))
        if left < 0.0:
            return middle - 1, z
    for n in range(stop, middle - 1, -1):
        since = stay[stop + 1] - stay[n + 1]
        for y in range(n_states):
            p = n_states * y + z
            weight = _moving(single[n, p], single_exp[n, p], y == z, stay[n + 1] - stay[n])
            if weight >= np.inf:
                continue
            until = 0.0
            if n > middle:
                p = n_states * z_left + y
                until = to_cost(m[n - 1, p], e[n - 1, p])
            elif y != z_left:
                continue
            left -= math.exp(min(whole - since - weight - until, 0.0))
            if left < 0.0:
                return n, y
    if z == z_left:
        return middle - 1, z
    return middle, z_left


@part(_nrt=False)
def _fill_step(states, slots, suffix, kind, own, n_lanes, z, z_next, at, to, moves, rng, part, apart):
    """Append the moves within a lane step, from z in its own slot to z_next in the next one, of a path that moves.

    Where ``apart`` is set the first move is one, whatever the path so far ends with.
    """
    n_states = len(states)
    for y in range(n_states):
        for x in range(n_states):
            p = n_states * y + x
            suffix[0][n_lanes, p], suffix[1][n_lanes, p] = (1.0, 0) if y == x else NOTHING
    for o in range(n_lanes - 1, 0, -1):
        product(
            states,
            (slots[0][0, own + o], slots[1][0, own + o]),
            (suffix[0][o + 1], suffix[1][o + 1]),
            suffix[0][o],
            suffix[1][o],
        )
    # Until the first move, only ways that move later on count.
    moved = False
    for o in range(n_lanes):
        r = kind if o == 0 else 0
        step, onward = (slots[0][r, own + o], slots[1][r, own + o]), (suffix[0][o + 1], suffix[1][o + 1])
        if moved:
            x = _draw(states, step, n_states * z, 1, onward, z_next, n_states, rng, part)
        else:
            x = _move_or_wait(states, slots, step, onward, own + o + 1, own + n_lanes, z, z_next, rng, part)
        if x != z:
            if apart and not moved:
                at[moves], to[moves] = own + o + 1, x
                moves += 1
            else:
                moves = _append(at, to, moves, own + o + 1, x)
            moved = True
            z = x
    return moves


@part(_nrt=False)
def _move_or_wait(states, slots, step, onward, start, stop, z, z_next, rng, part):
    """The next state of a block that has not moved in its lane step so far, and will: by the weights of all ways on
    from each, but for z without the way that stays to the end."""
    n_states = len(states)
    total, top = terms(states, step, n_states * z, 1, onward, z_next, n_states, part)
    if z == z_next:
        p = (n_states + 1) * z
        staying = to_cost(step[0][p], step[1][p])
        for t in range(start, stop):
            staying += to_cost(slots[0][0, t, p], slots[1][0, t, p])
        pure = math.exp(-(staying + top * math.log(2.0))) if staying + top * math.log(2.0) < 700.0 else 0.0
        total -= min(pure, part[z])
        part[z] -= min(pure, part[z])
    left = uniform(rng) * total
    drawn = 0
    for x in range(n_states):
        if part[x] > 0.0:
            drawn = x
            left -= part[x]
            if left < 0.0:
                break
    return drawn


@part
def _end(states, slots, read, own, death, way, z, at, to, moves, rng, part):
    """Append the moves within a block's last lane step, in whose own slot it is in state z; nothing moves in its last
    slot."""
    n_states = len(states)
    if death == own + 1:
        return moves
    count = death - own
    way[0][1], way[1][1] = slots[0][read, own], slots[1][read, own]
    for k in range(2, count):
        step = slots[0][0, own + k - 1], slots[1][0, own + k - 1]
        product(states, (way[0][k - 1], way[1][k - 1]), step, way[0][k], way[1][k])
    following = -1
    drawn = np.empty(count, np.int64)
    for k in range(count - 1, 0, -1):
        here, step = (way[0][k], way[1][k]), (slots[0][0, own + k], slots[1][0, own + k])
        to_state, stride = (0, n_states + 1) if following < 0 else (following, n_states)
        following = _draw(states, here, n_states * z, 1, step, to_state, stride, rng, part)
        drawn[k] = following
    for k in range(1, count):
        moves = _append(at, to, moves, own + k, drawn[k])
    return moves


@part(_nrt=False)
def _fill_prefix(states, lane, z, initial, slots, prefix, state, rng, part):
    """States in the slots before the lane's first, of a block that is there since slot 0 and in z in that first."""
    for t in range(lane - 1, -1, -1):
        ways, step = (prefix[0][t, initial], prefix[1][t, initial]), (slots[0][0, t], slots[1][0, t])
        z = _draw(states, ways, 0, 1, step, z, len(states), rng, part)
        state[t] = z
