"""The annealer's state: the loads of every slot, and what one block adds to them, exactly.

Kernels take the state as one named tuple of arrays, modified in place. Slot times are maxima, so a block's cost
depends on all others; with the block taken out, the exact change each of its possible states makes to slot t is an
S x S matrix again, and its whole path can be drawn or optimised like the path of a block under prices.

Kernels are written once for any number of states. That number is the length of a tuple in the problem, hence part of
its type: numba compiles them for each, with loops over states unrolled.

What the objective charges by the byte is kept apart from the slots' times, since the weight of a time may differ from
step to step (``State.second``): constant for sums of times, else set anew for each sweep (:mod:`kvopt.anneal.steps`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.errors import MethodError
from kvopt.jit import njit, part, piece
from kvopt.lowering import Lowered
from kvopt.placement import Placement
from kvopt.prices import LATE, tail_steps
from kvopt.trellis import rows

_MOST_CELLS = 4_000_000_000
_MOST_CLASSES = 4
"""With more sizes than this, keeping a cache for each costs more than computing a block's changes afresh."""


class Problem(NamedTuple):
    """What does not change (B blocks, T slots, C channels, S states, L tiers that may be full)."""

    n_lanes: int
    states: tuple[float, ...]
    """S times 1: what a path weighs in each state before it begins."""
    op: np.ndarray
    """float64[2, S, S, C]: seconds, as in :class:`kvopt.lowering.Lowered`."""
    op_price: np.ndarray
    """float64[2, S, S]: by the byte, less what staying idle costs, so that idle blocks cost nothing."""
    idle_price: np.ndarray
    """float64[S]: that."""
    write: np.ndarray
    """float64[S, C]: seconds."""
    write_price: np.ndarray
    """float64[S]"""
    priced: bool
    """Whether anything is charged by the byte."""
    swap: np.ndarray
    """float64[C]: seconds more that a byte takes on each channel when read from the other copy; what that costs by the
    byte counted in, as seconds on every channel."""
    swappable: np.ndarray
    """bool[S]: where a read may be."""
    balanced: bool
    """Whether in any."""
    base: np.ndarray
    """float64[T, C]: seconds."""
    base_price: float
    second: float
    """What a second of any step costs."""
    tails: np.ndarray
    """float64[J, 2]: weight and number of the steps counted, of each mean of the longest."""
    deadlines: np.ndarray
    """float64[D, 2]: charge, and seconds beyond which a step is late."""
    stepwise: bool
    """Whether there are any of either."""
    size: np.ndarray
    """float64[B]"""
    lane: np.ndarray
    """int64[B]"""
    birth: np.ndarray
    """int64[B]"""
    death: np.ndarray
    """int64[B]"""
    prefilled: np.ndarray
    """bool[B]"""
    initial: np.ndarray
    """int8[B]: state in the first slot, -1 where free."""
    run_ptr: np.ndarray
    run_start: np.ndarray
    run_stop: np.ndarray
    capacity: np.ndarray
    """float64[L]"""
    inside: np.ndarray
    """int64[L]: the states that hold a block in the tier, as bits."""
    cell: np.ndarray
    """int64[B]: position in ``State.z`` of the block's state in slot 0, if it lived then."""
    size_class: np.ndarray
    """int64[B]: row of the caches for the block's size; -1 when there are too many sizes for caches."""
    class_size: np.ndarray
    """float64[Q]"""


class State(NamedTuple):
    """One chain."""

    z: np.ndarray
    """uint8: states of all blocks in all slots of their lives, one after another."""
    load: np.ndarray
    """float64[T, C]: seconds each channel is busy; reads that may be swapped are counted at the faster tier."""
    either: np.ndarray
    """float64[T]: bytes of those reads; empty where there are none."""
    held: np.ndarray
    """float64[L, T]: bytes in each tier that may be full."""
    price: np.ndarray
    """float64[1]: charged by the byte so far."""
    second: np.ndarray
    """float64[T]: what a second of each slot costs."""
    idle: np.ndarray
    """float64[Q, T, S * (S - 1)]: exact cost of an idle class-q block's change of state in each slot, from each state
    to each other; see :func:`pair`."""
    step_s: np.ndarray
    """float64[N]: seconds of each step, kept where single steps count; else empty."""


