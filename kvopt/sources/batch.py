"""Several copies of a recorded decode side by side, as a server that batches continuously runs them."""

from __future__ import annotations

import numpy as np

from kvopt.errors import TraceError
from kvopt.sources.lanes import LaneRuns, TraceBuilder
from kvopt.trace import PREFILL, Trace


def staggered(trace: Trace, copies: int, every_steps: int, *, n_steps: int | None = None) -> Trace:
    """Copies of a trace that start one after the other: a sequence arrives, decodes and leaves.

    Copy c begins in step ``c * every_steps``: what prefill wrote of it is written in that step, or is there before step
    0 for copy 0, and it is freed when the copy has decoded its last step. Copies have nothing in common.

    Parameters
    ----------
    trace : Trace
        Of blocks of one size.
    copies : int
        At least 1.
    every_steps : int
        Steps from one start to the next, at least 1.
    n_steps : int, optional
        Cut the result after so many steps; the last copy must have begun. Until the last copy ends unless given.

    Returns
    -------
    Trace
        Blocks are numbered lane by lane, in a lane copy by copy.

    Raises
    ------
    TraceError
        When a number is out of range, or blocks differ in size.
    """
    for name, value in (("copies", copies), ("every_steps", every_steps)):
        if value < 1:
            raise TraceError(name, f"must be at least 1, got {value!r}", "Give a whole number")
    last_start = (copies - 1) * every_steps
    n_steps = last_start + trace.n_steps if n_steps is None else n_steps
    if not last_start < n_steps <= last_start + trace.n_steps:
        raise TraceError(
            "n_steps",
            f"is {n_steps}; the last copy begins at {last_start} and ends {trace.n_steps} steps later",
            "Give a number between",
        )
    if trace.size_bytes.min() != trace.size_bytes.max():
        raise TraceError("size_bytes", "differ between blocks", "Give a trace of blocks of one size")
    starts = range(0, copies * every_steps, every_steps)
    builder = TraceBuilder(n_steps, trace.n_lanes)
    for lane in np.unique(trace.lane).tolist():
        _add_lane(builder, lane, trace.window(lanes=[lane]), starts)
    return builder.finish(
        name=f"{trace.name}, {copies} copies" if copies > 1 else trace.name,
        step_unit=trace.step_unit,
        provenance={
            "generator": "kvopt.sources.batch.staggered",
            "copies": copies,
            "every_steps": every_steps,
            "of": dict(trace.provenance),
        },
    )


def _add_lane(builder: TraceBuilder, lane: int, one: Trace, starts: range) -> None:
    """Copies of a trace of one lane, as a lane; those that the end of the trace cuts short are windows of it."""
    runs, write, free, n_blocks = [], [], [], 0
    block, whole = one.run_block.astype(np.int32), one
    for start in starts:
        left = builder.n_steps - start
        if left < one.n_steps:
            if one.write_step.min() >= left:
                break
            whole = one.window((0, left))
            block = whole.run_block.astype(np.int32)
        runs.append(np.stack([n_blocks + block, start + whole.run_start, start + whole.run_stop]))
        before = PREFILL if start == 0 else start
        write.append(np.where(whole.write_step == PREFILL, before, start + whole.write_step))
        free.append(start + whole.free_step)
        n_blocks += whole.n_blocks
    if not n_blocks:
        return
    builder.add(
        lane,
        LaneRuns(*np.concatenate(runs, axis=1)),
        size_bytes=int(one.size_bytes[0]),
        write_step=np.concatenate(write),
        free_step=np.concatenate(free),
    )
