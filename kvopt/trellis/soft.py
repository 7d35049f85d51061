"""The soft minimum of every block, and its gradient: the marginals of the path distribution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.trellis.chains import idle_chains, no_flow, spread_chains
from kvopt.trellis.forward import enter, forward
from kvopt.trellis.prepare import LaneBlocks, Prices, Trellis
from kvopt.trellis.ranges import entries_of_life, n_levels
from kvopt.trellis.scaled import dot, power, slot_matrices, to_cost
from kvopt.trellis.soft_tables import lane_tables, spread


@dataclass(frozen=True, eq=False)
class SoftMinimum:
    """Soft minima of all blocks, and where their paths go.

    Parameters
    ----------
    value : float64[B]
        ``-s tau log sum over paths exp(-cost / tau)`` in seconds; at most the hard minimum.
    slot_bytes : float64[2, T, S * S]
        Marginals: expected bytes idle [0] or read [1] that pass from state z to z' in each slot, at index S * z + z'.
        The derivative of ``sum(value)`` by ``prices.slot``.
    write_bytes : float64[T, S]
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
    low, states = trellis.lowered, trellis.states
    if trellis.classes:
        whole = SoftMinimum(np.empty(low.n_blocks), np.zeros(prices.slot.shape), np.zeros(prices.write.shape))
        for of in trellis.classes:
            found = soft_minimum(of.trellis, of.prices(prices, tau_s_per_byte), tau_s_per_byte)
            whole.value[of.blocks] = found.value
            np.add(whole.slot_bytes, found.slot_bytes, out=whole.slot_bytes)
            np.add(whole.write_bytes, found.write_bytes, out=whole.write_bytes)
        return whole
    slots = slot_matrices(prices.slot / tau_s_per_byte)
    write = prices.write / tau_s_per_byte

    chains = idle_chains(states, slots, low.n_lanes)
    slot_bytes, write_bytes = np.zeros(prices.slot.shape), np.zeros(prices.write.shape)
    chain_bytes = no_flow(low.n_states, low.n_slots)

    def work(lane: int, blocks: LaneBlocks):
        table = lane_tables(states, slots, chains, lane, low.n_lanes, low.n_steps, n_levels(low.n_steps), blocks.reach)
        flows = _added(
            trellis.for_each_part(
                blocks, lambda part: _forward_backward(states, part, lane, low.n_lanes, table, write, part.room)
            )
        )
        lead = spread(states, slots, chains, lane, low.n_lanes, blocks.reach, table, flows, slot_bytes, chain_bytes)
        write_bytes[lane :: low.n_lanes] = flows[4]
        return flows[0], lead

    value, leads = np.empty(low.n_blocks), []
    for lane, (found, lead) in enumerate(trellis.for_each_lane(work)):
        value[trellis.lanes[lane].block] = found * tau_s_per_byte
        leads.append(lead)
    spread_chains(states, slots, low.n_lanes, chains, chain_bytes, slot_bytes)
    for lane, lead in enumerate(leads):  # Afterwards and in order, so that sums do not depend on the threads.
        slot_bytes[0, :lane] += lead
    return SoftMinimum(value, slot_bytes, write_bytes)


def _added(parts: list) -> tuple:
    """What :func:`_forward_backward` returns of all blocks, from what it does of parts of them."""
    value, *flows = parts[0]
    for other in parts[1:]:
        for flow, more in zip(flows, other[1:], strict=True):
            flow += more
    return np.concatenate([one[0] for one in parts]) if len(parts) > 1 else value, *flows


