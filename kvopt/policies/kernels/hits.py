"""Hits of a plain cache, by runs; access by access where the cache holds less than what is between two reads of a run.

By runs a block is looked at where a run begins and where it is over. That is right as long as no resident in the midst
of a run is to be evicted; where one is, the count is begun anew, access by access.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from kvopt.policies.kernels.reading import (
    GOING_ON,
    NEVER_STEP,
    Reading,
    Runs,
    any_equal,
    reading_before,
    settle,
    turn,
)

_BATCH = 16
_OUTSIDE = np.int32(-1)


def lru_hits(runs: Runs, lane_ptr: np.ndarray, n_steps: int, room: int) -> int:
    """Hits of least recently used; as :func:`kvopt.policies.hits`, of blocks that ascend by lane."""
    missed = _lru_misses_by_run(runs, reading_before(runs, 0), lane_ptr, n_steps, room)
    if missed >= 0:
        return int((runs.stop - runs.start).sum(dtype=np.int64)) - missed
    return int(_lru_hits(runs, reading_before(runs, 0), lane_ptr, n_steps, room))


def belady_hits(runs: Runs, lane_ptr: np.ndarray, n_steps: int, room: int) -> int:
    """Hits of Belady's rule; as :func:`kvopt.policies.hits`, of blocks that ascend by lane."""
    missed = _belady_misses_by_run(runs, reading_before(runs, 0), lane_ptr, n_steps, room)
    if missed >= 0:
        return int((runs.stop - runs.start).sum(dtype=np.int64)) - missed
    return int(_belady_hits(runs, reading_before(runs, 0), lane_ptr, n_steps, room))


