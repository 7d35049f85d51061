"""Hits of a plain cache: a block is looked at where a run begins and where it is over, and not in between.

Of least recently used the hits in between follow from stack distances. By Belady's rule they are all hits as long as no
resident in the midst of a run is to be evicted; where one is, the count is begun anew, access by access.

References
----------
Mattson, Gecsei, Slutz and Traiger (1970), stack distances.
"""

from __future__ import annotations

import numpy as np

from kvopt.jit import njit, part
from kvopt.policies.kernels.reading import (
    GOING_ON,
    IDLE,
    NEVER_STEP,
    Reading,
    Runs,
    reading_before,
    settle,
    turn,
)


def lru_hits(runs: Runs, lane_ptr: np.ndarray, n_steps: int, room: int) -> int:
    """Hits of least recently used; as :func:`kvopt.policies.hits`, of blocks that ascend by lane."""
    return int(_lru_hits(runs, reading_before(runs, 0), lane_ptr, n_steps, room))


def belady_hits(runs: Runs, lane_ptr: np.ndarray, n_steps: int, room: int) -> int:
    """Hits of Belady's rule; as :func:`kvopt.policies.hits`, of blocks that ascend by lane."""
    missed = _belady_misses_by_run(runs, reading_before(runs, 0), lane_ptr, n_steps, room)
    if missed >= 0:
        return int((runs.stop - runs.start).sum(dtype=np.int64)) - missed
    return int(_belady_hits(runs, reading_before(runs, 0), lane_ptr, n_steps, room))


