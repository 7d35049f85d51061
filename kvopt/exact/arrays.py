"""The model of :mod:`kvopt.models.placement` straight into arrays, column by column and row by row the same.

Pyomo's page is what a person reads; for hundreds of thousands of columns it takes seconds to build, these arrays
hundredths. A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kvopt.exact.by_tier import ByTier
from kvopt.exact.layout import Layout
from kvopt.exact.program import Program, Steps
from kvopt.lowering import Lowered


def build(low: Lowered, layout: Layout) -> Program:
    """The placement problem as a mixed-integer program.

    Parameters
    ----------
    low : Lowered
    layout : Layout
        Of the same instance.
    """
    units = _Units.of(low, ByTier.seconds(low, layout))
    steps = Steps.of(low.prices, low.n_steps, low.n_lanes, units.time_s, units.cost)
    uses = list(_uses(low, layout))
    placing = [*_residency(low, layout, units.bytes), *_moves(layout), *_reads(layout)]
    timing = [_slot_time(low, layout, uses, units), *_step_times(low, layout, steps, units)]
    rows = _Rows.stacked(placing + timing)
    n = layout.slot_column + low.n_slots + steps.n_columns(low.n_steps)
    cost, offset = _cost(low, layout, uses, steps, units)
    too_large = np.zeros(n, bool)
    too_large[: layout.n_residency] = np.concatenate(
        [low.size_bytes[layout.pair_block] > low.capacity_bytes[tier] for tier in layout.placed]
    )
    late = np.zeros(n, bool)
    late[n - len(steps.deadlines) * low.n_steps :] = True
    upper = np.where(late | (np.arange(n) < layout.slot_column), 1.0, np.inf)
    upper[too_large] = 0.0
    matrix = sparse.coo_array((rows.value, (rows.row, rows.column)), (len(rows.upper), n)).tocsc()
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return Program(
        cost=cost,
        lower=np.zeros(n),
        upper=upper,
        matrix=matrix,
        row_lower=rows.lower,
        row_upper=rows.upper,
        integer=late | (np.arange(n) < layout.n_residency),
        slot_column=layout.slot_column,
        slot_row=sum(len(part.upper) for part in placing),
        n_slots=low.n_slots,
        n_channels=low.n_channels,
        unit=units.cost,
        time_unit_s=units.time_s,
        offset=offset,
        steps=steps,
    )


@dataclass(frozen=True)
class _Units:
    """Those of the model's page."""

    bytes: float
    time_s: float
    cost: float

    @classmethod
    def of(cls, low: Lowered, seconds: ByTier) -> _Units:
        prices, byte_unit, read_s = low.prices, float(low.size_bytes.mean()), float(seconds.read.max())
        second = prices.per_second + sum(weight for weight, _ in prices.tails)
        by_byte = (prices.read, prices.write, prices.move_out, prices.hold)
        dearest = max(second * read_s, *(float(price.max()) for price in by_byte))
        late = max((weight for weight, _ in prices.deadlines), default=0.0)
        return cls(byte_unit, byte_unit * read_s or 1.0, byte_unit * dearest or late or 1.0)


class _Rows:
    """Some rows: entries (row, column, value), and bounds that also say how many rows there are."""

    def __init__(self, entries, upper: np.ndarray, lower: np.ndarray | None = None) -> None:
        self.row, self.column, self.value = (
            np.concatenate([np.asarray(a) for a in part]) if part else np.zeros(0, int)
            for part in (zip(*entries, strict=True) if entries else ((), (), ()))
        )
        self.upper = upper
        self.lower = np.full(len(upper), -np.inf) if lower is None else lower

    @classmethod
    def stacked(cls, parts: list[_Rows]) -> _Rows:
        """All parts below each other."""
        above = np.cumsum([0, *(len(part.upper) for part in parts)])
        entries = [(part.row + first, part.column, part.value) for part, first in zip(parts, above, strict=False)]
        return cls(entries, np.concatenate([p.upper for p in parts]), np.concatenate([p.lower for p in parts]))


def _stays(layout: Layout, part: int) -> np.ndarray:
    """int64[Q]: z of the tier ``placed[part]`` in the slot of each stay."""
    return part * layout.n_pairs + layout.stay_pair


def _moved(layout: Layout, v: int) -> np.ndarray:
    """int64[Q]: the columns of a move."""
    return layout.n_residency + v * layout.n_stays + np.arange(layout.n_stays)


def _share(layout: Layout, k: int) -> np.ndarray:
    """int64[A]: the shares read from tier k."""
    return layout.first_share + k * len(layout.read_pair) + np.arange(len(layout.read_pair))


