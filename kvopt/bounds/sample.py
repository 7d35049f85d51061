"""A sample of an instance's blocks, on which the dual can ascend at a fraction of the cost.

Multipliers are prices by the second and by the byte. They suit a part of the blocks as well as the whole, as long as
capacities, weights and whatever else is shared shrink by the same share. What the sample proves is nothing; what it is
good for is to have found the prices but for the last digits before all blocks are asked.

How thin it may be depends on the temperature: the colder, the more the prices follow single blocks, and at some point
they suit the sample and not the whole. Measured on the published families at 2e6 and 2e7 runs, that point is where the
runs by slot are about 0.004 over the temperature.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from kvopt.lowering import Lowered

_LEAST_RUNS = 80_000
"""Samples have no fewer runs."""
_LEAST_GUIDING_RUNS, _GUIDING_TAU = 1_000_000, 0.02
"""Nor, at temperatures whose multipliers guide an annealer, fewer than this: on the embedded trace it ends 0.8 % above
the bound when led by those of every eighth block, 0.17 % when by those of all."""
_LEAST_RUNS_PER_SLOT = 4.0
"""Nor fewer than this by slot: what a slot's tables take is then most of the time, and less would save little."""
_RUNS_PER_SLOT = 0.008
"""Over the temperature, what a sample must have: twice what is needed."""
_LEAST_THINNED = 4
"""More than one block in so many is not a sample worth its error."""
_CHUNK_BLOCKS = 1 << 16


def thinning(low: Lowered, tau: float) -> int:
    """One block in how many is enough to ask.

    Parameters
    ----------
    low : Lowered
    tau : float
        Temperature, in units of what a byte read from the backing tier costs.
    """
    least = _LEAST_RUNS if tau > _GUIDING_TAU else _LEAST_GUIDING_RUNS
    wanted = max(least, low.n_slots * max(_LEAST_RUNS_PER_SLOT, _RUNS_PER_SLOT / tau))
    every = int(len(low.run_start) // wanted)
    return every if every >= _LEAST_THINNED else 1


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
    part = low.of_blocks(kept)
    read, whole = _read_bytes(part), _read_bytes(low)
    share = read / whole if read else 1.0 / every
    part = replace(
        part,
        base_s=low.base_s * share,
        base_price=low.base_price * share,
        capacity_bytes=low.capacity_bytes * share,
    )
    return part, share


def _read_bytes(low: Lowered) -> float:
    """All bytes read, without arrays as long as the runs."""
    return sum(
        float(np.repeat(low.size_bytes[blocks], np.diff(ptr)) @ (low.run_stop[runs] - low.run_start[runs]))
        for blocks, ptr, runs in _chunks(low)
    )


def _chunks(low: Lowered) -> Iterator[tuple[slice, np.ndarray, slice]]:
    """Some blocks at a time, their part of ``run_ptr``, and their runs."""
    for begin in range(0, low.n_blocks, _CHUNK_BLOCKS):
        blocks = slice(begin, min(begin + _CHUNK_BLOCKS, low.n_blocks))
        ptr = low.run_ptr[begin : blocks.stop + 1]
        yield blocks, ptr, slice(ptr[0], ptr[-1])
