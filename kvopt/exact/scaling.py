"""A program brought to the scale of what is already known of its solution: what is too dear fixed, the rest near 1.

HiGHS's tolerances are absolute. The page's units are those of the dearest thing that can happen to a mean block, and
are right where the best placement costs about that much. Where it costs far less (a tier, an operation or a term of the
objective is so dear that it is not used), whole placements differ by less than the tolerances. A known placement
helps: no better one does anything that alone costs more. So

1. every decision that would, by the rows of the times and the cost taken together with the bounds of the columns, cost
   more than the known placement is fixed at what it must be (bound propagation), and leaves the program;
2. times are counted in units in which the known placement takes 1024, and costs so that it costs 1024.

When a placement is found that costs less than :data:`LEAST` of those units, the same is done again with that one.

References
----------
Savelsbergh (1994), preprocessing and probing techniques for mixed integer programming.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kvopt.exact.program import Program, restricted

LEAST, _MOST = 0.1, 1e7
"""In units of the program: between these a placement's cost is far from the tolerances and from losing digits."""
_SPREAD = 1e5
"""Entries up to this are left as they are."""
_TARGET = 1024.0
_SWEEPS = 6
"""Of bound propagation, at most."""
_SLACK = 1e-6
"""Relative: how much dearer than the known placement a decision must be to be fixed."""
_TINY_SHARE = 1e-8
"""A share of a read that cannot exceed this is none: it is worth no more than that share of what it costs."""


@dataclass(frozen=True, eq=False)
class Scaled:
    """A program for HiGHS, and the way back to the program it was made of (n columns).

    Parameters
    ----------
    program : Program
    keep : bool[n]
        The columns that it has.
    fixed : float64[n]
        The values of the others.
    factor : float64[n]
        What a unit of its columns is in the program it was made of.
    """

    program: Program
    keep: np.ndarray
    fixed: np.ndarray
    factor: np.ndarray

    @classmethod
    def same(cls, program: Program) -> Scaled:
        """The program itself."""
        n = len(program.cost)
        return cls(program, np.ones(n, bool), np.zeros(n), np.ones(n))

    def original(self, values: np.ndarray) -> np.ndarray:
        """float64[n]: a solution in the columns of the program it was made of."""
        found = self.fixed.copy()
        found[self.keep] = values
        return found * self.factor

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """The way there, for a solution that costs no more than the known placement."""
        return (values / self.factor)[self.keep]


