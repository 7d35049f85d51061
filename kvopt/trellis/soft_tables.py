"""The range table of one lane as probabilities, and the reverse pass through it.

Numbers are pairs of arrays, mantissas and exponents (:mod:`kvopt.trellis.scaled`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kvopt.trellis.scaled import NOTHING, dot, product, product_back, terms


@njit(cache=True, nogil=True)
def lane_tables(states, slots, lane, n_lanes, n_steps, levels):
    """Range table, closed last steps and the ways from slot 0 to the lane's first slot.

    Parameters
    ----------
    states : tuple of int
        As :attr:`kvopt.trellis.Trellis.states`.
    slots : float64[2, T, S * S], int64[2, T, S * S]
        As :func:`kvopt.trellis.scaled.slot_matrices` returns them.

    Returns
    -------
    matrix : float64[2, levels, N, S * S], with exponents int64
    closed : float64[2, N, S], with exponents
        A lane step that is the block's last, from state z on: nothing moves in its last slot.
    prefix : float64[lane + 1, S + 1, S], with exponents
        Ways from each state in slot 0, in the last row from any, to state z in each slot up to the lane's first.
    """
    n_states, n_slots = len(states), n_steps * n_lanes
    matrix = _numbers((2, levels, n_steps, n_states * n_states))
    closed = _numbers((2, n_steps, n_states))
    chain, end = _numbers((n_lanes, n_states * n_states)), _numbers((n_states,))
    for n in range(n_steps):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_slots)
        idle_chain(states, slots, own + 1, stop, chain, end)
        k = stop - own - 1
        for r in range(2):
            m, e = matrix[0][r, 0, n], matrix[1][r, 0, n]
            here = slots[0][r, own], slots[1][r, own]
            if k == 0:
                m[:], e[:] = here
                _stay(states, here, closed[0][r, n], closed[1][r, n])
                continue
            product(states, here, (chain[0][k], chain[1][k]), m, e)
            for z in range(n_states):
                closed[0][r, n, z], closed[1][r, n, z] = dot(states, here, n_states * z, 1, end, 0, 1)
    for r in range(2):
        _fill_levels(states, matrix[0][r], matrix[1][r])
    return matrix, closed, _prefix(states, slots, lane)


@njit(cache=True, nogil=True, inline="always")
def _numbers(shape):
    """Room for that many numbers."""
    return np.empty(shape), np.empty(shape, np.int64)


@njit(cache=True, nogil=True, inline="always")
def _stay(states, matrix, m, e):
    """The diagonal of a matrix."""
    for z in range(len(states)):
        m[z], e[z] = matrix[0][(len(states) + 1) * z], matrix[1][(len(states) + 1) * z]


@njit(cache=True, nogil=True)
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


@njit(cache=True, nogil=True)
def idle_chain(states, slots, start, stop, chain, end):
    """Products of the idle slots start..t in chain[t - start + 1], and the closed end from ``start`` on in ``end``."""
    n_states = len(states)
    for t in range(start, stop):
        step = slots[0][0, t], slots[1][0, t]
        j = t - start
        last = chain[0][j], chain[1][j]
        m, e = chain[0][j + 1], chain[1][j + 1]
        if j == 0:
            m[:], e[:] = step
        else:
            product(states, last, step, m, e)
        if t < stop - 1:
            continue
        if j == 0:
            _stay(states, step, end[0], end[1])
            continue
        for z in range(n_states):
            end[0][z], end[1][z] = dot(states, last, n_states * z, 1, step, 0, n_states + 1)


@njit(cache=True, nogil=True)
def _fill_levels(states, matrix, exponent):
    """Levels 1 and up of the disjoint sparse table from level 0, which holds the lane steps themselves."""
    levels, n_steps = matrix.shape[0], matrix.shape[1]
    for k in range(1, levels):
        m, e = matrix[k], exponent[k]
        half = 1 << k
        for middle in range(half, n_steps, 2 * half):
            for j in (middle - 1, middle):
                m[j], e[j] = matrix[0, j], exponent[0, j]
            for j in range(middle - 2, middle - half - 1, -1):
                product(states, (matrix[0, j], exponent[0, j]), (m[j + 1], e[j + 1]), m[j], e[j])
            for j in range(middle + 1, min(middle + half, n_steps)):
                product(states, (m[j - 1], e[j - 1]), (matrix[0, j], exponent[0, j]), m[j], e[j])


@njit(cache=True, nogil=True)
def spread(states, slots, lane, n_lanes, table, flows, slot_bytes):
    """Reverse pass: bring the flow through the table's entries to the slots.

    Parameters
    ----------
    states, slots, lane, n_lanes
        As for :func:`lane_tables`.
    table, flows
        As :func:`lane_tables` and ``soft._forward_backward`` return them; ``flows`` is used up.
    slot_bytes : float64[2, T, S * S]
        Added to in place.
    """
    matrix, _, prefix = table
    _, flow, closed_flow, prefix_flow, _ = flows
    n_states, n_steps = len(states), matrix[0].shape[2]
    part = np.empty(n_states)
    for r in range(2):
        _spread_levels(states, matrix[0][r], matrix[1][r], flow[r], part)
    chain, end = _numbers((n_lanes, n_states * n_states)), _numbers((n_states,))
    flow_after, flow_end = np.empty(n_states * n_states), np.empty(n_states)
    for n in range(n_steps):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_steps * n_lanes)
        k = stop - own - 1
        idle_chain(states, slots, own + 1, stop, chain, end)
        flow_after[:] = 0.0
        flow_end[:] = 0.0
        for r in range(2):
            here, to = (slots[0][r, own], slots[1][r, own]), slot_bytes[r, own]
            if k == 0:
                to += flow[r, 0, n]
                _spread_stay(states, closed_flow[r, n], to)
                continue
            product_back(states, here, (chain[0][k], chain[1][k]), flow[r, 0, n], to, flow_after, part)
            for z in range(n_states):
                _divide(states, closed_flow[r, n, z], here, n_states * z, 1, end, 0, 1, to, flow_end, part)
        _spread_chain(states, slots, own + 1, stop, chain, flow_after, flow_end, slot_bytes)
    _spread_prefix(states, slots, lane, prefix, prefix_flow, slot_bytes)


@njit(cache=True, nogil=True, inline="always")
def _divide(states, flow, p, i, di, q, j, dj, flow_p, flow_q, part):
    """Spread the flow through the sum of the products of two rows over them (added in place)."""
    if flow == 0.0:
        return
    total, _ = terms(states, p, i, di, q, j, dj, part)
    for z in range(len(states)):
        flow_p[i + di * z] += flow / total * part[z]
        flow_q[j + dj * z] += flow / total * part[z]


@njit(cache=True, nogil=True, inline="always")
def _spread_stay(states, flow, to):
    """Add the flow of those that stay in each state to the diagonal of a slot."""
    for z in range(len(states)):
        to[(len(states) + 1) * z] += flow[z]


@njit(cache=True, nogil=True)
def _spread_levels(states, matrix, exponent, flow, part):
    """Bring the flow through the entries of all levels down to the lane steps, flow[0]."""
    levels, n_steps = matrix.shape[0], matrix.shape[1]
    for k in range(levels - 1, 0, -1):
        m, e, f = matrix[k], exponent[k], flow[k]
        half = 1 << k
        for middle in range(half, n_steps, 2 * half):
            for j in range(middle - half, middle - 1):
                one, rest = (matrix[0, j], exponent[0, j]), (m[j + 1], e[j + 1])
                product_back(states, one, rest, f[j], flow[0, j], f[j + 1], part)
            for j in range(min(middle + half, n_steps) - 1, middle, -1):
                rest, one = (m[j - 1], e[j - 1]), (matrix[0, j], exponent[0, j])
                product_back(states, rest, one, f[j], f[j - 1], flow[0, j], part)
            for j in (middle - 1, middle):
                for q in range(f.shape[1]):
                    flow[0, j, q] += f[j, q]


@njit(cache=True, nogil=True)
def _spread_chain(states, slots, start, stop, chain, flow_after, flow_end, slot_bytes):
    """Reverse of :func:`idle_chain`: flow through its product and through its closed end, to the idle slots."""
    n_states = len(states)
    flow, before, part = flow_after.copy(), np.empty(n_states * n_states), np.empty(n_states)
    for t in range(stop - 1, start, -1):
        way, step = (chain[0][t - start], chain[1][t - start]), (slots[0][0, t], slots[1][0, t])
        before[:] = 0.0
        product_back(states, way, step, flow, before, slot_bytes[0, t], part)
        if t == stop - 1:
            # The closed end from state z: stay in whatever state the last slot is reached in.
            for z in range(n_states):
                _divide(
                    states, flow_end[z], way, n_states * z, 1, step, 0, n_states + 1, before, slot_bytes[0, t], part
                )
        flow[:] = before
    if stop > start:
        slot_bytes[0, start] += flow
    if stop == start + 1:
        _spread_stay(states, flow_end, slot_bytes[0, start])


@njit(cache=True, nogil=True)
def _spread_prefix(states, slots, lane, prefix, prefix_flow, slot_bytes):
    """Flow of the blocks that are there since slot 0, through the idle slots before the lane's first."""
    n_states = len(states)
    into, before, part = prefix_flow.copy(), np.empty(n_states), np.empty(n_states)
    for t in range(lane - 1, -1, -1):
        step = slots[0][0, t], slots[1][0, t]
        for y in range(n_states + 1):
            ways = prefix[0][t, y], prefix[1][t, y]
            before[:] = 0.0
            for z in range(n_states):
                _divide(states, into[y, z], ways, 0, 1, step, z, n_states, before, slot_bytes[0, t], part)
            into[y] = before
