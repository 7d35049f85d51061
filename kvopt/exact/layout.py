"""Which column of the program is which decision, and the way between columns and placements."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from kvopt.instance import Instance
from kvopt.lowering import BACKING, FAST, Lowered
from kvopt.placement import Placement


def column_count(instance: Instance) -> int:
    """Columns of the exact model, without building it: residencies and moves of every block, and slot times."""
    tiers = 1 if instance.rules.inclusive else 2
    lives = int((instance.death_slot - instance.birth_slot).sum())
    return tiers * (2 * lives - instance.trace.n_blocks) + instance.n_slots


class Layout:
    """The columns of :mod:`kvopt.models.placement`, numbered: z, then m, then the slot times.

    A *pair* p is a block in a slot of its life; the pairs of block i lie end to end from ``ptr[i]``. A *stay* q is a
    pair whose block exists in the next slot too. With P pairs, Q stays and T slots, z of tier ``placed[k]`` has the
    columns ``k * P + p``, the move ``moves[v]`` the columns ``n_residency + v * Q + q``, and the slot times are the
    last T.

    Parameters
    ----------
    low : Lowered

    Attributes
    ----------
    placed : list of int
        Tiers whose residency is a decision: not the backing tier under inclusive copies, which keeps everything.
    moves : list of (int, int)
        (source tier, target tier).
    ptr : int64[B + 1]
    pair_block, pair_slot : int64[P]
    stay_pair : int64[Q]
        The pair of each stay.
    """

    def __init__(self, low: Lowered) -> None:
        self.n_slots = low.n_slots
        self.birth_slot = low.birth_slot
        self.inclusive = bool(low.holds[:, BACKING].all())
        self.placed = [FAST] if self.inclusive else [FAST, BACKING]
        self.moves = [(j, k) for j in (FAST, BACKING) for k in self.placed if j != k]
        self.ptr = np.concatenate([[0], np.cumsum(low.death_slot - low.birth_slot)])
        self.pair_block = np.repeat(np.arange(low.n_blocks), np.diff(self.ptr))
        self.pair_slot = np.arange(self.n_pairs) - (self.ptr[:-1] - low.birth_slot)[self.pair_block]
        last = np.zeros(self.n_pairs, bool)
        last[self.ptr[1:] - 1] = True
        self.stay_pair = np.flatnonzero(~last)

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

    @cached_property
    def n_columns(self) -> int:
        """All of z, m and the slot times."""
        return self.n_residency + len(self.moves) * self.n_stays + self.n_slots

    def pair(self, block: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """int64: the pair of a block in a slot of its life; of its death slot, one past its last pair."""
        return self.ptr[block] + slot - self.birth_slot[block]

    def decisions(self, placement: Placement) -> np.ndarray:
        """float64[n_columns]: z of a placement and its cheapest m; the slot times are left at 0."""
        change = np.zeros(self.n_pairs + 1)
        np.add.at(change, self.pair(placement.block, placement.start), 1.0)
        np.add.at(change, self.pair(placement.block, placement.stop), -1.0)
        in_fast = np.cumsum(change)[:-1]
        held = {FAST: in_fast, BACKING: 1.0 - in_fast}
        gained = {k: np.maximum(held[k][self.stay_pair + 1] - held[k][self.stay_pair], 0.0) for k in self.placed}
        return np.concatenate(
            [*(held[k] for k in self.placed), *(gained[k] for _, k in self.moves), np.zeros(self.n_slots)]
        )

    def placement(self, values: np.ndarray) -> Placement:
        """The residency intervals of a solution, z rounded.

        Parameters
        ----------
        values : float64[n_columns]
        """
        in_fast = values[: self.n_pairs] > 0.5
        begins, ends = in_fast.copy(), in_fast.copy()
        # An interval also begins and ends with its block's life: only then is the pair next to it another block's.
        same = self.stay_pair
        begins[same + 1] &= ~in_fast[same]
        ends[same] &= ~in_fast[same + 1]
        block = self.pair_block
        return Placement.from_intervals(
            len(self.ptr) - 1, block[begins], self.pair_slot[begins], self.pair_slot[ends] + 1
        )
