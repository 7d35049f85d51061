"""The access trace: which block of the KV cache is read when.

A *block* is the unit of placement (one token's keys and values in one layer, a page, a prefix block of a request
log). It lives in one *lane* (a layer), is written at one *step* (an iteration of decoding; -1 for what prefill wrote
before step 0) and is read in *runs* [start, stop) of consecutive steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kvopt.arguments import MOST_COUNT, amount, expect, whole
from kvopt.errors import TraceError, shown
from kvopt.frozen import ReadOnlyArrays
from kvopt.memory import check_fits
from kvopt.trace_checks import (
    BLOCK_COLUMNS,
    MOST_LIVE_BYTES,
    PREFILL,
    block_chunks,
    check_blocks,
    check_runs,
    check_totals,
    whole_numbers,
)

_MANY_STEPS = 1_000_000
"""Up to this many steps, and two for each block, an array over all steps is small."""


@dataclass(frozen=True, eq=False)
class Trace(ReadOnlyArrays):
    """Blocks and their access runs, immutable.

    At rest a trace takes 8 bytes a run and 28 a block. Arrays that are of the documented dtype, contiguous and
    read-only are taken as they are, others copied. A single number in the place of a column of blocks counts for all of
    them, ``size_bytes`` also as text: ``"16 KiB"``.

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
        With the column, the block and the fix, when any of the above does not hold. Also for sizes whose sums would not
        be exact: above 2^53 bytes alive in a step, 2^62 in all blocks, or 2^62 read in all steps; and for 2^31 slots.
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
        _check_plain(self)
        n_blocks = _common_length(*(getattr(self, column) for column in BLOCK_COLUMNS))
        if n_blocks is None:
            n_blocks = (_common_length(self.run_ptr) or 1) - 1
        for column, dtype in BLOCK_COLUMNS.items():
            _freeze(self, column, dtype, n_blocks)
        _freeze(self, "run_ptr", np.int64)
        _freeze(self, "run_start", np.int32)
        _freeze(self, "run_stop", np.int32)
        check_blocks(self)
        check_runs(self)
        check_totals(self)

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
        """Number of (block, step) reads: what the decode-time model charges; writes are no reads."""
        return int(self.run_stop.sum(dtype=np.int64) - self.run_start.sum(dtype=np.int64))

    @property
    def written_unread(self) -> np.ndarray:
        """bool[B]: the block is written in some step from 0 on, and that step does not read it."""
        read = self.run_ptr[1:] > self.run_ptr[:-1]
        found = self.write_step >= 0
        found[read] &= self.run_start[self.run_ptr[:-1][read]] != self.write_step[read]
        return found

    @property
    def n_block_requests(self) -> int:
        """Number of (block, step) requests: the reads, and the writes of blocks that their step does not read.

        What a cache is asked for, and the denominator of every hit rate of :func:`kvopt.policies.hits`: the request of
        a log asks for all its blocks, those that it brings (writes) and those that it finds (reads).
        """
        return self.n_accesses + int(np.count_nonzero(self.written_unread))

    @property
    def run_block(self) -> np.ndarray:
        """int64[R]: the block of each run, made anew each time; it is as large as both ends of the runs together."""
        return np.repeat(np.arange(self.n_blocks), np.diff(self.run_ptr))

    def chunks(self, most_runs: int | None = None) -> Iterator[tuple[slice, slice]]:
        """Ranges of blocks and of their runs, for work that should need little memory.

        See :func:`kvopt.trace_checks.block_chunks`.
        """
        return block_chunks(self.run_ptr, most_runs)

    @property
    def reads_of_block(self) -> np.ndarray:
        """int64[B]: the number of steps that read each block."""
        reads = np.empty(self.n_blocks, np.int64)
        for blocks, runs in self.chunks():
            before = np.zeros(runs.stop - runs.start + 1, np.int64)
            np.cumsum(self.run_stop[runs] - self.run_start[runs], out=before[1:])
            reads[blocks] = np.diff(before[self.run_ptr[blocks.start : blocks.stop + 1] - runs.start])
        return reads

    @property
    def first_step(self) -> np.ndarray:
        """int32[B]: the first step in which the block can be read."""
        return np.maximum(self.write_step, 0)

    def summary(self) -> dict[str, Any]:
        """Counts and sizes, ready for printing or JSON."""
        read_bytes = int(self.reads_of_block @ self.size_bytes)
        return {
            "name": self.name,
            "n_steps": self.n_steps,
            "n_lanes": self.n_lanes,
            "n_blocks": self.n_blocks,
            "n_prefill_blocks": int((self.write_step == PREFILL).sum()),
            "n_runs": self.n_runs,
            "n_accesses": self.n_accesses,
            "mean_run_steps": self.n_accesses / max(self.n_runs, 1),
            "read_bytes": read_bytes,
            "peak_live_bytes": _peak_live_bytes(self),
            "mean_read_bytes_per_slot": read_bytes / self.n_slots,
            "step_unit": self.step_unit,
            "tokens_per_page": self.tokens_per_page,
            "n_block_requests": self.n_block_requests,
        }

    def with_size_bytes(self, size_bytes: int) -> Trace:
        """The same accesses with every block of the given size: a published model's bytes per token and layer."""
        if self.tokens_per_page is not None:
            raise TraceError(
                "size_bytes", f"blocks are pages of up to {self.tokens_per_page} tokens", "Set sizes before paging"
            )
        fix = "Give bytes per token and layer"
        given = amount("size_bytes", size_bytes, fix, TraceError, above=0, most=MOST_LIVE_BYTES)
        return self._replace(size_bytes=given)

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
        first, last = (0, self.n_steps) if steps is None else _pair("steps", steps)
        if not 0 <= first < last <= self.n_steps:
            raise TraceError("steps", f"[{first}, {last}) is not inside [0, {self.n_steps})", "Give a non-empty range")
        lane = self.lane if lanes is None else self._renumbered(lanes)
        keep = (lane >= 0) & (self.write_step < last) & (self.free_step > first)
        if blocks is not None:
            blocks = _column("blocks", blocks)
            if blocks.shape != keep.shape or blocks.dtype != bool:
                raise TraceError("blocks", f"must be bool[{self.n_blocks}], got {shown(blocks)}", "Say which to keep")
            keep &= blocks
        counts, start, stop = _clipped_runs(self, keep, first, last)
        return self._replace(
            n_steps=last - first,
            n_lanes=self.n_lanes if lanes is None else len(lanes),
            lane=lane[keep],
            size_bytes=self.size_bytes[keep],
            write_step=np.maximum(self.write_step[keep] - first, PREFILL),
            free_step=np.minimum(self.free_step[keep], last) - first,
            run_ptr=np.concatenate([[0], np.cumsum(counts[keep])]),
            run_start=start,
            run_stop=stop,
            name=name or self.name,
        )

    def _renumbered(self, lanes: Sequence[int]) -> np.ndarray:
        """int32[B]: the place of each block's lane among those to keep, or -1."""
        wanted = whole_numbers("lanes", _column("lanes", lanes), np.int64)
        order = np.argsort(wanted, kind="stable")
        ascending = wanted[order]
        if not len(wanted) or ascending[0] < 0 or ascending[-1] >= self.n_lanes or (np.diff(ascending) == 0).any():
            raise TraceError(
                "lanes", f"{shown(lanes)} are not distinct lanes of 0..{self.n_lanes - 1}", "Name each lane once"
            )
        place = np.minimum(np.searchsorted(ascending, self.lane), len(wanted) - 1)
        return np.where(ascending[place] == self.lane, order[place], -1).astype(np.int32)

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
        lane: np.ndarray | int,
        size_bytes: np.ndarray | int | str,
        write_step: np.ndarray | int,
        free_step: np.ndarray | int | None = None,
        **metadata: Any,
    ) -> Trace:
        """Join single reads into runs.

        Parameters
        ----------
        block, step : int[A]
            Block ``block[a]`` is read in step ``step[a]``; any order, repeats allowed.
        lane, size_bytes, write_step, free_step : int[B]
            As in :class:`Trace`, one for each block or one for all; ``free_step`` defaults to never. Where none of
            them is an array, there are the blocks that ``block`` names.
        **metadata
            ``name``, ``step_unit``, ``provenance``, ``tokens_per_page``.
        """
        n_steps = whole("n_steps", n_steps, f"Give a whole number from 1 to {MOST_COUNT}", TraceError)
        block, step = (whole_numbers(n, _column(n, v), np.int64) for n, v in (("block", block), ("step", step)))
        if len(block) != len(step):
            raise TraceError("step", f"has {len(step)} entries, block has {len(block)}", "Give one step for each block")
        n_blocks = _common_length(lane, size_bytes, write_step, free_step)
        if n_blocks is None:
            n_blocks = max(int(block.max(initial=-1)) + 1, 0)
            check_fits(28 * n_blocks, "block", f"{n_blocks:,} blocks", "Number the blocks from 0", TraceError)
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
            lane=_column("lane", lane, n_blocks),
            size_bytes=size_bytes,
            write_step=write_step,
            free_step=n_steps if free_step is None else free_step,
            run_ptr=np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=n_blocks))]),
            run_start=start - owner * (n_steps + 1),
            run_stop=stop - owner * (n_steps + 1),
            **metadata,
        )

    def _replace(self, **changes: Any) -> Trace:
        fields = {f: getattr(self, f) for f in self.__dataclass_fields__}
        return Trace(**{**fields, **changes})