@njit(cache=True, nogil=True)
def _lru_misses_by_run(runs: Runs, reading: Reading, lane_ptr, n_steps, room):
    """Misses; -1 where a block in the midst of a run would have to go."""
    n_lanes, missed, held = len(lane_ptr) - 1, 0, 0
    inside = np.zeros(len(runs.ptr) - 1, np.uint8)
    used = np.full(len(runs.ptr) - 1, _OUTSIDE)  # Slot of an idle resident's last read.
    count = np.zeros(n_steps * n_lanes + 1, np.int32)  # Idle residents by that slot.
    at = np.zeros(2, np.int64)
    for slot in range(n_steps * n_lanes):
        lane = slot % n_lanes
        begun, over = turn(runs, reading, lane_ptr[lane], lane_ptr[lane + 1], slot // n_lanes)
        for b in begun:
            if inside[b]:
                count[used[b]] -= 1
            else:
                missed += 1
                if held == room:
                    while at[0] <= slot - n_lanes and count[at[0]] == 0:
                        at[0], at[1] = at[0] + 1, 0
                    if at[0] >= slot - n_lanes:
                        return -1
                    inside[_evict_oldest(used, count, at, lane_ptr)] = 0
                else:
                    held += 1
                inside[b] = 1
            used[b] = _OUTSIDE
        for b in over:
            used[b] = slot
            count[slot] += 1
        settle(reading, over)
    return missed


@njit(cache=True, nogil=True)
def _belady_misses_by_run(runs: Runs, reading: Reading, lane_ptr, n_steps, room):
    """Misses; -1 where a block in the midst of a run would have to go."""
    n_blocks, n_lanes, missed, held = len(runs.ptr) - 1, len(lane_ptr) - 1, 0, 0
    heap, size = np.empty(2 * min(room, n_blocks) + 1024, np.int64), 0
    due = np.full(n_blocks, np.int64(-1))  # An idle resident's entry in the heap.
    for slot in range(n_steps * n_lanes):
        lane = slot % n_lanes
        begun, over = turn(runs, reading, lane_ptr[lane], lane_ptr[lane + 1], slot // n_lanes)
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
        settle(reading, over)
    return missed


@njit(cache=True, nogil=True, _nrt=False)
def _rest(reading, heap, size, due, b, lane, n_lanes, n_steps):
    """Enter a resident whose run is over by its next access; int: entries of the heap."""
    next_step = reading.turn_step[b]
    use = n_steps * n_lanes if next_step == NEVER_STEP else np.int64(next_step) * n_lanes + lane
    due[b] = use * len(due) + b
    if size == len(heap):
        size = _without_void(heap, size, due)
    return _push(heap, size, due[b])


@njit(cache=True, nogil=True)
def _lru_hits(runs: Runs, reading: Reading, lane_ptr, n_steps, room):
    """Hits, access by access: residents in a ring from the last used to the first."""
    n_blocks, n_lanes, hits, held = len(runs.ptr) - 1, len(lane_ptr) - 1, 0, 0
    older, newer = np.full(n_blocks + 1, _OUTSIDE), np.full(n_blocks + 1, _OUTSIDE)
    older[n_blocks] = newer[n_blocks] = n_blocks  # Where the ring is closed.
    listed, n_listed = np.empty(n_blocks, np.int32), np.zeros(n_lanes, np.int64)
    accessed = np.empty(n_blocks, np.int32)
    for slot in range(n_steps * n_lanes):
        lane = slot % n_lanes
        begun, over = turn(runs, reading, lane_ptr[lane], lane_ptr[lane + 1], slot // n_lanes)
        for b in _accessed(reading, lane, lane_ptr, begun, listed, n_listed, accessed):
            if older[b] != _OUTSIDE:
                hits += 1
                older[newer[b]], newer[older[b]] = older[b], newer[b]
            elif held == room:
                oldest = newer[n_blocks]
                newer[n_blocks] = newer[oldest]
                older[newer[oldest]] = n_blocks
                older[oldest] = _OUTSIDE
            else:
                held += 1
            older[b], newer[b] = older[n_blocks], n_blocks
            newer[older[b]] = b
            older[n_blocks] = b
        settle(reading, over)
    return hits


@njit(cache=True, nogil=True)
def _accessed(reading, lane, lane_ptr, begun, going_on, n_going_on, found):
    """int32[...]: the blocks that a step reads, ascending: those that went on, and those that begin.

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
    return found[:n]


@njit(cache=True, nogil=True, _nrt=False)
def _evict_oldest(used, count, at, lane_ptr):
    """Put the block out that was read longest ago; int: which."""
    oldest, b = at
    while count[oldest] == 0:
        oldest, b = oldest + 1, 0
    lane, oldest32 = oldest % (len(lane_ptr) - 1), np.int32(oldest)
    b, stop = max(b, lane_ptr[lane]), lane_ptr[lane + 1]
    while used[b] != oldest32:
        batch = b % _BATCH == 0 and b + _BATCH <= stop and not any_equal(used, b, oldest32)
        b += _BATCH if batch else 1
    used[b] = _OUTSIDE
    count[oldest] -= 1
    at[0], at[1] = oldest, b
    return b


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
        begun, over = turn(runs, reading, lane_ptr[lane], lane_ptr[lane + 1], slot // n_lanes)
        for b in _accessed(reading, lane, lane_ptr, begun, listed, n_listed, accessed):
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
        settle(reading, over)
    return hits


@njit(cache=True, nogil=True, _nrt=False)
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


@njit(cache=True, nogil=True, _nrt=False)
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


@njit(cache=True, nogil=True, _nrt=False)
def _push(heap, size, key):
    """Take a key into a heap with the largest on top."""
    k = size
    while k and heap[(k - 1) // 2] < key:
        heap[k] = heap[(k - 1) // 2]
        k = (k - 1) // 2
    heap[k] = key
    return size + 1


@njit(cache=True, nogil=True, _nrt=False)
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


@njit(cache=True, nogil=True, _nrt=False)
def _without_void(heap, size, due):
    """Build the heap anew from the entries that hold; int: how many."""
    kept = 0
    for k in range(size):
        if due[heap[k] % len(due)] == heap[k]:
            kept = _push(heap, kept, heap[k])
    return kept
