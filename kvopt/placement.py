"""Where every block is, when: intervals of its life, each in one state."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np

from kvopt.arguments import expect, whole
from kvopt.errors import PlacementError, TraceError, shown
from kvopt.frozen import ReadOnlyArrays
from kvopt.instance import Instance
from kvopt.memory import check_fits
from kvopt.tallies import block_ranges, owners, slices
from kvopt.trace import PREFILL
from kvopt.trace_checks import whole_numbers

MOST_STATE = 126
"""States are int8."""


class ViolationKind(Enum):
    """What a placement breaks."""

    CAPACITY = "capacity"
    LIFETIME = "lifetime"
    ORDER = "order"
    STATE = "state"
    INITIAL = "initial"


@dataclass(frozen=True)
class Violation:
    """One broken rule.

    Parameters
    ----------
    kind : ViolationKind
    tier : str
    slot : int
    block : int or None
        The block concerned; for a capacity, the last one to have entered the tier.
    amount_bytes : float
        How much too much; otherwise the block's size.
    """

    kind: ViolationKind
    tier: str
    slot: int
    block: int | None
    amount_bytes: float

    def __str__(self) -> str:
        last = "" if self.block is None else f" (last entered: block {self.block})"
        what = {
            ViolationKind.CAPACITY: f"holds {self.amount_bytes:.6g} bytes too much{last}",
            ViolationKind.LIFETIME: f"holds block {self.block} ({self.amount_bytes:.6g} bytes) while it does not exist",
            ViolationKind.ORDER: f"has overlapping or empty intervals of block {self.block}",
            ViolationKind.STATE: f"has block {self.block} in a state that the rules do not know",
            ViolationKind.INITIAL: f"is not where block {self.block} was given to begin",
        }[self.kind]
        return f"slot {self.slot}: tier {self.tier!r} {what}"


@dataclass(frozen=True, eq=False)
class Placement(ReadOnlyArrays):
    """The states of every block that are not the last one, in which only the backing tier holds it.

    :mod:`kvopt.residency` numbers the states. With two tiers, exclusive or written through, all intervals are of state
    0: the block is in the fast tier (under inclusive copies: in both).

    Parameters
    ----------
    ptr : int64[B + 1]
        The intervals of block i are ``start[ptr[i]:ptr[i+1]]`` and likewise ``stop``.
    start, stop : int64[I]
        The block is in the interval's state during slots ``[start, stop)``. Ascending and disjoint in a block; they
        touch only where the state changes.
    state : int8[I], optional
        0 throughout unless given.

    Raises
    ------
    PlacementError
        When a column is not of whole numbers, or they do not fit together. What a placement breaks of an instance,
        :meth:`violations` says.
    """

    ptr: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    state: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.state is None:
            object.__setattr__(self, "state", np.zeros(np.size(self.start), np.int8))
        for name, dtype in (("ptr", np.int64), ("start", np.int64), ("stop", np.int64), ("state", np.int8)):
            given = _flat(name, getattr(self, name))
            array = _whole(name, given, dtype)
            # What nobody may write to can be shared; the intervals may be gigabytes.
            if array.flags.writeable and np.shares_memory(array, given):
                array = array.copy()
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        ptr, count = self.ptr, len(self.start)
        if len(ptr) < 1 or ptr[0] != 0 or ptr[-1] != count or (ptr[1:] < ptr[:-1]).any():
            raise PlacementError("ptr", "does not index the intervals", "Let it ascend from 0 to their number")
        for name in ("stop", "state"):
            if len(getattr(self, name)) != count:
                raise PlacementError(name, f"has another length than start ({count})", "Give one an interval")

    @property
    def block(self) -> np.ndarray:
        """int64[I]: the block of each interval."""
        return np.repeat(np.arange(len(self.ptr) - 1), np.diff(self.ptr))

    @property
    def n_intervals(self) -> int:
        """Number of intervals I."""
        return len(self.start)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Placement):
            return NotImplemented
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in ("ptr", "start", "stop", "state"))

    __hash__ = None

    @classmethod
    def backing(cls, instance: Instance) -> Placement:
        """Everything in the backing tier."""
        return cls(np.zeros(instance.trace.n_blocks + 1), [], [])

    @classmethod
    def from_intervals(cls, n_blocks: int, block, start, stop, state=None) -> Placement:
        """Sort intervals given in any order and join those of one state that touch.

        Parameters
        ----------
        n_blocks : int
        block, start, stop : int[I]
            Intervals with ``start == stop`` are dropped.
        state : int[I], optional
            0 throughout unless given.

        Raises
        ------
        PlacementError
            For a block that there is not, a slot before the first, an interval that ends before it begins, a state that
            no rules know, or numbers that are not whole.
        """
        n_blocks = whole("n_blocks", n_blocks, "Give the number of blocks of the trace", least=0, most=2**48)
        # What each block's count alone takes, and a copy of it.
        check_fits(
            16.0 * n_blocks, "n_blocks", f"{n_blocks} blocks", "Give the number of blocks of the trace", PlacementError
        )
        given = _intervals(n_blocks, block, start, stop, np.zeros(np.size(block), np.int8) if state is None else state)
        ptr = np.zeros(n_blocks + 1, np.int64)
        columns = [np.empty(len(given[0]), dtype) for dtype in (np.int64, np.int64, np.int8)]
        filled = 0
        for part in _by_block(n_blocks, *given):
            owner, *values = _joined(*part)
            ptr[1:] += np.bincount(owner, minlength=n_blocks)
            for column, value in zip(columns, values, strict=True):
                column[filled : filled + len(owner)] = value
            filled += len(owner)
        np.cumsum(ptr, out=ptr)
        for array in columns:
            array.resize(filled, refcheck=False)
        for array in (ptr, *columns):
            array.setflags(write=False)
        return cls(ptr, *columns)

    @classmethod
    def from_dense(cls, in_fast: np.ndarray) -> Placement:
        """From a table of which block is in the fast tier (state 0) in which slot.

        Parameters
        ----------
        in_fast : bool[B, T]
        """
        return cls.from_states(np.where(in_fast, 0, 1), 2)

    @classmethod
    def from_states(cls, states: np.ndarray, n_states: int) -> Placement:
        """From a table of states.

        Parameters
        ----------
        states : int[B, T]
            What it says outside a block's life must be the last state.
        n_states : int

        Raises
        ------
        PlacementError
            For a table of another shape, or a state of none of those.
        """
        states = np.asarray(states)
        if states.ndim != 2 or states.dtype.kind not in "iub":
            problem = f"has {states.ndim} axes of {states.dtype}, not 2 of whole numbers"
            raise PlacementError("states", problem, "Give int[B, T]")
        if states.size and not (states.min() >= 0 and states.max() < n_states):
            raise PlacementError("states", f"must be from 0 to {n_states - 1}", "Number them as kvopt.residency does")
        padded = np.full((states.shape[0], states.shape[1] + 1), n_states - 1, np.int64)
        padded[:, 1:] = states
        change = np.diff(padded, axis=1) != 0
        block, start = np.nonzero(change)
        state = padded[block, start + 1]
        stop = np.append(start[1:], states.shape[1])
        stop[:-1][block[1:] != block[:-1]] = states.shape[1]
        real = state != n_states - 1
        return cls.from_intervals(states.shape[0], block[real], start[real], stop[real], state[real])

    def to_dense(self, n_slots: int) -> np.ndarray:
        """bool[B, T]: which block is in state 0 in which slot: with two tiers, in the fast one. For small instances."""
        return self.to_states(n_slots, 127) == 0

    def to_states(self, n_slots: int, n_states: int) -> np.ndarray:
        """int8[B, T]: the state of each block in each slot, the last one outside its life. For small instances."""
        change = np.zeros((len(self.ptr) - 1, n_slots + 1), np.int64)
        away = self.state.astype(np.int64) - (n_states - 1)
        np.add.at(change, (self.block, self.start), away)
        np.subtract.at(change, (self.block, self.stop), away)
        return (np.cumsum(change, axis=1)[:, :-1] + n_states - 1).astype(np.int8)

    def states_in(self, slot: int, instance: Instance) -> np.ndarray:
        """int8[B]: the state of each block in one slot; the last one where it does not exist."""
        found = np.full(len(self.ptr) - 1, len(instance.states) - 1, np.int8)
        for lo, hi in block_ranges(self.ptr):
            part = slice(self.ptr[lo], self.ptr[hi])
            here = (self.start[part] <= slot) & (self.stop[part] > slot)
            found[owners(self.ptr, lo, hi)[here]] = self.state[part][here]
        return found

    def held_bytes(self, instance: Instance) -> np.ndarray:
        """int64[K, T]: bytes in each tier in each slot."""
        n_states = len(instance.states)
        change = np.zeros((n_states, instance.n_slots + 1), np.int64)
        for lo, hi in block_ranges(self.ptr):
            part = slice(self.ptr[lo], self.ptr[hi])
            size = instance.trace.size_bytes[owners(self.ptr, lo, hi)]
            for z in range(n_states - 1):
                here = self.state[part] == z if n_states > 2 else slice(None)
                np.add.at(change[z], self.start[part][here], size[here])
                np.subtract.at(change[z], self.stop[part][here], size[here])
        in_state = np.cumsum(change, axis=1)[:, :-1]
        in_state[-1] = instance.live_bytes - in_state[:-1].sum(axis=0)
        return instance.states.T.astype(np.int64) @ in_state

    def fast_bytes(self, instance: Instance) -> np.ndarray:
        """int64[T]: bytes in the fastest tier in each slot."""
        return self.held_bytes(instance)[0]

    def violations(self, instance: Instance, most: int = 20) -> list[Violation]:
        """Every rule of the instance this placement breaks, the first ``most`` of each kind; empty if feasible.

        Parameters
        ----------
        instance : Instance
        most : int
        """
        expect(Instance, "instance", instance, "Give the instance it should be a placement of")
        names = [t.name for t in instance.platform.tiers]
        wrong = _interval_violations(self, instance, names[0], most)
        if wrong:
            return wrong
        found = _initial_violations(self, instance, most)
        for k, (held, capacity) in enumerate(zip(self.held_bytes(instance), instance.capacity_bytes, strict=True)):
            for slot in np.flatnonzero(held > capacity)[:most]:
                block = self._last_entered(int(slot), instance.states[:, k]) if k + 1 < len(names) else None
                found.append(
                    Violation(ViolationKind.CAPACITY, names[k], int(slot), block, float(held[slot] - capacity))
                )
        return found

    def _last_entered(self, slot: int, holds: np.ndarray) -> int:
        latest, found = -1, -1
        for lo, hi in block_ranges(self.ptr):
            part = slice(self.ptr[lo], self.ptr[hi])
            start = self.start[part]
            inside = np.flatnonzero((start <= slot) & (self.stop[part] > slot) & holds[self.state[part]])
            if len(inside) and start[inside].max() > latest:
                last = inside[np.argmax(start[inside])]
                latest, found = int(start[last]), int(owners(self.ptr, lo, hi)[last])
        return found


def _flat(name: str, values) -> np.ndarray:
    """The values as an array of one dimension."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        raise PlacementError(name, "is no array of numbers", "Give whole numbers") from None
    if array.ndim != 1:
        raise PlacementError(name, f"must have one dimension, got {shown(values)}", "Give one number an interval")
    return array