def _check_plain(trace: Trace) -> None:
    """Refuse counts and words of another class; whole counts of any class are stored as int."""
    for name in ("n_steps", "n_lanes"):
        fix = f"Give a whole number from 1 to {MOST_COUNT}"
        given = whole(name, getattr(trace, name), fix, TraceError, least=-MOST_COUNT)
        object.__setattr__(trace, name, given)
    for name in ("name", "step_unit"):
        expect(str, name, getattr(trace, name), "Give a text", TraceError)
    expect(Mapping, "provenance", trace.provenance, "Give a mapping, empty if nothing is known", TraceError)


def _freeze(trace: Trace, column: str, dtype: type, n_blocks: int | None = None) -> None:
    """Store the column as a read-only contiguous array of the documented dtype, refusing what would change a value.

    Where ``n_blocks`` is given, a single number stands for as many.
    """
    given = _column(column, getattr(trace, column), n_blocks)
    array = whole_numbers(column, given, dtype)
    if array.flags.writeable and np.shares_memory(array, given):
        array = array.copy()
    array.setflags(write=False)
    object.__setattr__(trace, column, array)


def _pair(field: str, values: Any) -> tuple[int, int]:
    """Two whole numbers."""
    fix = "Give the first and one past the last"
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise TraceError(field, f"must be two numbers, got {shown(values)}", fix)
    first, last = (whole(field, value, fix, TraceError, least=-MOST_COUNT) for value in values)
    return first, last


