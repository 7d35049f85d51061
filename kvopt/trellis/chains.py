"""Products of the idle slots between a lane's own slots, which all lanes share.

Between its own slots of two steps a block meets the rest of one step and the beginning of the next. So the products of
the slots from each to the end of its step, and from the beginning of its step to each, are all that any lane needs: two
products a slot, however many lanes there are. Each is needed *closed* as well: nothing moves in its last slot.

Chains are four pairs of mantissas and exponents (:mod:`kvopt.trellis.scaled`), by slot t:

    tail [T, S * S]      product of the slots from t to the end of its step
    tail_end [T, S]      the same from state z on, closed
    head [T, S * S]      product of the slots from the beginning of the step to t
    head_end [T, S]      the same from state z on, closed
"""

from __future__ import annotations

import numpy as np

from kvopt.jit import njit, part, piece
from kvopt.trellis import rows
from kvopt.trellis.scaled import divide, dot, product, product_back, spread_stay


@njit(cache=True, nogil=True)
def idle_chains(states, slots, n_lanes):
    """The chains of all slots.

    Parameters
    ----------
    states : tuple of int
        As :attr:`kvopt.trellis.Trellis.states`.
    slots : float64[2, T, S * S], int64[2, T, S * S]
        As :func:`kvopt.trellis.scaled.slot_matrices` returns them.
    n_lanes : int
    """
    n_states, n_slots = len(states), slots[0].shape[1]
    square, row = (n_slots, n_states * n_states), (n_slots, n_states)
    tail, tail_end = (np.empty(square), np.empty(square, np.int64)), (np.empty(row), np.empty(row, np.int64))
    head, head_end = (np.empty(square), np.empty(square, np.int64)), (np.empty(row), np.empty(row, np.int64))
    for begin in range(0, n_slots, n_lanes):
        last = begin + n_lanes - 1
        for t in range(begin, last + 1):
            here = slots[0][0, t], slots[1][0, t]
            if t == begin:
                head[0][t], head[1][t] = here
                stay(states, here, head_end[0][t], head_end[1][t])
                continue
            before = head[0][t - 1], head[1][t - 1]
            product(states, before, here, head[0][t], head[1][t])
            for z in range(n_states):
                found = dot(states, before, n_states * z, 1, here, 0, n_states + 1)
                head_end[0][t, z], head_end[1][t, z] = found
        for t in range(last, begin - 1, -1):
            here = slots[0][0, t], slots[1][0, t]
            if t == last:
                rows.copy(here[0], tail[0][t])
                rows.copy(here[1], tail[1][t])
                stay(states, here, tail_end[0][t], tail_end[1][t])
                continue
            product(states, here, (tail[0][t + 1], tail[1][t + 1]), tail[0][t], tail[1][t])
            after = tail_end[0][t + 1], tail_end[1][t + 1]
            for z in range(n_states):
                tail_end[0][t, z], tail_end[1][t, z] = dot(states, here, n_states * z, 1, after, 0, 1)
    return tail, tail_end, head, head_end


@piece
def stay(states, matrix, m, e):
    """The diagonal of a matrix."""
    for z in range(len(states)):
        m[z], e[z] = matrix[0][(len(states) + 1) * z], matrix[1][(len(states) + 1) * z]


@part(_nrt=False)
def between(states, chains, own, lane, n_lanes, n_slots, way, end):
    """Fill ``way`` and ``end`` with the chain after slot ``own`` of a lane up to its next, and that chain closed.

    Where no slot is between, they are left as they are.
    """
    tail, tail_end, head, head_end = chains
    n_states = len(states)
    rest, ahead = lane < n_lanes - 1, lane > 0 and own + n_lanes < n_slots
    t, u = own + 1, own + n_lanes - 1
    if rest and ahead:
        first = tail[0][t], tail[1][t]
        product(states, first, (head[0][u], head[1][u]), way[0], way[1])
        for z in range(n_states):
            last = head_end[0][u], head_end[1][u]
            end[0][z], end[1][z] = dot(states, first, n_states * z, 1, last, 0, 1)
    elif rest:
        rows.copy(tail[0][t], way[0])
        rows.copy(tail[1][t], way[1])
        rows.copy(tail_end[0][t], end[0])
        rows.copy(tail_end[1][t], end[1])
    elif ahead:
        rows.copy(head[0][u], way[0])
        rows.copy(head[1][u], way[1])
        rows.copy(head_end[0][u], end[0])
        rows.copy(head_end[1][u], end[1])


