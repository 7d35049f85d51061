"""The access trace: which block of the KV cache is read when.

A *block* is the unit of placement (one token's keys and values in one layer, a page, a prefix block of a request
log). It lives in one *lane* (a layer), is written at one *step* (an iteration of decoding; -1 for what prefill wrote
before step 0) and is read in *runs* [start, stop) of consecutive steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvopt.errors import TraceError

PREFILL = -1

_BLOCK_COLUMNS = {
    "lane": np.int32,
    "size_bytes": np.int64,
    "write_step": np.int32,
    "free_step": np.int32,
}


@dataclass(frozen=True, eq=False)
class Trace:
    """Blocks and their access runs, immutable.

    Parameters
    ----------
    n_steps, n_lanes : int
        Steps n = 0..n_steps-1 and lanes l = 0..n_lanes-1. Slot t = n * n_lanes + l is the attention of lane l in step
        n.
    lane : int32[B]
        The lane of each block.
    size_bytes : int64[B]
        Greater than 0.
    write_step : int32[B]
        Step that writes the block; -1 for prefill. The write happens in the slot of the block's lane.
    free_step : int32[B]
        The block is gone from its lane's slot of this step on; ``n_steps`` if it is never freed.
    run_ptr : int64[B + 1]
        The runs of block i are ``run_start[run_ptr[i]:run_ptr[i+1]]`` and likewise ``run_stop``.
    run_start, run_stop : int32[R]
        Ascending and disjoint within a block, inside ``[max(write_step, 0), free_step)``.
    name : str
    step_unit : str
        What a step yields: "token" in decoding, "request" in a request log.
    provenance : mapping
        How the trace was made; kept in the file.
    tokens_per_page : int, optional
        Of a trace that :meth:`paged` made, whose blocks are pages; None where blocks are as recorded.

    Raises
    ------
    TraceError
        With the column, the block and the fix, when any of the above does not hold.
    """

    n_steps: int
    n_lanes: int
    lane: np.ndarray
    size_bytes: np.ndarray
    write_step: np.ndarray
    free_step: np.ndarray
    run_ptr: np.ndarray
    run_start: np.ndarray
    run_stop: np.ndarray
    name: str = "trace"
    step_unit: str = "token"
    provenance: Mapping[str, Any] = field(default_factory=dict)
    tokens_per_page: int | None = None

    def __post_init__(self) -> None:
        for column, dtype in _BLOCK_COLUMNS.items():
            _freeze(self, column, dtype)
        _freeze(self, "run_ptr", np.int64)
        _freeze(self, "run_start", np.int32)
        _freeze(self, "run_stop", np.int32)
        _check_blocks(self)
        _check_runs(self)

    @property
    def n_blocks(self) -> int:
        """Number of blocks B."""
        return len(self.lane)

    @property
    def n_runs(self) -> int:
        """Number of runs R."""
        return len(self.run_start)

    @property
    def n_slots(self) -> int:
        """Number of slots T = n_steps * n_lanes."""
        return self.n_steps * self.n_lanes

    @property
    def n_accesses(self) -> int:
        """Number of (block, step) reads."""
        return int((self.run_stop.astype(np.int64) - self.run_start).sum())

    @property
    def run_block(self) -> np.ndarray:
        """int64[R]: the block of each run."""
        return np.repeat(np.arange(self.n_blocks), np.diff(self.run_ptr))

    @property
    def first_step(self) -> np.ndarray:
        """int32[B]: the first step in which the block can be read."""
        return np.maximum(self.write_step, 0)

    def summary(self) -> dict[str, Any]:
        """Counts and sizes, ready for printing or JSON."""
        reads = (self.run_stop.astype(np.int64) - self.run_start) * self.size_bytes[self.run_block]
        live = _live_bytes_per_step(self)
        return {
            "name": self.name,
            "n_steps": self.n_steps,
            "n_lanes": self.n_lanes,
            "n_blocks": self.n_blocks,
            "n_prefill_blocks": int((self.write_step == PREFILL).sum()),
            "n_runs": self.n_runs,
            "n_accesses": self.n_accesses,
            "mean_run_steps": self.n_accesses / max(self.n_runs, 1),
            "read_bytes": int(reads.sum()),
            "peak_live_bytes": int(live.max()),
            "mean_read_bytes_per_slot": float(reads.sum() / self.n_slots),
            "step_unit": self.step_unit,
            "tokens_per_page": self.tokens_per_page,
        }

    def with_size_bytes(self, size_bytes: int) -> Trace:
        """The same accesses with every block of the given size: a published model's bytes per token and layer."""
        if self.tokens_per_page is not None:
            raise TraceError(
                "size_bytes", f"blocks are pages of up to {self.tokens_per_page} tokens", "Set sizes before paging"
            )
        if not size_bytes > 0:
            raise TraceError(
                "size_bytes", f"must be greater than 0, got {size_bytes!r}", "Give bytes per token and layer"
            )
        return self._replace(size_bytes=np.full(self.n_blocks, size_bytes))

    def window(
        self,
        steps: tuple[int, int] | None = None,
        lanes: Sequence[int] | None = None,
        blocks: np.ndarray | None = None,
        name: str | None = None,
    ) -> Trace:
        """The part of the trace in a range of steps, some lanes and some blocks.

        A block written before the window counts as prefill; runs are clipped; step and lane numbers start from 0.

        Parameters
        ----------
        steps : (int, int), optional
            First step and one past the last.
        lanes : sequence of int, optional
        blocks : bool[B], optional
            Which blocks to keep.
        name : str, optional
        """
        first, last = steps or (0, self.n_steps)
        if not 0 <= first < last <= self.n_steps:
            raise TraceError("steps", f"[{first}, {last}) is not inside [0, {self.n_steps})", "Give a non-empty range")
        lanes = list(range(self.n_lanes)) if lanes is None else list(lanes)
        if not lanes or len(set(lanes)) != len(lanes) or not all(0 <= lane < self.n_lanes for lane in lanes):
            raise TraceError("lanes", f"{lanes} are not distinct lanes of 0..{self.n_lanes - 1}", "Name each lane once")
        new_lane = np.full(self.n_lanes, -1, np.int32)
        new_lane[lanes] = np.arange(len(lanes))
        keep = (new_lane[self.lane] >= 0) & (self.write_step < last) & (self.free_step > first)
        if blocks is not None:
            keep &= blocks
        in_window = keep[self.run_block] & (self.run_stop > first) & (self.run_start < last)
        counts = np.bincount(self.run_block[in_window], minlength=self.n_blocks)[keep]
        return self._replace(
            n_steps=last - first,
            n_lanes=len(lanes),
            lane=new_lane[self.lane[keep]],
            size_bytes=self.size_bytes[keep],
            write_step=np.maximum(self.write_step[keep] - first, PREFILL),
            free_step=np.minimum(self.free_step[keep], last) - first,
            run_ptr=np.concatenate([[0], np.cumsum(counts)]),
            run_start=np.maximum(self.run_start[in_window], first) - first,
            run_stop=np.minimum(self.run_stop[in_window], last) - first,
            name=name or self.name,
        )

    def paged(self, tokens_per_page: int) -> Trace:
        """The trace of a machine that reads and moves whole pages: consecutive tokens of a lane become one block.

        Parameters
        ----------
        tokens_per_page : int
            At least 1, which is the trace itself.

        Raises
        ------
        TraceError
            For a bad number, or a trace whose blocks are no single tokens.

        See Also
        --------
        kvopt.pages : which tokens share a page, and what is approximate.
        """
        from kvopt.pages import paged

        return paged(self, tokens_per_page)

    def save(self, path) -> None:
        """Write the trace as Parquet (see :mod:`kvopt.trace_io` for the schema), whole or not at all."""
        from kvopt.trace_io import save_trace

        save_trace(self, path)

    @classmethod
    def from_accesses(
        cls,
        block: np.ndarray,
        step: np.ndarray,
        *,
        n_steps: int,
        n_lanes: int,
        lane: np.ndarray,
        size_bytes: np.ndarray,
        write_step: np.ndarray,
        free_step: np.ndarray | None = None,
        **metadata: Any,
    ) -> Trace:
        """Join single reads into runs.

        Parameters
        ----------
        block, step : int[A]
            Block ``block[a]`` is read in step ``step[a]``; any order, repeats allowed.
        lane, size_bytes, write_step, free_step : int[B]
            As in :class:`Trace`; ``free_step`` defaults to never.
        **metadata
            ``name``, ``step_unit``, ``provenance``, ``tokens_per_page``.
        """
        n_blocks = len(lane)
        block = np.asarray(block, np.int64)
        step = np.asarray(step, np.int64)
        for column, values, limit in (("block", block, n_blocks), ("step", step, n_steps)):
            if len(values) and not (values.min() >= 0 and values.max() < limit):
                raise TraceError(column, f"must lie in 0..{limit - 1}", "Check the accesses")
        # One gap between blocks in the key keeps the last step of one from joining the first of the next.
        key = np.unique(block * (n_steps + 1) + step)
        first = np.ones(len(key), bool)
        first[1:] = np.diff(key) != 1
        start = key[first]
        stop = key[np.append(np.flatnonzero(first)[1:] - 1, len(key) - 1)] + 1 if len(key) else key
        owner = start // (n_steps + 1)
        return cls(
            n_steps=n_steps,
            n_lanes=n_lanes,
            lane=lane,
            size_bytes=size_bytes,
            write_step=write_step,
            free_step=np.full(n_blocks, n_steps) if free_step is None else free_step,
            run_ptr=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_blocks))]),
            run_start=start - owner * (n_steps + 1),
            run_stop=stop - owner * (n_steps + 1),
            **metadata,
        )

    def _replace(self, **changes: Any) -> Trace:
        fields = {f: getattr(self, f) for f in self.__dataclass_fields__}
        return Trace(**{**fields, **changes})


