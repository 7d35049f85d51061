"""Which blocks a step reads, from runs, for steps asked in ascending order."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

NEVER_STEP = np.iinfo(np.int32).max
_BATCH = 64


class Runs(NamedTuple):
    """A trace's runs, as its attributes of these names with ``run_`` before.

    Parameters
    ----------
    ptr : int64[B + 1]
    start, stop : int32[R]
    """

    ptr: np.ndarray
    start: np.ndarray
    stop: np.ndarray


class Reading(NamedTuple):
    """Where the reading of every block stands; changed by :func:`turn`.

    Parameters
    ----------
    now : uint8[B]
        Whether the step last asked for reads the block.
    turn_step : int32[B]
        The next step in which that may change: the end of its run, or the begin of the next one.
    run : int64[B]
        The present run, or the next one.
    """

    now: np.ndarray
    turn_step: np.ndarray
    run: np.ndarray


def reading_before(runs: Runs, step: int) -> Reading:
    """What the step before ``step`` reads, so that ``step`` can be asked for next.

    Parameters
    ----------
    runs : Runs
    step : int
        0 or more.
    """
    n_blocks = len(runs.ptr) - 1
    found = Reading(np.empty(n_blocks, np.uint8), np.empty(n_blocks, np.int32), np.empty(n_blocks, np.int64))
    _stand_before(runs, found, step)
    return found


@njit(cache=True, nogil=True)
def _stand_before(runs, reading, step):
    for b in range(len(reading.run)):
        k, end = runs.ptr[b], runs.ptr[b + 1]
        while k < end and runs.stop[k] < step:
            k += 1
        reading.run[b] = k
        reading.now[b] = k < end and runs.start[k] < step
        if reading.now[b]:
            reading.turn_step[b] = runs.stop[k]
        else:
            reading.turn_step[b] = runs.start[k] if k < end else NEVER_STEP


@njit(cache=True, nogil=True)
def turn(runs, reading, start, stop, step):
    """Bring the blocks start..stop-1 from the step before up to ``step``.

    Parameters
    ----------
    runs : Runs
    reading : Reading
        Modified in place.
    start, stop, step : int
    """
    turn_step = reading.turn_step
    for first in range(start, stop, _BATCH):
        last = min(first + _BATCH, stop)
        # Few blocks turn in a step: most batches are passed over in vector instructions.
        turns = 0
        for b in range(first, last):
            turns += turn_step[b] == step
        if turns:
            for b in range(first, last):
                if turn_step[b] == step:
                    _turn_one(runs, reading, b, step)


@njit(cache=True, nogil=True)
def _turn_one(runs, reading, b, step):
    """A run that begins where another ends goes on reading."""
    k = reading.run[b]
    if reading.now[b]:
        k += 1
        reading.run[b] = k
    begins = k < runs.ptr[b + 1] and runs.start[k] == step
    reading.now[b] = begins
    if begins:
        reading.turn_step[b] = runs.stop[k]
    else:
        reading.turn_step[b] = runs.start[k] if k < runs.ptr[b + 1] else NEVER_STEP


@njit(cache=True, nogil=True, inline="always")
def use_after(runs, reading, b, slot, n_lanes, never):
    """Slot of a block's next read after the one in ``slot``, which its lane's step reads; ``never`` if there is none."""
    step = slot // n_lanes
    if reading.turn_step[b] != step + 1:
        return slot + n_lanes
    k = reading.run[b] + 1
    if k == runs.ptr[b + 1]:
        return never
    return np.int64(runs.start[k]) * n_lanes + slot % n_lanes