def make_problem(low: Lowered) -> Problem:
    """Arrays of a lowered instance, and the layout of the states."""
    life = low.death_slot - low.birth_slot
    class_size, size_class = np.unique(low.size_bytes, return_inverse=True)
    if len(class_size) > _MOST_CLASSES:
        class_size, size_class = np.empty(0), np.full(low.n_blocks, -1)
    op_price, swap, swappable = _swap(low)
    idle_price = np.ascontiguousarray(np.diagonal(op_price[0]))
    limited = np.flatnonzero(np.isfinite(low.capacity_bytes))
    tails = [(weight, tail_steps(low.n_steps, share)) for weight, share in low.prices.tails]
    deadlines = [(weight, deadline_s * (1 + LATE)) for weight, deadline_s in low.prices.deadlines]
    return Problem(
        n_lanes=low.n_lanes,
        states=(1.0,) * low.n_states,
        op=low.op_s_per_byte,
        op_price=op_price - idle_price[:, None],
        idle_price=idle_price,
        write=low.write_s_per_byte,
        write_price=low.write_price_per_byte,
        priced=bool(op_price.any() or low.write_price_per_byte.any()),
        swap=swap,
        swappable=swappable,
        balanced=bool(swappable.any()),
        base=np.ascontiguousarray(low.base_s.T),
        base_price=low.base_price,
        second=float(low.prices.per_second),
        tails=np.array(tails, float).reshape(-1, 2),
        deadlines=np.array(deadlines, float).reshape(-1, 2),
        stepwise=low.prices.stepwise,
        size=low.size_bytes,
        lane=low.lane,
        birth=low.birth_slot,
        death=low.death_slot,
        prefilled=low.prefilled,
        initial=low.initial,
        run_ptr=low.run_ptr,
        run_start=low.run_start,
        run_stop=low.run_stop,
        capacity=np.ascontiguousarray(low.capacity_bytes[limited]),
        inside=(1 << np.arange(low.n_states)) @ low.holds[:, limited].astype(np.int64),
        cell=np.concatenate([[0], np.cumsum(life)[:-1]]) - low.birth_slot,
        size_class=size_class.astype(np.int64),
        class_size=class_size,
    )