def _freeze(trace: Trace, column: str, dtype: type) -> None:
    """Store the column as a read-only contiguous array of the documented dtype, refusing what would change a value."""
    given = np.asarray(getattr(trace, column))
    if given.dtype.kind == "f" and len(given):
        bad = ~np.isfinite(given) | (given != np.floor(given))
        if bad.any():
            where = int(np.flatnonzero(bad)[0])
            raise TraceError(
                column,
                f"entry {where} is {given[where]}, not a whole number",
                "Remove NaN and fractions from the column",
            )
    elif given.dtype.kind not in "iub" and len(given):
        raise TraceError(column, f"has dtype {given.dtype}, not whole numbers", "Convert the column to integers")
    info = np.iinfo(dtype)
    if len(given) and (given.min() < info.min or given.max() > info.max):
        raise TraceError(column, f"does not fit {np.dtype(dtype).name}", f"Keep values in {info.min}..{info.max}")
    array = np.ascontiguousarray(given, dtype)
    if array.flags.writeable and np.shares_memory(array, given):
        array = array.copy()
    array.setflags(write=False)
    object.__setattr__(trace, column, array)


def _require(ok: np.ndarray, column: str, problem, fix: str) -> None:
    """Raise for the first entry that is not ok; ``problem`` gets its index."""
    if not np.all(ok):
        raise TraceError(column, problem(int(np.flatnonzero(~ok)[0])), fix)


