"""A sample of an instance's blocks, on which the dual can begin its ascent at a fraction of the cost.

Multipliers are prices by the second and by the byte. They suit a part of the blocks as well as the whole, as long as
capacities, weights and whatever else is shared shrink by the same share. What the sample proves is nothing; what it is
good for is to have found the rough prices before all blocks are asked.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kvopt.lowering import Lowered


def thinned(low: Lowered, every: int) -> tuple[Lowered, float]:
    """Every so many-th block of each lane, and the share of all reads that are theirs.

    Parameters
    ----------
    low : Lowered
    every : int

    Returns
    -------
    Lowered
        Base loads and capacities times the share; ``live_bytes`` are left as they are.
    share : float
        Greater than 0.
    """
    by_lane = np.argsort(low.lane, kind="stable")
    kept = np.sort(by_lane[every // 2 :: every])
    counts = np.diff(low.run_ptr)
    ptr = np.concatenate([[0], np.cumsum(counts[kept])])
    runs = np.repeat(low.run_ptr[kept] - ptr[:-1], counts[kept]) + np.arange(ptr[-1])
    read = np.repeat(low.size_bytes, counts) * (low.run_stop - low.run_start)
    share = float(read[runs].sum() / read.sum()) if read.sum() and read[runs].sum() else 1.0 / every
    of_blocks = ("size_bytes", "lane", "first_step", "last_step", "birth_slot", "death_slot", "prefilled", "initial")
    part = replace(
        low,
        base_s=low.base_s * share,
        base_price=low.base_price * share,
        capacity_bytes=low.capacity_bytes * share,
        run_ptr=ptr,
        run_start=low.run_start[runs],
        run_stop=low.run_stop[runs],
        **{name: getattr(low, name)[kept] for name in of_blocks},
    )
    return part, share
