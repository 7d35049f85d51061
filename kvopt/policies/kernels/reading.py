"""Where runs begin and end, lane by lane, for steps asked in ascending order.

A block is looked at where a run of it begins and at the run's last read, and at none of the reads in between.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.jit import njit, part, piece

NEVER_STEP = np.int32(np.iinfo(np.int32).max)
IDLE, GOING_ON, LAST_READ = 0, 1, 2
_BATCH = 16


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
    """Where the reading of every block stands, as of the step last asked for; changed by :func:`turn`.

    Parameters
    ----------
    now : uint8[B]
        GOING_ON when the step reads the block and the next one, too, in the same run; LAST_READ when the run is over
        with this step, until :func:`settle`; IDLE otherwise.
    turn_step : int32[B]
        The step in which that changes next: the last of its run, or the first of the next one.
    run : int64[B]
        The present run, or the next one.
    begun, over : int32[B]
        Room for the blocks whose runs begin with the step, and those whose runs are over with it.
    """

    now: np.ndarray
    turn_step: np.ndarray
    run: np.ndarray
    begun: np.ndarray
    over: np.ndarray


def reading_before(runs: Runs, step: int) -> Reading:
    """What the step before ``step`` reads, so that ``step`` can be asked for next.

    Parameters
    ----------
    runs : Runs
    step : int
        0 or more.
    """
    n_blocks = len(runs.ptr) - 1
    kinds = (np.uint8, np.int32, np.int64, np.int32, np.int32)
    found = Reading(*(np.empty(n_blocks, kind) for kind in kinds))
    _stand_before(runs, found, step)
    return found


@njit(cache=True, nogil=True, _nrt=False)
def _stand_before(runs, reading, step):
    for b in range(len(reading.run)):
        k, end = runs.ptr[b], runs.ptr[b + 1]
        while k < end and runs.stop[k] <= step:
            k += 1
        reading.run[b] = k
        reading.now[b] = GOING_ON if k < end and runs.start[k] < step else IDLE
        if reading.now[b]:
            reading.turn_step[b] = runs.stop[k] - 1
        else:
            reading.turn_step[b] = runs.start[k] if k < end else NEVER_STEP


@part(_nrt=False)
def turn(runs, reading, start, stop, step):
    """Bring the blocks start..stop-1 from the step before up to ``step``, and list those that begin or are over.

    Parameters
    ----------
    runs : Runs
    reading : Reading
        Modified in place.
    start, stop, step : int

    Returns
    -------
    n_begun, n_over : int
        How many ``reading.begun`` and ``reading.over`` list, ascending. A block that is read in this step alone is in
        both.
    """
    now, turn_step, begun, over = reading.now, reading.turn_step, reading.begun, reading.over
    step32, n_begun, n_over = np.int32(step), 0, 0
    for first in range(start, stop, _BATCH):
        last = min(first + _BATCH, stop)
        if last - first == _BATCH and not any_equal(turn_step, first, step32):
            continue
        for b in range(first, last):
            if turn_step[b] == step32:
                if now[b] == IDLE:
                    begun[n_begun] = b
                    n_begun += 1
                else:
                    now[b] = LAST_READ
                    over[n_over] = b
                    n_over += 1
    if n_begun:
        n_over = _begin(runs, reading, n_begun, n_over, step)
    _look_ahead(runs, reading, n_over)
    return n_begun, n_over


@piece
def any_equal(values, first, wanted):
    """Whether any of a batch of values equals the one wanted, in vector instructions."""
    found = 0
    for k in range(first, first + _BATCH):
        found |= values[k] == wanted
    return found != 0


@part(_nrt=False)
def _begin(runs, reading, n_begun, n_over, step):
    """Begin runs; int: how many are over, with those of a single step, which go where they belong among ``over``."""
    now, turn_step, run, begun, over = reading
    single = 0
    for b in begun[:n_begun]:
        last = runs.stop[run[b]] - 1
        turn_step[b] = last
        now[b] = LAST_READ if last == step else GOING_ON
        single += last == step
    # From the back, as two ascending lists are merged in place.
    read, write = n_over - 1, n_over + single - 1
    k = n_begun - 1
    while k >= 0 and single:
        b = begun[k]
        if now[b] == LAST_READ:
            while read >= 0 and over[read] > b:
                over[write] = over[read]
                read, write = read - 1, write - 1
            over[write] = b
            write -= 1
            single -= 1
            n_over += 1
        k -= 1
    return n_over


@part(_nrt=False)
def _look_ahead(runs, reading, n_over):
    """Find the next run of those that are over."""
    for b in reading.over[:n_over]:
        k = reading.run[b] + 1
        reading.run[b] = k
        reading.turn_step[b] = runs.start[k] if k < runs.ptr[b + 1] else NEVER_STEP


@piece
def settle(reading, n_over):
    """What was read for the last time is idle: the step is over."""
    for k in range(n_over):
        reading.now[reading.over[k]] = IDLE
