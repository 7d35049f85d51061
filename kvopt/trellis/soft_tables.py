"""The range table of one lane as probabilities, and the reverse pass through it.

Numbers are pairs of arrays, mantissas and exponents (:mod:`kvopt.trellis.scaled`).
"""

from __future__ import annotations

import numpy as np

from kvopt.jit import njit, part
from kvopt.trellis import rows
from kvopt.trellis.chains import between, between_back, stay
from kvopt.trellis.scaled import NOTHING, divide, dot, product, product_back, spread_stay


@njit(cache=True, nogil=True)
def lane_tables(states, slots, chains, lane, n_lanes, n_steps, levels, reach):
    """Range table, closed last steps and the ways from slot 0 to the lane's first slot.

    Parameters
    ----------
    states : tuple of int
        As :attr:`kvopt.trellis.Trellis.states`.
    slots : float64[2, T, S * S], int64[2, T, S * S]
        As :func:`kvopt.trellis.scaled.slot_matrices` returns them.
    chains
        As :func:`kvopt.trellis.chains.idle_chains` returns them.
    reach : int32[2, levels, N // 4 + 1, 2]
        As :func:`kvopt.trellis.ranges.reach_of_lane` returns it.

    Returns
    -------
    matrix : float64[2, levels, N, S * S], with exponents int64
        Filled as far as the reach.
    closed : float64[2, N, S], with exponents
        A lane step that is the block's last, from state z on: nothing moves in its last slot.
    prefix : float64[lane + 1, S + 1, S], with exponents
        Ways from each state in slot 0, in the last row from any, to state z in each slot up to the lane's first.
    """
    n_states, n_slots = len(states), n_steps * n_lanes
    matrix = _numbers((2, levels, n_steps, n_states * n_states))
    closed = _numbers((2, n_steps, n_states))
    way, end = _numbers((n_states * n_states,)), _numbers((n_states,))
    for n in range(n_steps):
        own = n * n_lanes + lane
        between(states, chains, own, lane, n_lanes, n_slots, way, end)
        for r in range(2):
            m, e = matrix[0][r, 0, n], matrix[1][r, 0, n]
            here = slots[0][r, own], slots[1][r, own]
            if own + 1 == min(own + n_lanes, n_slots):
                rows.copy(here[0], m)
                rows.copy(here[1], e)
                stay(states, here, closed[0][r, n], closed[1][r, n])
                continue
            product(states, here, way, m, e)
            for z in range(n_states):
                closed[0][r, n, z], closed[1][r, n, z] = dot(states, here, n_states * z, 1, end, 0, 1)
    for r in range(2):
        _fill_levels(states, matrix[0][r], matrix[1][r], reach[r])
    return matrix, closed, _prefix(states, slots, lane)


@part
def _numbers(shape):
    """Room for that many numbers."""
    return np.empty(shape), np.empty(shape, np.int64)


@part
def _prefix(states, slots, lane):
    """Ways through the idle slots before the lane's first."""
    n_states = len(states)
    m, e = np.zeros((lane + 1, n_states + 1, n_states)), np.zeros((lane + 1, n_states + 1, n_states), np.int64)
    m[0], e[0, :n_states] = NOTHING
    for z in range(n_states):
        m[0, z, z], e[0, z, z] = 1.0, 0
        m[0, n_states, z] = 1.0
    for t in range(lane):
        step = slots[0][0, t], slots[1][0, t]
        for y in range(n_states + 1):
            for z in range(n_states):
                m[t + 1, y, z], e[t + 1, y, z] = dot(states, (m[t, y], e[t, y]), 0, 1, step, z, n_states)
    return m, e


@part(_nrt=False)
def _fill_levels(states, matrix, exponent, reach):
    """Levels 1 and up of the disjoint sparse table from level 0, which holds the lane steps themselves."""
    levels, n_steps = matrix.shape[0], matrix.shape[1]
    for k in range(1, levels):
        m, e = matrix[k], exponent[k]
        for middle in range(1 << k, n_steps, 2 << k):
            start, stop = reach[k, middle >> (k + 1), 0], reach[k, middle >> (k + 1), 1]
            for j in range(middle - 1, start - 1, -1):
                if j == middle - 1:
                    rows.copy(matrix[0, j], m[j])
                    rows.copy(exponent[0, j], e[j])
                    continue
                product(states, (matrix[0, j], exponent[0, j]), (m[j + 1], e[j + 1]), m[j], e[j])
            for j in range(middle, stop):
                if j == middle:
                    rows.copy(matrix[0, j], m[j])
                    rows.copy(exponent[0, j], e[j])
                    continue
                product(states, (m[j - 1], e[j - 1]), (matrix[0, j], exponent[0, j]), m[j], e[j])


