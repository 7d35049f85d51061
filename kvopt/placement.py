"""Where every block is, when: residency intervals in the fast tier."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from kvopt.instance import Instance


class ViolationKind(Enum):
    """What a placement breaks."""

    CAPACITY = "capacity"
    LIFETIME = "lifetime"
    ORDER = "order"


@dataclass(frozen=True)
class Violation:
    """One broken rule.

    Parameters
    ----------
    kind : ViolationKind
    tier : str
    slot : int
    block : int or None
        The block concerned; for a capacity, the last one to have entered the fast tier.
    amount_bytes : float
        How much too much; for a lifetime or order, the block's size.
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
        }[self.kind]
        return f"slot {self.slot}: tier {self.tier!r} {what}"


@dataclass(frozen=True, eq=False)
class Placement:
    """Residency of every block in the fast tier; elsewhere in its life a block is in the backing tier.

    Under inclusive copies the backing tier holds it always and the intervals are those of the copy.

    Parameters
    ----------
    ptr : int64[B + 1]
        The intervals of block i are ``start[ptr[i]:ptr[i+1]]`` and likewise ``stop``.
    start, stop : int64[I]
        The block is in the fast tier during slots ``[start, stop)``. Ascending, disjoint and not touching in a block.
    """

    ptr: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def __post_init__(self) -> None:
        for name in ("ptr", "start", "stop"):
            array = np.array(getattr(self, name), np.int64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

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
        return all(np.array_equal(getattr(self, n), getattr(other, n)) for n in ("ptr", "start", "stop"))

    __hash__ = None

    @classmethod
    def backing(cls, instance: Instance) -> Placement:
        """Everything in the backing tier."""
        return cls(np.zeros(instance.trace.n_blocks + 1), [], [])

    @classmethod
    def from_intervals(cls, n_blocks: int, block, start, stop) -> Placement:
        """Sort intervals given in any order and join those that touch.

        Parameters
        ----------
        n_blocks : int
        block, start, stop : int[I]
            Intervals with ``start == stop`` are dropped.
        """
        block, start, stop = (np.asarray(a, np.int64) for a in (block, start, stop))
        keep = start != stop
        order = np.lexsort((start[keep], block[keep]))
        block, start, stop = (a[keep][order] for a in (block, start, stop))
        joins = np.zeros(len(block), bool)
        joins[1:] = (block[1:] == block[:-1]) & (start[1:] == stop[:-1])
        last = np.append(~joins[1:], True) if len(joins) else joins
        counts = np.bincount(block[~joins], minlength=n_blocks)
        return cls(np.concatenate([[0], np.cumsum(counts)]), start[~joins], stop[last])

    @classmethod
    def from_dense(cls, in_fast: np.ndarray) -> Placement:
        """From a table of which block is in the fast tier in which slot.

        Parameters
        ----------
        in_fast : bool[B, T]
        """
        padded = np.zeros((in_fast.shape[0], in_fast.shape[1] + 2), np.int8)
        padded[:, 1:-1] = in_fast
        change = np.diff(padded, axis=1)
        block, start = np.nonzero(change == 1)
        _, stop = np.nonzero(change == -1)
        return cls.from_intervals(in_fast.shape[0], block, start, stop)

    def to_dense(self, n_slots: int) -> np.ndarray:
        """bool[B, T]: which block is in the fast tier in which slot. For small instances."""
        change = np.zeros((len(self.ptr) - 1, n_slots + 1), np.int8)
        change[self.block, self.start] += 1
        change[self.block, self.stop] -= 1
        return np.cumsum(change, axis=1)[:, :-1].astype(bool)

    def fast_bytes(self, instance: Instance) -> np.ndarray:
        """int64[T]: bytes in the fast tier in each slot."""
        size = instance.trace.size_bytes[self.block]
        change = np.zeros(instance.n_slots + 1, np.int64)
        np.add.at(change, self.start, size)
        np.subtract.at(change, self.stop, size)
        return np.cumsum(change)[:-1]

    def violations(self, instance: Instance, most: int = 20) -> list[Violation]:
        """Every rule of the instance this placement breaks, the first ``most`` of each kind; empty if feasible.

        Parameters
        ----------
        instance : Instance
        most : int
        """
        fast, backing = (t.name for t in instance.platform.tiers)
        wrong = _interval_violations(self, instance, fast, most)
        if wrong:
            return wrong
        in_fast = self.fast_bytes(instance)
        in_backing = instance.live_bytes if instance.rules.inclusive else instance.live_bytes - in_fast
        found = []
        for tier, held, capacity in zip((fast, backing), (in_fast, in_backing), instance.capacity_bytes, strict=True):
            for slot in np.flatnonzero(held > capacity)[:most]:
                block = self._last_entered(int(slot)) if tier == fast else None
                found.append(Violation(ViolationKind.CAPACITY, tier, int(slot), block, float(held[slot] - capacity)))
        return found

    def _last_entered(self, slot: int) -> int:
        inside = np.flatnonzero((self.start <= slot) & (self.stop > slot))
        return int(self.block[inside[np.argmax(self.start[inside])]])


def _interval_violations(placement: Placement, instance: Instance, tier: str, most: int) -> list[Violation]:
    if len(placement.ptr) != instance.trace.n_blocks + 1:
        raise ValueError(f"placement has {len(placement.ptr) - 1} blocks, the instance {instance.trace.n_blocks}")
    block, start, stop = placement.block, placement.start, placement.stop
    size = instance.trace.size_bytes
    outside = (start < instance.birth_slot[block]) | (stop > instance.death_slot[block])
    order = start >= stop
    order[1:] |= (block[1:] == block[:-1]) & (start[1:] <= stop[:-1])
    return [
        Violation(kind, tier, int(start[k]), int(block[k]), float(size[block[k]]))
        for kind, bad in ((ViolationKind.LIFETIME, outside), (ViolationKind.ORDER, order))
        for k in np.flatnonzero(bad)[:most]
    ]
