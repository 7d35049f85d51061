r"""Capacity rows in which a byte counts, whatever the sizes: whole numbers, in digits where one row cannot hold them.

Sizes and capacities are whole bytes, but a solver of floating-point numbers takes a row for kept when it is broken by
less than its tolerance, and forgets coefficients that are small beside the largest. In a row of blocks of a gigabyte
and of a few bytes, that lets a byte too much in, or keeps out what fits.

So the row :math:`\sum_i s_i z_i \le C` is divided by the greatest common divisor of the sizes, and where a size is then
longer than a digit (base :math:`B = 2^{14}`), it is written as one row a digit. With :math:`s_i = \sum_d s_{id} B^d`
and :math:`C = \sum_d c_d B^d` these are

.. math:: \sum_i s_{id} z_i + q_d - B\, q_{d+1} \le c_d, \quad q_0 = 0, \quad q_d \in \{0, 1, 2, \ldots\}

The last digit's row has no :math:`q_{d+1}` and an unlimited digit :math:`c_d`. The carry :math:`q_{d+1}` is at least
what the digits up to d make beyond those of C, in units of :math:`B^{d+1}`; since that is rounded up to a whole number,
the rows hold exactly when the bytes fit. Over carries that need not be whole they are the row as it was, so the linear
relaxation is the same. No entry exceeds B, no violation is less than 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from kvopt.exact.layout import Layout
from kvopt.exact.program import Program
from kvopt.instance import Instance
from kvopt.lowering import Lowered

_BITS = 14
"""Of a digit: 1e-9 of a carry, the tolerance for whole numbers, is then far from a unit of the digit below it."""
_FINE = 1e-5
"""Of the unit of bytes: a row is good as it is where sizes are multiples of at least this."""
_ALIKE, _SMALL, _LARGE = 1e-4, 1e-2, 5_000
"""From ``_LARGE`` columns on, also where no size is below ``_ALIKE`` of the largest, and that not below ``_SMALL`` of
the unit: such a row hides single bytes at most, which shows as soon as a solution is made whole, and carries would slow
HiGHS down."""


def with_exact_rows(
    program: Program, instance: Instance, low: Lowered, layout: Layout, *, always: bool = False
) -> Program:
    """The program with capacity rows that hold exactly when the bytes fit; unchanged where they do already.

    Parameters
    ----------
    program : Program
        Of the instance; without carries.
    instance : Instance
    low : Lowered
    layout : Layout
    always : bool
        Also where the rows are as good for HiGHS's tolerances.
    """

    def good(held: np.ndarray) -> bool:
        return not always and _good(held, low, len(program.cost))

    made, row = [], layout.capacity_row
    for part, tier in enumerate(layout.placed):
        slots = np.flatnonzero(low.live_bytes > low.capacity_bytes[tier])
        made.append(_digits(instance, layout, part, slots, row, good))
        row += len(slots)
    program = replace(program, upper=_of_what_fits(program, instance, layout))
    made = [digits for digits in made if digits is not None]
    return _rewritten(program, made) if made else program


def _of_what_fits(program: Program, instance: Instance, layout: Layout) -> np.ndarray:
    """float64[n]: the columns' upper bounds, 0 where a block is larger than the tier, to the byte."""
    upper, size = program.upper.copy(), np.asarray(instance.trace.size_bytes, np.int64)
    for part, tier in enumerate(layout.placed):
        if math.isfinite(instance.fillable_bytes[tier]):
            larger = size > int(instance.fillable_bytes[tier])
            upper[part * layout.n_pairs : (part + 1) * layout.n_pairs][larger[layout.pair_block]] = 0.0
    return upper


@dataclass(frozen=True, eq=False)
class _Digits:
    """The rows of one tier.

    Parameters
    ----------
    row : int
        The first of the rows they replace, one for each slot.
    column, entry : int64[P]
        The residency column of each pair that fits, and which of the rows it is in.
    digit : list of int64[P]
        Of each pair's size, the lowest digit first.
    capacity : list of int
    """

    row: int
    n_rows: int
    column: np.ndarray
    entry: np.ndarray
    digit: list[np.ndarray]
    capacity: list[int]

    @property
    def n_carries(self) -> int:
        """Columns that are added."""
        return (len(self.digit) - 1) * self.n_rows


