"""A mixed-integer linear program as arrays: what both back ends hand to HiGHS."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Program:
    """min cost'x + offset subject to row_lower <= A x <= row_upper, lower <= x <= upper, the first columns binary.

    Rows come in the order in which :mod:`kvopt.models.placement` declares its constraints; the last C * T are
    ``slot_time``, channel by channel.

    Parameters
    ----------
    cost, lower, upper : float64[n]
    matrix : scipy.sparse.csc_array, shape (m, n)
        Row indices ascending in each column.
    row_lower, row_upper : float64[m]
    n_binary, n_slots, n_channels : int
    unit : float
        What a unit of the cost is in the objective's own unit: seconds, for the decode time.
    offset : float
        Added to cost'x.
    """

    cost: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    matrix: sparse.csc_array
    row_lower: np.ndarray
    row_upper: np.ndarray
    n_binary: int
    n_slots: int
    n_channels: int
    unit: float
    offset: float = 0.0

    def complete(self, decisions: np.ndarray) -> np.ndarray:
        """float64[n]: the decisions with the least slot times they allow.

        Parameters
        ----------
        decisions : float64[n]
            With slot times of 0.
        """
        slot_time = slice(len(self.row_upper) - self.n_channels * self.n_slots, None)
        load = (self.matrix @ decisions)[slot_time] - self.row_upper[slot_time]
        values = decisions.copy()
        values[len(values) - self.n_slots :] = load.reshape(self.n_channels, self.n_slots).max(axis=0)
        return values
