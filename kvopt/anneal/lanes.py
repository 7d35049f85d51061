"""One lane's placement for all of them, where all are read alike.

What a lane does during its slot of step n, the others do during theirs. Each then holds, at any time, what the one
holds in that step or the one before, so all fit if the one fits its share; and every slot of a step takes what the
one's takes. Synthetic traces that draw once for all layers, as the published one does, are such: the work on them is
that of a lane. What lanes could do better together than each by itself, descents from there find.
"""

from __future__ import annotations

import numpy as np

from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.trace import Trace

_LEAST_LANES, _LEAST_RUNS = 4, 10_000
"""Below, all lanes are soon done."""


def one_for_all(instance: Instance) -> bool:
    """Whether to anneal one lane first: there are many, one stands for all, and slots count by their sum.

    Parameters
    ----------
    instance : Instance
    """
    trace = instance.trace
    if trace.n_lanes < _LEAST_LANES or trace.n_runs < _LEAST_RUNS:
        return False
    return not (instance.custom or instance.prices.stepwise) and one_stands_for_all(instance)


def one_stands_for_all(instance: Instance) -> bool:
    """Whether what one lane does with its share, all may do with theirs, in slots that take as long.

    Lanes must be read alike, the start be free, and all blocks live to the end. One that dies is gone, in a single
    lane, when the next step begins; among many, when its own slot of that step does, and to have it leave in time would
    cost what an eviction does.

    Parameters
    ----------
    instance : Instance
    """
    trace = instance.trace
    to_the_end = bool((trace.free_step == trace.n_steps).all())
    # A lane's share may not hold a block.
    holds = instance.capacity_bytes[0] >= trace.size_bytes.max() * trace.n_lanes
    return instance.initial is None and to_the_end and bool(holds) and lanes_alike(trace)


def lanes_alike(trace: Trace) -> bool:
    """Whether blocks go by lane, and each lane's are those of the first: sizes, lives and reads.

    Parameters
    ----------
    trace : Trace
    """
    n_lanes, n_blocks = trace.n_lanes, trace.n_blocks
    if n_blocks % n_lanes or trace.n_runs % n_lanes:
        return False
    if not np.array_equal(trace.lane, np.repeat(np.arange(n_lanes), n_blocks // n_lanes)):
        return False
    columns = (
        trace.size_bytes,
        trace.write_step,
        trace.free_step,
        np.diff(trace.run_ptr),
        trace.run_start,
        trace.run_stop,
    )
    return all(bool((rows == rows[0]).all()) for rows in (column.reshape(n_lanes, -1) for column in columns))


def widened(placement: Placement, part: Instance, whole: Instance) -> Placement:
    """The same in every lane.

    Parameters
    ----------
    placement : Placement
        Of ``part``.
    part : Instance
        One lane of ``whole``, by :meth:`kvopt.Instance.with_lanes`.
    whole : Instance
        With lanes that are all alike, and blocks that live to the end.
    """
    n_lanes, n_part = whole.trace.n_lanes, part.trace.n_blocks
    lane = np.arange(n_lanes)[:, None]
    owner = np.repeat(np.arange(n_part), np.diff(placement.ptr))
    block = (lane * n_part + owner).ravel()
    # What is from step n on was done during the lane's slot of step n - 1, and counts from the slot after that.
    start = np.where(placement.start > 0, (placement.start - 1) * n_lanes + lane + 1, 0).ravel()
    stop = ((placement.stop - 1) * n_lanes + lane + 1).ravel()
    to_the_end = np.tile(placement.stop == part.n_slots, n_lanes)
    start = np.maximum(start, whole.birth_slot[block])
    stop = np.minimum(np.where(to_the_end, whole.n_slots, stop), whole.death_slot[block])
    ptr = np.concatenate([[0], np.cumsum(np.tile(np.diff(placement.ptr), n_lanes))])
    return Placement(ptr, start, stop, np.tile(placement.state, n_lanes))