def _good(held: np.ndarray, low: Lowered, n_columns: int) -> bool:
    """Whether a row of the page does for blocks of these sizes: HiGHS's tolerances hide nothing, or nothing unseen."""
    unit, largest = low.size_bytes.mean(), held.max()
    if np.gcd.reduce(np.unique(held)) >= _FINE * unit:
        return True
    return n_columns >= _LARGE and held.min() >= _ALIKE * largest and largest >= _SMALL * unit


def _digits(
    instance: Instance,
    layout: Layout,
    part: int,
    slots: np.ndarray,
    row: int,
    good: Callable[[np.ndarray], bool],
) -> _Digits | None:
    """The rows of a tier, by its place among the tiers that are decided on; None where the program's own will do."""
    size = np.asarray(instance.trace.size_bytes, np.int64)
    capacity = instance.fillable_bytes[layout.placed[part]]
    if not len(slots):
        return None
    capacity = int(capacity)
    entry_of_slot = np.full(layout.n_slots, -1)
    entry_of_slot[slots] = np.arange(len(slots))
    pair = np.flatnonzero((entry_of_slot[layout.pair_slot] >= 0) & (size[layout.pair_block] <= capacity))
    if not len(pair):
        return None
    held = size[layout.pair_block[pair]]
    divisor = int(np.gcd.reduce(np.unique(held)))
    largest = int(held.max()) // divisor
    if good(held):
        return None
    n_digits = max(1, -(-largest.bit_length() // _BITS))
    shifts = [_BITS * d for d in range(n_digits)]
    mask, whole, room = (1 << _BITS) - 1, held // divisor, capacity // divisor
    return _Digits(
        row=row,
        n_rows=len(slots),
        column=part * layout.n_pairs + pair,
        entry=entry_of_slot[layout.pair_slot[pair]],
        digit=[(whole >> shift) & mask for shift in shifts],
        capacity=[(room >> shift) & mask for shift in shifts[:-1]] + [room >> shifts[-1]],
    )


def _rewritten(program: Program, made: list[_Digits]) -> Program:
    """The program with the digits' rows in place of its own, further rows below them, and the carries at the end."""
    n_rows, n_columns = program.matrix.shape
    n_more = sum(digits.n_carries for digits in made)
    old = program.matrix.tocoo()
    kept = np.ones(n_rows, bool)
    for digits in made:
        kept[digits.row : digits.row + digits.n_rows] = False
    kept = kept[old.row]
    entries = [(old.row[kept], old.col[kept], old.data[kept])]
    row_upper = np.concatenate([program.row_upper, np.zeros(n_more)])
    upper, carries, more = np.ones(n_more), [], 0
    for digits in made:
        top, carry = len(digits.digit) - 1, np.zeros(digits.n_rows)
        own = digits.row + np.arange(digits.n_rows)
        for d, digit in enumerate(digits.digit):
            # The last digit's row is where the whole row was; each of the others is new, and so is its carry.
            rows = own if d == top else n_rows + more + np.arange(digits.n_rows)
            entries.append((rows[digits.entry], digits.column, digit))
            row_upper[rows] = digits.capacity[d]
            if d > 0:
                entries.append((rows, carries[-1][1], np.ones(digits.n_rows)))
            if d == top:
                break
            columns = n_columns + more + np.arange(digits.n_rows)
            entries.append((rows, columns, np.full(digits.n_rows, -float(1 << _BITS))))
            most = np.bincount(digits.entry, digit, digits.n_rows) + carry
            carry = np.ceil(np.maximum(most - digits.capacity[d], 0.0) / (1 << _BITS))
            upper[columns - n_columns] = carry
            carries.append((rows, columns))
            more += digits.n_rows
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    matrix = sparse.coo_array((value.astype(float), (row, column)), (n_rows + n_more, n_columns + n_more)).tocsc()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return replace(
        program,
        cost=np.concatenate([program.cost, np.zeros(n_more)]),
        lower=np.concatenate([program.lower, np.zeros(n_more)]),
        upper=np.concatenate([program.upper, upper]),
        matrix=matrix,
        row_lower=np.concatenate([program.row_lower, np.full(n_more, -np.inf)]),
        row_upper=row_upper,
        integer=np.concatenate([program.integer, np.ones(n_more, bool)]),
        carries=tuple(carries),
    )
