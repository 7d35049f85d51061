"""What the backing tier cannot take: under exclusive copies a block that finds no room there stays in the fast tier."""

from __future__ import annotations

import numpy as np

from kvopt.policies.protocol import View


def hold_back(view: View, wanted: np.ndarray, evict: np.ndarray) -> bool:
    """Add blocks to the wanted content of the fast tier until the backing tier can hold the rest.

    First the evicted blocks, the last named first, then the arriving ones, then any others, latest used first. When
    that leaves a remainder no block fits into, the fast tier is packed anew, the largest blocks first.

    Parameters
    ----------
    view : View
    wanted : bool[B]
        What the policy wants in the fast tier in the next slot; modified in place.
    evict : int64[E]
        The blocks that the policy evicted.

    Returns
    -------
    bool
        False when no packing is found.
    """
    evicted = evict[::-1][view.live[evict[::-1]]]
    live = np.flatnonzero(view.live)
    latest = live[np.argsort(-view.last_use[live], kind="stable")]
    if _pack(view, wanted, np.concatenate([evicted, view.arriving, latest])):
        return True
    wanted[:] = False
    return _pack(view, wanted, live[np.argsort(-view.size_bytes[live], kind="stable")])


def _pack(view: View, wanted: np.ndarray, candidates: np.ndarray) -> bool:
    """Add candidates in order, passing over what does not fit, until the fast tier holds enough."""
    size = view.size_bytes
    held = int(size[wanted].sum())
    for block in candidates:
        if held >= view.least_bytes:
            break
        if not wanted[block] and held + size[block] <= view.capacity_bytes:
            wanted[block] = True
            held += int(size[block])
    return held >= view.least_bytes
