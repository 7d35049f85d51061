"""Run a policy over an instance: one loop over the slots, the same for every policy."""

from __future__ import annotations

import time

import numpy as np

from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.policies.accesses import AccessStream, RunIndex
from kvopt.policies.protocol import Policy, View
from kvopt.policies.spill import hold_back
from kvopt.result import OnProgress, Progress

_EVENTS = 50


def simulate(instance: Instance, policy: Policy, on_progress: OnProgress | None = None) -> Placement:
    """The placement that a policy makes.

    Parameters
    ----------
    instance : Instance
    policy : Policy
    on_progress : callable, optional
        Gets a :class:`kvopt.result.Progress` now and then.

    Returns
    -------
    Placement
        Within both tiers' capacities in every slot. Where the backing tier is full, blocks that the policy evicted stay
        and new ones go to the fast tier, whatever the policy said.

    Raises
    ------
    MethodError
        When the policy overfills the fast tier, promotes a block that does not exist, or looks into the future without
        being clairvoyant; or when both tiers are so full that no split of the blocks over them is found.
    """
    return _Simulation(instance, policy).run(on_progress)


class _Simulation:
    """The state between two slots. The mask ``resident`` is the fast tier's content, less what is about to die."""

    def __init__(self, instance: Instance, policy: Policy) -> None:
        self.instance, self.policy = instance, policy
        self.index = RunIndex(instance.trace)
        self.stream = AccessStream(self.index)
        self.use_after = self.index.use_after()
        self.next_use = self.index.first_use()
        self.view = View(instance, policy, self.index, self.next_use)
        n_blocks = instance.trace.n_blocks
        self.resident, self.live = np.zeros(n_blocks, bool), np.zeros(n_blocks, bool)
        self.last_use = np.full(n_blocks, -1)
        self.entered = np.zeros(n_blocks, np.int64)
        self.intervals: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.used_bytes = 0
        self.births = _by_slot(instance.birth_slot, instance.n_slots)
        self.deaths = _by_slot(instance.death_slot, instance.n_slots)
        backing = np.inf if instance.rules.inclusive else instance.capacity_bytes[1]
        self.least_bytes = np.maximum(instance.live_bytes - backing, 0.0)
        for name in ("resident", "live", "last_use"):
            shown = getattr(self, name).view()
            shown.setflags(write=False)
            setattr(self.view, name, shown)

    def run(self, on_progress: OnProgress | None) -> Placement:
        began = time.perf_counter()
        n_slots = self.instance.n_slots
        every = max(n_slots // _EVENTS, 1)
        self._look(-1)
        self._decide(_blocks(self.policy.start(self.view)), np.zeros(0, np.int64))
        for slot in range(n_slots - 1):
            self._look(slot)
            promote, evict = self.policy.step(self.view)
            self._decide(_blocks(promote), _blocks(evict))
            if on_progress is not None and slot % every == 0:
                on_progress(Progress(time.perf_counter() - began, detail=f"slot {slot} of {n_slots}"))
        self._leave(np.flatnonzero(self.resident), n_slots)
        block = np.concatenate([b for b, _, _ in self.intervals])
        start = np.concatenate([s for _, s, _ in self.intervals])
        stop = np.repeat([t for _, _, t in self.intervals], [len(b) for b, _, _ in self.intervals])
        return Placement.from_intervals(self.instance.trace.n_blocks, block, start, stop)

    def _look(self, slot: int) -> None:
        """Bring the view up to a slot: what it reads, what goes with it, what the next slot writes."""
        view = self.view
        runs = self.stream.read(slot) if slot >= 0 else np.zeros(0, np.int64)
        accessed = self.index.block[runs]
        self.last_use[accessed] = slot
        if self.policy.clairvoyant and slot >= 0:
            goes_on = self.index.end_slot[runs] > slot + 1
            self.next_use[accessed] = np.where(goes_on, slot + view.n_lanes, self.use_after[runs])
        arriving, dying = self.births(slot + 1), self.deaths(slot + 1)
        if len(dying):
            self.live[dying] = False
            gone = dying[self.resident[dying]]
            self._leave(gone, slot + 1)
            self.resident[gone] = False
        self.live[arriving] = True
        self.last_use[arriving] = np.minimum(self.instance.trace.write_step[arriving], 0) if slot < 0 else slot + 1
        view.slot = slot
        view.step, view.lane = divmod(slot, view.n_lanes)
        view.accessed = np.sort(accessed)
        view.misses = view.accessed[~self.resident[view.accessed] & self.live[view.accessed]]
        view.arriving = arriving
        view.free_bytes = view.capacity_bytes - self.used_bytes
        view.least_bytes = float(self.least_bytes[slot + 1])

    def _decide(self, promote: np.ndarray, evict: np.ndarray) -> None:
        """Carry out a decision, as far as the backing tier can take what it is given."""
        view, size = self.view, self.instance.trace.size_bytes
        slot = view.slot + 1
        for blocks in (promote, evict):
            if len(blocks) and not (blocks.min() >= 0 and blocks.max() < view.n_blocks):
                self._refuse(f"names blocks outside 0..{view.n_blocks - 1}", "Return block numbers")
        if not self.live[promote].all():
            block = int(promote[~self.live[promote]][0])
            self._refuse(f"promotes block {block}, which does not exist in slot {slot}", "Promote blocks of view.live")
        wanted = self.resident.copy()
        wanted[evict] = False
        wanted[promote] = True
        entering, leaving = np.flatnonzero(wanted & ~self.resident), np.flatnonzero(self.resident & ~wanted)
        used = self.used_bytes + int(size[entering].sum()) - int(size[leaving].sum())
        if used > view.capacity_bytes:
            self._refuse(
                f"overfills the fast tier: {used} bytes in slot {slot}, capacity {view.capacity_bytes:.6g}",
                "Evict more, or let view.best choose what fits",
            )
        if used < view.least_bytes:
            if not hold_back(view, wanted, evict):
                self._refuse(
                    f"found no split of the live blocks of slot {slot} over the two tiers",
                    "Give the backing tier a little more capacity than the live blocks need",
                )
            entering, leaving = np.flatnonzero(wanted & ~self.resident), np.flatnonzero(self.resident & ~wanted)
        self._leave(leaving, slot)
        self.entered[entering] = slot
        self.resident[entering] = True
        self.resident[leaving] = False
        self.used_bytes += int(size[entering].sum())

    def _leave(self, blocks: np.ndarray, slot: int) -> None:
        self.intervals.append((blocks, self.entered[blocks], slot))
        self.used_bytes -= int(self.instance.trace.size_bytes[blocks].sum())

    def _refuse(self, problem: str, fix: str) -> None:
        raise MethodError(f"policy {self.policy.name!r}", problem, fix)


def _blocks(given) -> np.ndarray:
    """Block numbers as the simulator indexes with them; a mask would pass for the numbers 0 and 1."""
    given = np.asarray(given)
    return np.flatnonzero(given) if given.dtype == bool else given.astype(np.int64)


def _by_slot(slot: np.ndarray, n_slots: int):
    """A function from a slot to the blocks, ascending, whose entry in ``slot`` it is."""
    order = np.argsort(slot, kind="stable")
    ptr = np.concatenate([[0], np.cumsum(np.bincount(slot, minlength=n_slots + 1))])
    return lambda t: order[ptr[t] : ptr[t + 1]]
