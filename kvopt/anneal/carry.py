"""Carrying out a move in a window: the loads, the occupancy and the objective's change, all exact."""

from __future__ import annotations

import numpy as np

from kvopt.anneal.cuts import READ
from kvopt.anneal.window import ALL_STALE, count_full, time_of
from kvopt.jit import part, piece


@piece
def born_in(problem, window, j):
    """Whether the block is written in its first own slot of the window."""
    return window.loose_begin[j] and not problem.prefilled[window.block[j]]


@piece
def closing(problem, window, j, n):
    """One past the last slot of the block's last lane step, n."""
    own = n * problem.n_lanes + problem.lane[window.block[j]]
    return min(own + problem.n_lanes, window.load.shape[0])


@part(_nrt=False)
def carry_out(problem, window, j, m, scratch, tables, class_size):
    """Put the block on the path in the scratch, which gets the old one; returns what the objective changes by.

    Parameters
    ----------
    m : int
        Cuts of the block.
    """
    i = window.block[j]
    size, lane = problem.size[i], problem.lane[i]
    last, n_lanes = window.end[j] - 1, problem.n_lanes
    cut, z_old, when_old, z, when = scratch.cut, scratch.z_old, scratch.when_old, scratch.z, scratch.when
    touched, begin, top = scratch.touched, np.int64(window.begin[j]), tables.dirty.shape[0]
    delta = 0.0
    if window.loose_begin[j] and not born_in(problem, window, j) and z_old[0] != z[0]:
        delta += _hold(problem, window, 0, lane, size, z_old[0], z[0])
        touched[0] = True
    for c in range(m):
        n = np.int64(cut[c])
        if n == last and not window.loose_end[j]:
            break
        y, x, y_new, x_new = z_old[c], z_old[c + 1], z[c], z[c + 1]
        if n == last:
            x, x_new = y, y_new
        at, at_new = (when_old[c] if x != y else n_lanes), (when[c] if x_new != y_new else n_lanes)
        own = n * n_lanes + lane
        if y != y_new or x != x_new or at != at_new:
            born = c == 0 and born_in(problem, window, j)
            read = 1 if scratch.kind[n] == READ else 0
            delta += _do_otherwise(problem, window, tables, own, size, read, born, (y, x, at), (y_new, x_new, at_new))
            if 0 < at < n_lanes:
                delta += _operate(problem, window, tables, own + at, y, x, -size)
            if 0 < at_new < n_lanes:
                delta += _operate(problem, window, tables, own + at_new, y_new, x_new, size)
            stop = closing(problem, window, j, n) if n == last else own + n_lanes
            # Three stretches: up to the earlier change, between the two, and after both.
            first, second = min(at, at_new), max(at, at_new)
            one, two = min(own + first + 1, stop), min(own + second + 1, stop)
            delta += _hold(problem, window, own, one, size, y, y_new)
            if at_new < at:
                delta += _hold(problem, window, one, two, size, y, x_new)
            else:
                delta += _hold(problem, window, one, two, size, x, y_new)
            delta += _hold(problem, window, two, stop, size, x, x_new)
            touched[n] = True
            touched[n + 1] = touched[n + 1] or stop > (n + 1) * n_lanes
        if c + 1 < m and x != x_new and cut[c + 1] > n + 1:
            following = np.int64(cut[c + 1])
            if scratch.kind[n + 1] == READ:
                for step in range(n + 1, following):
                    delta += _do_otherwise(
                        problem, window, tables, step * n_lanes + lane, size, 1, False, (x, x, n_lanes),
                        (x_new, x_new, n_lanes),
                    )  # fmt: skip
            delta += _hold(problem, window, own + n_lanes, following * n_lanes + lane, size, x, x_new)
            for step in range(n + 1, following + 1):
                touched[step] = True
    for n in range(begin, min(last + 2, top)):
        if touched[n]:
            count_full(window.held, problem.capacity, class_size, tables.full, tables.anywhere, n_lanes, n)
            touched[n] = False
    for c in range(m):
        when_old[c], when[c] = when[c], when_old[c]
    for c in range(m + 1):
        z_old[c], z[c] = z[c], z_old[c]
    return delta


@piece
def _hold(problem, window, first, stop, size, old, new):
    """Let a block be in another state in slots; returns what that is charged."""
    if old == new or first >= stop:
        return 0.0
    held, charged = window.held, window.charged
    for k in range(held.shape[0]):
        more = size * ((problem.inside[k] >> new & 1) - (problem.inside[k] >> old & 1))
        if more != 0.0:
            for t in range(first, stop):
                held[k, t] += more
    more = charged[stop, new] - charged[first, new] - charged[stop, old] + charged[first, old]
    return size * more


@piece
def _note(tables, t, n_lanes):
    """What a slot's loads were is out of date."""
    tables.stale[t] = ALL_STALE
    step = t // n_lanes
    if not tables.dirty[step]:
        tables.dirty[step] = True
        tables.dirty_steps[0] += 1
        tables.dirty_steps[tables.dirty_steps[0]] = step


@piece
def _time(problem, window, t):
    return time_of(
        window.load, window.either, t, problem.swap, problem.balanced, window.relaxed.lean, window.relaxed.width, t
    )


@piece
def _operate(problem, window, tables, t, y, x, amount):
    """Add so many bytes of an idle block's change to slot t, or take them away; returns what the objective changes
    by."""
    before = _time(problem, window, t)
    for c in range(window.load.shape[1]):
        window.load[t, c] += amount * problem.op[0, y, x, c]
    after = _time(problem, window, t)
    _note(tables, t, problem.n_lanes)
    return problem.second * (after - before) + amount * problem.op_price[0, y, x]


@piece
def _do_otherwise(problem, window, tables, own, size, read, born, old, new):
    """Let a block do something else in an own slot, where it is read or not, and written or not; returns what the
    objective changes by."""
    y, x, when = old
    y_new, x_new, when_new = new
    after, after_new = (x if when == 0 else y), (x_new if when_new == 0 else y_new)
    if y == y_new and after == after_new:
        return 0.0
    if read == 0 and not born and y == after and y_new == after_new:
        return 0.0
    before = _time(problem, window, own)
    price = problem.op_price[read, y_new, after_new] - problem.op_price[read, y, after]
    for c in range(window.load.shape[1]):
        change = problem.op[read, y_new, after_new, c] - problem.op[read, y, after, c]
        if born:
            change += problem.write[y_new, c] - problem.write[y, c]
        window.load[own, c] += size * change
    if born:
        price += problem.write_price[y_new] - problem.write_price[y]
    if problem.balanced and read == 1:
        window.either[own] += size * (1.0 * problem.swappable[y_new] - problem.swappable[y])
    _note(tables, own, problem.n_lanes)
    return problem.second * (_time(problem, window, own) - before) + size * price