@njit(cache=True, nogil=True)
def _lru_hits(runs: Runs, reading: Reading, lane_ptr, n_steps, room):
    """Hits by stack distances: a block is still there if fewer than ``room`` others were read since it was.

    In the L slots before a read each lane has its turn once, so nothing is read twice in them, and as many blocks were
    read as there were reads. From a read of a run to the next one that is all there is: the distance is that of their
    places in the stream, which changes along a slot only where runs begin or were over. Where a run begins, what was
    read before those L slots and is idle since comes to it; of these, in the order of their last reads, the latest ones
    are there, and how far back they go only ever moves on.
    """
    n_blocks, n_lanes, hits = len(runs.ptr) - 1, len(lane_ptr) - 1, 0
    last = np.full(n_blocks, np.int64(-1))  # A block's last read that ended a run, by its number; -1 before the first.
    idle = np.zeros(len(runs.start), np.uint8)  # Whether the block was not read after that.
    first_of = np.zeros(n_steps * n_lanes, np.int64)  # The first such read of each slot.
    n_ends, oldest, n_old, held = 0, 0, 0, 0  # Of ends oldest..n_old-1, those before the L slots, ``held`` are idle.
    ended, n_ended, n_read = np.empty(n_blocks, np.int32), np.zeros(n_lanes, np.int64), np.zeros(n_lanes, np.int64)
    lately = 0  # Reads in the L slots before this one.
    for slot in range(n_steps * n_lanes):
        lane = slot % n_lanes
        start, stop = lane_ptr[lane], lane_ptr[lane + 1]
        n_begun, n_over = turn(runs, reading, start, stop, slot // n_lanes)
        begun, over = reading.begun[:n_begun], reading.over[:n_over]
        gone = ended[start : start + n_ended[lane]]
        first_of[slot] = n_ends
        if slot >= n_lanes:
            for end in range(n_old, first_of[slot - n_lanes]):
                held += idle[end]
            n_old = first_of[slot - n_lanes]
        hits += _hits_going_on(reading.now, start, stop, begun, gone, n_read[lane], room - lately)
        fresh, left = 0, 0  # Of those below: begun, but not read in the step before; gone.
        for k, b in enumerate(begun):
            end = last[b]
            while left < len(gone) and gone[left] < b:
                left += 1
            if end >= n_old:
                # Read in the step before, by a run that ended there.
                hits += lately + k - left <= room
                idle[end] = 0
                continue
            if end >= 0:
                while held > max(room - lately - fresh, 0):
                    held -= idle[oldest]
                    oldest += 1
                hits += end >= oldest
                held -= end >= oldest
                idle[end] = 0
            fresh += 1
        lately += len(begun) - len(gone)
        n_read[lane] += len(begun) - len(gone)
        n_ended[lane] = len(over)
        for k, b in enumerate(over):
            ended[start + k] = b
            last[b], idle[n_ends] = n_ends, 1
            n_ends += 1
        settle(reading, n_over)
    return hits


@part(_nrt=False)
def _hits_going_on(now, start, stop, begun, gone, n_before, slack):
    """Hits of those that go on: below each of them at most ``slack`` more have begun than are gone."""
    if slack >= len(begun):
        return n_before - len(gone)
    if slack < -len(gone):
        return 0
    hits, k, j, at = 0, 0, 0, start
    while at < stop:
        upto = stop
        if k < len(begun):
            upto = min(upto, begun[k])
        if j < len(gone):
            upto = min(upto, gone[j])
        if k - j <= slack:
            for b in range(at, upto):
                hits += now[b] != IDLE
        begins, ends = k < len(begun) and begun[k] == upto, j < len(gone) and gone[j] == upto
        k, j, at = k + begins, j + ends, upto + 1
    return hits


@njit(cache=True, nogil=True)
def _belady_misses_by_run(runs: Runs, reading: Reading, lane_ptr, n_steps, room):
    """Misses; -1 where a block in the midst of a run would have to go."""
    n_blocks, n_lanes, missed, held = len(runs.ptr) - 1, len(lane_ptr) - 1, 0, 0
    heap, size = np.empty(2 * min(room, n_blocks) + 1024, np.int64), 0
    due = np.full(n_blocks, np.int64(-1))  # An idle resident's entry in the heap.
    for slot in range(n_steps * n_lanes):
        lane = slot % n_lanes
        n_begun, n_over = turn(runs, reading, lane_ptr[lane], lane_ptr[lane + 1], slot // n_lanes)
        begun, over = reading.begun[:n_begun], reading.over[:n_over]
        done = 0
        for b in begun:
            # What is read before b and not again in its run has its next access by now.
            while done < len(over) and over[done] < b:
                size = _rest(reading, heap, size, due, over[done], lane, n_lanes, n_steps)
                done += 1
            if due[b] >= 0:
                due[b] = -1
                continue
            missed += 1
            if held < room:
                held += 1
                continue
            while size and due[heap[0] % n_blocks] != heap[0]:
                size = _pop(heap, size)
            if size == 0 or heap[0] < min(slot + n_lanes + 1, n_steps * n_lanes) * n_blocks:
                return -1
            due[heap[0] % n_blocks] = -1
            size = _pop(heap, size)
        for b in over[done:]:
            size = _rest(reading, heap, size, due, b, lane, n_lanes, n_steps)
        settle(reading, n_over)
    return missed


@part(_nrt=False)
def _rest(reading, heap, size, due, b, lane, n_lanes, n_steps):
    """Enter a resident whose run is over by its next access; int: entries of the heap."""
    next_step = reading.turn_step[b]
    use = n_steps * n_lanes if next_step == NEVER_STEP else np.int64(next_step) * n_lanes + lane
    due[b] = use * len(due) + b
    if size == len(heap):
        size = _without_void(heap, size, due)
    return _push(heap, size, due[b])


@part(_nrt=False)
def _accessed(reading, lane, lane_ptr, begun, going_on, n_going_on, found):
    """Fill ``found`` with the blocks that a step reads, ascending: those that went on, and those that begin; how many.

    ``going_on`` holds those of each lane that were read before and still are, ``n_going_on`` how many; both are brought
    up to date.
    """
    before = going_on[lane_ptr[lane] : lane_ptr[lane + 1]]
    n, k = 0, 0
    for b in begun:
        while k < n_going_on[lane] and before[k] < b:
            found[n] = before[k]
            n, k = n + 1, k + 1
        found[n] = b
        n += 1
    while k < n_going_on[lane]:
        found[n] = before[k]
        n, k = n + 1, k + 1
    kept = 0
    for b in found[:n]:
        if reading.now[b] == GOING_ON:
            before[kept] = b
            kept += 1
    n_going_on[lane] = kept
    return n


@njit(cache=True, nogil=True)
def _belady_hits(runs: Runs, reading: Reading, lane_ptr, n_steps, room):
    n_blocks, n_lanes, hits, held = len(runs.ptr) - 1, len(lane_ptr) - 1, 0, 0
    inside = np.zeros(n_blocks, np.uint8)
    going_on = np.zeros(n_lanes, np.int64)  # Residents in the midst of a run.
    listed, n_listed = np.empty(n_blocks, np.int32), np.zeros(n_lanes, np.int64)
    accessed = np.empty(n_blocks, np.int32)
    # Idle residents by their next access, the last first; entries of those that were read since, or left, are void.
    heap, size = np.empty(2 * min(room, n_blocks) + 1024, np.int64), 0
    due = np.full(n_blocks, np.int64(-1))  # An idle resident's entry; -1 in the midst of a run.
    for slot in range(n_steps * n_lanes):
        lane = slot % n_lanes
        n_begun, n_over = turn(runs, reading, lane_ptr[lane], lane_ptr[lane + 1], slot // n_lanes)
        begun = reading.begun[:n_begun]
        for b in accessed[: _accessed(reading, lane, lane_ptr, begun, listed, n_listed, accessed)]:
            if inside[b]:
                hits += 1
                if due[b] < 0:
                    going_on[lane] -= 1
            elif held == room:
                size = _evict_last(reading, lane_ptr, inside, going_on, heap, size, due, slot, b)
            else:
                held += 1
            inside[b] = 1
            if reading.now[b] == GOING_ON:
                due[b] = -1
                going_on[lane] += 1
                continue
            size = _rest(reading, heap, size, due, b, lane, n_lanes, n_steps)
        settle(reading, n_over)
    return hits


@part(_nrt=False)
def _evict_last(reading, lane_ptr, inside, going_on, heap, size, due, slot, b):
    """Put the resident out that is read last; int: entries of the heap."""
    n_blocks, n_lanes = len(due), len(going_on)
    while size and due[heap[0] % n_blocks] != heap[0]:
        size = _pop(heap, size)
    idle = heap[0] if size else np.int64(-1)
    midst = np.int64(-1)
    if idle < (slot + n_lanes + 1) * n_blocks:
        midst = _last_in_midst(reading, lane_ptr, inside, going_on, due, slot, b)
    if idle > midst:
        inside[idle % n_blocks] = 0
        due[idle % n_blocks] = -1
        return _pop(heap, size)
    inside[midst % n_blocks] = 0
    going_on[midst // n_blocks % n_lanes] -= 1
    return size


@part(_nrt=False)
def _last_in_midst(reading, lane_ptr, inside, going_on, due, slot, b):
    """The next access of the resident in the midst of a run that is read last, as slot * B + block; -1 if none is.

    They are read again in the order in which they were read last: this slot's before b, then those of the lanes before,
    and then what this slot is still to read.
    """
    n_lanes = len(going_on)
    for back in range(n_lanes + 1):
        past = slot - back
        lane = past % n_lanes
        if (past < 0 and back < n_lanes) or not going_on[lane]:
            continue
        first = b + 1 if back == n_lanes else lane_ptr[lane]
        last = b if back == 0 else lane_ptr[lane + 1]
        for k in range(last - 1, first - 1, -1):
            if inside[k] and due[k] < 0:
                return (past + n_lanes) * len(due) + k
    return np.int64(-1)


@part(_nrt=False)
def _push(heap, size, key):
    """Take a key into a heap with the largest on top."""
    k = size
    while k and heap[(k - 1) // 2] < key:
        heap[k] = heap[(k - 1) // 2]
        k = (k - 1) // 2
    heap[k] = key
    return size + 1


@part(_nrt=False)
def _pop(heap, size):
    """Take the largest key out."""
    size -= 1
    key, k = heap[size], 0
    while 2 * k + 1 < size:
        child = 2 * k + 1
        if child + 1 < size and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= key:
            break
        heap[k] = heap[child]
        k = child
    heap[k] = key
    return size


@part(_nrt=False)
def _without_void(heap, size, due):
    """Build the heap anew from the entries that hold; int: how many."""
    kept = 0
    for k in range(size):
        if due[heap[k] % len(due)] == heap[k]:
            kept = _push(heap, kept, heap[k])
    return kept
