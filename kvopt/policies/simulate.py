"""Run a policy over an instance: one loop over the slots, the same for every policy.

Where there is a compiled one of the same outcome (:mod:`kvopt.policies.fast`), that is taken.
"""

from __future__ import annotations

import time

import numpy as np

from kvopt import interrupts
from kvopt.arguments import check_progress
from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.policies.accesses import AccessStream, RunIndex
from kvopt.policies.fast import EVENTS, simulation_of
from kvopt.policies.protocol import Policy, View, fitting
from kvopt.policies.record import Copies, Record
from kvopt.policies.spill import hold_back, leave_alone
from kvopt.policies.tiers import Plan, Tiers
from kvopt.residency import nearest
from kvopt.result import OnProgress, Progress
from kvopt.trace import PREFILL

_NONE = np.zeros(0, np.int64)


@interrupts.interruptible
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
        Within all tiers' capacities in every slot. Below the fastest tier there is a cascade of victims
        (:mod:`kvopt.policies.tiers`). Where a lower tier is full, blocks that the policy evicted stay and new ones go
        to the fastest tier, whatever the policy said. Where the instance gives the states in slot 0, prefilled blocks
        begin there, and the policy decides from slot 1 on.

    Raises
    ------
    MethodError
        When the policy overfills the fast tier, promotes a block that does not exist, or looks into the future without
        being clairvoyant; or when the tiers are so full that no split of the blocks over them is found.
    """
    check_progress(on_progress)
    fast = simulation_of(instance, policy)
    return simulate_by_slots(instance, policy, on_progress) if fast is None else fast(instance, policy, on_progress)


@interrupts.interruptible
def simulate_by_slots(instance: Instance, policy: Policy, on_progress: OnProgress | None = None) -> Placement:
    """The same, always by the loop that asks the policy in every slot."""
    return _Simulation(instance, policy).run(on_progress)


class _Simulation:
    """The state between two slots. The mask ``resident`` is the fastest tier's content, less what is about to die."""

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
        self.tiers, self.record = Tiers(instance), Record(instance)
        self.copies = Copies(instance, self.tiers)
        self.births = _by_slot(instance.birth_slot, instance.n_slots)
        self.deaths = _by_slot(instance.death_slot, instance.n_slots)
        self.least_bytes = np.maximum(instance.live_bytes - sum(self.tiers.capacity[1:]), 0.0)
        # What the given states hold beyond one copy a block, and may be dropped from slot 1 on.
        self.surplus = _NONE
        for name in ("resident", "live", "last_use"):
            shown = getattr(self, name).view()
            shown.setflags(write=False)
            setattr(self.view, name, shown)

    def run(self, on_progress: OnProgress | None) -> Placement:
        began = time.perf_counter()
        n_slots = self.instance.n_slots
        every = max(n_slots // EVENTS, 1)
        self._look(-1)
        if self.instance.initial is None:
            self._decide(_blocks(self.policy.start(self.view)), _NONE)
        else:
            self._begin_as_given()
        for slot in range(n_slots - 1):
            interrupts.heed()
            self._look(slot)
            promote, evict = self.policy.step(self.view)
            self._decide(_blocks(promote), _blocks(evict))
            if on_progress is not None and slot % every == 0:
                on_progress(Progress(time.perf_counter() - began, detail=f"slot {slot} of {n_slots}"))
        return self.record.placement(n_slots)

    def _look(self, slot: int) -> None:
        """Bring the view up to a slot: what it reads, what goes with it, what the next slot writes."""
        view = self.view
        runs = self.stream.read(slot) if slot >= 0 else _NONE
        accessed = self.index.block[runs]
        self.last_use[accessed] = slot
        if self.policy.clairvoyant and slot >= 0:
            goes_on = self.index.end_slot[runs] > slot + 1
            self.next_use[accessed] = np.where(goes_on, slot + view.n_lanes, self.use_after[runs])
        arriving, dying = self.births(slot + 1), self.deaths(slot + 1)
        if len(dying):
            self._remove(dying, slot + 1)
        self.live[arriving] = True
        self.last_use[arriving] = np.minimum(self.instance.trace.write_step[arriving], 0) if slot < 0 else slot + 1
        view.slot = slot
        view.step, view.lane = divmod(slot, view.n_lanes)
        view.accessed = np.sort(accessed)
        view.misses = view.accessed[~self.resident[view.accessed] & self.live[view.accessed]]
        view.arriving = arriving
        view.free_bytes = view.capacity_bytes - self.tiers.used[0]
        view.least_bytes = float(self.least_bytes[slot + 1])

    def _remove(self, dying: np.ndarray, slot: int) -> None:
        self.live[dying] = self.resident[dying] = False
        self.record.set(dying, self.record.last, slot)
        self.copies.drop(dying)
        self.tiers.remove(dying)

    def _begin_as_given(self) -> None:
        """Put the prefilled blocks where the instance has them; the policy may promote what slot 0 writes."""
        view, tiers, held = self.view, self.tiers, self.instance.states
        written = self.instance.trace.write_step[view.arriving] != PREFILL
        prefilled, view.arriving = view.arriving[~written], view.arriving[written]
        given = self.instance.initial[prefilled]
        tiers.place(prefilled, nearest(held)[given])
        self.resident[:] = tiers.level == 0
        self.copies.keep(prefilled[held[given, -1] & (tiers.level[prefilled] < tiers.last)])
        self.record.set(prefilled, given, 0)
        self.surplus = prefilled[self.copies.states(prefilled) != given]
        view.free_bytes = view.capacity_bytes - tiers.used[0]
        wanted = self._checked(_blocks(self.policy.start(view)))
        wanted = wanted[np.isin(wanted, view.arriving)]
        if len(wanted):
            wanted = wanted[fitting(tiers.size[wanted], view.free_bytes)]
        plan = Plan(tiers, view, wanted, _NONE)
        # Every copy takes room in slot 0, also those beside a block's level.
        copied = tiers.size[prefilled] @ held[given] - tiers.used
        plan.capacity = [c - more for c, more in zip(tiers.capacity, copied.tolist(), strict=True)]
        plan.cascade()
        if not (plan.fits or leave_alone(plan)):
            self._refuse_split(0)
        self._carry_out(plan, 0)

    def _decide(self, promote: np.ndarray, evict: np.ndarray) -> None:
        """Carry out a decision, as far as the lower tiers can take what they are given."""
        view = self.view
        slot = view.slot + 1
        plan = Plan(self.tiers, view, self._checked(promote), self._checked(evict))
        if not self.live[promote].all():
            block = int(promote[~self.live[promote]][0])
            self._refuse(f"promotes block {block}, which does not exist in slot {slot}", "Promote blocks of view.live")
        if plan.used[0] > view.capacity_bytes:
            self._refuse(
                f"overfills the fast tier: {plan.used[0]} bytes in slot {slot}, capacity {view.capacity_bytes:.6g}",
                "Evict more, or let view.best choose what fits",
            )
        plan.cascade()
        if not (plan.fits or hold_back(plan)):
            self._refuse_split(slot)
        self._carry_out(plan, slot)

    def _carry_out(self, plan: Plan, slot: int) -> None:
        """Make a plan true from a slot on."""
        blocks, before, after = plan.changes()
        self.tiers.level, self.tiers.used = plan.level, plan.used
        self.resident[blocks] = after == 0
        if self.copies.write_back:
            blocks = self._leave_copies(blocks, before)
        if len(self.surplus) and slot > 0:
            blocks = np.union1d(blocks, self.surplus[self.live[self.surplus]])
            self.surplus = _NONE
        self.record.set(blocks, self.copies.states(blocks), slot)

    def _leave_copies(self, blocks: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Keep copies in the backing tier of what was there, or prefilled; the blocks and those that lose theirs."""
        last, level = self.tiers.last, self.tiers.level[blocks]
        prefilled = (before > last) & (self.instance.trace.write_step[blocks] == PREFILL)
        self.copies.keep(blocks[(level < last) & ((before == last) | prefilled)])
        self.copies.drop(blocks[level == last])
        return np.union1d(blocks, self.copies.make_room(self.last_use))

    def _checked(self, blocks: np.ndarray) -> np.ndarray:
        if len(blocks) and not (blocks.min() >= 0 and blocks.max() < self.view.n_blocks):
            self._refuse(f"names blocks outside 0..{self.view.n_blocks - 1}", "Return block numbers")
        return blocks

    def _refuse(self, problem: str, fix: str) -> None:
        raise MethodError(f"policy {self.policy.name!r}", problem, fix)

    def _refuse_split(self, slot: int) -> None:
        self._refuse(
            f"found no split of the live blocks of slot {slot} over the tiers",
            "Give the backing tier a little more capacity than the live blocks need",
        )


def _blocks(given) -> np.ndarray:
    """Block numbers as the simulator indexes with them; a mask would pass for the numbers 0 and 1."""
    given = np.asarray(given)
    return np.flatnonzero(given) if given.dtype == bool else given.astype(np.int64)


def _by_slot(slot: np.ndarray, n_slots: int):
    """A function from a slot to the blocks, ascending, whose entry in ``slot`` it is."""
    order = np.argsort(slot, kind="stable")
    ptr = np.concatenate([[0], np.cumsum(np.bincount(slot, minlength=n_slots + 1))])
    return lambda t: order[ptr[t] : ptr[t + 1]]
