"""Every registered policy: feasible, no better than the optimum; and what each is known by."""

import itertools

import numpy as np
import pytest
from hypothesis import assume, given, settings

from kvopt import Platform, Rules, policies
from kvopt.errors import MethodError
from kvopt.evaluate import evaluate
from kvopt.instance import Instance
from kvopt.policies.look_ahead import LookAhead
from kvopt.policies.static import StaticHottest
from kvopt.sources.synthetic import drifting
from kvopt.trace import Trace
from tests.instances import brute_force, instances, slow_latency

NAMES = ["belady", "look-ahead", "lru", "page", "reactive-flush", "static-hottest", "static-oldest"]


def splittable(instance) -> bool:
    """Whether in every slot some of the live blocks fit into the fast tier and the rest into the backing tier."""
    if instance.rules.inclusive:
        return True
    fast, backing = instance.capacity_bytes
    for slot in range(instance.n_slots):
        size = instance.trace.size_bytes[(instance.birth_slot <= slot) & (instance.death_slot > slot)]
        sums = {sum(c) for k in range(len(size) + 1) for c in itertools.combinations(size.tolist(), k)}
        if not any(s <= fast and size.sum() - s <= backing for s in sums):
            return False
    return True


def drifting_instance(share: float, copies: str = "exclusive", **changes) -> Instance:
    trace = drifting(**{"prompt_tokens": 100, "n_steps": 40, "n_lanes": 2, "read_share": 0.2, "seed": 5, **changes})
    fast = share * trace.size_bytes.sum()
    backing = trace.size_bytes.sum() - fast + 4096 if copies == "exclusive" else np.inf
    platform = Platform.preset("gh200").with_capacity(float(fast)).with_capacity(float(backing), tier=1)
    return Instance(trace, platform, Rules(copies, "read-through"))


def test_names_are_those_registered():
    assert set(NAMES) <= set(policies.names())
    for name in NAMES:
        policy = policies.get(name)
        assert isinstance(policy, policies.Policy)
        assert policy.name == name
    assert [policies.get(n).clairvoyant for n in NAMES] == [True, True, False, True, False, True, False]


def test_a_page_that_one_lane_lacks_comes_in_for_all_if_told():
    """Two lanes of 8 tokens, of which lane 0 alone reads token 5, in step 1: its page of 4 is asked for in slot 0."""
    of_blocks = {"lane": np.repeat([0, 1], 8), "size_bytes": [64] * 16, "write_step": [-1] * 16}
    read = Trace.from_accesses([5], [1], n_steps=2, n_lanes=2, **of_blocks)
    instance = Instance(read, Platform.preset("gh200"), Rules("inclusive", "read-through")).with_hbm_bytes(8 * 64.0)
    for all_lanes, pages in ((False, {4, 5, 6, 7}), (True, {4, 5, 6, 7, 12, 13, 14, 15})):
        placement = policies.simulate(instance, policies.get("page", page_tokens=4, all_lanes=all_lanes))
        held = set(np.flatnonzero(placement.to_dense(instance.n_slots)[:, 1]))
        assert held >= pages
        assert len(held) == 8


def test_lanes_that_do_not_share_the_fast_tier_keep_to_their_parts():
    instance = drifting_instance(0.3, "inclusive")
    trace = instance.trace
    part = instance.capacity_bytes[0] / trace.n_lanes
    most = {}
    for pooled in (True, False):
        placement = policies.simulate(instance, policies.get("reactive-flush", pooled=pooled))
        held = placement.to_dense(instance.n_slots)
        by_lane = [(held[trace.lane == k] * trace.size_bytes[trace.lane == k, None]).sum(axis=0) for k in range(2)]
        most[pooled] = np.max(by_lane)
    # What prefill leaves may be a block more.
    assert most[False] <= part + trace.size_bytes.max() < most[True]


def test_a_page_has_a_token_at_least():
    with pytest.raises(MethodError, match="page_tokens: must be at least 1, got 0"):
        policies.get("page", page_tokens=0)


