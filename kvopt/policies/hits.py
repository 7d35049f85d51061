"""Hit rates of a plain cache: the literature's figure, next to the placements of :func:`kvopt.policies.simulate`."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from kvopt import interrupts
from kvopt.errors import MethodError, shown
from kvopt.trace import Trace

if TYPE_CHECKING:
    from kvopt.policies.kernels.reading import Runs

_POLICIES = ("lru", "belady")


@interrupts.interruptible
def hits(trace: Trace, capacity_blocks: float, policy: str = "lru") -> int:
    """Requests for blocks that a cache of a given number of blocks serves.

    A step asks for the blocks that it reads and for those that it writes; for one that it does both with, once. The
    cache is empty at first, so that each block's first request is a compulsory miss: its write, or the first read of a
    block of the prefill. Slot after slot, the blocks are asked for one after the other, in ascending order; a block
    that is not there comes in at once, in the place of the one that the policy evicts.

    The hit rate is ``hits(trace, n) / trace.n_block_requests``. It is another figure than
    :attr:`kvopt.Evaluation.kv_hit_rate`, the share of the bytes *read* that come from the fastest tier in a placement:
    a policy of :func:`kvopt.policies.simulate` decides once per slot for all its reads together, may leave a block
    where it is, has new blocks written to where it wants them, and minds sizes.

    Parameters
    ----------
    trace : Trace
        Sizes and frees count for nothing.
    capacity_blocks : int
        A whole float will do, ``math.inf`` is room for all, and a cache of 0 blocks has no hits.
    policy : {"lru", "belady"}
        Evict the block that was asked for longest ago, or the one that will be asked for again last. Both take every
        block in; a cache that may turn a block away has at least as many hits by Belady's rule as this one, and at
        most as many as this one with one block more.

    Returns
    -------
    int
        Of ``trace.n_block_requests``.

    Raises
    ------
    MethodError
        For another policy, or a capacity that is no whole number of at least 0.

    References
    ----------
    Belady, A study of replacement algorithms for a virtual-storage computer, IBM Systems Journal 5 (2), 1966.
    Mattson et al., Evaluation techniques for storage hierarchies, IBM Systems Journal 9 (2), 1970.
    """
    if not isinstance(trace, Trace):
        raise MethodError("trace", f"is of type {type(trace).__name__}", "Give a kvopt.Trace; an instance has .trace")
    room = min(_capacity(capacity_blocks), trace.n_blocks)
    if not (isinstance(policy, str) and policy in _POLICIES):
        raise MethodError("policy", f"there is no plain cache by {shown(policy)}", "Choose 'lru' or 'belady'")
    if room == 0:
        return 0
    from kvopt.policies.kernels.hits import belady_hits, lru_hits

    runs, lane = _requested(trace), trace.lane
    if (lane[1:] < lane[:-1]).any():
        # Within a slot, which is of one lane, the order of the blocks stays what it was.
        order = np.argsort(lane, kind="stable")
        lane, runs = lane[order], _reordered(runs, order)
    # Kernels are compiled for read-only arrays, as a trace's own are, and not for others as well.
    for array in runs:
        array.setflags(write=False)
    lane_ptr = np.searchsorted(lane, np.arange(trace.n_lanes + 1))
    count = lru_hits if policy == "lru" else belady_hits
    return count(runs, lane_ptr, trace.n_steps, room)


def _capacity(given: Any) -> int | float:
    """The number of blocks, or infinity."""
    number = isinstance(given, numbers.Real) and not isinstance(given, bool | np.bool_)
    if number and given == math.inf:
        return math.inf
    if not number or math.isnan(given) or (given > 0 and given != math.floor(given)):
        raise MethodError("capacity_blocks", f"must be a whole number, got {shown(given)}", "Give a number of blocks")
    if given < 0:
        raise MethodError("capacity_blocks", f"must be at least 0, got {shown(given)}", "Give a number of blocks")
    return int(given)


def _requested(trace: Trace) -> Runs:
    """Runs of the steps that ask for each block: those that read it, and the one that writes it."""
    from kvopt.policies.kernels.reading import Runs

    asked, ptr = trace.written_unread, trace.run_ptr
    if not asked.any():
        return Runs(ptr, trace.run_start, trace.run_stop)
    read = np.flatnonzero(asked & (ptr[1:] > ptr[:-1]))
    # A run that begins with the step after the write begins with the write; elsewhere the write is a run of its own.
    joined = read[trace.run_start[ptr[read]] == trace.write_step[read] + 1]
    alone = asked.copy()
    alone[joined] = False
    before, write_step = ptr[:-1][alone], trace.write_step[alone]
    start = np.insert(trace.run_start, before, write_step)
    stop = np.insert(trace.run_stop, before, write_step + 1)
    ptr = ptr + np.concatenate([[0], np.cumsum(alone)])
    start[ptr[joined]] -= 1
    return Runs(ptr, start, stop)


def _reordered(runs: Runs, order: np.ndarray) -> Runs:
    """The runs of the blocks in another order."""
    counts = np.diff(runs.ptr)[order]
    ptr = np.concatenate([[0], np.cumsum(counts)])
    index = np.arange(ptr[-1]) + np.repeat(runs.ptr[:-1][order] - ptr[:-1], counts)
    return type(runs)(ptr, runs.start[index], runs.stop[index])
