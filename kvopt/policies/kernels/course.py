"""What is the same for every policy: which lane, which births and deaths a slot has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvopt.instance import Instance
from kvopt.jit import piece
from kvopt.policies.kernels.reading import Runs
from kvopt.policies.static import by_token
from kvopt.trace import PREFILL
from kvopt.trellis import rows


class Course(NamedTuple):
    """An instance as the kernels see it: blocks of one size, those of a lane in a row.

    Parameters
    ----------
    n_slots, n_lanes, n_blocks : int
    room : int
        Blocks that the fast tier holds.
    lane_ptr : int64[L + 1]
        The blocks of a lane are ``lane_ptr[lane]..lane_ptr[lane + 1] - 1``.
    runs : Runs
    born, dying : int32[B]
        Blocks by the slot they come to exist in, and by the one they are gone from.
    born_ptr, dying_ptr : int64[T + 2]
        Those of slot t are ``born[born_ptr[t]:born_ptr[t + 1]]``, ascending; likewise ``dying``.
    prefilled : bool[B]
    """

    n_slots: int
    n_lanes: int
    n_blocks: int
    room: int
    lane_ptr: np.ndarray
    runs: Runs
    born: np.ndarray
    born_ptr: np.ndarray
    dying: np.ndarray
    dying_ptr: np.ndarray
    prefilled: np.ndarray


def course_of(instance: Instance) -> Course:
    """The course of an instance whose blocks are of one size and ascend by lane."""
    trace = instance.trace
    born, born_ptr = by_slot(instance.birth_slot, instance.n_slots)
    dying, dying_ptr = by_slot(instance.death_slot, instance.n_slots)
    return Course(
        instance.n_slots,
        trace.n_lanes,
        trace.n_blocks,
        int(min(instance.capacity_bytes[0] // int(trace.size_bytes[0]), trace.n_blocks)),
        np.searchsorted(trace.lane, np.arange(trace.n_lanes + 1)),
        Runs(trace.run_ptr, trace.run_start, trace.run_stop),
        born,
        born_ptr,
        dying,
        dying_ptr,
        trace.write_step == PREFILL,
    )


def by_slot(slot: np.ndarray, n_slots: int) -> tuple[np.ndarray, np.ndarray]:
    """int32[B], int64[T + 2]: the blocks in order of their slots, of one slot ascending, and where each begins."""
    order = np.argsort(slot, kind="stable").astype(np.int32)
    return order, np.concatenate([[0], np.cumsum(np.bincount(slot, minlength=n_slots + 1))])


def oldest(course: Course) -> np.ndarray:
    """int64[...]: what fills the fast tier in slot 0 where the oldest tokens do."""
    first = course.born[: course.born_ptr[1]].astype(np.int64)
    lane = np.repeat(np.arange(course.n_lanes), np.diff(course.lane_ptr))
    return by_token(first, lane, course.n_lanes)[: course.room]


@piece
def lane_of(course, b):
    """The lane of a block."""
    return rows.first_above(course.lane_ptr, 0, course.lane_ptr.shape[0], b) - 1