@njit(cache=True, nogil=True)
def spread(states, slots, chains, lane, n_lanes, reach, table, flows, slot_bytes, chain_bytes):
    """Reverse pass: bring the flow through the table's entries to the lane's slots, and to the chains between them.

    Lanes share the arrays they add to, but no place in them: each has its own slots, and its own chains.

    Parameters
    ----------
    states, slots, chains, lane, n_lanes, reach
        As for :func:`lane_tables`.
    table, flows
        As :func:`lane_tables` and ``soft._forward_backward`` return them; ``flows`` is used up.
    slot_bytes : float64[2, T, S * S]
        Added to in place.
    chain_bytes
        As :func:`kvopt.trellis.chains.no_flow` makes it; added to in place.

    Returns
    -------
    float64[lane, S * S]
        The flow through the idle slots before the lane's first.
    """
    matrix, _, prefix = table
    _, flow, closed_flow, prefix_flow, _ = flows
    n_states, n_steps = len(states), matrix[0].shape[2]
    n_slots = n_steps * n_lanes
    part = np.empty(n_states)
    for r in range(2):
        _spread_levels(states, matrix[0][r], matrix[1][r], reach[r], flow[r], part)
    way, end = _numbers((n_states * n_states,)), _numbers((n_states,))
    flow_way, flow_end = np.empty(n_states * n_states), np.empty(n_states)
    for n in range(n_steps):
        own = n * n_lanes + lane
        between(states, chains, own, lane, n_lanes, n_slots, way, end)
        rows.fill(flow_way, 0, flow_way.shape[0], 0.0)
        rows.fill(flow_end, 0, flow_end.shape[0], 0.0)
        for r in range(2):
            here, to = (slots[0][r, own], slots[1][r, own]), slot_bytes[r, own]
            if own + 1 == min(own + n_lanes, n_slots):
                rows.add(flow[r, 0, n], to)
                spread_stay(states, closed_flow[r, n], to)
                continue
            product_back(states, here, way, flow[r, 0, n], to, flow_way, part)
            for z in range(n_states):
                divide(states, closed_flow[r, n, z], here, n_states * z, 1, end, 0, 1, to, flow_end, part)
        between_back(states, chains, own, lane, n_lanes, n_slots, flow_way, flow_end, chain_bytes, part)
    lead = np.zeros((lane, n_states * n_states))
    _spread_prefix(states, slots, lane, prefix, prefix_flow, lead)
    return lead


@part(_nrt=False)
def _spread_levels(states, matrix, exponent, reach, flow, part):
    """Bring the flow through the entries of all levels down to the lane steps, flow[0]."""
    levels, n_steps = matrix.shape[0], matrix.shape[1]
    for k in range(levels - 1, 0, -1):
        m, e, f = matrix[k], exponent[k], flow[k]
        for middle in range(1 << k, n_steps, 2 << k):
            start, stop = reach[k, middle >> (k + 1), 0], reach[k, middle >> (k + 1), 1]
            for j in range(start, middle - 1):
                one, rest = (matrix[0, j], exponent[0, j]), (m[j + 1], e[j + 1])
                product_back(states, one, rest, f[j], flow[0, j], f[j + 1], part)
            for j in range(stop - 1, middle, -1):
                rest, one = (m[j - 1], e[j - 1]), (matrix[0, j], exponent[0, j])
                product_back(states, rest, one, f[j], f[j - 1], flow[0, j], part)
            for j in range(max(start, middle - 1), min(stop, middle + 1)):
                for q in range(f.shape[1]):
                    flow[0, j, q] += f[j, q]


@part
def _spread_prefix(states, slots, lane, prefix, prefix_flow, lead):
    """Flow of the blocks that are there since slot 0, through the idle slots before the lane's first."""
    n_states = len(states)
    into, before, part = prefix_flow.copy(), np.empty(n_states), np.empty(n_states)
    for t in range(lane - 1, -1, -1):
        step = slots[0][0, t], slots[1][0, t]
        for y in range(n_states + 1):
            ways = prefix[0][t, y], prefix[1][t, y]
            rows.fill(before, 0, n_states, 0.0)
            for z in range(n_states):
                divide(states, into[y, z], ways, 0, 1, step, z, n_states, before, lead[t], part)
            rows.copy(before, into[y])
