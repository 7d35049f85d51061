"""Policies that never move a block: what is written to a tier stays there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvopt.policies.protocol import Decision, View

_NONE = np.zeros(0, np.int64)


@dataclass
class StaticOldest:
    """The oldest tokens fill the fast tier as they are written; once it is full, all others go below.

    Prefill counts as writing the first token of every lane, then the second of every lane, and so on.
    """

    name: str = field(default="static-oldest", init=False)
    clairvoyant: bool = field(default=False, init=False)

    def start(self, view: View) -> np.ndarray:
        return _first_fitting(view, by_token(view.arriving, view.block_lane, view.n_lanes))

    def step(self, view: View) -> Decision:
        return _first_fitting(view, view.arriving), _NONE


@dataclass
class StaticHottest:
    """Clairvoyant: the blocks with the most reads in the whole trace sit in the fast tier from birth to the end.

    Reads are reads per byte: a block's bytes are read once a read. Blocks are taken in that order, of equal ones the
    earlier, each if it fits in every slot of its life, new blocks' lives included. So the choice is greedy.
    """

    name: str = field(default="static-hottest", init=False)
    clairvoyant: bool = field(default=True, init=False)
    _chosen: np.ndarray = field(default_factory=lambda: np.zeros(0, bool), init=False, repr=False)

    def start(self, view: View) -> np.ndarray:
        self._chosen = self._choose(view)
        return self.step(view)[0]

    def step(self, view: View) -> Decision:
        return _first_fitting(view, view.arriving[self._chosen[view.arriving]]), _NONE

    @staticmethod
    def _choose(view: View) -> np.ndarray:
        """bool[B]: greedily the most read, within capacity in every slot."""
        reads = view.reads_ahead(view.n_steps)
        chosen = np.zeros(view.n_blocks, bool)
        held = np.zeros(view.n_slots, np.int64)
        ranked = np.argsort(-reads, kind="stable")
        for block in ranked[: np.count_nonzero(reads)]:
            life = held[view.birth_slot[block] : view.death_slot[block]]
            if life.max() + view.size_bytes[block] <= view.capacity_bytes:
                life += view.size_bytes[block]
                chosen[block] = True
        return chosen


def by_token(blocks: np.ndarray, block_lane: np.ndarray, n_lanes: int) -> np.ndarray:
    """int[...]: blocks, given in ascending order, by their position in their lane, of equals the lower lane first.

    Parameters
    ----------
    blocks : int[...]
    block_lane : int32[B]
    n_lanes : int
    """
    lane = block_lane[blocks]
    by_lane = np.argsort(lane, kind="stable")
    counts = np.bincount(lane, minlength=n_lanes)
    token = np.arange(len(lane)) - np.repeat(np.cumsum(counts) - counts, counts)
    return blocks[by_lane[np.argsort(token, kind="stable")]]


def _first_fitting(view: View, blocks: np.ndarray) -> np.ndarray:
    """Blocks in the given order as long as there is room; the first that does not fit closes the door."""
    filled = np.cumsum(view.size_bytes[blocks])
    return blocks[: np.searchsorted(filled, view.free_bytes, side="right")]
