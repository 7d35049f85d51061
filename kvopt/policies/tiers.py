"""Below the fastest tier: a cascade of victims, the same for every policy.

A policy decides what the fastest tier holds. What it evicts goes to the next tier, which keeps the most recently used
of what it was given and pushes the rest further down; a promoted block goes to the fastest tier straight from wherever
it is. A new block that is not promoted is written to the fastest lower tier that has room left: it pushes nothing out.

So a block has one *level*, the fastest tier that holds it, and beside that at most a copy in the backing tier: always
where copies are written through; where they are written back, as long as there is room and since the block was last
there (a block with it is clean: leaving the last of the upper tiers costs nothing); never where copies are exclusive.
"""

from __future__ import annotations

import math
from operator import le

import numpy as np

from kvopt.instance import Instance
from kvopt.policies.protocol import View, fitting


class Tiers:
    """The level of every block, between two slots.

    Parameters
    ----------
    instance : Instance

    Attributes
    ----------
    level : int8[B]
        K for a block that does not exist.
    used : list of int
        Bytes of the blocks of each level.
    capacity : list of float
        Infinite for a backing tier that holds everything anyway, as the instance has checked.
    """

    def __init__(self, instance: Instance) -> None:
        rules = instance.rules
        self.size = instance.trace.size_bytes
        self.weight = self.size.astype(float)
        self.smallest = int(self.size.min())
        self.capacity = list(instance.capacity_bytes)
        if rules.inclusive and not rules.write_back:
            self.capacity[-1] = math.inf
        self.last = len(self.capacity) - 1
        self.level = np.full(len(self.size), self.last + 1, np.int8)
        self.used = [0] * len(self.capacity)

    def remove(self, blocks: np.ndarray) -> None:
        """Forget blocks that cease to exist."""
        _add(self.used, self.level[blocks], -self.weight[blocks])
        self.level[blocks] = self.last + 1

    def place(self, blocks: np.ndarray, level: np.ndarray) -> None:
        """Put blocks that did not exist at a level."""
        self.level[blocks] = level
        _add(self.used, level, self.weight[blocks])


class Plan:
    """The levels of the next slot, first as the policy wants the fastest tier.

    Parameters
    ----------
    tiers : Tiers
    view : View
    promote, evict : int64[...]
        The policy's decision.

    Attributes
    ----------
    level : int8[B]
    used : list of int
    pushed : dict of int to int64[...]
        The blocks that each tier was given from above, those that matter most there first.
    """

    def __init__(self, tiers: Tiers, view: View, promote: np.ndarray, evict: np.ndarray) -> None:
        self.tiers, self.view = tiers, view
        self.size, self.capacity, self.last = tiers.size, tiers.capacity, tiers.last
        self.level = tiers.level.copy()
        self.level[view.arriving] = self.last
        self.level[evict[view.resident[evict]]] = 1
        self.level[promote] = 0
        self.pushed = {1: evict[::-1]}
        self._count()

    @property
    def fits(self) -> bool:
        """Whether no tier holds more than it can."""
        return all(map(le, self.used, self.capacity))

    def changes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(blocks whose level is another than before, that level, their new one)."""
        if self._changed is None:
            blocks = np.flatnonzero(self.level != self.tiers.level)
            self._changed = blocks, self.tiers.level[blocks], self.level[blocks]
        return self._changed

    def move(self, blocks: np.ndarray, level: int) -> None:
        """Put blocks, all of one level, at another."""
        if len(blocks):
            bytes_ = int(self.size[blocks].sum())
            self.used[self.level[blocks[0]]] -= bytes_
            self.used[level] += bytes_
            self.level[blocks] = level
            self._changed = None

    def move_one(self, block: int, level: int) -> None:
        """Put one block at another level."""
        bytes_ = int(self.size[block])
        self.used[self.level[block]] -= bytes_
        self.used[level] += bytes_
        self.level[block] = level
        self._changed = None

    def restart(self, level: np.ndarray) -> None:
        """Other levels in place of all."""
        self.level[:] = level
        self._count()

    def cascade(self) -> None:
        """Push what the upper tiers cannot keep further down, and write new blocks where there is room."""
        if self.last == 1:
            return
        for k in range(1, self.last):
            out = self._least_recent(k)
            self.move(out, k + 1)
            self.pushed[k + 1] = out[::-1]
        self.write_new(self.view.arriving[self.level[self.view.arriving] == self.last], range(1, self.last))

    def write_new(self, blocks: np.ndarray, order) -> np.ndarray:
        """Move each block to the first tier of the order that has room for it; those left over stay in the backing one.

        Parameters
        ----------
        blocks : int64[...]
            All in the backing tier.
        order : iterable of int
            Tiers.
        """
        for k in order:
            if not len(blocks):
                break
            taken = np.zeros(len(blocks), bool)
            taken[fitting(self.size[blocks], self.capacity[k] - self.used[k])] = True
            self.move(blocks[taken], k)
            blocks = blocks[~taken]
        return blocks

    def _least_recent(self, tier: int) -> np.ndarray:
        """int64[...]: what a tier that was given too much pushes out, the least recently used first.

        Of equal age the earlier block; before all others, blocks that are larger than the tier.
        """
        excess = self.used[tier] - self.capacity[tier]
        if excess <= 0:
            return np.zeros(0, np.int64)
        inside = np.flatnonzero(self.level == tier)
        large = self.size[inside] > self.capacity[tier]
        excess -= int(self.size[inside[large]].sum())
        large, inside = inside[large], inside[~large]
        if excess <= 0:
            return large
        age = self.view.last_use[inside] * self.view.n_blocks + inside
        # No more than these can be needed, and they are few where a tier is full and little comes in.
        few = min(math.ceil(excess / self.tiers.smallest), len(inside))
        oldest = inside[np.argpartition(age, few - 1)[:few]] if few < len(inside) else inside
        oldest = oldest[np.argsort(self.view.last_use[oldest] * self.view.n_blocks + oldest)]
        count = int(np.searchsorted(np.cumsum(self.size[oldest]), excess)) + 1
        return np.concatenate([large, oldest[:count]])

    def _count(self) -> None:
        """Bytes of each level, from those before and what has changed since."""
        # Floats are exact up to 2**53 bytes, nine petabytes.
        self.used, self._changed = list(self.tiers.used), None
        blocks, before, after = self.changes()
        if len(blocks):
            weight = self.tiers.weight[blocks]
            more, less = np.bincount(after, weight, self.last + 1), np.bincount(before, weight, self.last + 2)
            self.used = [u + int(m - n) for u, m, n in zip(self.used, more.tolist(), less.tolist(), strict=False)]


def _add(used: list[int], level: np.ndarray, weight: np.ndarray) -> None:
    """Add sizes to the bytes of their levels."""
    total = np.bincount(level, weight, len(used)).tolist()
    used[:] = [a + int(b) for a, b in zip(used, total, strict=False)]