def scaled_to(program: Program, objective: float, latency_s: float, shares: slice) -> Scaled:
    """The program at the scale of a known placement; as it is where that scale is its own.

    Parameters
    ----------
    program : Program
        Without columns of a user's own objective.
    objective, latency_s : float
        Of the known placement.
    shares : slice
        The columns before the slot times that need not be whole where the program is at its best.
    """
    if not _needs(program, objective):
        return Scaled.same(program)
    n_times = program.n_slots + len(program.steps.tails) * (1 + program.n_slots // program.steps.n_lanes)
    is_time = np.zeros(len(program.cost), bool)
    is_time[program.slot_column : program.slot_column + n_times] = True
    lower, upper = _bounds(program, objective / program.unit, shares)
    keep, values = is_time | (lower < upper), lower
    program = _with_less_room_for_late_steps(program, upper)
    by_time = _power(_TARGET * program.time_unit_s, _reference_s(program, latency_s))
    by_cost = _power(_TARGET * program.unit, objective)
    factor = np.where(is_time, 1.0 / by_time, 1.0)
    row_factor = np.ones(len(program.row_upper))
    row_factor[_time_rows(program)] = by_time
    matrix = program.matrix.multiply(row_factor[:, None]).multiply(factor[None, :]).tocsc()
    matrix.sort_indices()
    scaled = replace(
        program,
        cost=program.cost * factor * by_cost,
        lower=program.lower / factor,
        upper=program.upper / factor,
        matrix=matrix,
        row_lower=program.row_lower * row_factor,
        row_upper=program.row_upper * row_factor,
        unit=program.unit / by_cost,
        time_unit_s=program.time_unit_s / by_time,
        offset=program.offset * by_cost,
    )
    return Scaled(restricted(scaled, keep, values), keep, np.where(keep, 0.0, values), factor)


def _needs(program: Program, objective: float) -> bool:
    """Whether what is known costs too little or too much, or an entry is far from 1."""
    if not objective > 0:
        return False
    value = objective / program.unit
    times = np.abs(program.matrix.tocsr()[_time_rows(program)].data)
    return (
        not LEAST <= value <= _MOST
        or times.max(initial=0.0) > _SPREAD
        or np.abs(program.cost).max(initial=0.0) > _SPREAD * max(value, 1.0)
    )


def _reference_s(program: Program, latency_s: float) -> float:
    """Seconds that matter: the known placement's, or with deadlines what all steps may take if that is less."""
    n_steps = program.n_slots // program.steps.n_lanes
    return min([latency_s, *(deadline * program.time_unit_s * n_steps for _, deadline in program.steps.deadlines)])


def _power(wanted: float, known: float) -> float:
    """The power of two next to their ratio, by which nothing is rounded."""
    return 2.0 ** round(math.log2(wanted / known)) if known > 0 and wanted > 0 else 1.0


def _time_rows(program: Program) -> slice:
    """The rows of times: of slots, of tails and of deadlines."""
    n_steps = program.n_slots // program.steps.n_lanes
    n_steps *= len(program.steps.tails) + len(program.steps.deadlines)
    return slice(program.slot_row, program.slot_row + program.n_channels * program.n_slots + n_steps)


def _bounds(program: Program, cutoff: float, shares: slice) -> tuple[np.ndarray, np.ndarray]:
    """float64[n] each: the columns' bounds; equal where no placement up to the cutoff has any other value."""
    lower, upper = program.lower.copy(), program.upper.copy()
    part = program.matrix.tocsr()[_time_rows(program)].tocoo()
    priced = np.flatnonzero(program.cost)
    row = np.concatenate([part.row, np.full(len(priced), part.shape[0])])
    column = np.concatenate([part.col, priced])
    value = np.concatenate([part.data, program.cost[priced]])
    room = np.append(program.row_upper[_time_rows(program)], cutoff * (1 + _SLACK) - program.offset)
    # At the program's best, moves and the shares of nearest reads are whole although no rule says so.
    none_below = np.where(program.integer, 1 - _SLACK, 0.0)
    none_below[: program.slot_column] = 1 - _SLACK
    none_below[shares] = _TINY_SHARE
    single = program.upper == 1
    for _ in range(_SWEEPS):
        before = lower.sum() - np.minimum(upper, 1e300).sum()
        _propagate(row, column, value, room, lower, upper)
        none = single & (upper < none_below)
        lower[none] = upper[none] = 0.0
        one = single & program.integer & (lower > _SLACK)
        lower[one] = upper[one] = 1.0
        if lower.sum() - np.minimum(upper, 1e300).sum() == before:
            break
    undecided = single & (lower < upper)
    lower[undecided] = 0.0
    return lower, upper


def _with_less_room_for_late_steps(program: Program, upper: np.ndarray) -> Program:
    """The program in which a late step has room for what its slots may take, and no more."""
    steps, n_slots = program.steps, program.n_slots
    if not steps.deadlines:
        return program
    longest = upper[program.slot_column : program.slot_column + n_slots].reshape(-1, steps.n_lanes).sum(axis=1)
    longest = np.minimum(longest, 1e300)
    first = program.slot_column + n_slots + len(steps.tails) * (1 + len(longest))
    matrix = program.matrix.copy()
    for d, (_, deadline) in enumerate(steps.deadlines):
        columns = first + d * len(longest) + np.arange(len(longest))
        entry = matrix.indptr[columns]
        there = matrix.indptr[columns + 1] > entry
        # deadline - longest: at least what it was, at most 0.
        at = entry[there]
        matrix.data[at] = np.maximum(matrix.data[at], np.minimum(deadline - longest[there], 0.0))
    return replace(program, matrix=matrix)


def _propagate(row, column, value, room, lower, upper) -> None:
    """Tighten the columns' bounds, in place, by each row sum(value * x) <= room."""
    with np.errstate(invalid="ignore"):
        least = np.where(value > 0, value * lower[column], value * upper[column])
    unlimited = ~np.isfinite(least)
    finite = np.where(unlimited, 0.0, least)
    n_rows = len(room)
    total, size = np.bincount(row, finite, n_rows), np.bincount(row, np.abs(finite), n_rows)
    others = np.bincount(row, unlimited, n_rows)[row] - unlimited
    # What is left for an entry when all others of its row are at their least, less nothing that rounding could hide.
    left = room[row] - (total[row] - finite) + 1e-12 * (np.abs(room) + size)[row]
    known = (others == 0) & np.isfinite(left)
    up, down = known & (value > 0), known & (value < 0)
    np.minimum.at(upper, column[up], np.maximum(left[up] / value[up], lower[column[up]]))
    np.maximum.at(lower, column[down], np.minimum(left[down] / value[down], upper[column[down]]))