def _whole(name: str, values: np.ndarray, dtype: type) -> np.ndarray:
    """The values as a contiguous array of the dtype, after refusing what that would change."""
    try:
        return whole_numbers(name, values, dtype)
    except TraceError as error:
        raise PlacementError(error.field, error.problem, error.fix) from None


def _intervals(n_blocks: int, block, start, stop, state) -> list[np.ndarray]:
    """The columns of intervals as they are, looked at."""
    names, dtypes = ("block", "start", "stop", "state"), (np.int64, np.int64, np.int64, np.int8)
    given = []
    for name, values, dtype in zip(names, (block, start, stop, state), dtypes, strict=True):
        array = _flat(name, values)
        given.append(array if array.dtype.kind in "iu" else _whole(name, array, dtype))
    if len({len(array) for array in given}) > 1:
        raise PlacementError("block, start, stop, state", "have several lengths", "Give one of each an interval")
    block, start, stop, state = given
    for name, values, least, most in (("block", block, 0, n_blocks - 1), ("state", state, 0, MOST_STATE)):
        for piece in slices(len(values)):
            low, high = values[piece].min(), values[piece].max()
            if low < least or high > most:
                wrong = low if low < least else high
                raise PlacementError(name, f"{wrong} is outside {least}..{most}", f"Give {name}s that there are")
    for piece in slices(len(start)):
        if (start[piece] < 0).any() or (stop[piece] < start[piece]).any():
            problem = "an interval begins before slot 0, or ends before it begins"
            raise PlacementError("start, stop", problem, "Swap them, or leave it out")
    return given


