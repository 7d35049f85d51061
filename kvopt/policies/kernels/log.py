"""What enters and leaves the fast tier, written down as it happens, and the placement that makes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.jit import njit
from kvopt.placement import Placement

_SPARE = 1 << 22


class Page(NamedTuple):
    """Room for what a few slots do.

    Parameters
    ----------
    block : int32[M]
        Blocks that enter (if they are outside) or leave (if they are inside), slot after slot.
    stop : int64[T + 1]
        Where the entries of each slot end; those of slots on other pages are not current.
    """

    block: np.ndarray
    stop: np.ndarray


class Log:
    """All that was written, page after page.

    Parameters
    ----------
    n_blocks, n_slots : int
    """

    def __init__(self, n_blocks: int, n_slots: int) -> None:
        self.n_blocks, self.n_slots = n_blocks, n_slots
        # A block enters or leaves at most once a slot, so there is always room for one slot more.
        self.page = Page(np.empty(n_blocks + min(_SPARE, 4 * n_blocks), np.int32), np.zeros(n_slots + 1, np.int64))
        self._blocks: list[np.ndarray] = []
        self._counts: list[np.ndarray] = []

    def turn_page(self, first: int, last: int) -> None:
        """Keep what stands on the page of slots first..last-1, and begin it anew."""
        stops = self.page.stop[first:last]
        self._blocks.append(self.page.block[: stops[-1]].copy())
        self._counts.append(np.diff(stops, prepend=0))

    def placement(self) -> Placement:
        """The intervals in the fast tier. What is inside at the end stays to the end."""
        times = np.zeros(self.n_blocks, np.int64)
        for block in self._blocks:
            _count(block, times)
        ptr = np.concatenate([[0], np.cumsum((times + 1) // 2)])
        start, stop = np.empty(ptr[-1], np.int64), np.full(ptr[-1], self.n_slots)
        place, inside, slot = ptr[:-1].copy(), np.zeros(self.n_blocks, np.uint8), 0
        for block, count in zip(self._blocks, self._counts, strict=True):
            _fill(block, count, slot, place, inside, start, stop)
            slot += len(count)
        for array in (ptr, start, stop):
            # A placement copies what can still be written to.
            array.setflags(write=False)
        return Placement(ptr, start, stop)


@njit(cache=True, nogil=True, _nrt=False)
def _count(block, times):
    for b in block:
        times[b] += 1


@njit(cache=True, nogil=True, _nrt=False)
def _fill(block, count, slot, place, inside, start, stop):
    """Write the entries of slots from ``slot`` on where they belong."""
    entry = 0
    for t in range(len(count)):
        for b in block[entry : entry + count[t]]:
            if inside[b]:
                stop[place[b]] = slot + t
                place[b] += 1
            else:
                start[place[b]] = slot + t
            inside[b] = 1 - inside[b]
        entry += count[t]
