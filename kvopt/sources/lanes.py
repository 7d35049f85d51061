"""Traces put together lane by lane: at any time there is the result so far, and what one lane needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kvopt.errors import TraceError
from kvopt.trace import PREFILL, Trace


@dataclass(frozen=True)
class LaneRuns:
    """Runs of blocks of one lane, in any order, each block's own in the order of time.

    Parameters
    ----------
    block : int[R]
        Block of each run, counted from the first of them.
    start, stop : int[R]
        As in :class:`kvopt.Trace`.
    """

    block: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    def sorted(self, n_blocks: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(int64[n_blocks] runs of each block, start and stop of the runs in the order of their blocks)."""
        # Up to 16 bits a stable sort is one of digits, several times faster than one of comparisons.
        order = np.argsort(self.block.astype(np.min_scalar_type(n_blocks)), kind="stable")
        return np.bincount(self.block, minlength=n_blocks), self.start[order], self.stop[order]


class Recorder:
    """Writes down when the blocks of a lane begin to be read and when that ends.

    Parameters
    ----------
    began : int32[B]
        The step that is taken to begin a block's first run, where :meth:`begin` says no other; modified in place.
    """

    def __init__(self, began: np.ndarray) -> None:
        self._began = began
        self._ended: list[np.ndarray] = []

    def begin(self, block: np.ndarray, step: int) -> None:
        """Runs of the blocks (int[n]) begin at the step."""
        self._began[block] = step

    def end(self, block: np.ndarray, step: int) -> None:
        """Their runs end before the step."""
        self._ended.append(np.stack([block, self._began[block], np.full(len(block), step, np.int32)]))

    def runs(self) -> LaneRuns:
        """All runs that have ended."""
        return LaneRuns(*np.concatenate(self._ended, axis=1))


class TraceBuilder:
    """Takes blocks, a lane or a part of one at a time, and becomes a :class:`kvopt.Trace` without a second copy of any
    run.

    Parameters
    ----------
    n_steps, n_lanes : int
    """

    def __init__(self, n_steps: int, n_lanes: int) -> None:
        self.n_steps, self.n_lanes = n_steps, n_lanes
        self._columns: list[dict[str, np.ndarray]] = []
        self._counts: list[np.ndarray] = []
        self._start = np.empty(0, np.int32)
        self._stop = np.empty(0, np.int32)

    def add(
        self,
        lane: int,
        runs: LaneRuns,
        *,
        size_bytes: int,
        write_step: np.ndarray,
        free_step: np.ndarray | None = None,
    ) -> None:
        """Add blocks of a lane, numbered on from those added before.

        Parameters
        ----------
        lane : int
        runs : LaneRuns
            Their blocks counted from the first one added here.
        size_bytes : int
            Of every block.
        write_step, free_step : int[B]
            As in :class:`kvopt.Trace`; never freed unless given.
        """
        n_blocks = len(write_step)
        counts, start, stop = runs.sorted(n_blocks)
        self._columns.append(
            {
                "lane": np.full(n_blocks, lane, np.int32),
                "size_bytes": np.full(n_blocks, size_bytes, np.int64),
                "write_step": np.asarray(write_step, np.int32),
                "free_step": np.asarray(np.full(n_blocks, self.n_steps) if free_step is None else free_step, np.int32),
            }
        )
        self._counts.append(counts)
        before = len(self._start)
        for whole, part in ((self._start, start), (self._stop, stop)):
            # The system moves the pages of a large array without copying them.
            whole.resize(before + len(part), refcheck=False)
            whole[before:] = part

    def finish(self, **metadata: Any) -> Trace:
        """The trace of the blocks added; the builder is empty afterwards.

        Parameters
        ----------
        **metadata
            ``name``, ``step_unit``, ``provenance``.

        Raises
        ------
        TraceError
            When there are no blocks, or they break a rule of the trace.
        """
        if not self._columns:
            raise TraceError("blocks", "none were added", "A trace needs at least one block")
        columns = {name: np.concatenate([part[name] for part in self._columns]) for name in self._columns[0]}
        columns["run_ptr"] = np.concatenate([[0], np.cumsum(np.concatenate(self._counts))])
        columns |= {"run_start": self._start, "run_stop": self._stop}
        for array in columns.values():
            array.setflags(write=False)
        self.__init__(self.n_steps, self.n_lanes)
        return Trace(self.n_steps, self.n_lanes, **columns, **metadata)


class Rule(Protocol):
    """A dataclass that says how one lane reads.

    Attributes
    ----------
    prompt_tokens, n_steps : int
    """

    prompt_tokens: int
    n_steps: int


def decoded(
    rule: Rule,
    runs_of: Callable[[Any, np.random.Generator], LaneRuns],
    *,
    n_lanes: int,
    independent_lanes: bool,
    size_bytes: int,
    seed: int,
    name: str,
    generator: str,
) -> Trace:
    """The decode of a prompt in lanes that follow one rule: each by its own chance, or all like the first.

    Parameters
    ----------
    rule : Rule
    runs_of : callable
        (rule, random numbers) -> the runs of a lane.
    n_lanes : int
    independent_lanes : bool
    size_bytes : int
        Of every block.
    seed : int
    name, generator : str
        Of the trace, and what made it; the rule's numbers are written down beside.

    Raises
    ------
    TraceError
        For fewer than one lane.
    """
    if n_lanes < 1:
        raise TraceError("n_lanes", f"must be at least 1, got {n_lanes!r}", "Give a whole number")
    builder, written = TraceBuilder(rule.n_steps, n_lanes), decoded_tokens(rule.prompt_tokens, rule.n_steps)
    for lane in range(n_lanes):
        if lane == 0 or independent_lanes:
            runs = runs_of(rule, np.random.default_rng([seed, lane]))
        builder.add(lane, runs, size_bytes=size_bytes, write_step=written)
    drawn = {"seed": seed, "size_bytes": size_bytes, "independent_lanes": independent_lanes}
    return builder.finish(name=f"{name}-{seed}", provenance={"generator": generator, **drawn, **vars(rule)})


def decoded_tokens(prompt_tokens: int, n_steps: int) -> np.ndarray:
    """int32[P + N]: the write steps of a lane's tokens: the prompt's by prefill, then one in each step."""
    return np.maximum(np.arange(-prompt_tokens, n_steps, dtype=np.int32), PREFILL)


def without_repeats(values: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """The values (int[n]) in their order, each where it comes first.

    ``scratch`` (int32[more than the largest value]) is modified in place; it saves sorting.
    """
    number = np.arange(len(values), dtype=np.int32)
    # Of several assignments to one place, the last one stays.
    scratch[values[::-1]] = number[::-1]
    return values[scratch[values] == number]
