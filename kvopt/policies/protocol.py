"""What a policy is, and what it may see.

Time runs in slots. In slot t the blocks ``view.accessed`` are read from where they are. What the policy then decides
happens *during* slot t and counts *from slot t + 1 on*: a promoted block is usable, an evicted one's bytes are free.
A block that slot t + 1 writes is announced in slot t as ``view.arriving``: to promote it is to write it straight to the
fast tier, which costs no move, and room for it can be made in time.

Of however many tiers, a policy decides about the fastest alone. What happens below is the same for all of them; see
:mod:`kvopt.policies.tiers`.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.policies.accesses import ReadsAhead, RunIndex

Decision = tuple[np.ndarray, np.ndarray]
"""(blocks to promote, blocks to evict)."""

_COUNTABLE = 20_000  # A range of whole numbers that is cheaper to count than to partition.


@runtime_checkable
class Policy(Protocol):
    """A rule that decides, slot by slot, what the fast tier holds.

    A policy registers as an entry point of the group ``kvopt.policies``; parameters are its constructor's arguments.

    Attributes
    ----------
    name : str
    clairvoyant : bool
        Whether it may ask the view about the future.
    """

    name: str
    clairvoyant: bool

    def start(self, view: View) -> np.ndarray:
        """Blocks of ``view.arriving`` that the fast tier holds in slot 0. Begins a simulation: reset any state here.

        Where the instance gives the states in slot 0, ``view.resident`` is set by then and cannot be changed: of the
        answer the simulator takes the arriving blocks for which there is room, in the order given.
        """
        ...

    def step(self, view: View) -> Decision:
        """Blocks to promote and to evict during ``view.slot``.

        To promote a resident or to evict a block that is not resident changes nothing; a block in both is promoted.
        """
        ...


class View:
    """What a policy sees in one slot. Its arrays are the simulator's own, read-only, and change after the call.

    Attributes
    ----------
    slot, step, lane : int
        The slot and its step and lane; slot -1 when the policy starts.
    accessed : int64[A]
        Blocks read in this slot, ascending.
    misses : int64[M]
        Those of them that a lower tier serves and that still exist in the next slot.
    arriving : int64[N]
        Blocks that exist from the next slot on. When the policy starts: after prefill, or written in slot 0; where the
        instance gives the states in slot 0, the latter alone.
    resident : bool[B]
        Blocks that the fast tier holds in the next slot if nothing is done.
    live : bool[B]
        Blocks that exist in the next slot.
    last_use : int64[B]
        Slot that last read the block, or wrote it; -1 for prefill.
    free_bytes : float
        Room in the fast tier in the next slot if nothing is done.
    capacity_bytes : float
        Capacity of the fast tier.
    least_bytes : float
        What the fast tier must hold in the next slot because those below cannot. The simulator sees to it.
    never : int
        ``next_use`` of a block that is not read again: the number of slots.
    size_bytes : int64[B]
    block_lane : int32[B]
    birth_slot, death_slot : int64[B]
        First slot in which the block exists, and one past the last.
    n_slots, n_steps, n_lanes, n_blocks : int
    """

    def __init__(self, instance: Instance, policy: Policy, index: RunIndex, next_use: np.ndarray) -> None:
        trace = instance.trace
        self.n_slots = self.never = instance.n_slots
        self.n_steps, self.n_lanes = trace.n_steps, trace.n_lanes
        self.n_blocks = trace.n_blocks
        self.size_bytes = trace.size_bytes
        self.block_lane = trace.lane
        self.birth_slot, self.death_slot = instance.birth_slot, instance.death_slot
        self.capacity_bytes = instance.capacity_bytes[0]
        self.slot, self.step, self.lane = -1, -1, trace.n_lanes - 1
        self.accessed = self.misses = self.arriving = np.zeros(0, np.int64)
        self.resident = self.live = np.zeros(trace.n_blocks, bool)
        self.last_use = np.full(trace.n_blocks, -1)
        self.free_bytes = self.least_bytes = 0.0
        self._policy, self._index = policy, index
        self._next_use = next_use
        self._in_lane = [np.flatnonzero(trace.lane == lane) for lane in range(trace.n_lanes)]
        self._windows: dict[int, ReadsAhead] = {}
        smallest, largest = int(trace.size_bytes.min()), int(trace.size_bytes.max())
        self._one_size = largest if smallest == largest else 0

    @property
    def residents(self) -> np.ndarray:
        """int64[...]: the blocks of ``resident``, ascending."""
        return np.flatnonzero(self.resident)

    @property
    def own(self) -> np.ndarray:
        """int64[...]: the blocks of this slot's lane, whether they exist or not, ascending."""
        return self._in_lane[self.lane]

    @property
    def waiting(self) -> np.ndarray:
        """int64[...]: the blocks of this slot's lane that are in a lower tier and go on to live, ascending."""
        block = self._in_lane[self.lane]
        return block[self.live[block] & ~self.resident[block] & (self.birth_slot[block] <= self.slot)]

    def next_use(self, blocks: np.ndarray | None = None) -> np.ndarray:
        """int64[...]: the next slot that reads each block after this one; ``never`` if there is none.

        Parameters
        ----------
        blocks : int[...], optional
            All, unless told.

        Raises
        ------
        MethodError
            When the policy does not declare itself clairvoyant.
        """
        self._refuse_unless_clairvoyant("next_use")
        return self._next_use.copy() if blocks is None else self._next_use[blocks]

    def reads_ahead(self, steps: int, blocks: np.ndarray | None = None) -> np.ndarray:
        """int64[...]: how often the next ``steps`` steps read each block, from the next slot on.

        Cheapest when asked in every slot.

        Parameters
        ----------
        steps : int
        blocks : int[...], optional
            All, unless told.

        Raises
        ------
        MethodError
            When the policy does not declare itself clairvoyant.
        """
        self._refuse_unless_clairvoyant("reads_ahead")
        if steps not in self._windows:
            self._windows[steps] = ReadsAhead(self._index, steps)
        count = self._windows[steps].after(self.slot, self.accessed)
        return count.copy() if blocks is None else count[blocks]

    def best(self, blocks: np.ndarray, cost: np.ndarray) -> np.ndarray:
        """Those blocks, cheapest first, that fit into the fast tier together.

        Parameters
        ----------
        blocks : int64[K]
            Distinct blocks.
        cost : float64[K] or int64[K]
            What to keep least: of equal costs, the block that stands earlier in ``blocks`` is preferred.

        Returns
        -------
        int64[...]
            A block too large for what room is left is passed over for cheaper to hold, costlier ones.
        """
        size = self.size_bytes[blocks]
        if size.sum() <= self.capacity_bytes:
            return blocks
        if self._one_size:
            return blocks[_lowest(cost, int(self.capacity_bytes // self._one_size))]
        order = np.argsort(cost, kind="stable")
        return blocks[order[fitting(size[order], self.capacity_bytes)]]

    def exchange(self, keep: np.ndarray) -> Decision:
        """The decision after which the fast tier holds these blocks and no others."""
        wanted = np.zeros(self.n_blocks, bool)
        wanted[keep] = True
        return np.flatnonzero(wanted & ~self.resident), np.flatnonzero(self.resident & ~wanted)

    def _refuse_unless_clairvoyant(self, what: str) -> None:
        if not self._policy.clairvoyant:
            raise MethodError(
                f"policy {self._policy.name!r}",
                f"asked for view.{what}, which is knowledge of the future",
                "Set clairvoyant = True on the policy, or decide by view.last_use",
            )


def _lowest(cost: np.ndarray, count: int) -> np.ndarray:
    """Positions of the ``count`` lowest costs, earlier ones first among equals; count is less than the length."""
    lowest = cost.min()
    if cost.dtype.kind == "i" and cost.max() - lowest < _COUNTABLE:
        below = np.cumsum(np.bincount(cost - lowest))
        threshold = lowest + np.searchsorted(below, count)
    else:
        threshold = np.partition(cost, count - 1)[count - 1]
    chosen = cost < threshold
    equal = np.flatnonzero(cost == threshold)
    chosen[equal[: count - int(chosen.sum())]] = True
    return np.flatnonzero(chosen)


def fitting(size: np.ndarray, room: float) -> np.ndarray:
    """int64[...]: positions taken when sizes are packed in order and those that do not fit are passed over."""
    left = np.arange(len(size))
    taken = [left[:0]]
    while len(left):
        filled = np.cumsum(size[left])
        fits = int(np.searchsorted(filled, room, side="right"))
        taken.append(left[:fits])
        room -= filled[fits - 1] if fits else 0
        left = left[fits + 1 :]
        left = left[size[left] <= room]
    return np.concatenate(taken)
