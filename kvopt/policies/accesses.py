"""What is read when, slot after slot, from a trace's runs and without ever listing all accesses."""

from __future__ import annotations

import numpy as np

from kvopt.trace import Trace


class RunIndex:
    """The runs of a trace by the slot that reads them first.

    Parameters
    ----------
    trace : Trace

    Attributes
    ----------
    block : int64[R]
        Block of each run.
    lane : int64[R]
    first_slot, end_slot : int64[R]
        Slot of the first read, and one past the slot of the last.
    """

    def __init__(self, trace: Trace) -> None:
        self.n_slots, self.n_lanes, self.n_blocks = trace.n_slots, trace.n_lanes, trace.n_blocks
        self.block = trace.run_block
        self.lane = trace.lane[self.block].astype(np.int64)
        self.first_slot = trace.run_start.astype(np.int64) * trace.n_lanes + self.lane
        self.end_slot = (trace.run_stop.astype(np.int64) - 1) * trace.n_lanes + self.lane + 1
        self._order = np.argsort(self.first_slot, kind="stable")
        self._ptr = np.concatenate([[0], np.cumsum(np.bincount(self.first_slot, minlength=trace.n_slots))])

    def beginning(self, slot: int) -> np.ndarray:
        """int64[...]: the runs whose first read is in this slot."""
        return self._order[self._ptr[slot] : self._ptr[slot + 1]]

    def first_use(self) -> np.ndarray:
        """int64[B]: slot of each block's first read; ``n_slots`` if it is never read."""
        first = np.full(self.n_blocks, self.n_slots)
        np.minimum.at(first, self.block, self.first_slot)
        return first

    def use_after(self) -> np.ndarray:
        """int64[R]: slot of the block's next read once the run is over; ``n_slots`` if there is none."""
        after = np.full(len(self.block), self.n_slots)
        same = self.block[1:] == self.block[:-1]
        after[:-1][same] = self.first_slot[1:][same]
        return after

    def reads_between(self, start: int, stop: int) -> np.ndarray:
        """int64[B]: reads of each block in slots [start, stop), in one pass over all runs."""
        lanes = self.n_lanes
        steps = np.minimum(self.end_slot, stop) - np.maximum(self.first_slot, _next_in_lane(start, self.lane, lanes))
        # A run's reads lie a whole number of steps apart, so its clipped length rounds up.
        reads = np.maximum(-(-steps // lanes), 0)
        return np.bincount(self.block, weights=reads, minlength=self.n_blocks).astype(np.int64)


def _next_in_lane(slot: int, lane: np.ndarray, n_lanes: int) -> np.ndarray:
    """The first slot at or after ``slot`` that belongs to each lane."""
    return slot + (lane - slot) % n_lanes


class AccessStream:
    """The runs that each slot reads, for slots asked in ascending order without a gap.

    Parameters
    ----------
    index : RunIndex
    slot : int
        The first slot that will be asked for.
    """

    def __init__(self, index: RunIndex, slot: int = 0) -> None:
        self._index = index
        begun = np.flatnonzero((index.first_slot < slot) & (index.end_slot > slot))
        self._active: list[np.ndarray] = [begun[index.lane[begun] == lane] for lane in range(index.n_lanes)]

    def read(self, slot: int) -> np.ndarray:
        """int64[A]: the runs that read in this slot: one a block that is read."""
        lane = slot % self._index.n_lanes
        begun = self._active[lane]
        running = begun[self._index.end_slot[begun] > slot]
        self._active[lane] = np.concatenate([running, self._index.beginning(slot)])
        return self._active[lane]


class ReadsAhead:
    """How often each block is read in the next so many steps, updated slot by slot.

    Parameters
    ----------
    index : RunIndex
    steps : int
        Length of the window.
    """

    def __init__(self, index: RunIndex, steps: int) -> None:
        self._index = index
        self._length = steps * index.n_lanes
        self._slot: int | None = None  # What the two below are up to date for; None before the first question.
        self._count = np.zeros(0, np.int64)
        self._ahead = AccessStream(index)

    def after(self, slot: int, accessed: np.ndarray) -> np.ndarray:
        """int64[B]: reads of each block in slots [slot + 1, slot + 1 + steps * lanes).

        Parameters
        ----------
        slot : int
            -1 for the window that begins with slot 0.
        accessed : int64[A]
            The blocks that ``slot`` reads.
        """
        end = slot + self._length
        if self._slot == slot:
            return self._count
        if self._slot is not None and slot == self._slot + 1:
            self._count[accessed] -= 1
            if end < self._index.n_slots:
                self._count[self._index.block[self._ahead.read(end)]] += 1
        else:
            self._count = self._index.reads_between(slot + 1, end + 1)
            self._ahead = AccessStream(self._index, end + 1)
        self._slot = slot
        return self._count