@part(_nrt=False)
def between_back(states, chains, own, lane, n_lanes, n_slots, flow_way, flow_end, chain_bytes, part):
    """Reverse of :func:`between`: put the flow through its results onto the chains, which no other lane uses."""
    tail, _, head, head_end = chains
    to_tail, to_tail_end, to_head, to_head_end = chain_bytes
    rest, ahead = lane < n_lanes - 1, lane > 0 and own + n_lanes < n_slots
    t, u = own + 1, own + n_lanes - 1
    if rest and ahead:
        first = tail[0][t], tail[1][t]
        product_back(states, first, (head[0][u], head[1][u]), flow_way, to_tail[t], to_head[u], part)
        last = head_end[0][u], head_end[1][u]
        for z in range(len(states)):
            divide(states, flow_end[z], first, len(states) * z, 1, last, 0, 1, to_tail[t], to_head_end[u], part)
    elif rest:
        rows.add(flow_way, to_tail[t])
        rows.add(flow_end, to_tail_end[t])
    elif ahead:
        rows.add(flow_way, to_head[u])
        rows.add(flow_end, to_head_end[u])


def no_flow(n_states: int, n_slots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Room for the bytes that flow through each chain."""
    square, row = (n_slots, n_states * n_states), (n_slots, n_states)
    return np.zeros(square), np.zeros(row), np.zeros(square), np.zeros(row)


@njit(cache=True, nogil=True)
def spread_chains(states, slots, n_lanes, chains, chain_bytes, slot_bytes):
    """Reverse of :func:`idle_chains`: bring the flow through the chains to the idle slots.

    Parameters
    ----------
    states, slots, n_lanes, chains
        As of :func:`idle_chains`.
    chain_bytes
        As :func:`no_flow` makes it, filled; used up.
    slot_bytes : float64[2, T, S * S]
        Added to in place.
    """
    tail, tail_end, head, _ = chains
    to_tail, to_tail_end, to_head, to_head_end = chain_bytes
    n_states = len(states)
    part = np.empty(n_states)
    for begin in range(0, slots[0].shape[1], n_lanes):
        last = begin + n_lanes - 1
        for t in range(begin, last):
            here, to = (slots[0][0, t], slots[1][0, t]), slot_bytes[0, t]
            after = tail[0][t + 1], tail[1][t + 1]
            product_back(states, here, after, to_tail[t], to, to_tail[t + 1], part)
            end = tail_end[0][t + 1], tail_end[1][t + 1]
            for z in range(n_states):
                divide(states, to_tail_end[t, z], here, n_states * z, 1, end, 0, 1, to, to_tail_end[t + 1], part)
        rows.add(to_tail[last], slot_bytes[0, last])
        spread_stay(states, to_tail_end[last], slot_bytes[0, last])
        for t in range(last, begin, -1):
            here, to = (slots[0][0, t], slots[1][0, t]), slot_bytes[0, t]
            before, to_before = (head[0][t - 1], head[1][t - 1]), to_head[t - 1]
            product_back(states, before, here, to_head[t], to_before, to, part)
            for z in range(n_states):
                flow = to_head_end[t, z]
                divide(states, flow, before, n_states * z, 1, here, 0, n_states + 1, to_before, to, part)
        rows.add(to_head[begin], slot_bytes[0, begin])
        spread_stay(states, to_head_end[begin], slot_bytes[0, begin])
