"""Below the fastest tier: a cascade of victims, by hand, against a simulator in sets, and under any rules."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kvopt import Channel, Instance, Placement, Platform, Rules, Tier, Trace, evaluate, policies
from kvopt.errors import KvoptError, MethodError
from kvopt.policies.static import StaticOldest
from kvopt.residency import names
from tests.policies.test_simulate import Scripted

NAMES = ["belady", "look-ahead", "lru", "static-hottest", "static-oldest"]
RULES = [Rules(), Rules("inclusive"), Rules("inclusive", writes="back"), Rules("exclusive", "read-through")]
IDS = ["exclusive", "through", "back", "read-through"]


def platform(*capacity: float) -> Platform:
    """Tiers a, b, c, ... of these capacities, each on a bus of its own, a slower one with every tier."""
    letters = "abcdef"[: len(capacity)]
    tiers = tuple(Tier(n, c, {f"bus {n}": 1.0}, {f"bus {n}": 1.0}) for n, c in zip(letters, capacity, strict=True))
    return Platform("letters", tiers, tuple(Channel(f"bus {n}", 8.0 / 2**k) for k, n in enumerate(letters)))


def unit_trace(n_blocks: int, n_steps: int, write_step=None, reads=(), free_step=None, size=10) -> Trace:
    """One lane; reads are (block, step)."""
    block, step = zip(*reads, strict=True) if reads else ((), ())
    return Trace.from_accesses(
        block,
        step,
        n_steps=n_steps,
        n_lanes=1,
        lane=np.zeros(n_blocks),
        size_bytes=np.full(n_blocks, size),
        write_step=np.full(n_blocks, -1) if write_step is None else write_step,
        free_step=free_step,
    )


def words(instance: Instance, placement: Placement) -> list[list[str]]:
    """Every block's state in every slot, in words; "" where it does not exist."""
    assert placement.violations(instance) == []
    said = names(instance.states, instance.platform)
    states = placement.to_states(instance.n_slots, len(said))
    slot = np.arange(instance.n_slots)
    alive = (slot >= instance.birth_slot[:, None]) & (slot < instance.death_slot[:, None])
    return [
        [said[z] if here else "" for z, here in zip(row, there, strict=True)]
        for row, there in zip(states, alive, strict=True)
    ]


def run(instance: Instance, promote: dict, evict: dict) -> list[list[str]]:
    return words(instance, policies.simulate(instance, Scripted(promote, evict)))


def test_victims_go_down_step_by_step():
    """One block fits into a, one into b; every slot promotes the next block."""
    instance = Instance(unit_trace(4, 5), platform(10, 10, np.inf))
    found = run(instance, {-1: [0], 0: [2], 1: [3], 2: [0]}, {0: [0], 1: [2], 2: [3]})
    # Block 1, first of those not promoted, fills b until victims come: of equal age the earlier block goes first,
    # so in slot 1 block 0, the victim itself, is pushed on past block 1.
    assert found == [
        ["a", "c", "c", "a", "a"],
        ["b", "b", "c", "c", "c"],
        ["c", "a", "b", "c", "c"],
        ["c", "c", "a", "b", "b"],
    ]


def test_the_most_recently_used_stay_and_reads_below_count():
    # Block 1 is read in b in slot 0; block 0, evicted in that slot, is older and passes b by.
    instance = Instance(unit_trace(3, 3, reads=[(1, 0)]), platform(10, 10, np.inf))
    assert run(instance, {-1: [0], 0: [2]}, {0: [0]}) == [["a", "c", "c"], ["b", "b", "b"], ["c", "a", "a"]]
    # Read in slot 0 itself, block 0 is the more recent.
    instance = Instance(unit_trace(3, 3, reads=[(0, 0)]), platform(10, 10, np.inf))
    assert run(instance, {-1: [0], 0: [2]}, {0: [0]}) == [["a", "b", "b"], ["b", "c", "c"], ["c", "a", "a"]]


