"""The soft minimum of every block, and its gradient: the marginals of the path distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from kvopt.trellis.forward import enter, forward
from kvopt.trellis.prepare import LaneBlocks, Prices, Trellis
from kvopt.trellis.ranges import entries_of_life, n_levels
from kvopt.trellis.scaled import add, share, slot_matrices, to_cost
from kvopt.trellis.soft_tables import lane_tables, spread


@dataclass(frozen=True, eq=False)
class SoftMinimum:
    """Soft minima of all blocks, and where their paths go.

    Parameters
    ----------
    value : float64[B]
        ``-s tau log sum over paths exp(-cost / tau)`` in seconds; at most the hard minimum.
    slot_bytes : float64[2, T, 4]
        Marginals: expected bytes idle [0] or read [1] that pass from state z to z' in each slot, at index 2 * z + z'.
        The derivative of ``sum(value)`` by ``prices.slot``.
    write_bytes : float64[T, 2]
        Expected bytes of new blocks written in state z. The derivative by ``prices.write``.
    """

    value: np.ndarray
    slot_bytes: np.ndarray
    write_bytes: np.ndarray


def soft_minimum(trellis: Trellis, prices: Prices, tau_s_per_byte: float) -> SoftMinimum:
    """Soft minimum of every block and its gradient, in time proportional to the runs.

    Parameters
    ----------
    trellis : Trellis
    prices : Prices
    tau_s_per_byte : float
        Temperature per byte, greater than 0.
    """
    low = trellis.lowered
    slot_m, slot_e = slot_matrices(prices.slot / tau_s_per_byte)
    write = prices.write / tau_s_per_byte

    def work(lane: int, blocks: LaneBlocks):
        table = lane_tables(slot_m, slot_e, lane, low.n_lanes, low.n_steps, n_levels(low.n_steps))
        flows = _forward_backward(blocks, lane, low.n_lanes, table, write, blocks.room)
        slot_bytes = np.zeros((2, low.n_slots, 4))
        spread(slot_m, slot_e, lane, low.n_lanes, table, flows, slot_bytes)
        return flows[0], slot_bytes, flows[4]

    value = np.empty(low.n_blocks)
    slot_bytes = np.zeros((2, low.n_slots, 4))
    write_bytes = np.zeros((low.n_slots, 2))
    for lane, found in enumerate(trellis.for_each_lane(work)):
        value[trellis.lanes[lane].block] = found[0] * tau_s_per_byte
        slot_bytes += found[1]
        write_bytes[lane :: low.n_lanes] = found[2]
    return SoftMinimum(value, slot_bytes, write_bytes)


@njit(cache=True, nogil=True)
def _forward_backward(blocks, lane, n_lanes, table, write, room):
    """Soft minimum of each block in units of tau, and the bytes that flow through each table entry.

    Returns
    -------
    value : float64[b]
    flow : float64[2, levels, N, 4]
    closed_flow : float64[2, N, 2]
    prefix_flow : float64[2]
    write_flow : float64[N, 2]
    """
    matrix, exponent, closed, closed_exp, prefix, prefix_exp = table
    n_blocks = blocks.size_bytes.shape[0]
    value = np.empty(n_blocks)
    flow = np.zeros_like(matrix)
    closed_flow = np.zeros_like(closed)
    prefix_flow = np.zeros(2)
    write_flow = np.zeros((closed.shape[1], 2))
    kinds, levels, indices = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    before, before_exp = np.empty((room, 2)), np.empty((room, 2), np.int64)
    for i in range(n_blocks):
        size = blocks.size_bytes[i]
        first, last = blocks.first_step[i], blocks.last_step[i]
        runs = slice(blocks.run_ptr[i], blocks.run_ptr[i + 1])
        n, read_last = entries_of_life(
            first, last, blocks.run_start[runs], blocks.run_stop[runs], kinds, levels, indices
        )
        v0, e0, v1, e1 = enter(blocks.prefilled[i], first * n_lanes + lane, lane, prefix, prefix_exp, write)
        start0, start1, start_odds = v0, v1, e1 - e0
        v0, e0, v1, e1 = forward(n, (kinds, levels, indices), matrix, exponent, v0, e0, v1, e1, before, before_exp)
        b0, b1 = closed[read_last, last, 0], closed[read_last, last, 1]
        c0, c1 = closed_exp[read_last, last, 0], closed_exp[read_last, last, 1]
        total, total_exp = add(v0 * b0, e0 + c0, v1 * b1, e1 + c1)
        value[i] = size * to_cost(total, total_exp)
        fast = size * share(v0 * b0, e0 + c0, v1 * b1, e1 + c1)
        closed_flow[read_last, last, 0] += fast
        closed_flow[read_last, last, 1] += size - fast
        b0, c0, b1, c1 = _backward(
            n, (kinds, levels, indices), matrix, exponent, before, before_exp, size, b0, c0, b1, c1, flow
        )
        fast = size * share(start0 * b0, c0, start1 * b1, start_odds + c1)
        start = prefix_flow if blocks.prefilled[i] else write_flow[first]
        start[0] += fast
        start[1] += size - fast
    return value, flow, closed_flow, prefix_flow, write_flow


@njit(cache=True, nogil=True)
def _backward(n, entries, matrix, exponent, before, before_exp, size, b0, c0, b1, c1, flow):
    """Weights of all ways onward from each state before the first entry; adds the block's flow through each entry.

    ``b0, c0, b1, c1`` are those after the last entry, as mantissas and exponents; ``before`` is what the forward pass
    left.
    """
    kinds, levels, indices = entries
    for a in range(n - 1, -1, -1):
        m, e = matrix[kinds[a], levels[a], indices[a]], exponent[kinds[a], levels[a], indices[a]]
        v0, v1 = before[a, 0], before[a, 1]
        e0, e1 = before_exp[a, 0], before_exp[a, 1]
        to_fast0 = share(m[0] * b0, e[0] + c0, m[1] * b1, e[1] + c1)
        to_fast1 = share(m[2] * b0, e[2] + c0, m[3] * b1, e[3] + c1)
        r0, x0 = add(m[0] * b0, e[0] + c0, m[1] * b1, e[1] + c1)
        b1, c1 = add(m[2] * b0, e[2] + c0, m[3] * b1, e[3] + c1)
        b0, c0 = r0, x0
        fast = size * share(v0 * b0, e0 + c0, v1 * b1, e1 + c1)
        f = flow[kinds[a], levels[a], indices[a]]
        f[0] += fast * to_fast0
        f[1] += fast * (1.0 - to_fast0)
        f[2] += (size - fast) * to_fast1
        f[3] += (size - fast) * (1.0 - to_fast1)
    return b0, c0, b1, c1
