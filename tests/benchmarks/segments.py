"""A placement as flags, for general-purpose searchers: each block's life cut where its runs begin and end.

In a segment, a run or a gap between runs, a block is in the fast tier throughout or not at all. For two tiers without
written-back copies or balanced reads, blocks in lanes.
"""

from __future__ import annotations

import numpy as np

from kvopt import Instance, Placement
from kvopt.lowering import lower


class Segments:
    """The segments of an instance and, for flags that change one at a time, how long each slot takes.

    Parameters
    ----------
    instance : Instance

    Attributes
    ----------
    block, start, stop : int64[G]
        A segment is slots start..stop-1 of a block's life. Those of a block follow each other.
    is_run : bool[G]
    """

    def __init__(self, instance: Instance) -> None:
        self.instance, self.low = instance, lower(instance)
        trace = instance.trace
        owner = trace.run_block
        first = trace.run_start.astype(np.int64) * trace.n_lanes + trace.lane[owner]
        end = (trace.run_stop.astype(np.int64) - 1) * trace.n_lanes + trace.lane[owner] + 1
        blocks = np.arange(trace.n_blocks)
        cuts = np.concatenate([first, end, instance.birth_slot, instance.death_slot])
        order = np.lexsort((cuts, block := np.concatenate([owner, owner, blocks, blocks])))
        cuts, block = cuts[order], block[order]
        real = (block[1:] == block[:-1]) & (cuts[1:] > cuts[:-1])
        self.block, self.start, self.stop = block[:-1][real], cuts[:-1][real], cuts[1:][real]
        begins = set(zip(owner.tolist(), first.tolist(), strict=True))
        pairs = zip(self.block.tolist(), self.start.tolist(), strict=True)
        self.is_run = np.fromiter((pair in begins for pair in pairs), bool, len(self.block))
        self.inside = np.zeros(len(self.block), bool)
        self.reset(self.inside)

    @property
    def density(self) -> np.ndarray:
        """float64[G]: reads of a run by the slots it takes together with the gap before it; 0 for a gap."""
        lanes = self.instance.trace.n_lanes
        reads = np.where(self.is_run, (self.stop - self.start + lanes - 1) // lanes, 0)
        return reads / (self.stop - self._from())

    def _from(self) -> np.ndarray:
        """int64[G]: where the segment before begins, if it is a gap; for a gap, its own beginning."""
        found = self.start.copy()
        follows = (self.block[1:] == self.block[:-1]) & self.is_run[1:] & ~self.is_run[:-1]
        found[1:][follows] = self.start[:-1][follows]
        return found

    def greedy(self, priority: np.ndarray) -> np.ndarray:
        """bool[G]: runs, each with the gap before it, in falling priority, as far as they fit whole.

        Parameters
        ----------
        priority : float64[number of runs]
        """
        from kvopt.policies.kernels.static import fitting_lives

        runs = np.flatnonzero(self.is_run)
        ranked = runs[np.argsort(-priority, kind="stable")]
        size = self.instance.trace.size_bytes[self.block]
        room = float(self.instance.capacity_bytes[0])
        taken = fitting_lives(ranked, self._from(), self.stop, size, room, self.instance.n_slots)
        inside = taken.copy()
        inside[:-1] |= taken[1:] & ~self.is_run[:-1] & (self.block[1:] == self.block[:-1])
        return inside

    def placement(self, inside: np.ndarray) -> Placement:
        """What the flags say."""
        chosen = np.flatnonzero(inside)
        n_blocks = self.instance.trace.n_blocks
        return Placement.from_intervals(n_blocks, self.block[chosen], self.start[chosen], self.stop[chosen])

    def reset(self, inside: np.ndarray) -> None:
        """Take the loads of these flags, one flip after the other from nothing."""
        low = self.low
        self.inside = np.zeros(len(self.block), bool)
        self.held = np.zeros(low.n_slots)
        self.load = low.base_s.copy()
        written = np.flatnonzero(~low.prefilled)
        np.add.at(self.load.T, low.birth_slot[written], low.size_bytes[written, None] * low.write_s_per_byte[1])
        for g in np.flatnonzero(self.is_run):
            slots, n = self._reads(g), low.size_bytes[self.block[g]]
            self.load[:, slots] += n * low.op_s_per_byte[1, 1, 1][:, None]
        for g in np.flatnonzero(inside):
            self.flip(g)

    def cost(self) -> float:
        """The decode time in seconds."""
        return float(self.load.max(axis=0).sum())

    def fits(self, g: int) -> bool:
        """Whether a flip keeps within the fast tier."""
        size = self.low.size_bytes[self.block[g]]
        return self.inside[g] or self.held[self.start[g] : self.stop[g]].max() + size <= self.low.capacity_bytes[0]

    def flip(self, g: int) -> float:
        """Move a segment in or out; float: by how much the decode time changes."""
        low, a, z = self.low, self.start[g], self.stop[g]
        size = low.size_bytes[self.block[g]]
        slots = self._touched(g)
        before = self.load[:, slots].max(axis=0).sum()
        self._add(g, slots, -size)
        self.inside[g] = not self.inside[g]
        self._add(g, slots, size)
        self.held[a:z] += size if self.inside[g] else -size
        return float(self.load[:, slots].max(axis=0).sum() - before)

    def _reads(self, g: int) -> np.ndarray:
        return np.arange(self.start[g], self.stop[g], self.low.n_lanes)

    def _touched(self, g: int) -> np.ndarray:
        """Slots whose loads a flip can change: those that read, and the ones before either end."""
        around = [self.start[g] - 1, self.start[g], self.stop[g] - 1]
        slots = np.concatenate([self._reads(g), around]) if self.is_run[g] else np.array(around)
        return np.unique(slots[slots >= self.low.birth_slot[self.block[g]]])

    def _add(self, g: int, slots: np.ndarray, size: float) -> None:
        """Add what the block loads in some slots as the flags are."""
        low, n_lanes, b = self.low, self.low.n_lanes, self.block[g]
        state = np.array([self._state(g, b, t) for t in (self.start[g] - 1, self.start[g], self.stop[g])])
        now = np.where(slots < self.start[g], state[0], state[1])
        then = np.where(slots + 1 < self.start[g], state[0], np.where(slots + 1 < self.stop[g], state[1], state[2]))
        last = slots == low.death_slot[b] - 1
        then = np.where(last, now, then)
        in_lane = slots % n_lanes == low.lane[b]
        before_reads = g > 0 and self.block[g - 1] == b and self.is_run[g - 1]
        read = in_lane & np.where(slots < self.start[g], before_reads, self.is_run[g])
        self.load[:, slots] += size * low.op_s_per_byte[read.astype(int), now, then].T
        if self.start[g] == low.birth_slot[b] and not low.prefilled[b]:
            written = low.write_s_per_byte[state[1]] - low.write_s_per_byte[1]
            self.load[:, self.start[g]] += size * written

    def _state(self, g: int, b: int, slot: int) -> int:
        """0 inside, 1 outside, of the segment before, this one or the one after; outside where there is none."""
        k = g - 1 if slot < self.start[g] else g if slot < self.stop[g] else g + 1
        return 0 if 0 <= k < len(self.block) and self.block[k] == b and self.inside[k] else 1
