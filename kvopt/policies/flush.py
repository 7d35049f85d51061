"""The published reactive policy as its simulator has it: promote on a miss, and when full empty the layer's share."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvopt.arguments import flag
from kvopt.policies.protocol import Decision, View
from kvopt.policies.static import StaticOldest


@dataclass
class ReactiveFlush:
    """Promote on a miss; once the fast tier is full, all that it holds of the slot's lane leaves at once.

    Misses are promoted one after the other. One that does not fit empties the lane's share of the fast tier, with what
    came in during this slot, and goes in then, if there is room now. New blocks are written to the tier below. The
    oldest tokens fill the fast tier after prefill. The published text says LRU eviction; this is what the code does.

    Parameters
    ----------
    pooled : bool
        Whether lanes share the fast tier; otherwise each has an equal part of it, and is full by itself.

    References
    ----------
    Fang et al., IEEE CAL 2025, arXiv 2508.13231, and the first author's simulator.
    """

    pooled: bool = True
    name: str = field(default="reactive-flush", init=False)
    clairvoyant: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        flag("reactive-flush pooled", self.pooled)

    def start(self, view: View) -> np.ndarray:
        return StaticOldest().start(view)

    def step(self, view: View) -> Decision:
        missed, here = view.misses, view.own[view.resident[view.own]]
        filled = np.cumsum(view.size_bytes[missed])
        room, first, taken, flushed = view.free_bytes, 0, 0, False
        if not self.pooled:
            room = min(room, max(view.capacity_bytes / view.n_lanes - view.size_bytes[here].sum(), 0.0))
        while taken < len(missed):
            before = filled[first - 1] if first else 0
            taken = int(np.searchsorted(filled, before + room, side="right"))
            if taken == len(missed):
                break
            held = filled[taken - 1] - before if taken > first else 0
            if not flushed:
                held += view.size_bytes[here].sum()
            if held == 0:  # The tier is full of other lanes' blocks, or the block is larger than what is left.
                break
            # What came in since the last flush leaves with the rest.
            room = room + (0 if flushed else view.size_bytes[here].sum())
            flushed, first = True, taken
        return missed[first:taken], here if flushed else here[:0]
