"""The published rule of a window and a ratio: move what the next steps read most."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from kvopt.arguments import real, whole
from kvopt.errors import MethodError, shown
from kvopt.policies.protocol import Decision, View
from kvopt.trace_checks import MOST_SLOTS


@dataclass
class LookAhead:
    """Clairvoyant within a window: rank blocks by how often the next W steps read them, and move the top R share.

    In each slot the lower tiers' blocks of the slot's lane are ranked; of the top R share those are promoted that are
    read more often in the window than the residents, of any lane, that they displace. New blocks compete likewise.
    Reads are reads per byte: a block's bytes are read once a read.

    Parameters
    ----------
    window_steps : int
        W, at least 1.
    ratio : float
        R, in (0, 1]: the largest share of a lane's blocks in lower tiers that is promoted in one slot.

    Raises
    ------
    MethodError
        When a parameter is out of range.

    References
    ----------
    Fang et al., IEEE CAL 2025, arXiv 2508.13231, where W and R are found by simulated annealing.
    """

    window_steps: int = 8
    ratio: float = 0.05
    name: str = field(default="look-ahead", init=False)
    clairvoyant: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        whole("look-ahead window_steps", self.window_steps, "Give one", MethodError, most=MOST_SLOTS)
        if not 0 < real("look-ahead ratio", self.ratio, "Give one", MethodError) <= 1:
            raise MethodError("look-ahead ratio", f"must be in (0, 1], got {shown(self.ratio)}", "Give a share")

    def start(self, view: View) -> np.ndarray:
        reads = view.reads_ahead(self.window_steps, view.arriving)
        wanted = reads > 0
        return view.best(view.arriving[wanted], -reads[wanted])

    def step(self, view: View) -> Decision:
        reads = view.reads_ahead(self.window_steps)
        new = view.arriving[reads[view.arriving] > 0]
        entering = np.concatenate([self._top(view, reads), new])
        # Residents first, so that of equals the one that needs no move is preferred.
        candidates = np.concatenate([view.residents, entering])
        return view.exchange(view.best(candidates, -reads[candidates]))

    def _top(self, view: View, reads: np.ndarray) -> np.ndarray:
        """Those of the most read R share of the lane's blocks in lower tiers that are read at all."""
        waiting = view.waiting
        most = math.ceil(self.ratio * len(waiting))
        read = waiting[reads[waiting] > 0]
        return read[np.argsort(-reads[read], kind="stable")[:most]]
