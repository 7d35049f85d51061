"""How often a plain cache is hit: the literature's figure, beside the placements of :func:`kvopt.policies.simulate`."""

from __future__ import annotations

import numpy as np

from kvopt.errors import MethodError
from kvopt.trace import Trace


def hits(trace: Trace, capacity_blocks: int, policy: str = "lru") -> int:
    """Reads that a cache of so many blocks serves.

    The cache is empty at first. Slot after slot, the blocks that are read are asked for one after the other, in
    ascending order; a block that is not there comes in at once, in the place of the one that the policy evicts. A
    policy of :func:`kvopt.policies.simulate` differs in that it decides once a slot for all its reads together, may
    leave a block where it is, has new blocks written to where it wants them, and minds sizes.

    Parameters
    ----------
    trace : Trace
        Sizes, writes and frees count for nothing.
    capacity_blocks : int
        At least 1.
    policy : {"lru", "belady"}
        Evict the block that was asked for longest ago, or the one that will be asked for again last.

    Returns
    -------
    int
        Of ``trace.n_accesses``.

    Raises
    ------
    MethodError
        For another policy, or a capacity of less than a block.

    References
    ----------
    Mattson et al., Evaluation techniques for storage hierarchies, IBM Systems Journal 9 (2), 1970.
    """
    if capacity_blocks < 1:
        raise MethodError("capacity_blocks", f"must be at least 1, got {capacity_blocks!r}", "Give a number of blocks")
    if policy not in ("lru", "belady"):
        raise MethodError("policy", f"there is no plain cache by {policy!r}", "Choose 'lru' or 'belady'")
    from kvopt.policies.kernels.hits import belady_hits, lru_hits
    from kvopt.policies.kernels.reading import Runs

    runs = Runs(trace.run_ptr, trace.run_start, trace.run_stop)
    lane = trace.lane
    if (lane[1:] < lane[:-1]).any():
        # Within a slot, which is of one lane, the order of the blocks stays what it was.
        order = np.argsort(lane, kind="stable")
        lane, runs = lane[order], _reordered(runs, order)
    lane_ptr = np.searchsorted(lane, np.arange(trace.n_lanes + 1))
    count = lru_hits if policy == "lru" else belady_hits
    return count(runs, lane_ptr, trace.n_steps, int(capacity_blocks))


def _reordered(runs, order: np.ndarray):
    """The runs of the blocks in another order."""
    counts = np.diff(runs.ptr)[order]
    ptr = np.concatenate([[0], np.cumsum(counts)])
    index = np.arange(ptr[-1]) + np.repeat(runs.ptr[:-1][order] - ptr[:-1], counts)
    return type(runs)(ptr, runs.start[index], runs.stop[index])
