"""One lane's answer for lanes that are all alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import Instance, Platform, Rules, Trace
from kvopt.anneal import lanes
from kvopt.anneal.lanes import lanes_alike, one_for_all, widened
from kvopt.objective import worst_step
from kvopt.result import Termination
from kvopt.sources.published import recent_and_scattered
from kvopt.sources.synthetic import drifting


@pytest.fixture
def one_is_enough(monkeypatch):
    monkeypatch.setattr(lanes, "_LEAST_RUNS", 0)


def published(n_lanes: int = 6, independent_lanes: bool = False) -> Trace:
    return recent_and_scattered(
        16, 10, n_lanes=n_lanes, read_share=0.4, floor=0.9, independent_lanes=independent_lanes, seed=2
    )


def instance_of(trace: Trace, share: float = 0.3, rules: Rules | None = None, preset: str = "gh200") -> Instance:
    instance = Instance(trace, Platform.preset(preset), rules or Rules())
    block = int(trace.size_bytes[0])
    return instance.with_hbm_bytes(trace.n_lanes * (share * trace.size_bytes.sum() // trace.n_lanes // block * block))


def repeated(trace: Trace, n_lanes: int) -> Trace:
    """A trace of one lane, read in so many."""
    counts, blocks = np.diff(trace.run_ptr), trace.n_blocks
    return trace._replace(
        n_lanes=n_lanes,
        lane=np.repeat(np.arange(n_lanes), blocks),
        run_ptr=np.concatenate([[0], np.cumsum(np.tile(counts, n_lanes))]),
        **{
            name: np.tile(getattr(trace, name), n_lanes)
            for name in ("size_bytes", "write_step", "free_step", "run_start", "run_stop")
        },
    )


@st.composite
def lives(draw) -> Trace:
    """One lane of blocks that come, and stay to the end."""
    n_steps, n_blocks = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    write = np.maximum(rng.integers(-n_steps, n_steps, n_blocks), -1)
    read = (np.arange(n_steps) >= write[:, None]) & (
        rng.random((n_blocks, n_steps)) < draw(st.sampled_from([0.2, 0.6]))
    )
    return Trace.from_accesses(
        *np.nonzero(read),
        n_steps=n_steps,
        n_lanes=1,
        lane=np.zeros(n_blocks, np.int64),
        size_bytes=np.full(n_blocks, 4096),
        write_step=write,
    )


@settings(max_examples=80, deadline=None)
@given(
    lives(),
    st.integers(1, 5),
    st.sampled_from(["lru", "belady", "look-ahead", "reactive-flush", "static-hottest"]),
    st.sampled_from(
        [
            ("gh200", Rules()),
            ("gh200", Rules("inclusive", "read-through", "balanced")),
            ("gh200", Rules("inclusive", writes="back")),
            ("gh200-cxl", Rules()),
            ("gh200-cxl", Rules("inclusive")),
        ]
    ),
    st.integers(1, 6),
)
def test_a_placement_of_one_is_one_of_all_and_takes_as_long(trace, n_lanes, policy, machine, room):
    preset, rules = machine
    platform = Platform.preset(preset).with_capacity(4096.0 * room * n_lanes)
    if preset == "gh200-cxl":
        platform = platform.with_capacity(4096.0 * 2 * room * n_lanes, tier=1)
    whole = Instance(repeated(trace, n_lanes), platform, rules)
    assert lanes_alike(whole.trace)
    part = whole.with_lanes(1)
    one = kvopt.solve(part, policy)
    wide = widened(one.placement, part, whole)
    assert wide.violations(whole) == []
    assert kvopt.evaluate(whole, wide).objective == pytest.approx(n_lanes * one.objective, rel=1e-12)


@pytest.mark.parametrize("rules", [Rules(), Rules("inclusive", "read-through", "balanced")])
def test_annealing_all_is_no_worse_than_annealing_one(one_is_enough, rules):
    whole, events = instance_of(published(), rules=rules), []
    one = kvopt.solve(whole.with_lanes(1), "anneal", seed=1, refine=False)
    every = kvopt.solve(whole, "anneal", seed=1, refine=False, on_progress=events.append)
    assert every.bound.value <= every.objective <= 6 * one.objective * (1 + 1e-12)
    assert every.placement.violations(whole) == []
    assert any(event.detail.endswith("on 1 of 6 lanes") for event in events)
    assert all(event.objective is None for event in events if "of 6 lanes" in event.detail)


def test_a_start_that_is_better_is_kept(one_is_enough, monkeypatch):
    whole = instance_of(published())
    best = kvopt.solve(whole, "anneal", refine=False)
    poor = kvopt.solve(whole.with_lanes(1), "static-oldest")
    solve = kvopt.solve
    module = __import__("sys").modules["kvopt.solve"]
    monkeypatch.setattr(
        module, "solve", lambda part, *a, **k: poor if part.trace.n_lanes == 1 else solve(part, *a, **k)
    )
    assert kvopt.solve(whole, "anneal", start=best, time_limit=2).objective <= best.objective


def test_ctrl_c_during_the_one_leaves_an_answer(one_is_enough):
    whole = instance_of(published())

    def interrupt(event):
        if event.detail.startswith("chain") and event.detail.endswith("on 1 of 6 lanes"):
            raise KeyboardInterrupt

    found = kvopt.solve(whole, "anneal", on_progress=interrupt)
    assert found.termination in (Termination.INTERRUPTED, Termination.TIME_LIMIT)
    assert found.placement.violations(whole) == []


def test_who_is_alike(one_is_enough):
    trace = published()
    assert one_for_all(instance_of(trace))
    assert not one_for_all(instance_of(published(3)))
    assert not one_for_all(instance_of(trace).with_objective(worst_step()))
    assert not one_for_all(instance_of(trace).with_initial(kvopt.solve(instance_of(trace), "lru").placement))
    read_at_last = np.bincount(trace.run_block[trace.run_stop == trace.n_steps], minlength=trace.n_blocks) > 0
    free = np.where(read_at_last, trace.n_steps, trace.n_steps - 1)
    assert lanes_alike(trace._replace(free_step=free))
    assert not one_for_all(instance_of(trace._replace(free_step=free)))
    assert not lanes_alike(published(independent_lanes=True))
    assert not lanes_alike(trace._replace(lane=trace.lane[::-1].copy()))
    assert not lanes_alike(trace.window(blocks=np.arange(trace.n_blocks) > 0))
    size = trace.size_bytes.copy()
    size[-1] += 1
    assert not lanes_alike(trace._replace(size_bytes=size))
    assert not lanes_alike(drifting(20, 10, n_lanes=4, read_share=0.3, seed=1))


def test_few_runs_or_options_of_its_own_are_annealed_at_once(monkeypatch):
    whole, events = instance_of(published()), []
    assert not one_for_all(whole)
    monkeypatch.setattr(lanes, "_LEAST_RUNS", 0)
    kvopt.solve(whole, "anneal", restarts=1, on_progress=events.append)
    assert not any("of 6 lanes" in event.detail for event in events)
