"""What cannot matter must not lower the bound: tiers, channels and capacity that no placement gains by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import Channel, Instance
from kvopt.bounds.merge import merged
from kvopt.bounds.spare import spare_tiers
from kvopt.exact import lp_bound
from kvopt.lowering import lower
from tests.instances import RULES, brute_force, general_instance, instances

_SHARE = 1e-3


def with_tier(instance: Instance, capacity: float, *, slower: float = 1.0, count: int = 1) -> Instance:
    """The instance with tiers above the backing one that are slower copies of it."""
    platform, last = instance.platform, instance.platform.tiers[-1]
    loads = {
        role: {channel: slower * load for channel, load in getattr(last, role).items()}
        for role in ("read", "write", "move_out")
    }
    more = tuple(replace(last, name=f"useless {n}", capacity_bytes=capacity, **loads) for n in range(count))
    return replace(instance, platform=replace(platform, tiers=(*platform.tiers[:-1], *more, last)), initial=None)


def with_channel(instance: Instance, bandwidth: float, load: float) -> Instance:
    """The instance with a channel that every tier loads a little."""
    tiers = tuple(
        replace(tier, **{role: {**getattr(tier, role), "useless": load} for role in ("read", "write", "move_out")})
        for tier in instance.platform.tiers
    )
    channels = (*instance.platform.channels, Channel("useless", bandwidth))
    return replace(instance, platform=replace(instance.platform, tiers=tiers, channels=channels))


@pytest.fixture(scope="module", params=[("request-log", 5_000), ("knee", 20_000)])
def known(request) -> tuple[Instance, float]:
    instance = kvopt.instances.make(*request.param, 1)
    return instance, kvopt.bound(instance).value


@pytest.mark.parametrize("blocks", [0.9, 1.0, 30.0])
def test_a_copy_of_the_backing_tier_lowers_no_bound(known, blocks):
    instance, value = known
    more = with_tier(instance, blocks * float(instance.trace.size_bytes.max()))
    assert kvopt.bound(more).value == pytest.approx(value, rel=_SHARE)


def test_unused_bytes_lower_no_bound():
    """A whole number of blocks is all that is used of a tier."""
    instance = kvopt.instances.make("knee", 20_000, 1)
    size = int(instance.trace.size_bytes.max())
    more = instance.with_hbm_bytes(instance.capacity_bytes[0] + size - 1)
    assert kvopt.bound(more).value == kvopt.bound(instance).value


@settings(deadline=None, max_examples=15)
@given(instances(), st.sampled_from([1.0, 3.0, 1e12]), st.sampled_from([1.0, 2.0]), st.integers(1, 2))
def test_slower_copies_lower_no_bound(instance, capacity, slower, count):
    instance = replace(instance, platform=instance.platform.with_capacity(float("inf"), tier=1))
    more = with_tier(instance, capacity, slower=slower, count=1 if instance.rules.inclusive else count)
    value = kvopt.bound(instance).value
    found = kvopt.bound(more)
    assert found.value == pytest.approx(value, rel=_SHARE, abs=1e-12)
    assert kvopt.verify(more, found.certificate) == found.value


@settings(deadline=None, max_examples=15)
@given(instances(), st.sampled_from([(1e9, 0.0), (1e18, 1.0), (1.0, 1e-12)]))
def test_channels_that_never_decide_lower_no_bound(instance, channel):
    value = kvopt.bound(instance).value
    assert kvopt.bound(with_channel(instance, *channel)).value == pytest.approx(value, rel=_SHARE, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_tiers_found_spare_change_no_optimum(seed):
    """With the tier or without, and the bound is a bound."""
    instance = general_instance(np.random.default_rng(seed), n_tiers=2, given_start=False)
    if instance.rules.balanced:
        instance = replace(instance, rules=replace(instance.rules, reads="nearest"))
    more = with_tier(instance, 5.0)
    assert spare_tiers(merged(lower(more)))[1] == np.isinf(lower(instance).capacity_bytes[-1])
    optimum = brute_force(more)[0]
    assert kvopt.bound(more).value <= optimum * (1 + 1e-9) + 1e-12
    if np.isinf(lower(instance).capacity_bytes[-1]):
        assert optimum == pytest.approx(brute_force(instance)[0], rel=1e-9)


def test_a_tier_that_is_better_at_anything_is_not_spare():
    instance = kvopt.instances.make("three-tier", 5_000, 1)
    assert not spare_tiers(lower(instance)).any()
    quick = with_tier(instance, 1e6, slower=0.99)
    assert not spare_tiers(lower(quick)).any()


@pytest.mark.parametrize("seed", [46, 47, 86, 178, 190])
def test_an_instance_without_reads_may_cost_something(seed):
    """Writes and moves on channels orders of magnitude apart, whose bound is 0 for some temperatures."""
    rng = np.random.default_rng(seed)
    drawn = general_instance(rng, rules=RULES[seed % len(RULES)])
    trace, platform = drawn.trace, drawn.platform
    unread = kvopt.Trace.from_accesses(
        [],
        [],
        n_steps=trace.n_steps,
        n_lanes=trace.n_lanes,
        **{name: getattr(trace, name) for name in ("lane", "size_bytes", "write_step", "free_step")},
    )
    faster = 10.0 ** rng.uniform(-1, 9, len(platform.channels))
    channels = tuple(
        replace(channel, bandwidth_bytes_per_s=channel.bandwidth_bytes_per_s * times)
        for channel, times in zip(platform.channels, faster, strict=True)
    )
    instance = replace(drawn, trace=unread, platform=replace(platform, channels=channels), weight_bytes_per_slot=0.0)
    relaxed = lp_bound(instance).value
    assert relaxed > 0
    assert relaxed * (1 - 3e-3) <= kvopt.bound(instance).value <= relaxed * (1 + 1e-6)


def test_an_instance_that_costs_nothing_ends_at_nothing():
    """Whatever is written fits where writing loads no channel."""
    trace = kvopt.Trace.from_accesses([], [], n_steps=3, n_lanes=1, lane=[0], size_bytes=[4], write_step=[1])
    platform = kvopt.Platform(
        "free",
        (kvopt.Tier("fast", 8.0, {"bus": 1.0}, {}), kvopt.Tier("slow", 8.0, {"link": 1.0}, {"link": 1.0})),
        (Channel("bus", 1.0), Channel("link", 1.0)),
    )
    assert kvopt.bound(Instance(trace, platform)).value == 0.0