def _swap(low: Lowered) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Prices of operations, seconds of swapping a byte read, and where one may be.

    What swapping costs by the byte is a slope of the slot's cost like any other, so it may stand on every channel.
    Where time costs nothing there is nothing to balance: the cheaper copy is read.
    """
    op_price, prices = low.op_price_per_byte, low.prices
    if prices.stepwise:
        # No price of reads may differ then (Instance refuses it), and a slot is always best short.
        return op_price, low.swap_s_per_byte, low.swappable
    if prices.per_second > 0:
        return op_price, low.swap_s_per_byte + low.swap_price_per_byte / prices.per_second, low.swappable
    op_price = op_price.copy()
    op_price[1] += min(low.swap_price_per_byte, 0.0) * low.swappable[:, None]
    return op_price, low.swap_s_per_byte, np.zeros_like(low.swappable)


def make_state(problem: Problem, placement: Placement) -> State:
    """A chain that starts from a placement, put right where blocks have a given state to begin in.

    Raises
    ------
    MethodError
        When a state for every block and slot would not fit in memory.
    """
    n_slots, n_channels = problem.base.shape
    n_states, cells = len(problem.states), int((problem.death - problem.birth).sum())
    if cells > _MOST_CELLS:
        raise MethodError(
            "method 'anneal'",
            f"{cells:.3g} block-slots exceed the {_MOST_CELLS:.3g} that this objective, or move, keeps in memory",
            "Anneal a window of the trace (Trace.window), or an objective that is a sum over slots",
        )
    z = np.full(cells, n_states - 1, np.uint8)
    _fill(z, problem.cell, placement.ptr, placement.start, placement.stop, placement.state)
    given = problem.initial >= 0
    z[(problem.cell + problem.birth)[given]] = problem.initial[given]
    state = State(
        z=z,
        load=np.empty((n_slots, n_channels)),
        either=np.empty(n_slots if problem.balanced else 0),
        held=np.empty((len(problem.capacity), n_slots)),
        price=np.empty(1),
        second=np.full(n_slots, even_price(problem, n_slots // problem.n_lanes)),
        idle=np.empty((len(problem.class_size), n_slots, n_states * (n_states - 1))),
        step_s=np.empty(n_slots // problem.n_lanes if problem.stepwise else 0),
    )
    rebuild(problem, state)
    return state


def even_price(problem: Problem, n_steps: int) -> float:
    """What a second costs if all steps count alike; a late step as if its time up to the deadline cost that."""
    tails = problem.tails[:, 0].sum() / n_steps
    return float(problem.second + tails + (problem.deadlines[:, 0] / problem.deadlines[:, 1]).sum())


def to_placement(problem: Problem, z: np.ndarray) -> Placement:
    """The placement that the states describe."""
    last = len(problem.states) - 1
    block, start, stop, held = _intervals(z, problem.cell, problem.birth, problem.death, last)
    return Placement.from_intervals(len(problem.size), block, start, stop, held)


@njit(cache=True, nogil=True, _nrt=False)
def _fill(z, cell, ptr, start, stop, state):
    for i in range(cell.shape[0]):
        for k in range(ptr[i], ptr[i + 1]):
            rows.fill(z, cell[i] + start[k], cell[i] + stop[k], state[k])


@njit(cache=True, nogil=True)
def _intervals(z, cell, birth, death, last):
    """(block, start, stop, state) of every stay in a state but the last."""
    count = 0
    for i in range(cell.shape[0]):
        before = last
        for t in range(birth[i], death[i]):
            now = z[cell[i] + t]
            if now != last and now != before:
                count += 1
            before = now
    block, start, stop = np.empty(count, np.int64), np.empty(count, np.int64), np.empty(count, np.int64)
    state = np.empty(count, np.int8)
    k = -1
    for i in range(cell.shape[0]):
        before = last
        for t in range(birth[i], death[i]):
            now = z[cell[i] + t]
            if now != last:
                if now != before:
                    k += 1
                    block[k], start[k], state[k] = i, t, now
                stop[k] = t + 1
            before = now
    return block, start, stop, state


@njit(cache=True, nogil=True, _nrt=False)
def rebuild(problem, state):
    """Loads, occupancy, charges and caches from the states alone, free of accumulated rounding."""
    for t in range(state.load.shape[0]):
        rows.copy(problem.base[t], state.load[t])
    for k in range(state.held.shape[0]):
        rows.fill(state.held[k], 0, state.held.shape[1], 0.0)
    rows.fill(state.either, 0, state.either.shape[0], 0.0)
    state.price[0] = problem.base_price
    for i in range(problem.size.shape[0]):
        add_block(problem, state, i, 1.0)
    for t in range(state.load.shape[0]):
        refresh(problem, state, t)
    rows.fill(state.step_s, 0, state.step_s.shape[0], 0.0)
    if problem.stepwise:
        for t in range(state.load.shape[0]):
            state.step_s[t // problem.n_lanes] += slot_time(state.load, state.either, problem.swap, t)


@part(_nrt=False)
def add_block(problem, state, i, sign):
    """Add (sign 1) or remove (-1) what block i does, except in the caches and the steps' times."""
    amount = sign * problem.size[i]
    birth, death, cell = problem.birth[i], problem.death[i], problem.cell[i]
    here = state.z[cell + birth]
    if not problem.prefilled[i]:
        add_write(problem, state, birth, here, amount)
    since = birth
    for t in range(birth, death):
        after = state.z[cell + t + 1] if t + 1 < death else here
        if here == after and t + 1 < death:
            continue
        state.price[0] += (t + 1 - since) * amount * problem.idle_price[here]
        for k in range(problem.capacity.shape[0]):
            if problem.inside[k] >> here & 1:
                for s in range(since, t + 1):
                    state.held[k, s] += amount
        if here != after:
            add_op(problem, state, t, 0, here, after, amount)
        here, since = after, t + 1
    for run in range(problem.run_ptr[i], problem.run_ptr[i + 1]):
        for n in range(problem.run_start[run], problem.run_stop[run]):
            t = n * problem.n_lanes + problem.lane[i]
            here = state.z[cell + t]
            after = state.z[cell + t + 1] if t + 1 < death else here
            if here != after:
                add_op(problem, state, t, 0, here, after, -amount)
            add_op(problem, state, t, 1, here, after, amount)