def _check_blocks(trace: Trace) -> None:
    if trace.n_steps < 1 or trace.n_lanes < 1:
        raise TraceError("n_steps, n_lanes", f"must be at least 1, got {trace.n_steps}, {trace.n_lanes}", "Set them")
    if trace.n_blocks == 0:
        raise TraceError("blocks", "the trace is empty", "A trace needs at least one block")
    if trace.tokens_per_page is not None and not (type(trace.tokens_per_page) is int and trace.tokens_per_page >= 1):
        raise TraceError(
            "tokens_per_page", f"is {trace.tokens_per_page!r}", "Give a whole number of at least 1, or None"
        )
    for column in _BLOCK_COLUMNS:
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


def _check_runs(trace: Trace) -> None:
    ptr, start, stop = trace.run_ptr, trace.run_start, trace.run_stop
    if len(ptr) != trace.n_blocks + 1 or ptr[0] != 0 or ptr[-1] != len(start) or np.any(np.diff(ptr) < 0):
        raise TraceError("run_ptr", "does not index the runs", "It must ascend from 0 to the number of runs")
    if len(start) != len(stop):
        raise TraceError("run_stop", "has another length than run_start", "Give one stop for each start")
    block = trace.run_block

    def run(k: int) -> str:
        return f"run [{start[k]}, {stop[k]}) of block {block[k]}"

    _require(start < stop, "run_stop", lambda k: f"{run(k)} is empty or backwards", "A run needs start < stop")
    _require(
        start >= trace.first_step[block],
        "run_start",
        lambda k: f"{run(k)} begins before the block is written (step {trace.write_step[block[k]]})",
        "Clip the run or correct write_step",
    )
    _require(
        stop <= trace.free_step[block],
        "run_stop",
        lambda k: f"{run(k)} ends after the block is freed (step {trace.free_step[block[k]]} of {trace.n_steps})",
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


def _live_bytes_per_step(trace: Trace) -> np.ndarray:
    """int64[N]: bytes of all blocks alive at some time in each step."""
    change = np.zeros(trace.n_steps + 1, np.int64)
    np.add.at(change, trace.first_step, trace.size_bytes)
    np.subtract.at(change, trace.free_step, trace.size_bytes)
    return np.cumsum(change)[:-1]