@njit(cache=True, nogil=True)
def _forward_backward(states, blocks, lane, n_lanes, table, write, room):
    """Soft minimum of each block in units of tau, and the bytes that flow through each table entry.

    Returns
    -------
    value : float64[b]
    flow : float64[2, levels, N, S * S]
    closed_flow : float64[2, N, S]
    prefix_flow : float64[S + 1, S]
    write_flow : float64[N, S]
    """
    matrix, closed, _ = table
    n_states, n_blocks = len(states), blocks.size_bytes.shape[0]
    value = np.empty(n_blocks)
    flow, closed_flow = np.zeros_like(matrix[0]), np.zeros_like(closed[0])
    prefix_flow, write_flow = np.zeros((n_states + 1, n_states)), np.zeros((closed_flow.shape[1], n_states))
    entries = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    before = np.empty((room + 1, n_states)), np.empty((room + 1, n_states), np.int64)
    after = np.empty((room + 1, n_states)), np.empty((room + 1, n_states), np.int64)
    flows = flow, closed_flow, prefix_flow, write_flow
    _add_blocks(states, blocks, lane, n_lanes, table, write, entries, before, after, value, flows)
    return value, flow, closed_flow, prefix_flow, write_flow


@part(_nrt=False)
def _add_blocks(states, blocks, lane, n_lanes, table, write, entries, before, after, value, flows):
    """The loop over the blocks, by itself. Numba counts a reference to every row of an array that is looked at, which
    takes the hard minimum two fifths of its time; ``_nrt=False`` leaves that out where neither a kernel nor any that it
    calls makes an array."""
    matrix, closed, prefix = table
    flow, closed_flow, prefix_flow, write_flow = flows
    n_states = len(states)
    for i in range(value.shape[0]):
        size = blocks.size_bytes[i]
        first, last = blocks.first_step[i], blocks.last_step[i]
        runs = slice(blocks.run_ptr[i], blocks.run_ptr[i + 1])
        n, read_last = entries_of_life(
            first, last, blocks.run_start[runs], blocks.run_stop[runs], entries[0], entries[1], entries[2]
        )
        enter(states, blocks.prefilled[i], blocks.initial[i], first * n_lanes + lane, lane, prefix, write, before)
        forward(states, n, entries, matrix, before)
        for z in range(n_states):
            after[0][n, z], after[1][n, z] = closed[0][read_last, last, z], closed[1][read_last, last, z]
        v, w = (before[0][n], before[1][n]), (after[0][n], after[1][n])
        total, exponent = dot(states, v, 0, 1, w, 0, 1)
        value[i] = size * to_cost(total, exponent)
        unit = size / total, exponent
        for z in range(n_states):
            closed_flow[read_last, last, z] += _flow(v, z, w, z, unit)
        _backward(states, n, entries, matrix, before, after, unit, flow)
        start = prefix_flow[blocks.initial[i]] if blocks.prefilled[i] else write_flow[first]
        for z in range(n_states):
            start[z] += _flow((before[0][0], before[1][0]), z, (after[0][0], after[1][0]), z, unit)


@piece
def _flow(v, y, w, z, unit):
    """Bytes of a block whose way leads through y and then z, whose weights up to and from there are v[y] and w[z].

    ``unit`` is the block's size over the weight of all its ways, as mantissa and minus the exponent.
    """
    return unit[0] * v[0][y] * w[0][z] * power(v[1][y] + w[1][z] - unit[1])


@piece
def _backward(states, n, entries, matrix, before, after, unit, flow):
    """Weights of all ways onward from each state before entry a, in row a of ``after``; adds the block's flow.

    Row n of ``after`` is given; ``before`` is what the forward pass left.
    """
    kinds, levels, indices = entries
    n_states = len(states)
    for a in range(n - 1, -1, -1):
        m = matrix[0][kinds[a], levels[a], indices[a]], matrix[1][kinds[a], levels[a], indices[a]]
        v, w, b = (before[0][a], before[1][a]), (after[0][a], after[1][a]), (after[0][a + 1], after[1][a + 1])
        f = flow[kinds[a], levels[a], indices[a]]
        for y in range(n_states):
            w[0][y], w[1][y] = dot(states, m, n_states * y, 1, b, 0, 1)
            for z in range(n_states):
                way = unit[0] * v[0][y], unit[1] - v[1][y]
                f[n_states * y + z] += _flow(m, n_states * y + z, b, z, way)
