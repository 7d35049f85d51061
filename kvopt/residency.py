"""The states a block can be in: which tiers hold a copy of it.

A *state* is a set of tiers. Which sets there are is a rule of the instance:

- exclusive copies: one tier;
- inclusive copies, written through: any set with the backing tier in it;
- inclusive copies, written back: any set but the empty one. What a new block is written to is up to the placement,
  and a copy may be dropped wherever another is left.

States are numbered with those that hold faster tiers first, so that the last is "in the backing tier only" always, and
with two tiers and all rules but write-back there are two: 0 has the block in the fast tier, 1 has not.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from kvopt.platform import Platform


def states(n_tiers: int, *, inclusive: bool, write_back: bool = False) -> np.ndarray:
    """bool[S, K]: the tiers that hold a block in each state.

    Parameters
    ----------
    n_tiers : int
        K.
    inclusive, write_back : bool
        The rules; writing back is for inclusive copies.
    """
    if not inclusive:
        return np.eye(n_tiers, dtype=bool)
    backing = (True, False) if write_back else (True,)
    found = [(*upper, last) for upper in product((True, False), repeat=n_tiers - 1) for last in backing]
    return np.array([held for held in found if any(held)])


def nearest(held: np.ndarray) -> np.ndarray:
    """int64[S]: the fastest tier that holds a block in each state: reads and copies are served from there.

    Parameters
    ----------
    held : bool[S, K]
    """
    return np.argmax(held, axis=1)


def entered(held: np.ndarray) -> np.ndarray:
    """bool[S, S, K]: the tiers that must be written to on the way from one state to another.

    Parameters
    ----------
    held : bool[S, K]
    """
    return held[None, :, :] & ~held[:, None, :]


def names(held: np.ndarray, platform: Platform) -> list[str]:
    """Each state in words: its tiers joined by "+".

    Parameters
    ----------
    held : bool[S, K]
    platform : Platform
    """
    return ["+".join(t.name for t, here in zip(platform.tiers, row, strict=True) if here) for row in held]