def _residency(low: Lowered, layout: Layout, byte_unit: float) -> list[_Rows]:
    """Where a block may be."""
    pair, one = np.arange(layout.n_pairs), np.ones(layout.n_pairs)
    parts = range(len(layout.placed))
    found = []
    if layout.exclusive:
        entries = [(pair, k * layout.n_pairs + pair, one) for k in parts]
        found.append(_Rows(entries, one, one))
    if layout.write_back:
        entries = [(pair, k * layout.n_pairs + pair, -one) for k in parts]
        found.append(_Rows(entries, -one))
    given = np.flatnonzero(low.initial >= 0)
    held = low.holds[low.initial[given]][:, layout.placed].T.ravel().astype(float)
    begins = np.concatenate([k * layout.n_pairs + layout.ptr[given] for k in parts])
    found.append(_Rows([(np.arange(len(held)), begins, np.ones(len(held)))], held, held))
    found.append(_capacity(low, layout, byte_unit))
    return found


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


def _moves(layout: Layout) -> list[_Rows]:
    """How a block gets where it is: copied from the nearest tier that holds it."""
    n = layout.n_stays
    stay, one = np.arange(n), np.ones(n)
    entries = []
    for k, tier in enumerate(layout.placed):
        row = k * n + stay
        entries += [(row, _stays(layout, k) + 1, one), (row, _stays(layout, k), -one)]
        entries += [(row, _moved(layout, v), -one) for v, (_, target) in enumerate(layout.moves) if target == tier]
    found = [_Rows(entries, np.zeros(len(layout.placed) * n))]
    if layout.n_tiers == 2:
        return found
    for v, (source, _) in enumerate(layout.moves):
        if source in layout.placed:
            entries = [(stay, _moved(layout, v), one), (stay, _stays(layout, layout.placed.index(source)), -one)]
            found.append(_Rows(entries, np.zeros(n)))
    for v, h in faster_sources(layout):
        entries = [(stay, _moved(layout, v), one), (stay, _stays(layout, layout.placed.index(h)), one)]
        found.append(_Rows(entries, one))
    return found


def faster_sources(layout: Layout) -> list[tuple[int, int]]:
    """(number of a move, tier faster than its source), for the rows that make the nearest copy the source."""
    if layout.exclusive or layout.n_tiers == 2:
        return []
    return [(v, h) for v, (j, k) in enumerate(layout.moves) for h in range(j) if h != k]


def _reads(layout: Layout) -> list[_Rows]:
    """What is read, where z does not say it by itself."""
    if not layout.shared:
        return []
    n = len(layout.read_pair)
    read, one = np.arange(n), np.ones(n)
    found = [_Rows([(read, _share(layout, k), one) for k in range(layout.n_tiers)], one, one)]
    for part, k in enumerate(layout.placed):
        held = part * layout.n_pairs + layout.read_pair
        found.append(_Rows([(read, _share(layout, k), one), (read, held, -one)], np.zeros(n)))
    for k in range(layout.n_tiers - 1) if not layout.balanced else ():
        entries = [(read, _share(layout, j), -one) for j in range(k + 1)]
        entries.append((read, k * layout.n_pairs + layout.read_pair, one))
        found.append(_Rows(entries, np.zeros(n)))
    return found


@dataclass(frozen=True, eq=False)
class _Use:
    """Columns that all do the same with each byte of their blocks.

    Parameters
    ----------
    column : int64[n] or None
        None for what is done whatever is decided.
    pair : int64[n]
        The block and slot of each.
    seconds : float64[C]
        For each byte.
    charge : float
    """

    column: np.ndarray | None
    pair: np.ndarray
    seconds: np.ndarray
    charge: float


def _uses(low: Lowered, layout: Layout) -> Iterator[_Use]:
    """Reads, new blocks, holding and moves."""
    seconds, charges = ByTier.seconds(low, layout), ByTier.charges(low, layout)
    nothing = np.zeros(low.n_channels)
    yield from _read_uses(layout, seconds, charges)
    pair, new = np.arange(layout.n_pairs), layout.ptr[:-1][~low.prefilled]
    yield _Use(None, pair, nothing, float(charges.everywhere[0]))
    for part, k in enumerate(layout.placed):
        yield _Use(part * layout.n_pairs + new, new, seconds.write[k], float(charges.write[k, 0]))
        yield _Use(part * layout.n_pairs + pair, pair, nothing, float(charges.hold[k, 0]))
    is_read = np.zeros(layout.n_pairs, bool)
    is_read[layout.read_pair] = True
    is_read = is_read[layout.stay_pair]
    for v in range(len(layout.moves)):
        for r in (0, 1):
            which = is_read == bool(r)
            column, pair = _moved(layout, v)[which], layout.stay_pair[which]
            yield _Use(column, pair, seconds.move[r, v], float(charges.move[r, v, 0]))


