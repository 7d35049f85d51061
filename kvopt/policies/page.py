"""Pages of tokens, moved as a whole one step before they are read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvopt.arguments import flag, whole
from kvopt.errors import MethodError
from kvopt.policies.protocol import Decision, View, fitting
from kvopt.policies.static import StaticOldest
from kvopt.trace_checks import MOST_SLOTS


@dataclass
class Page:
    """Clairvoyant by one step: what the lane's next step reads comes in by pages; those that it reads least leave.

    In each slot the pages are found of which the lane's next step reads a token that the fast tier lacks. They come in,
    as far as there is room for them and for the lane's pages that are there already: those come first of which the next
    step reads most tokens, then those that were read or written last, then the older. New blocks are written to the
    tier below, and the oldest tokens fill the fast tier after prefill.

    Parameters
    ----------
    page_tokens : int
        Blocks of a lane in a row that make a page, at least 1.
    whole : bool
        Whether all tokens of a page come in; otherwise those that the slot reads, which cost no read of their own where
        moves are read-through.
    all_lanes : bool
        Whether a page that one lane lacks comes in for every lane, as in the published simulator; room is then made in
        all lanes.

    Raises
    ------
    MethodError
        When there are fewer than one.

    References
    ----------
    Tang et al., Quest, ICML 2024, for pages of 16; Fang et al., IEEE CAL 2025, arXiv 2508.13231, for perfect knowledge.
    """

    page_tokens: int = 16
    whole: bool = True
    all_lanes: bool = False
    name: str = field(default="page", init=False)
    clairvoyant: bool = field(default=True, init=False)
    _blocks: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    """Lane by lane, in the order of their tokens."""
    _ptr: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64), init=False, repr=False)
    """Where each page begins in there, and the end."""
    _number: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)
    """Of each page, in its lane."""
    _of_lane: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64), init=False, repr=False)
    """Where each lane's pages begin, and the end."""

    def __post_init__(self) -> None:
        whole("page page_tokens", self.page_tokens, "Give one", MethodError, most=MOST_SLOTS)
        flag("page whole", self.whole)
        flag("page all_lanes", self.all_lanes)

    def start(self, view: View) -> np.ndarray:
        self._blocks = np.argsort(view.block_lane, kind="stable")
        counts = np.bincount(view.block_lane, minlength=view.n_lanes)
        token = np.arange(view.n_blocks) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = np.flatnonzero(token % self.page_tokens == 0)
        self._ptr, self._number = np.append(begins, view.n_blocks), token[begins] // self.page_tokens
        lane = view.block_lane[self._blocks[begins]]
        self._of_lane = np.searchsorted(lane, np.arange(view.n_lanes + 1))
        return StaticOldest().start(view)

    def step(self, view: View) -> Decision:
        blocks, begins, number = self._part(view.lane, view.lane + 1)
        there, resident, read = self._now(view, blocks)
        lacking = np.logical_or.reduceat(read & ~resident, begins) if len(blocks) else np.zeros(0, bool)
        if not lacking.any():
            return blocks[:0], blocks[:0]
        asked = np.zeros(self._number.max() + 1, np.int64)
        asked[number[lacking]] = np.add.reduceat(read, begins, dtype=np.int64)[lacking]
        if self.all_lanes:
            blocks, begins, number = self._part(0, view.n_lanes)
            there, resident, read = self._now(view, blocks)
        needed = np.maximum(np.add.reduceat(read, begins, dtype=np.int64), asked[number])
        last_use = np.maximum.reduceat(np.where(there, view.last_use[blocks], -2), begins)
        order = np.lexsort((-last_use, -needed))
        tokens = np.diff(begins, append=len(blocks))
        entering = there & np.repeat(asked[number] > 0, tokens)
        if not self.whole:
            entering &= np.isin(blocks, view.accessed, assume_unique=True)
        candidate = resident | entering
        ends = np.cumsum(tokens[order])
        ranked = np.repeat(begins[order] - (ends - tokens[order]), tokens[order]) + np.arange(len(blocks))
        ranked = ranked[candidate[ranked]]
        room = view.free_bytes + view.size_bytes[blocks[resident]].sum()
        kept = np.zeros(len(blocks), bool)
        kept[ranked[fitting(view.size_bytes[blocks[ranked]], room)]] = True
        return blocks[kept & ~resident], blocks[resident & ~kept]

    def _part(self, lane: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(blocks of some lanes, where their pages begin in there, those pages' numbers)."""
        pages = slice(self._of_lane[lane], self._of_lane[stop])
        begin, end = self._ptr[[pages.start, pages.stop]]
        return self._blocks[begin:end], self._ptr[pages] - begin, self._number[pages]

    @staticmethod
    def _now(view: View, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """bool[...]: which of the blocks exist, which are in the fast tier, and which the next step reads."""
        there = view.live[blocks] & (view.birth_slot[blocks] <= view.slot)
        return there, there & view.resident[blocks], there & (view.reads_ahead(1, blocks) > 0)