def test_inclusive_victims_leave_a_copy_that_costs_a_write_and_go_free_from_there():
    instance = Instance(unit_trace(3, 4, reads=[(0, 0)]), platform(10, 10, np.inf), Rules("inclusive"))
    placement = policies.simulate(instance, Scripted({-1: [0], 0: [2], 1: [0]}, {0: [0], 1: [2]}))
    assert words(instance, placement) == [
        ["a+c", "b+c", "a+c", "a+c"],
        ["b+c", "c", "c", "c"],
        ["c", "a+c", "b+c", "b+c"],
    ]
    done = evaluate(instance, placement)
    # Up from c and down to b, and nothing to c; then up from b.
    assert done.move_bytes.sum(axis=2)[:, :, 0].tolist() == [[0, 10, 0], [0, 0, 0], [10, 0, 0]]
    assert done.move_bytes.sum(axis=2)[:, :, 1].tolist() == [[0, 10, 0], [10, 0, 0], [0, 0, 0]]


def test_written_back_blocks_are_dirty_until_they_reach_the_backing_tier():
    """Block 0 is written in slot 0 and promoted; block 1 is prefilled."""
    trace = unit_trace(2, 6, write_step=[0, -1])
    rules = Rules("inclusive", writes="back")
    two = Instance(trace, platform(10, np.inf), rules)
    script = ({-1: [0], 1: [1], 2: [0], 3: [1]}, {1: [0], 2: [1], 3: [0]})
    found = policies.simulate(two, Scripted(*script))
    assert words(two, found) == [["a", "a", "b", "a+b", "b", "b"], ["b", "b", "a+b", "b", "a+b", "a+b"]]
    # Written back once; clean after that, and dropped free.
    done = evaluate(two, found)
    assert done.down_bytes.sum(axis=0).tolist() == [0, 10, 0, 0, 0, 0]
    assert done.new_bytes[:, 0].tolist() == [10, 0]
    three = Instance(trace, platform(10, 10, np.inf), rules)
    # Block 1 is prefilled into b, clean; blocks then change places, and block 0 stays dirty.
    assert run(three, *script) == [["a", "a", "b", "a", "b", "b"], ["b+c", "b+c", "a+c", "b+c", "a+c", "a+c"]]


def test_written_back_copies_give_way_to_blocks():
    """The backing tier holds two blocks: the prefilled ones' copies are dropped as new blocks need the room."""
    trace = unit_trace(4, 4, write_step=[-1, -1, 1, 2])
    instance = Instance(trace, platform(20, 20), Rules("inclusive", writes="back"))
    assert run(instance, {-1: [0, 1]}, {}) == [
        ["a+b", "a+b", "a", "a"],
        ["a+b", "a", "a", "a"],
        ["", "b", "b", "b"],
        ["", "", "b", "b"],
    ]


def test_new_blocks_are_written_to_the_fastest_lower_tier_with_room():
    trace = unit_trace(4, 4, write_step=[-1, 0, 1, 2], free_step=[4, 4, 2, 4])
    instance = Instance(trace, platform(10, 10, np.inf))
    # Block 2 finds b full and pushes nothing out; nor does block 3.
    assert run(instance, {-1: [0]}, {}) == [["a"] * 4, ["b"] * 4, ["", "c", "", ""], ["", "", "c", "c"]]
    done = evaluate(instance, policies.simulate(instance, Scripted({-1: [0]}, {})))
    assert done.new_bytes.sum(axis=1).tolist() == [0, 10, 20]


def test_blocks_too_large_for_a_tier_pass_it_by():
    trace = Trace.from_accesses(
        [], [], n_steps=2, n_lanes=1, lane=[0, 0], size_bytes=[10, 4], write_step=[-1, -1], free_step=[2, 2]
    )
    instance = Instance(trace, platform(10, 5, np.inf))
    assert run(instance, {-1: [0]}, {0: [0]}) == [["a", "c"], ["b", "b"]]


def test_where_the_lower_tiers_are_full_blocks_stay_above():
    """Three blocks over a, b and c of one each: to evict is to find no room."""
    instance = Instance(unit_trace(3, 3), platform(10, 10, 10))
    assert run(instance, {-1: [0]}, {0: [0]}) == [["a"] * 3, ["b"] * 3, ["c"] * 3]
    # An exchange makes room for itself, all the way down.
    assert run(instance, {-1: [0], 0: [2]}, {0: [0]}) == [["a", "c", "c"], ["b"] * 3, ["c", "a", "a"]]
    # A new block takes the last place, whatever the policy says.
    instance = Instance(unit_trace(3, 3, write_step=[-1, -1, 1]), platform(10, 10, 10))
    assert run(instance, {}, {}) == [["b"] * 3, ["c"] * 3, ["", "a", "a"]]