def test_unknown_names_and_parameters_are_refused():
    with pytest.raises(MethodError, match=r"policy: there is no 'fifo'. Choose one of: belady, .*static-oldest"):
        policies.get("fifo")
    with pytest.raises(
        MethodError, match=r"policy 'look-ahead': has no parameter 'depth'. It has: window_steps, ratio"
    ):
        policies.get("look-ahead", depth=3)
    with pytest.raises(MethodError, match=r"policy 'lru': has no parameter 'name'. It has: none"):
        policies.get("lru", name="mine")


@pytest.mark.parametrize("params", [{"window_steps": 0}, {"ratio": 0.0}, {"ratio": 1.5}, {"ratio": float("nan")}])
def test_look_ahead_parameters_are_checked(params):
    with pytest.raises(MethodError, match=f"look-ahead {next(iter(params))}: must be"):
        policies.get("look-ahead", **params)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(instances())
def test_feasible_and_no_better_than_the_optimum(name, instance):
    assume(splittable(instance))
    placement = policies.simulate(instance, policies.get(name))
    assert placement.violations(instance) == []
    optimum, _ = brute_force(instance)
    assert slow_latency(instance, placement) >= optimum * (1 - 1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("copies", ["exclusive", "inclusive"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_feasible_where_the_backing_tier_is_as_good_as_full(name, copies, share):
    instance = drifting_instance(share, copies)
    placement = policies.simulate(instance, policies.get(name))
    assert placement.violations(instance) == []
    if name.startswith("static"):
        assert evaluate(instance, placement).moved_bytes == 0
    assert placement == policies.simulate(instance, policies.get(name))


def test_a_policy_object_may_be_used_again():
    one, other = drifting_instance(0.3), drifting_instance(0.1, seed=6, prompt_tokens=60)
    policy = StaticHottest()
    first = policies.simulate(one, policy)
    policies.simulate(other, policy)
    assert policies.simulate(one, policy) == first


@pytest.mark.parametrize("name", NAMES)
def test_with_room_for_all_everything_is_a_hit_or_never_moves(name):
    trace = drifting(50, 10, seed=0)
    instance = Instance(trace, Platform.preset("gh200"))
    done = evaluate(instance, policies.simulate(instance, policies.get(name)))
    assert done.kv_hit_rate == 1.0
    assert done.moved_bytes == 0


def test_static_oldest_fills_with_the_first_tokens_of_every_lane():
    instance = drifting_instance(0.1, "inclusive")  # 28 of 280 blocks: 14 tokens of each of 2 lanes.
    placement = policies.simulate(instance, policies.get("static-oldest"))
    assert placement.block.tolist() == [*range(14), *range(140, 154)]


def test_static_hottest_takes_the_most_read():
    instance = drifting_instance(0.1, "inclusive")
    trace = instance.trace
    reads = np.bincount(trace.run_block, trace.run_stop - trace.run_start, minlength=trace.n_blocks)
    placement = policies.simulate(instance, policies.get("static-hottest"))
    assert len(placement.block) == 28
    assert reads[placement.block].sum() == np.sort(reads)[-28:].sum()
    assert (placement.start == instance.birth_slot[placement.block]).all()


def test_look_ahead_promotes_no_more_than_its_ratio():
    instance = drifting_instance(0.3, "inclusive", drift=0.5)
    for ratio in (0.01, 0.1):
        done = evaluate(instance, policies.simulate(instance, LookAhead(4, ratio)))
        # A lane never has more than 140 blocks.
        assert 0 < done.up_bytes.sum(axis=0).max() <= np.ceil(140 * ratio) * 4096


def test_what_clairvoyance_is_worth():
    """The order that the literature reports for slowly drifting sets, in bytes served by the fast tier."""
    instance = drifting_instance(0.25, "inclusive", drift=0.1, prompt_tokens=300, n_steps=60)
    hit = {n: evaluate(instance, policies.simulate(instance, policies.get(n))).kv_hit_rate for n in NAMES}
    assert hit["belady"] > hit["static-hottest"] > hit["static-oldest"]
    assert hit["belady"] > hit["lru"]
    assert hit["look-ahead"] > hit["static-oldest"]
