"""What makes a trace valid, checked with little memory beside the trace itself.

Runs are looked at in chunks of whole blocks, so that a trace of 2e8 runs is checked in a few hundred megabytes less
than its own size.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from kvopt.errors import TraceError, shown

if TYPE_CHECKING:
    from kvopt.trace import Trace

PREFILL = -1
"""The write step of what was there before step 0."""
CHUNK_RUNS = 1 << 20
"""Runs that are worked on at a time: temporaries of a few tens of megabytes."""
MOST_SLOTS = 2**31 - 2
"""Slots are counted in 32 bits where there are many of them."""
MOST_LIVE_BYTES = 2**53
"""Up to 9 petabytes every number of bytes is a float64 of its own, and a byte more or less makes a difference."""
MOST_TOTAL_BYTES = 2**62
"""Totals are added up in 64 bits, of which this leaves one to spare."""
BLOCK_COLUMNS = {
    "lane": np.int32,
    "size_bytes": np.int64,
    "write_step": np.int32,
    "free_step": np.int32,
}


def block_chunks(run_ptr: np.ndarray, most_runs: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Cut the blocks into ranges that have so many runs at most, or are a single block.

    Parameters
    ----------
    run_ptr : int64[B + 1]
        As in :class:`kvopt.Trace`.
    most_runs : int, optional
        At least 1; :data:`CHUNK_RUNS` unless given. No range has more than twice as many blocks either.

    Yields
    ------
    (slice, slice)
        Consecutive ranges of blocks, and those of their runs; together they are all blocks and all runs.
    """
    most = CHUNK_RUNS if most_runs is None else most_runs
    first, n_blocks = 0, len(run_ptr) - 1
    while first < n_blocks:
        fitting = int(np.searchsorted(run_ptr, run_ptr[first] + most, side="right")) - 1
        last = min(max(fitting, first + 1), first + 2 * most, n_blocks)
        yield slice(first, last), slice(int(run_ptr[first]), int(run_ptr[last]))
        first = last


def whole_numbers(column: str, values: np.ndarray, dtype: type, first: int = 0) -> np.ndarray:
    """The values as a contiguous array of the dtype; the same array where it is one already.

    Parameters
    ----------
    column : str
        For errors.
    values : array[n]
    dtype : type
        Of integers.
    first : int
        Number of the first entry, where the values are a part of the column.

    Raises
    ------
    TraceError
        When the conversion would change a value.
    """
    given = np.asarray(values)
    if given.dtype.kind == "f" and len(given):
        bad = ~np.isfinite(given) | (given != np.floor(given))
        if bad.any():
            where = int(np.flatnonzero(bad)[0])
            raise TraceError(
                column,
                f"entry {first + where} is {given[where]}, not a whole number",
                "Remove NaN and fractions from the column",
            )
    elif given.dtype.kind not in "iub" and len(given):
        raise TraceError(column, f"has dtype {given.dtype}, not whole numbers", "Convert the column to integers")
    info = np.iinfo(dtype)
    if len(given) and given.dtype != dtype and _outside(given, info.min, info.max):
        raise TraceError(column, f"does not fit {np.dtype(dtype).name}", f"Keep values in {info.min}..{info.max}")
    return np.ascontiguousarray(given, dtype)


def _outside(values: np.ndarray, least: int, most: int) -> bool:
    """Whether a value lies outside; as Python's numbers, since a float that is one too large equals the limit's."""
    return int(values.min()) < least or int(values.max()) > most


def _require(ok: np.ndarray, column: str, problem, fix: str) -> None:
    """Raise for the first entry that is not ok; ``problem`` gets its index."""
    if not np.all(ok):
        raise TraceError(column, problem(int(np.flatnonzero(~ok)[0])), fix)


def check_blocks(trace: Trace) -> None:
    """Refuse counts and columns of blocks that break a rule of :class:`kvopt.Trace`.

    Raises
    ------
    TraceError
        With the column, the block and the fix.
    """
    if trace.n_steps < 1 or trace.n_lanes < 1:
        raise TraceError("n_steps, n_lanes", f"must be at least 1, got {trace.n_steps}, {trace.n_lanes}", "Set them")
    if trace.n_steps * trace.n_lanes > MOST_SLOTS:
        problem = f"make {trace.n_steps * trace.n_lanes} slots, above {MOST_SLOTS}"
        raise TraceError("n_steps, n_lanes", problem, "Take a window of the trace")
    if trace.n_blocks == 0:
        raise TraceError("blocks", "the trace is empty", "A trace needs at least one block")
    tokens = trace.tokens_per_page
    if tokens is not None and not (type(tokens) is int and 1 <= tokens <= MOST_SLOTS):
        fix = f"Give a whole number of at least 1 and at most {MOST_SLOTS}, or None"
        raise TraceError("tokens_per_page", f"is {shown(tokens)}", fix)
    for column in BLOCK_COLUMNS:
        if len(getattr(trace, column)) != trace.n_blocks:
            raise TraceError(column, "has another length than lane", "Give one value a block")
    lane, size, write, free = trace.lane, trace.size_bytes, trace.write_step, trace.free_step
    _require(
        (lane >= 0) & (lane < trace.n_lanes),
        "lane",
        lambda i: f"block {i} has lane {lane[i]}, outside 0..{trace.n_lanes - 1}",
        "Number the lanes from 0",
    )
    _require(
        size > 0, "size_bytes", lambda i: f"block {i} has {size[i]} bytes", "Every block needs a size greater than 0"
    )
    _require(
        (write >= PREFILL) & (write < trace.n_steps),
        "write_step",
        lambda i: f"block {i} is written at step {write[i]}, outside -1..{trace.n_steps - 1}",
        "Use -1 for blocks written by prefill",
    )
    _require(
        (free > write) & (free > 0) & (free <= trace.n_steps),
        "free_step",
        lambda i: f"block {i} is freed at step {free[i]}, written at {write[i]}, of {trace.n_steps} steps",
        f"Use {trace.n_steps} (the number of steps) for a block that is never freed",
    )