@st.composite
def cascades(draw, most_tiers: int = 4):
    """Instances of two to four tiers, any rules, any tier full to some degree."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_lanes, n_steps, n_blocks = draw(st.integers(1, 2)), draw(st.integers(1, 6)), draw(st.integers(1, 7))
    write = np.maximum(rng.integers(-n_steps, n_steps, n_blocks), -1)
    free = np.where(rng.random(n_blocks) < 0.6, n_steps, rng.integers(np.maximum(write, 0) + 1, n_steps + 1))
    step = np.arange(n_steps)
    present = (step >= write[:, None]) & (step < free[:, None])
    block, step = np.nonzero(present & (rng.random(present.shape) < draw(st.sampled_from([0.2, 0.6]))))
    trace = Trace.from_accesses(
        block,
        step,
        n_steps=n_steps,
        n_lanes=n_lanes,
        lane=rng.integers(0, n_lanes, n_blocks),
        size_bytes=rng.integers(1, draw(st.sampled_from([2, 6])), n_blocks),
        write_step=write,
        free_step=free,
    )
    rules = draw(st.sampled_from(RULES))
    size = trace.size_bytes
    upper = [int(size.max()) + int(rng.integers(0, 8))]
    upper += [int(rng.integers(1, 10)) for _ in range(draw(st.integers(0, most_tiers - 2)))]
    backing = np.inf
    if draw(st.booleans()):
        whole = rules.inclusive and not rules.write_back
        slack = draw(st.sampled_from([0, 1, 3, 10]))
        backing = max(int(size.sum()) - (0 if whole else sum(upper)) + slack, 1)
    try:
        return Instance(trace, platform(*upper, backing), rules)
    except KvoptError:
        assume(False)


class Random:
    """Fills and empties the fastest tier at random."""

    name = "random"
    clairvoyant = False

    def start(self, view):
        self.rng = np.random.default_rng(view.n_blocks)
        return view.best(view.arriving, self.rng.random(len(view.arriving)))

    def step(self, view):
        keep = np.flatnonzero(view.live & (self.rng.random(view.n_blocks) < 0.5))
        return view.exchange(view.best(keep, self.rng.random(len(keep))))


@pytest.mark.parametrize("name", [*NAMES, "random"])
@settings(max_examples=150, deadline=None)
@given(instance=cascades())
def test_feasible_under_all_rules(name, instance):
    policy = Random() if name == "random" else policies.get(name)
    try:
        placement = policies.simulate(instance, policy)
    except MethodError as error:
        assert "no split" in str(error)  # noqa: PT017
        tight = instance.capacity_bytes[-1] + sum(instance.capacity_bytes[:-1]) - instance.live_bytes.max()
        # First fit leaves each tier with less room than a block when it fails.
        assert tight < (len(instance.capacity_bytes) - 1) * instance.trace.size_bytes.max()
        return
    assert placement.violations(instance) == []
    assert evaluate(instance, placement).latency_s >= 0


def in_sets(instance: Instance, policy_levels: np.ndarray) -> np.ndarray:
    """int[B, T]: the level of each block by the definition, slot by slot, when the fastest tier holds what is given.

    For tiers below of which the last takes everything.

    Parameters
    ----------
    policy_levels : bool[B, T]
        What the fastest tier holds.
    """
    trace, capacity = instance.trace, instance.capacity_bytes
    last, size = len(capacity) - 1, trace.size_bytes
    used_at = np.where(trace.write_step < 0, -1, instance.birth_slot)
    read = {
        (int(b), int(n) * trace.n_lanes + int(trace.lane[b]))
        for b, s, e in zip(trace.run_block, trace.run_start, trace.run_stop, strict=True)
        for n in range(s, e)
    }
    level: dict[int, int] = {}
    found = np.full((trace.n_blocks, instance.n_slots), -1)
    for t in range(instance.n_slots):
        for b in range(trace.n_blocks):
            if (b, t - 1) in read:
                used_at[b] = t - 1
        alive = [b for b in range(trace.n_blocks) if instance.birth_slot[b] <= t < instance.death_slot[b]]
        tiers: list[list[int]] = [[b for b in alive if policy_levels[b, t]]]
        given = [b for b in alive if b in level and level[b] == 0 and not policy_levels[b, t]]
        for k in range(1, last):
            here = given + [b for b in alive if level.get(b) == k and not policy_levels[b, t]]
            given = [b for b in here if size[b] > capacity[k]]
            here = sorted((b for b in here if size[b] <= capacity[k]), key=lambda b: (used_at[b], b))
            while sum(size[b] for b in here) > capacity[k]:
                given.append(here.pop(0))
            tiers.append(here)
        tiers.append(given + [b for b in alive if level.get(b) == last and not policy_levels[b, t]])
        for b in alive:
            if b not in level and not policy_levels[b, t]:
                k = next((k for k in range(1, last) if sum(size[i] for i in tiers[k]) + size[b] <= capacity[k]), last)
                tiers[k].append(b)
        level = {b: k for k, here in enumerate(tiers) for b in here}
        assert len(level) == len(alive)
        for b, k in level.items():
            found[b, t] = k
    return found


@settings(max_examples=100, deadline=None)
@given(instance=cascades())
def test_the_cascade_is_what_the_definition_says(instance):
    assume(np.isinf(instance.capacity_bytes[-1]) or (instance.rules.inclusive and not instance.rules.write_back))
    held = instance.states
    states = policies.simulate(instance, Random()).to_states(instance.n_slots, len(held))
    slot = np.arange(instance.n_slots)
    alive = (slot >= instance.birth_slot[:, None]) & (slot < instance.death_slot[:, None])
    level = np.where(alive, np.argmax(held, axis=1)[states], -1)
    assert level.tolist() == in_sets(instance, level == 0).tolist()
    if instance.rules.inclusive and not instance.rules.write_back:
        assert held[states].sum(axis=2).max(initial=0) <= 2


@settings(max_examples=80, deadline=None)
@given(instance=cascades(), begin=st.sampled_from(NAMES), name=st.sampled_from(NAMES))
def test_given_states_of_slot_0_are_kept(instance, begin, name):
    try:
        first = policies.simulate(instance, policies.get(begin))
        begun = instance.with_initial(first)
        placement = policies.simulate(begun, policies.get(name))
    except MethodError:
        return
    assert placement.violations(begun) == []
    if begin == name and not name.startswith("static"):
        # What a policy does from its own slot 0 is what it does anyway, unless new blocks found no room there.
        born = (instance.trace.write_step >= 0) & (instance.birth_slot == 0)
        if not born.any():
            assert placement == first


@settings(max_examples=80, deadline=None)
@given(instance=cascades(), seed=st.integers(0, 2**32 - 1))
def test_any_states_of_slot_0_will_do(instance, seed):
    """Also those with more copies than a policy ever makes; they are dropped from slot 1 on."""
    rng = np.random.default_rng(seed)
    n_states = len(instance.states)
    held = np.zeros(len(instance.capacity_bytes))
    initial = np.full(instance.trace.n_blocks, n_states - 1)
    for b in np.flatnonzero(instance.trace.write_step < 0):
        for z in rng.permutation(n_states):
            more = instance.states[z] * instance.trace.size_bytes[b]
            if (held + more <= instance.capacity_bytes).all():
                held, initial[b] = held + more, z
                break
        else:
            assume(False)
    changed = {**{f: getattr(instance, f) for f in ("trace", "platform", "rules")}, "initial": initial}
    begun = Instance(**changed)
    for policy in (policies.get("lru"), StaticOldest(), Random()):
        try:
            placement = policies.simulate(begun, policy)
        except MethodError as error:
            assert "no split" in str(error)  # noqa: PT017
            continue
        assert placement.violations(begun) == []
        if begun.n_slots > 1:
            from_1 = begun.states[placement.to_states(begun.n_slots, n_states)[:, 1:]]
            upper = from_1[:, :, :-1].sum(axis=2)
            assert upper.max(initial=0) <= 1


def test_new_blocks_of_slot_0_find_room_beside_given_states():
    trace = unit_trace(3, 2, write_step=[-1, 0, 0])
    instance = Instance(trace, platform(20, 10, np.inf), initial=np.array([0, 2, 2]))
    # Of what the policy promotes, what fits; block 0 stays, though the policy would not have it there.
    assert run(instance, {-1: [2, 1]}, {}) == [["a", "a"], ["b", "b"], ["a", "a"]]
    assert run(instance, {-1: [0, 1]}, {0: [0]}) == [["a", "c"], ["a", "a"], ["b", "b"]]