@part(_nrt=False)
def add_held(problem, state, t, here, amount):
    """Add to the tiers that hold a block in a state."""
    for k in range(problem.capacity.shape[0]):
        if problem.inside[k] >> here & 1:
            state.held[k, t] += amount


@part(_nrt=False)
def add_write(problem, state, t, here, amount):
    """Add a new block's first placement."""
    for c in range(state.load.shape[1]):
        state.load[t, c] += amount * problem.write[here, c]
    state.price[0] += amount * problem.write_price[here]


@part(_nrt=False)
def add_op(problem, state, t, read, here, after, amount):
    """Add an operation to slot t: its loads, what it costs by the byte, and whether its read may be swapped."""
    for c in range(state.load.shape[1]):
        state.load[t, c] += amount * problem.op[read, here, after, c]
    if problem.priced:
        state.price[0] += amount * problem.op_price[read, here, after]
    if problem.balanced and read == 1 and problem.swappable[here]:
        state.either[t] += amount


@part(_nrt=False)
def slot_time(load, either, swap, t):
    """Seconds slot t takes, reads swapped as is best.

    Parameters are of ``State`` and ``Problem``: what is called for every slot takes arrays, since numba counts
    references to each array of a tuple that is passed on.
    """
    if either.shape[0] and either[t] > 0.0:
        return best_split(load, t, 0.0, swap, swap, either[t])[1]
    longest = load[t, 0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[t, c])
    return longest


@part(_nrt=False)
def slot_time_with(load, either, swap, t, size, extra, swapped):
    """Seconds slot t takes with ``size * extra[c]`` seconds more on each channel.

    ``swapped`` says whether among that is a read that may come from either copy.
    """
    if either.shape[0]:
        most = either[t] + (size if swapped else 0.0)
        if most > 0.0:
            return best_split(load, t, size, extra, swap, most)[1]
    longest = load[t, 0] + size * extra[0]
    for c in range(1, load.shape[1]):
        longest = max(longest, load[t, c] + size * extra[c])
    return longest


@piece
def best_split(load, t, size, extra, swap, most):
    """(y, value) of the least of max_c (load[t, c] + size extra[c] + y swap[c]) over 0 <= y <= most.

    The maximum is convex in y: walk its lines from y = 0 on, each steeper than the one before, until one rises.
    """
    y, line, value = 0.0, 0, load[t, 0] + size * extra[0]
    for c in range(1, load.shape[1]):
        begins = load[t, c] + size * extra[c]
        if begins > value or (begins == value and swap[c] > swap[line]):
            line, value = c, begins
    while swap[line] < 0.0:
        reached, following = most, -1
        for c in range(load.shape[1]):
            if swap[c] > swap[line]:
                lead = load[t, line] - load[t, c] + size * (extra[line] - extra[c])
                crossing = max(lead / (swap[c] - swap[line]), y)
                steeper = following >= 0 and crossing == reached and swap[c] > swap[following]
                if crossing < reached or steeper:
                    reached, following = crossing, c
        value += (reached - y) * swap[line]
        y = reached
        if following < 0:
            break
        line = following
    return y, value


