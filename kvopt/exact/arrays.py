"""The model of :mod:`kvopt.models.placement` straight into arrays, column by column and row by row the same.

Pyomo's page is what a person reads; for hundreds of thousands of columns it takes seconds to build, these arrays
hundredths. A test holds the two equal.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from kvopt.exact.layout import Layout
from kvopt.exact.program import Program
from kvopt.lowering import BACKING, Folded, Lowered


def build(low: Lowered, layout: Layout) -> Program:
    """The placement problem as a mixed-integer program.

    Parameters
    ----------
    low : Lowered
    layout : Layout
        Of the same instance.
    """
    byte_unit = low.size_bytes.mean()
    folded = Folded.of(low)
    reads = np.stack([folded.op[1, k, k] for k in range(2)])
    unit = byte_unit * (reads.max() or folded.op.max()) or 1.0
    parts = [_capacity(low, layout, byte_unit), _usable_from_next_slot(layout), _slot_time(low, folded, layout, unit)]
    if not layout.inclusive:
        parts.insert(0, _one_tier(layout))
    rows = _Rows.stacked(parts)
    n = layout.n_columns
    upper = np.ones(n)
    upper[n - low.n_slots :] = np.inf
    matrix = sparse.coo_array((rows.value, (rows.row, rows.column)), (len(rows.upper), n)).tocsc()
    matrix.sort_indices()
    return Program(
        cost=np.concatenate([np.zeros(n - low.n_slots), np.ones(low.n_slots)]),
        lower=np.zeros(n),
        upper=upper,
        matrix=matrix,
        row_lower=rows.lower,
        row_upper=rows.upper,
        n_binary=layout.n_residency,
        n_slots=low.n_slots,
        n_channels=low.n_channels,
        unit=float(unit),
    )


class _Rows:
    """Some rows: entries (row, column, value), and bounds that also say how many rows there are."""

    def __init__(self, entries, upper: np.ndarray, lower: np.ndarray | None = None) -> None:
        self.row, self.column, self.value = (
            np.concatenate([np.asarray(a) for a in part]) if part else np.zeros(0, int)
            for part in zip(*entries, strict=True)
        )
        self.upper = upper
        self.lower = np.full(len(upper), -np.inf) if lower is None else lower

    @classmethod
    def stacked(cls, parts: list[_Rows]) -> _Rows:
        """All parts below each other."""
        above = np.cumsum([0, *(len(part.upper) for part in parts)])
        entries = [(part.row + first, part.column, part.value) for part, first in zip(parts, above, strict=False)]
        return cls(entries, np.concatenate([p.upper for p in parts]), np.concatenate([p.lower for p in parts]))


def _one_tier(layout: Layout) -> _Rows:
    """sum_k z[i,k,t] = 1."""
    pair = np.arange(layout.n_pairs)
    one = np.ones(layout.n_pairs)
    return _Rows([(pair, k * layout.n_pairs + pair, one) for k in range(len(layout.placed))], one, one)


def _capacity(low: Lowered, layout: Layout, byte_unit: float) -> _Rows:
    """sum_i s_i z[i,k,t] <= C_k, where the blocks alive exceed C_k."""
    size = low.size_bytes / byte_unit
    entries, upper = [], []
    for k, tier in enumerate(layout.placed):
        full = low.live_bytes > low.capacity_bytes[tier]
        row_of_slot = len(upper) + np.cumsum(full) - 1
        pair = np.flatnonzero(full[layout.pair_slot])
        entries.append((row_of_slot[layout.pair_slot[pair]], k * layout.n_pairs + pair, size[layout.pair_block[pair]]))
        upper += [low.capacity_bytes[tier] / byte_unit] * int(full.sum())
    return _Rows(entries, np.array(upper, float))


def _usable_from_next_slot(layout: Layout) -> _Rows:
    """z[i,k,t+1] <= z[i,k,t] + sum_j m[i,j,k,t]."""
    n_pairs, n_stays = layout.n_pairs, layout.n_stays
    stay, one = np.arange(n_stays), np.ones(n_stays)
    entries = []
    for k, tier in enumerate(layout.placed):
        row = k * n_stays + stay
        entries.append((row, k * n_pairs + layout.stay_pair + 1, one))
        entries.append((row, k * n_pairs + layout.stay_pair, -one))
        entries += [
            (row, layout.n_residency + v * n_stays + stay, -one)
            for v, (_, target) in enumerate(layout.moves)
            if target == tier
        ]
    return _Rows(entries, np.zeros(len(layout.placed) * n_stays))


def _slot_time(low: Lowered, folded: Folded, layout: Layout, unit: float) -> _Rows:
    """load[c,t] - L[t] <= -base[c,t], the load of reads, new blocks and moves."""
    n_slots, n_channels = low.n_slots, low.n_channels
    size = low.size_bytes / unit
    op, pair_size = folded.op, size[layout.pair_block]
    read = _read_pairs(low, layout)
    new = layout.ptr[:-1][~low.prefilled]
    is_read = np.zeros(layout.n_pairs, int)
    is_read[read] = 1
    # Where the backing tier keeps everything, a copy's column changes what is done there into what is done here.
    other = op[:, BACKING, BACKING] if layout.inclusive else np.zeros((2, n_channels))
    slot = np.arange(n_slots)
    entries = []
    base = folded.base / unit
    for c in range(n_channels):
        row = c * n_slots + layout.pair_slot
        base[c] += np.bincount(layout.pair_slot, pair_size * other[is_read, c], minlength=n_slots)
        for k, tier in enumerate(layout.placed):
            weight = (op[:, tier, tier, c] - other[:, c])[is_read]
            weight[new] += folded.write[tier, c]
            pair = np.flatnonzero(weight)
            entries.append((row[pair], k * layout.n_pairs + pair, (weight * pair_size)[pair]))
        for v, (source, target) in enumerate(layout.moves):
            per_byte = op[:, source, target, c] - op[:, source, source, c]
            weight = per_byte[is_read[layout.stay_pair]]
            stay = np.flatnonzero(weight)
            pair = layout.stay_pair[stay]
            column = layout.n_residency + v * layout.n_stays + stay
            entries.append((row[pair], column, weight[stay] * pair_size[pair]))
        entries.append((c * n_slots + slot, layout.n_columns - n_slots + slot, -np.ones(n_slots)))
    return _Rows(entries, -base.ravel())


def _read_pairs(low: Lowered, layout: Layout) -> np.ndarray:
    """int64[A]: the pairs in which a block is read."""
    run_block = np.repeat(np.arange(low.n_blocks), np.diff(low.run_ptr))
    length = (low.run_stop - low.run_start).astype(np.int64)
    run = np.repeat(np.arange(len(length)), length)
    step = low.run_start[run] + np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    block = run_block[run]
    return layout.pair(block, step * low.n_lanes + low.lane[block])
