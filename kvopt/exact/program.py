"""A mixed-integer linear program as arrays: what both back ends hand to HiGHS."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import sparse

from kvopt.objective import LATE, Prices, tail_steps


@dataclass(frozen=True)
class Steps:
    """What an objective makes of single steps: the variables eta, excess and late of the model's page.

    Parameters
    ----------
    n_lanes : int
        Slots in a step.
    tails : tuple of (float, float)
        (cost of a time unit, how many of the longest steps it is the mean of).
    deadlines : tuple of (float, float)
        (cost of a late step, time units from which on it is late).
    """

    n_lanes: int = 1
    tails: tuple[tuple[float, float], ...] = ()
    deadlines: tuple[tuple[float, float], ...] = ()

    @classmethod
    def of(cls, prices: Prices, n_steps: int, n_lanes: int, time_unit_s: float, cost_unit: float) -> Steps:
        """In the program's units; what costs nothing is left out."""
        tails = [(w * time_unit_s / cost_unit, tail_steps(n_steps, share)) for w, share in prices.tails if w > 0]
        late = [(w / cost_unit, seconds * (1 + LATE) / time_unit_s) for w, seconds in prices.deadlines if w > 0]
        return cls(n_lanes, tuple(tails), tuple(late))

    def n_columns(self, n_steps: int) -> int:
        """Of eta, excess and late."""
        return len(self.tails) * (1 + n_steps) + len(self.deadlines) * n_steps

    def complete(self, slot_times: np.ndarray) -> np.ndarray:
        """float64: eta, excess and late at their best.

        Parameters
        ----------
        slot_times : float64[T]
        """
        length = slot_times.reshape(-1, self.n_lanes).sum(axis=1)
        longest = np.sort(length)[::-1]
        # Whole steps of a tail that count in full lie above it; the next one, in part or not at all, is the threshold.
        eta = np.array([longest[int(np.ceil(count)) - 1] for _, count in self.tails])
        excess = [np.maximum(length - at, 0.0) for at in eta]
        late = [(length > deadline).astype(float) for _, deadline in self.deadlines]
        return np.concatenate([eta, *excess, *late])


@dataclass(frozen=True, eq=False)
class Program:
    """min cost'x + offset subject to row_lower <= A x <= row_upper, lower <= x <= upper, some columns integer.

    Columns and rows come in the order in which :mod:`kvopt.models.placement` declares them.

    Parameters
    ----------
    cost, lower, upper : float64[n]
    matrix : scipy.sparse.csc_array, shape (m, n)
        Row indices ascending in each column.
    row_lower, row_upper : float64[m]
    integer : bool[n]
    slot_column : int
        The first of the ``n_slots`` columns L; z, m and r are before it, what completes them after it.
    slot_row : int
        The first of the rows ``slot_time``, channel by channel.
    n_slots, n_channels : int
    unit : float
        What a unit of the cost is in the objective's own unit: seconds, for the decode time.
    time_unit_s : float
        Seconds in a unit of the columns L.
    offset : float
        Added to cost'x.
    steps : Steps
    carries : tuple of (int64[m], int64[m])
        Rows and the columns that carry what is too much in them to the next: see :mod:`kvopt.exact.capacity`. The
        columns are the last ones.
    """

    cost: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    matrix: sparse.csc_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    integer: np.ndarray
    slot_column: int
    slot_row: int
    n_slots: int
    n_channels: int
    unit: float
    time_unit_s: float
    offset: float = 0.0
    steps: Steps = field(default_factory=Steps)
    carries: tuple[tuple[np.ndarray, np.ndarray], ...] = ()

    def complete(self, decisions: np.ndarray) -> np.ndarray:
        """float64[n]: the decisions with the least times they allow, what steps are at those times, and the carries.

        Columns that a user's own objective has added are nan: only it knows them.

        Parameters
        ----------
        decisions : float64[slot_column]
        """
        rows = slice(self.slot_row, self.slot_row + self.n_channels * self.n_slots)
        load = (self.matrix[:, : self.slot_column] @ decisions)[rows] - self.row_upper[rows]
        slot_times = np.maximum(load.reshape(self.n_channels, self.n_slots).max(axis=0), 0.0)
        known = np.concatenate([decisions, slot_times, self.steps.complete(slot_times)])
        values = np.concatenate([known, np.full(len(self.cost) - len(known), np.nan)])
        by_row = self.matrix.tocsr() if self.carries else None
        for rows, columns in self.carries:
            values[columns] = 0.0
            part = by_row[rows]
            base = -part[np.arange(len(rows)), columns]
            values[columns] = np.ceil(np.maximum(part @ values - self.row_upper[rows], 0.0) / base)
        return values

    def value(self, values: np.ndarray) -> float:
        """A solution's cost in the objective's own unit."""
        return float((self.cost @ values + self.offset) * self.unit)


def restricted(program: Program, keep: np.ndarray, values: np.ndarray) -> Program:
    """The program in some columns, bool[n], all others at their values, float64[n].

    Rows without any of the columns are left out: they hold, or the values are not feasible.
    """
    matrix = program.matrix
    known = matrix[:, np.flatnonzero(~keep)] @ values[~keep]
    part = matrix[:, np.flatnonzero(keep)].tocsr()
    rows = np.flatnonzero(np.diff(part.indptr))
    part = part[rows].tocsc()
    part.sort_indices()
    return replace(
        program,
        cost=program.cost[keep],
        lower=program.lower[keep],
        upper=program.upper[keep],
        matrix=part,
        row_lower=(program.row_lower - known)[rows],
        row_upper=(program.row_upper - known)[rows],
        integer=program.integer[keep],
        offset=program.offset + float(program.cost[~keep] @ values[~keep]),
        carries=(),
    )