@njit(cache=True, nogil=True)
def split_loads(problem, state):
    """float64[C, T]: seconds each channel is busy when reads are swapped as is best."""
    load = np.empty((state.load.shape[1], state.load.shape[0]))
    for t in range(load.shape[1]):
        for c in range(load.shape[0]):
            load[c, t] = state.load[t, c]
    if problem.balanced:
        for t in range(load.shape[1]):
            y, _ = best_split(state.load, t, 0.0, problem.swap, problem.swap, state.either[t])
            for c in range(load.shape[0]):
                load[c, t] += y * problem.swap[c]
    return load


@piece
def pair(n_states, z, after):
    """Where ``State.idle`` has the change from one state to another."""
    return z * (n_states - 1) + (after - 1 if after > z else after)


@part(_nrt=False)
def refresh(problem, state, t):
    """Recompute the caches of slot t."""
    refresh_slot(
        problem.states,
        problem.op,
        problem.op_price,
        problem.class_size,
        problem.swap,
        state.load,
        state.either,
        state.second,
        state.idle,
        t,
    )


@part(_nrt=False)
def refresh_slot(states, op, op_price, class_size, swap, load, either, second, idle, t):
    """:func:`refresh`, from the arrays it needs."""
    n_states, now = len(states), slot_time(load, either, swap, t)
    weight = second[t]
    balance = either.shape[0] and either[t] > 0.0
    for q in range(class_size.shape[0]):
        size = class_size[q]
        for z in range(n_states):
            for after in range(n_states):
                if after != z:
                    longest = load[t, 0] + size * op[0, z, after, 0]
                    for c in range(1, load.shape[1]):
                        longest = max(longest, load[t, c] + size * op[0, z, after, c])
                    if balance:
                        longest = best_split(load, t, size, op[0, z, after], swap, either[t])[1]
                    price = size * op_price[0, z, after]
                    idle[q, t, pair(n_states, z, after)] = weight * (longest - now) + price


@njit(cache=True, nogil=True)
def total_cost(problem, state):
    """The objective."""
    if problem.stepwise:
        step_s = np.zeros(state.step_s.shape[0])
        for t in range(state.load.shape[0]):
            step_s[t // problem.n_lanes] += slot_time(state.load, state.either, problem.swap, t)
        return state.price[0] + cost_of_steps(problem, step_s)
    total = state.price[0]
    for t in range(state.load.shape[0]):
        total += problem.second * slot_time(state.load, state.either, problem.swap, t)
    return total


@part
def cost_of_steps(problem, step_s):
    """What the objective makes of the steps' times."""
    total = problem.second * rows.total(step_s, 0)
    for j in range(problem.tails.shape[0]):
        total += problem.tails[j, 0] * _tail_mean(step_s, problem.tails[j, 1])
    for j in range(problem.deadlines.shape[0]):
        for n in range(step_s.shape[0]):
            if step_s[n] > problem.deadlines[j, 1]:
                total += problem.deadlines[j, 0]
    return total


@part
def _tail_mean(step_s, count):
    """The mean of the ``count`` longest, the last of them in part; by selection, in linear time."""
    n_steps, whole = step_s.shape[0], int(count)
    if whole >= n_steps:
        return rows.total(step_s, 0) / n_steps
    if count == 1.0:
        longest = step_s[0]
        for n in range(1, n_steps):
            longest = max(longest, step_s[n])
        return longest
    at, apart = n_steps - whole - 1, rows.resized(step_s, n_steps)
    rows.select(apart, at)
    return (rows.total(apart, at + 1) + (count - whole) * apart[at]) / count


@njit(cache=True, nogil=True, _nrt=False)
def excess_bytes(problem, state):
    """Bytes by which capacities are exceeded, summed over slots; 0 when the placement is feasible."""
    excess = 0.0
    for t in range(state.held.shape[1]):
        for k in range(problem.capacity.shape[0]):
            excess += max(0.0, state.held[k, t] - problem.capacity[k])
    return excess
