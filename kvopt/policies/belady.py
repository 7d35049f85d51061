"""Belady's rule: evict what is needed again last."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvopt.policies.protocol import Decision, View


@dataclass
class Belady:
    """Clairvoyant: keep the blocks whose next use is soonest.

    A missed or new block enters if it is read again, and sooner than what it displaces; the resident with the farthest
    next use goes first. It maximises hits for blocks of one size and one access at a time, and knows no bandwidth: a
    placement with fewer hits may well be faster.

    References
    ----------
    Belady, A study of replacement algorithms for a virtual-storage computer, IBM Systems Journal 5 (2), 1966.
    """

    name: str = field(default="belady", init=False)
    clairvoyant: bool = field(default=True, init=False)

    def start(self, view: View) -> np.ndarray:
        return self.step(view)[0]

    def step(self, view: View) -> Decision:
        entering = np.concatenate([view.misses, view.arriving])
        entering = entering[view.next_use(entering) < view.never]
        # Residents first, so that of equal next uses the one that needs no move is preferred.
        candidates = np.concatenate([view.residents, entering])
        return view.exchange(view.best(candidates, view.next_use(candidates)))
