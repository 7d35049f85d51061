"""Least recently used."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from kvopt.policies.protocol import Decision, View


@dataclass
class Lru:
    """Promote on a miss, write new blocks to the fast tier, evict the least recently used.

    A write counts as a use. Within one slot the later block counts as the more recent.
    """

    name: str = field(default="lru", init=False)
    clairvoyant: bool = field(default=False, init=False)

    def start(self, view: View) -> np.ndarray:
        return self.step(view)[0]

    def step(self, view: View) -> Decision:
        candidates = np.concatenate([view.residents, view.misses, view.arriving])
        age = -(view.last_use[candidates] * view.n_blocks + candidates)
        return view.exchange(view.best(candidates, age))