def _by_block(n_blocks: int, block: np.ndarray, *columns: np.ndarray) -> Iterator[list[np.ndarray]]:
    """Block, start, stop and state of consecutive blocks' intervals, in order of block and start, a part at a time."""
    counts = np.zeros(n_blocks, np.int64)
    ascending, before = True, -1
    for piece in slices(len(block)):
        owner = block[piece].astype(np.int64)
        counts += np.bincount(owner, minlength=n_blocks)
        ascending &= bool(before <= owner[0] and (owner[1:] >= owner[:-1]).all())
        before = owner[-1]
    ptr = np.concatenate([[0], np.cumsum(counts)])
    for lo, hi in block_ranges(ptr):
        here = slice(ptr[lo], ptr[hi])
        if not ascending:
            found = (p.start + np.flatnonzero((block[p] >= lo) & (block[p] < hi)) for p in slices(len(block)))
            here = np.concatenate(list(found))
        part = [a[here].astype(np.int64) for a in (block, *columns)]
        keep = part[1] != part[2]
        owner, start, *rest = (a[keep] for a in part)
        if ((owner[1:] > owner[:-1]) | ((owner[1:] == owner[:-1]) & (start[1:] >= start[:-1]))).all():
            yield [owner, start, *rest]
        else:
            order = np.lexsort((start, owner))
            yield [a[order] for a in (owner, start, *rest)]