def _read_uses(layout: Layout, seconds: ByTier, charges: ByTier) -> Iterator[_Use]:
    read = layout.read_pair
    if layout.shared or layout.exclusive:
        for k in range(layout.n_tiers):
            column = _share(layout, k) if layout.shared else k * layout.n_pairs + read
            yield _Use(column, read, seconds.read[k], float(charges.read[k, 0]))
        return
    # In two tiers, the copy in the fast one turns a read of the other into a read of it.
    yield _Use(None, read, seconds.read[1], float(charges.read[1, 0]))
    yield _Use(read, read, seconds.read[0] - seconds.read[1], float(charges.read[0, 0] - charges.read[1, 0]))


def _slot_time(low: Lowered, layout: Layout, uses: list[_Use], units: _Units) -> _Rows:
    """load[c,t] - L[t] <= -base[c,t], the load of reads, new blocks and moves."""
    n_slots, slot = low.n_slots, np.arange(low.n_slots)
    size = (low.size_bytes / units.time_s)[layout.pair_block]
    base = low.base_s / units.time_s
    entries = []
    for c in range(low.n_channels):
        for use in uses:
            if not use.seconds[c]:
                continue
            load = use.seconds[c] * size[use.pair]
            if use.column is None:
                base[c] += np.bincount(layout.pair_slot[use.pair], load, n_slots)
            else:
                entries.append((c * n_slots + layout.pair_slot[use.pair], use.column, load))
        entries.append((c * n_slots + slot, layout.slot_column + slot, -np.ones(n_slots)))
    return _Rows(entries, -base.ravel())


def _step_times(low: Lowered, layout: Layout, steps: Steps, units: _Units) -> list[_Rows]:
    """What steps take beyond the threshold of a tail, and beyond a deadline."""
    n = low.n_steps
    step, one = np.arange(n), np.ones(n)
    slot = np.arange(low.n_slots)
    length = (slot // low.n_lanes, layout.slot_column + slot, np.ones(low.n_slots))
    eta = layout.slot_column + low.n_slots
    excess = eta + len(steps.tails)
    late = excess + len(steps.tails) * n
    found = []
    for v in range(len(steps.tails)):
        entries = [length, (step, np.full(n, eta + v), -one), (step, excess + v * n + step, -one)]
        found.append(_Rows(entries, np.zeros(n)))
    for d, (_, deadline) in enumerate(steps.deadlines):
        longest = _longest(low, layout) / units.time_s
        entries = [length, (step, late + d * n + step, deadline - longest)]
        found.append(_Rows(entries, np.full(n, deadline)))
    return found


def _longest(low: Lowered, layout: Layout) -> np.ndarray:
    """float64[N]: seconds that a step takes at most: on every channel, each block is where that takes longest."""
    is_read = np.zeros(layout.n_pairs, int)
    is_read[layout.read_pair] = 1
    stays = np.zeros(layout.n_pairs, bool)
    stays[layout.stay_pair] = True
    size = low.size_bytes[layout.pair_block]
    moving = low.op_s_per_byte.max(axis=(1, 2))
    staying = low.op_s_per_byte.diagonal(axis1=1, axis2=2).max(axis=-1)
    new = ~low.prefilled
    busy = low.base_s.copy()
    for c in range(low.n_channels):
        most = np.where(stays, moving[is_read, c], staying[is_read, c])
        busy[c] += np.bincount(layout.pair_slot, most * size, low.n_slots)
        written = low.write_s_per_byte[:, c].max() * low.size_bytes[new]
        busy[c] += np.bincount(low.birth_slot[new], written, low.n_slots)
    return busy.max(axis=0).reshape(low.n_steps, low.n_lanes).sum(axis=1)


def _cost(low: Lowered, layout: Layout, uses: list[_Use], steps: Steps, units: _Units) -> tuple[np.ndarray, float]:
    """float64[n], and what is charged whatever is decided."""
    size = (low.size_bytes / units.cost)[layout.pair_block]
    decided, offset = np.zeros(layout.slot_column), low.base_price / units.cost
    for use in uses:
        if not use.charge:
            continue
        charge = use.charge * size[use.pair]
        if use.column is None:
            offset += charge.sum()
        else:
            decided[use.column] += charge
    slots = np.full(low.n_slots, low.prices.per_second * units.time_s / units.cost)
    eta = np.array([weight for weight, _ in steps.tails])
    excess = [np.full(low.n_steps, weight / count) for weight, count in steps.tails]
    late = [np.full(low.n_steps, weight) for weight, _ in steps.deadlines]
    return np.concatenate([decided, slots, eta, *excess, *late]), float(offset)
