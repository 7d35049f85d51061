"""Pages of tokens, moved as a whole one step before they are read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvopt.errors import MethodError
from kvopt.policies.protocol import Decision, View, fitting
from kvopt.policies.static import StaticOldest


@dataclass
class Page:
    """Clairvoyant by one step: what the lane's next step reads comes in with its whole page; the stalest pages leave.

    In each slot the pages are found of which the lane's next step reads a token that the fast tier lacks. All their
    tokens are promoted. Room is made by pages of the same lane that the next step does not read, those whose last read
    or write is longest ago first; of the pages that are read, the later ones stay out where there is no room for all.
    New blocks are written to the tier below, and the oldest tokens fill the fast tier after prefill.

    Parameters
    ----------
    page_tokens : int
        Blocks of a lane in a row that make a page, at least 1.
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
    all_lanes: bool = False
    name: str = field(default="page", init=False)
    clairvoyant: bool = field(default=True, init=False)
    _page: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64), init=False, repr=False)

    def __post_init__(self) -> None:
        if self.page_tokens < 1:
            raise MethodError("page page_tokens", f"must be at least 1, got {self.page_tokens!r}", "Give tokens")

    def start(self, view: View) -> np.ndarray:
        by_lane = np.argsort(view.block_lane, kind="stable")
        counts = np.bincount(view.block_lane, minlength=view.n_lanes)
        token = np.arange(view.n_blocks) - np.repeat(np.cumsum(counts) - counts, counts)
        self._page = np.empty(view.n_blocks, np.int64)
        self._page[by_lane] = token // self.page_tokens
        return StaticOldest().start(view)

    def step(self, view: View) -> Decision:
        own = view.own[view.live[view.own] & (view.birth_slot[view.own] <= view.slot)]
        lacks = (view.reads_ahead(1, own) > 0) & ~view.resident[own]
        if not lacks.any():
            return own[:0], own[:0]
        missing = np.zeros(self._page.max() + 1, bool)
        missing[self._page[own[lacks]]] = True
        blocks, room = own, view.free_bytes
        if self.all_lanes:
            blocks = np.flatnonzero(view.live & (view.birth_slot <= view.slot))
        held = blocks[view.resident[blocks]]
        entering = blocks[~view.resident[blocks] & missing[self._page[blocks]]]
        room += view.size_bytes[held].sum()
        candidates = np.concatenate([held, entering])
        candidates = candidates[self._order(view, candidates, blocks, missing)]
        kept = np.zeros(view.n_blocks, bool)
        kept[candidates[fitting(view.size_bytes[candidates], room)]] = True
        return entering[kept[entering]], held[~kept[held]]

    def _order(self, view: View, candidates: np.ndarray, blocks: np.ndarray, missing: np.ndarray) -> np.ndarray:
        """Pages that the next step reads or that are to come in, then the most recently used; of equals the older."""
        pages = len(missing)
        page = view.block_lane[blocks] * pages + self._page[blocks]
        last_use, first = np.full(view.n_lanes * pages, -2), np.tile(missing, view.n_lanes)
        np.maximum.at(last_use, page, view.last_use[blocks])
        first[page[view.reads_ahead(1, blocks) > 0]] = True
        of = view.block_lane[candidates] * pages + self._page[candidates]
        return np.lexsort((candidates, -last_use[of], ~first[of]))