def _joined(block, start, stop, state) -> tuple[np.ndarray, ...]:
    """The intervals with those of one block and state that touch made one; the block of each comes first."""
    joins = np.zeros(len(block), bool)
    joins[1:] = (block[1:] == block[:-1]) & (start[1:] == stop[:-1]) & (state[1:] == state[:-1])
    last = np.append(~joins[1:], True) if len(joins) else joins
    return block[~joins], start[~joins], stop[last], state[~joins]


def check_placement(instance: Instance, placement: object, field: str = "placement") -> None:
    """Refuse what is no placement of this instance; one whose tiers are too full is one.

    Parameters
    ----------
    instance : Instance
    placement : Placement
    field : str
        What names it in errors.

    Raises
    ------
    PlacementError
        When it has another number of blocks, intervals outside their lives or out of order, or states that the rules do
        not know.
    """
    if not isinstance(placement, Placement):
        raise PlacementError(field, f"is a {type(placement).__name__}", "Give a kvopt.Placement")
    if len(placement.ptr) != instance.trace.n_blocks + 1:
        problem = f"has {len(placement.ptr) - 1} blocks, the instance {instance.trace.n_blocks}"
        raise PlacementError(field, problem, "Give a placement of this instance")
    wrong = _interval_violations(placement, instance, instance.platform.tiers[0].name, 1)
    if wrong:
        raise PlacementError(field, f"is of no such instance: {wrong[0]}", "Give a placement of this instance")


def _interval_violations(placement: Placement, instance: Instance, tier: str, most: int) -> list[Violation]:
    if len(placement.ptr) != instance.trace.n_blocks + 1:
        problem = f"has {len(placement.ptr) - 1} blocks, the instance {instance.trace.n_blocks}"
        raise PlacementError("placement", problem, "Give a placement of this instance")
    size = instance.trace.size_bytes
    kinds = (ViolationKind.LIFETIME, ViolationKind.ORDER, ViolationKind.STATE)
    found: dict[ViolationKind, list[Violation]] = {kind: [] for kind in kinds}
    for lo, hi in block_ranges(placement.ptr):
        part = slice(placement.ptr[lo], placement.ptr[hi])
        block = owners(placement.ptr, lo, hi)
        start, stop, state = placement.start[part], placement.stop[part], placement.state[part]
        outside = (start < instance.birth_slot[block]) | (stop > instance.death_slot[block])
        order = start >= stop
        touches = (start[1:] == stop[:-1]) & (state[1:] == state[:-1])
        order[1:] |= (block[1:] == block[:-1]) & ((start[1:] < stop[:-1]) | touches)
        unknown = (state < 0) | (state >= len(instance.states) - 1)
        for kind, bad in zip(kinds, (outside, order, unknown), strict=True):
            found[kind] += [
                Violation(kind, tier, int(start[k]), int(block[k]), float(size[block[k]]))
                for k in np.flatnonzero(bad)[: most - len(found[kind])]
            ]
    return [violation for kind in kinds for violation in found[kind]]


def _initial_violations(placement: Placement, instance: Instance, most: int) -> list[Violation]:
    if instance.initial is None:
        return []
    trace, held = instance.trace, instance.states
    begins = placement.states_in(0, instance)
    wrong = np.flatnonzero((trace.write_step == PREFILL) & (begins != instance.initial))[:most]
    tiers = [instance.platform.tiers[int(np.argmax(held[begins[i]]))].name for i in wrong]
    return [
        Violation(ViolationKind.INITIAL, tier, 0, int(i), float(trace.size_bytes[i]))
        for tier, i in zip(tiers, wrong, strict=True)
    ]
