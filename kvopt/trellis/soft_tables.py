"""The range table of one lane as probabilities, and the reverse pass through it.

Everything is an array of mantissas with one of exponents beside it (:mod:`kvopt.trellis.scaled`).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kvopt.trellis.scaled import add, product, product_back, share


@njit(cache=True, nogil=True)
def lane_tables(slot_m, slot_e, lane, n_lanes, n_steps, levels):
    """Range table, closed last steps and the way from slot 0 to the lane's first slot.

    Parameters
    ----------
    slot_m, slot_e : float64[2, T, 4], int64[2, T, 4]
        As :func:`kvopt.trellis.scaled.slot_matrices` returns them.

    Returns
    -------
    matrix : float64[2, levels, N, 4], with exponents int64
    closed : float64[2, N, 2], with exponents
        A lane step that is the block's last, from state z on: nothing moves in its last slot.
    prefix : float64[lane + 1, 2], with exponents
        Ways from slot 0 to state z in each slot up to the lane's first.
    """
    n_slots = n_steps * n_lanes
    matrix, exponent = np.empty((2, levels, n_steps, 4)), np.empty((2, levels, n_steps, 4), np.int64)
    closed, closed_exp = np.empty((2, n_steps, 2)), np.empty((2, n_steps, 2), np.int64)
    chain, chain_exp = np.empty((n_lanes, 4)), np.empty((n_lanes, 4), np.int64)
    end, end_exp = np.empty(2), np.empty(2, np.int64)
    for n in range(n_steps):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_slots)
        idle_chain(slot_m, slot_e, own + 1, stop, chain, chain_exp, end, end_exp)
        for r in range(2):
            own_m, own_e = slot_m[r, own], slot_e[r, own]
            if stop == own + 1:
                matrix[r, 0, n], exponent[r, 0, n] = own_m, own_e
                for z in range(2):
                    closed[r, n, z], closed_exp[r, n, z] = own_m[3 * z], own_e[3 * z]
                continue
            k = stop - own - 1
            product(own_m, own_e, chain[k], chain_exp[k], matrix[r, 0, n], exponent[r, 0, n])
            for z in range(2):
                a, b = 2 * z, 2 * z + 1
                closed[r, n, z], closed_exp[r, n, z] = add(
                    own_m[a] * end[0], own_e[a] + end_exp[0], own_m[b] * end[1], own_e[b] + end_exp[1]
                )
    for r in range(2):
        _fill_levels(matrix[r], exponent[r])
    prefix, prefix_exp = np.ones((lane + 1, 2)), np.zeros((lane + 1, 2), np.int64)
    for t in range(lane):
        own_m, own_e = slot_m[0, t], slot_e[0, t]
        v, e = prefix[t], prefix_exp[t]
        for z in range(2):
            prefix[t + 1, z], prefix_exp[t + 1, z] = add(
                v[0] * own_m[z], e[0] + own_e[z], v[1] * own_m[2 + z], e[1] + own_e[2 + z]
            )
    return matrix, exponent, closed, closed_exp, prefix, prefix_exp


@njit(cache=True, nogil=True)
def idle_chain(slot_m, slot_e, start, stop, chain, chain_exp, end, end_exp):
    """Products of the idle slots start..t in chain[t - start + 1], and the closed end from ``start`` on in ``end``."""
    for t in range(start, stop):
        step, step_exp = slot_m[0, t], slot_e[0, t]
        j = t - start
        if j == 0:
            chain[1], chain_exp[1] = step, step_exp
        else:
            product(chain[j], chain_exp[j], step, step_exp, chain[j + 1], chain_exp[j + 1])
        if t < stop - 1:
            continue
        for z in range(2):
            if j == 0:
                end[z], end_exp[z] = step[3 * z], step_exp[3 * z]
            else:
                a, b = 2 * z, 2 * z + 1
                end[z], end_exp[z] = add(
                    chain[j, a] * step[0],
                    chain_exp[j, a] + step_exp[0],
                    chain[j, b] * step[3],
                    chain_exp[j, b] + step_exp[3],
                )


@njit(cache=True, nogil=True)
def _fill_levels(matrix, exponent):
    """Levels 1 and up of the disjoint sparse table from level 0, which holds the lane steps themselves."""
    levels, n_steps = matrix.shape[0], matrix.shape[1]
    for k in range(1, levels):
        m, e = matrix[k], exponent[k]
        half = 1 << k
        for middle in range(half, n_steps, 2 * half):
            for j in (middle - 1, middle):
                m[j], e[j] = matrix[0, j], exponent[0, j]
            for j in range(middle - 2, middle - half - 1, -1):
                product(matrix[0, j], exponent[0, j], m[j + 1], e[j + 1], m[j], e[j])
            for j in range(middle + 1, min(middle + half, n_steps)):
                product(m[j - 1], e[j - 1], matrix[0, j], exponent[0, j], m[j], e[j])


@njit(cache=True, nogil=True)
def spread(slot_m, slot_e, lane, n_lanes, table, flows, slot_bytes):
    """Reverse pass: bring the flow through the table's entries to the slots.

    Parameters
    ----------
    slot_m, slot_e, lane, n_lanes
        As for :func:`lane_tables`.
    table, flows
        As :func:`lane_tables` and ``soft._forward_backward`` return them; ``flows`` is used up.
    slot_bytes : float64[2, T, 4]
        Added to in place.
    """
    matrix, exponent, _, _, prefix, prefix_exp = table
    _, flow, closed_flow, prefix_flow, _ = flows
    n_steps = matrix.shape[2]
    n_slots = n_steps * n_lanes
    for r in range(2):
        _spread_levels(matrix[r], exponent[r], flow[r])
    chain, chain_exp = np.empty((n_lanes, 4)), np.empty((n_lanes, 4), np.int64)
    end, end_exp = np.empty(2), np.empty(2, np.int64)
    flow_after, flow_end = np.empty(4), np.empty(2)
    for n in range(n_steps):
        own = n * n_lanes + lane
        stop = min(own + n_lanes, n_slots)
        if stop == own + 1:
            for r in range(2):
                slot_bytes[r, own] += flow[r, 0, n]
                slot_bytes[r, own, 0] += closed_flow[r, n, 0]
                slot_bytes[r, own, 3] += closed_flow[r, n, 1]
            continue
        idle_chain(slot_m, slot_e, own + 1, stop, chain, chain_exp, end, end_exp)
        k = stop - own - 1
        flow_after[:] = 0.0
        flow_end[:] = 0.0
        for r in range(2):
            own_m, own_e = slot_m[r, own], slot_e[r, own]
            product_back(own_m, own_e, chain[k], chain_exp[k], flow[r, 0, n], slot_bytes[r, own], flow_after)
            for z in range(2):
                a, b = 2 * z, 2 * z + 1
                first = closed_flow[r, n, z] * share(
                    own_m[a] * end[0], own_e[a] + end_exp[0], own_m[b] * end[1], own_e[b] + end_exp[1]
                )
                slot_bytes[r, own, a] += first
                slot_bytes[r, own, b] += closed_flow[r, n, z] - first
                flow_end[0] += first
                flow_end[1] += closed_flow[r, n, z] - first
        _spread_chain(slot_m, slot_e, own + 1, stop, chain, chain_exp, flow_after, flow_end, slot_bytes)
    _spread_prefix(slot_m, slot_e, lane, prefix, prefix_exp, prefix_flow, slot_bytes)


@njit(cache=True, nogil=True)
def _spread_levels(matrix, exponent, flow):
    """Bring the flow through the entries of all levels down to the lane steps, flow[0]."""
    levels, n_steps = matrix.shape[0], matrix.shape[1]
    for k in range(levels - 1, 0, -1):
        m, e, f = matrix[k], exponent[k], flow[k]
        half = 1 << k
        for middle in range(half, n_steps, 2 * half):
            for j in range(middle - half, middle - 1):
                product_back(matrix[0, j], exponent[0, j], m[j + 1], e[j + 1], f[j], flow[0, j], f[j + 1])
            for j in range(min(middle + half, n_steps) - 1, middle, -1):
                product_back(m[j - 1], e[j - 1], matrix[0, j], exponent[0, j], f[j], f[j - 1], flow[0, j])
            for j in (middle - 1, middle):
                for q in range(4):
                    flow[0, j, q] += f[j, q]


@njit(cache=True, nogil=True)
def _spread_chain(slot_m, slot_e, start, stop, chain, chain_exp, flow_after, flow_end, slot_bytes):
    """Reverse of :func:`idle_chain`: flow through its product and through its closed end, to the idle slots."""
    flow, before = flow_after.copy(), np.empty(4)
    for t in range(stop - 1, start - 1, -1):
        j = t - start
        step, step_exp = slot_m[0, t], slot_e[0, t]
        if j == 0:
            slot_bytes[0, t] += flow
            if t == stop - 1:
                slot_bytes[0, t, 0] += flow_end[0]
                slot_bytes[0, t, 3] += flow_end[1]
            return
        before[:] = 0.0
        product_back(chain[j], chain_exp[j], step, step_exp, flow, before, slot_bytes[0, t])
        if t == stop - 1:
            # The closed end from state z: stay in whatever state the last slot is reached in.
            for z in range(2):
                a, b = 2 * z, 2 * z + 1
                first = flow_end[z] * share(
                    chain[j, a] * step[0],
                    chain_exp[j, a] + step_exp[0],
                    chain[j, b] * step[3],
                    chain_exp[j, b] + step_exp[3],
                )
                before[a] += first
                before[b] += flow_end[z] - first
                slot_bytes[0, t, 0] += first
                slot_bytes[0, t, 3] += flow_end[z] - first
        flow[:] = before


@njit(cache=True, nogil=True)
def _spread_prefix(slot_m, slot_e, lane, prefix, prefix_exp, prefix_flow, slot_bytes):
    """Flow of the blocks that are there since slot 0, through the idle slots before the lane's first."""
    into = prefix_flow.copy()
    for t in range(lane - 1, -1, -1):
        m, e = slot_m[0, t], slot_e[0, t]
        v, x = prefix[t], prefix_exp[t]
        out0, out1 = 0.0, 0.0
        for z in range(2):
            first = into[z] * share(v[0] * m[z], x[0] + e[z], v[1] * m[2 + z], x[1] + e[2 + z])
            slot_bytes[0, t, z] += first
            slot_bytes[0, t, 2 + z] += into[z] - first
            out0 += first
            out1 += into[z] - first
        into[0], into[1] = out0, out1
