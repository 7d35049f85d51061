"""Bounds that begin with a few lanes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import Instance, Platform, Rules
from kvopt.bounds import dual_bound, lanes
from kvopt.bounds.lanes import lanes_first, widened
from kvopt.errors import InstanceError
from kvopt.lowering import lower
from kvopt.objective import worst_step
from kvopt.result import Guide, Termination
from kvopt.sources.published import recent_and_scattered
from kvopt.sources.synthetic import drifting


@pytest.fixture
def few_are_enough(monkeypatch):
    monkeypatch.setattr(lanes, "_LEAST_RUNS", 0)


def alike(n_lanes: int, n_steps: int = 24, independent_lanes: bool = False, held: int = 70) -> Instance:
    """The published setting in small, which reads 40 to 64 tokens of each lane, and HBM for so many."""
    trace = recent_and_scattered(100, n_steps, n_lanes=n_lanes, floor=0.95, independent_lanes=independent_lanes, seed=1)
    platform = Platform.preset("fang2025").with_capacity(held * n_lanes * int(trace.size_bytes[0]))
    rules = Rules("inclusive", "read-through", "balanced")
    return Instance(trace, platform, rules, weight_bytes_per_slot=5e5)


def test_one_of_equal_lanes_proves_its_share():
    """What is held through a step pays in each lane's slot; only the borders of a stay are some slots off."""
    whole = alike(16)
    part = whole.with_lanes(1)
    asked = dual_bound(part)
    certificate = widened(asked.reached, part, whole).certificate
    assert kvopt.verify(whole, certificate) == pytest.approx(
        16 * kvopt.verify(part, asked.reached.certificate), rel=5e-3
    )


def test_each_lane_takes_the_nearest_ones_prices():
    whole = alike(6, n_steps=2)
    part = whole.with_lanes(2)
    lam, mu = np.arange(8.0).reshape(2, 4), np.array([[3.0, 6.0, 9.0, 12.0]])
    wide = widened(Guide(0.1, kvopt.Certificate(lam, mu)), part, whole).certificate
    assert wide.channel_price[0].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert wide.capacity_price_s_per_byte[0].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]


@pytest.mark.parametrize("independent_lanes", [False, True])
def test_the_bound_is_as_high_as_without(few_are_enough, monkeypatch, independent_lanes):
    whole, events = alike(8, independent_lanes=independent_lanes), []
    found = dual_bound(whole, on_progress=events.append)
    told = [event for event in events if event.detail.endswith("on 1 of 8 lanes")]
    assert told
    assert all(event.bound is None for event in told)
    assert events[-1].bound is not None
    taus = [guide.tau for guide in found.guides]
    assert taus == sorted(set(taus), reverse=True)
    assert taus[0] == 0.1
    monkeypatch.setattr(lanes, "_LEAST_LANES", 9)
    assert found.value == pytest.approx(dual_bound(whole).value, rel=2e-4)


@settings(max_examples=10, deadline=None)
@example(4651, 0.1, "exclusive")  # A lane's share is less than a block.
@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.4]), st.sampled_from(["exclusive", "inclusive"]))
def test_no_placement_is_below_it(seed, room, copies):
    """Whatever the lanes: those asked first may be nothing like the others."""
    trace = drifting(12, 10, n_lanes=8, read_share=0.3, drift=0.5, seed=seed)
    keep = np.random.default_rng(seed).random(trace.n_blocks) < np.linspace(0.05, 1, 8)[trace.lane]
    trace = trace.window(blocks=keep)
    instance = Instance(trace, Platform.preset("gh200"), Rules(copies)).with_hbm_bytes(room * trace.size_bytes.sum())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanes, "_LEAST_RUNS", 0)
        found = dual_bound(instance)
    assert found.verified
    for method in ("lru", "belady", "look-ahead"):
        assert kvopt.solve(instance, method).objective >= found.value


def test_what_a_few_lanes_prove_is_dropped_where_it_is_nothing(few_are_enough, monkeypatch):
    """HBM for less than a step reads: lanes move what they need in others' cheap slots, which a single one has not."""
    whole = alike(8, n_steps=60, held=45)
    part = whole.with_lanes(1)
    assert kvopt.verify(whole, widened(dual_bound(part).reached, part, whole).certificate) < 0
    found = dual_bound(whole)
    assert found.guides[0].tau == 0.1
    monkeypatch.setattr(lanes, "_LEAST_LANES", 9)
    assert found.value == pytest.approx(dual_bound(whole).value, rel=1e-6)


def test_ctrl_c_during_the_few_leaves_a_bound(few_are_enough):
    whole = alike(8)

    def interrupt(event):
        raise KeyboardInterrupt

    found = dual_bound(whole, on_progress=interrupt)
    assert found.termination is Termination.INTERRUPTED
    assert 0 < found.value == kvopt.verify(whole, found.certificate)


def test_a_checkpoint_goes_on_without_them(few_are_enough, tmp_path):
    whole, path, events = alike(8), tmp_path / "kept.npz", []
    before = dual_bound(whole, checkpoint=path)
    after = dual_bound(whole, checkpoint=path, on_progress=events.append)
    assert after.value >= before.value
    assert not any("lanes" in event.detail for event in events)


def test_who_asks_a_few_first(few_are_enough, monkeypatch):
    def asked(instance):
        return lanes_first(lower(instance), instance)

    assert asked(alike(8)) == 1
    assert asked(alike(7)) == 0
    assert asked(alike(8).with_objective(worst_step())) == 0
    # A lane's share must hold a block.
    block = float(alike(8).trace.size_bytes.max())
    assert asked(alike(8).with_hbm_bytes(8 * block)) == 1
    assert asked(alike(8).with_hbm_bytes(7.9 * block)) == 0
    runs = len(lower(alike(8)).run_start)
    monkeypatch.setattr(lanes, "_LEAST_RUNS", runs // 8 + 1)
    assert asked(alike(8)) == 2
    monkeypatch.setattr(lanes, "_LEAST_RUNS", runs // 4 + 1)
    assert asked(alike(8)) == 0


@pytest.mark.parametrize("count", [0, 9])
def test_lanes_there_are_not_cannot_be_had(count):
    with pytest.raises(InstanceError, match=f"lanes: there are 8, of which {count} cannot be had"):
        alike(8).with_lanes(count)
