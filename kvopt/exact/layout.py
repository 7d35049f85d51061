"""Which column of the program is which decision, and the way between columns and placements."""

from __future__ import annotations

import numpy as np

from kvopt.instance import Instance
from kvopt.lowering import Lowered
from kvopt.placement import Placement
from kvopt.residency import nearest


def column_count(instance: Instance) -> int:
    """Columns of the exact model, without building it; a user's own objective may add more."""
    trace, rules, n_tiers = instance.trace, instance.rules, len(instance.platform.tiers)
    placed = n_tiers - 1 if rules.inclusive and not rules.write_back else n_tiers
    lives = int((instance.death_slot - instance.birth_slot).sum())
    moves = placed * (n_tiers - 1) * (lives - trace.n_blocks)
    shared = rules.balanced or (rules.inclusive and n_tiers > 2)
    reads = n_tiers * int((trace.run_stop - trace.run_start).sum()) if shared else 0
    tails, deadlines = (sum(w > 0 for w, _ in of) for of in (instance.prices.tails, instance.prices.deadlines))
    steps = tails * (1 + trace.n_steps) + deadlines * trace.n_steps
    return placed * lives + moves + reads + instance.n_slots + steps


class Layout:
    """The columns of :mod:`kvopt.models.placement`, numbered: z, then m, then r, then the times.

    A *pair* p is a block in a slot of its life; the pairs of block i lie end to end from ``ptr[i]``. A *stay* q is a
    pair whose block exists in the next slot too, a *read* a pair whose block is read in that slot. With P pairs, Q
    stays, A reads and T slots, z of tier ``placed[k]`` has the columns ``k * P + p``, the move ``moves[v]`` the columns
    ``n_residency + v * Q + q``, the share read from tier k the columns ``first_share + k * A + a``, and the slot times
    the T from ``slot_column`` on.

    Parameters
    ----------
    low : Lowered

    Attributes
    ----------
    n_tiers : int
        K.
    exclusive, balanced : bool
        The rules.
    write_back : bool
        Whether the backing tier may be without a block that another holds.
    placed : list of int
        Tiers whose residency is a decision: all, but the backing tier where it keeps everything.
    moves : list of (int, int)
        (source tier, target tier).
    ptr : int64[B + 1]
    pair_block, pair_slot : int64[P]
    stay_pair : int64[Q]
        The pair of each stay.
    read_pair : int64[A]
        The pair of each read.
    shared : bool
        Whether the share read from each tier is a decision.
    capacity_row : int
        The first of the rows ``capacity``, tier by tier.
    """

    def __init__(self, low: Lowered) -> None:
        self.n_slots = low.n_slots
        self.n_tiers = low.n_tiers
        self.birth_slot, self.size_bytes = low.birth_slot, low.size_bytes
        self.holds = low.holds
        self.exclusive = not (low.holds.sum(axis=1) > 1).any()
        self.write_back = not self.exclusive and not low.holds[:, -1].all()
        self.balanced = bool(low.swappable.any())
        self.placed = [k for k in range(low.n_tiers) if not low.holds[:, k].all()]
        self.moves = [(j, k) for j in range(low.n_tiers) for k in self.placed if j != k]
        self.ptr = np.concatenate([[0], np.cumsum(low.death_slot - low.birth_slot)])
        self.pair_block = np.repeat(np.arange(low.n_blocks), np.diff(self.ptr))
        self.pair_slot = np.arange(self.n_pairs) - (self.ptr[:-1] - low.birth_slot)[self.pair_block]
        last = np.zeros(self.n_pairs, bool)
        last[self.ptr[1:] - 1] = True
        self.stay_pair = np.flatnonzero(~last)
        self.read_pair = _read_pairs(self, low)
        self.shared = self.balanced or (not self.exclusive and low.n_tiers > 2)
        given = np.count_nonzero(low.initial >= 0) * len(self.placed)
        self.capacity_row = (self.exclusive + self.write_back) * self.n_pairs + given

    @property
    def n_pairs(self) -> int:
        """P."""
        return int(self.ptr[-1])

    @property
    def n_stays(self) -> int:
        """Q."""
        return len(self.stay_pair)

    @property
    def n_residency(self) -> int:
        """How many columns z has; they come first."""
        return len(self.placed) * self.n_pairs

    @property
    def first_share(self) -> int:
        """The first column of r."""
        return self.n_residency + len(self.moves) * self.n_stays

    @property
    def slot_column(self) -> int:
        """The first of the slot times; z, m and r are before it."""
        return self.first_share + self.shared * self.n_tiers * len(self.read_pair)

    @property
    def split_shares(self) -> slice:
        """The columns of r that need not be whole: all where reads are balanced, else none."""
        return slice(self.first_share, self.slot_column if self.balanced else self.first_share)

    def pair(self, block: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """int64: the pair of a block in a slot of its life; of its death slot, one past its last pair."""
        return self.ptr[block] + slot - self.birth_slot[block]

    def decisions(self, placement: Placement, read_bytes: np.ndarray | None = None) -> np.ndarray:
        """float64[slot_column]: z of a placement, its cheapest m, and r.

        Parameters
        ----------
        placement : Placement
        read_bytes : float64[K, T], optional
            Where reads are balanced, the bytes read from each tier, as of :func:`kvopt.evaluate`; the nearest copies
            are read unless given.
        """
        last = len(self.holds) - 1
        change = np.zeros(self.n_pairs + 1, np.int64)
        away = placement.state.astype(np.int64) - last
        np.add.at(change, self.pair(placement.block, placement.start), away)
        np.subtract.at(change, self.pair(placement.block, placement.stop), away)
        state = np.cumsum(change)[:-1] + last
        near = nearest(self.holds)[state]
        held = self.holds[state].T
        here, source = self.stay_pair, near[self.stay_pair]
        gained = [held[k][here + 1] & ~held[k][here] & (source == j) for j, k in self.moves]
        columns = [*(held[k] for k in self.placed), *gained]
        if self.shared:
            columns += self._shares(held[:, self.read_pair], near[self.read_pair], read_bytes)
        return np.concatenate(columns).astype(float)

    def _shares(self, held: np.ndarray, near: np.ndarray, read_bytes: np.ndarray | None) -> list[np.ndarray]:
        """float64[A] for each tier: what is read from it.

        Parameters
        ----------
        held : bool[K, A]
        near : int64[A]
        read_bytes : float64[K, T], optional
        """
        share = [(near == k).astype(float) for k in range(self.n_tiers)]
        if not self.balanced or read_bytes is None:
            return share
        # All that may be read from either copy is split alike.
        slot, size = self.pair_slot[self.read_pair], self.size_bytes[self.pair_block[self.read_pair]]
        either = held.all(axis=0)
        from_backing, of = (np.bincount(slot, size * part, self.n_slots) for part in (share[-1], either))
        split = np.divide(read_bytes[-1] - from_backing, of, out=np.zeros(self.n_slots), where=of > 0).clip(0.0, 1.0)
        swapped = np.where(either, split[slot], 0.0)
        return [share[0] - swapped, share[-1] + swapped]

    def placement(self, values: np.ndarray) -> Placement:
        """The residency intervals of a solution, z rounded.

        Parameters
        ----------
        values : float64[n]
        """
        held = np.ones((self.n_tiers, self.n_pairs), bool)
        held[self.placed] = values[: self.n_residency].reshape(-1, self.n_pairs) > 0.5
        bits = 1 << np.arange(self.n_tiers)
        number = np.zeros(1 << self.n_tiers, np.int64)
        number[self.holds @ bits] = np.arange(len(self.holds))
        state = number[bits @ held]
        # An interval also begins and ends with its block's life: only then is the pair next to it another block's.
        begins, ends = np.ones((2, self.n_pairs), bool)
        changes = state[self.stay_pair] != state[self.stay_pair + 1]
        begins[self.stay_pair + 1] = changes
        ends[self.stay_pair] = changes
        away = state != len(self.holds) - 1
        begins, ends = begins & away, ends & away
        return Placement.from_intervals(
            len(self.ptr) - 1,
            self.pair_block[begins],
            self.pair_slot[begins],
            self.pair_slot[ends] + 1,
            state[begins],
        )


def _read_pairs(layout: Layout, low: Lowered) -> np.ndarray:
    """int64[A]: the pairs in which a block is read, ascending."""
    run_block = np.repeat(np.arange(low.n_blocks), np.diff(low.run_ptr))
    length = (low.run_stop - low.run_start).astype(np.int64)
    run = np.repeat(np.arange(len(length)), length)
    step = low.run_start[run] + np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    block = run_block[run]
    return layout.pair(block, step * low.n_lanes + low.lane[block])