def _common_length(*columns: Any) -> int | None:
    """Length of the first of the columns that is no single number; None where all are."""
    for values in columns:
        if hasattr(values, "__len__") and not isinstance(values, str | bytes) and getattr(values, "ndim", 1) > 0:
            return len(values)
    return None


def _column(column: str, values: Any, n_blocks: int | None = None) -> np.ndarray:
    """The values as an array of one dimension; a single number ``n_blocks`` times where that is given."""
    if column == "size_bytes" and isinstance(values, str):
        values = int(
            whole(column, amount(column, values, error=TraceError), "Give whole bytes", TraceError, most=2**62)
        )
    fix = "Give one whole number for each block, or one for all" if n_blocks is not None else "Give an array of numbers"
    try:
        given = np.asarray(values)
    except (ValueError, TypeError, OverflowError):
        raise TraceError(column, "is no array of numbers: its entries differ in length or class", fix) from None
    if given.ndim == 0 and n_blocks is not None and given.dtype.kind in "iuf":
        return np.full(max(n_blocks, 0), given)
    if given.ndim != 1:
        raise TraceError(column, f"must have one dimension, got {shown(values)}", fix)
    return given


def _clipped_runs(trace: Trace, keep: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int64[B] number, int32 starts, int32 stops) of the runs inside a range of steps, of the blocks to keep."""
    counts = np.zeros(trace.n_blocks, np.int64)
    for blocks, runs in trace.chunks():
        owner, _ = _inside(trace, keep, first, last, blocks, runs)
        counts[blocks] = np.bincount(owner, minlength=blocks.stop - blocks.start)
    start, stop = np.empty(counts.sum(), np.int32), np.empty(counts.sum(), np.int32)
    filled = 0
    for blocks, runs in trace.chunks():
        _, inside = _inside(trace, keep, first, last, blocks, runs)
        part = slice(filled, filled + len(inside))
        start[part] = np.maximum(trace.run_start[runs][inside], first) - first
        stop[part] = np.minimum(trace.run_stop[runs][inside], last) - first
        filled = part.stop
    start.setflags(write=False)
    stop.setflags(write=False)
    return counts, start, stop


def _inside(
    trace: Trace, keep: np.ndarray, first: int, last: int, blocks: slice, runs: slice
) -> tuple[np.ndarray, np.ndarray]:
    """(block, counted from the chunk's first; number, counted likewise) of a chunk's runs that are in the window."""
    counts = np.diff(trace.run_ptr[blocks.start : blocks.stop + 1])
    owner = np.repeat(np.arange(len(counts)), counts)
    inside = keep[blocks][owner] & (trace.run_stop[runs] > first) & (trace.run_start[runs] < last)
    return owner[inside], np.flatnonzero(inside)


def _peak_live_bytes(trace: Trace) -> int:
    """Most bytes of blocks alive at some time in a step."""
    first, free, n_steps = trace.first_step, trace.free_step, trace.n_steps
    if n_steps > _MANY_STEPS + 2 * trace.n_blocks:
        # Only steps in which blocks come or go are looked at: there may be more of the others than memory has bytes.
        steps, event = np.unique(np.concatenate([first, free]), return_inverse=True)
        first, free, n_steps = event[: trace.n_blocks], event[trace.n_blocks :], len(steps)
    change = np.zeros(n_steps + 1, np.int64)
    np.add.at(change, first, trace.size_bytes)
    np.subtract.at(change, free, trace.size_bytes)
    return int(np.cumsum(change).max())