def check_totals(trace: Trace) -> None:
    """Refuse sizes whose sums are too large to be exact.

    Raises
    ------
    TraceError
        When all blocks together, or what is alive in a step, or what is read in all steps, exceed the limits.
    """
    _check_total("have", float(trace.size_bytes.sum(dtype=float)), MOST_TOTAL_BYTES, "in all")
    whole = int(trace.size_bytes.sum())
    if whole > MOST_LIVE_BYTES:
        change = np.zeros(trace.n_steps + 1, np.int64)
        np.add.at(change, np.maximum(trace.write_step, 0), trace.size_bytes)
        np.subtract.at(change, trace.free_step, trace.size_bytes)
        alive = np.cumsum(change)
        step = int(np.argmax(alive))
        _check_total("have", int(alive[step]), MOST_LIVE_BYTES, f"alive in step {step}")
    if whole * trace.n_steps > MOST_TOTAL_BYTES:
        read = sum(_bytes_read(trace, *chunk) for chunk in block_chunks(trace.run_ptr))
        _check_total("are read", read, MOST_TOTAL_BYTES, "in all steps")


def _check_total(what: str, total: float, most: int, where: str) -> None:
    if total > most:
        problem = f"blocks {what} {total:.6g} bytes {where}, above the limit of {most} (2^{most.bit_length() - 1})"
        raise TraceError("size_bytes", problem, "Give smaller blocks, or a window of the trace")


def _bytes_read(trace: Trace, blocks: slice, runs: slice) -> float:
    steps = (trace.run_stop[runs] - trace.run_start[runs]).astype(float)
    size = np.repeat(trace.size_bytes[blocks], np.diff(trace.run_ptr[blocks.start : blocks.stop + 1]))
    return float(steps @ size)


def check_runs(trace: Trace) -> None:
    """Refuse runs that break a rule of :class:`kvopt.Trace`.

    Raises
    ------
    TraceError
        With the column, the run, its block and the fix.
    """
    ptr = trace.run_ptr
    if len(ptr) != trace.n_blocks + 1 or ptr[0] != 0 or ptr[-1] != trace.n_runs or np.any(ptr[1:] < ptr[:-1]):
        raise TraceError("run_ptr", "does not index the runs", "It must ascend from 0 to the number of runs")
    if trace.n_runs != len(trace.run_stop):
        raise TraceError("run_stop", "has another length than run_start", "Give one stop for each start")
    for blocks, runs in block_chunks(ptr):
        _check_chunk(trace, blocks, runs)


def _check_chunk(trace: Trace, blocks: slice, runs: slice) -> None:
    start, stop = trace.run_start[runs], trace.run_stop[runs]
    block = np.repeat(np.arange(blocks.start, blocks.stop), np.diff(trace.run_ptr[blocks.start : blocks.stop + 1]))

    def run(k: int) -> str:
        return f"run [{start[k]}, {stop[k]}) of block {block[k]}"

    _require(start < stop, "run_stop", lambda k: f"{run(k)} is empty or backwards", "A run needs start < stop")
    write, free = trace.write_step[block], trace.free_step[block]
    _require(
        start >= np.maximum(write, 0),
        "run_start",
        lambda k: f"{run(k)} begins before the block is written (step {write[k]})",
        "Clip the run or correct write_step",
    )
    _require(
        stop <= free,
        "run_stop",
        lambda k: f"{run(k)} ends after the block is freed (step {free[k]} of {trace.n_steps})",
        "Clip the run or correct free_step",
    )
    ordered = np.ones(len(start), bool)
    ordered[1:] = (start[1:] >= stop[:-1]) | (block[1:] != block[:-1])
    _require(
        ordered,
        "run_start",
        lambda k: f"{run(k)} overlaps the run before it",
        "Sort the runs and merge overlapping ones",
    )
