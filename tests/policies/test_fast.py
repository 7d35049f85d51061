"""The compiled simulations: the placements of the loop over slots, and where they are taken."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt import Instance, Platform, Rules, Trace, policies
from kvopt.policies import get, simulate
from kvopt.policies.fast import simulation_of
from kvopt.policies.lru import Lru
from kvopt.policies.simulate import simulate_by_slots
from kvopt.sources.synthetic import drifting

NAMES = ["belady", "look-ahead", "lru", "page", "reactive-flush", "static-hottest", "static-oldest"]
OPTIONS = {
    "look-ahead": st.fixed_dictionaries(
        {"window_steps": st.integers(1, 16), "ratio": st.sampled_from([0.05, 0.3, 1.0])}
    ),
    "page": st.fixed_dictionaries(
        {"page_tokens": st.integers(1, 6), "whole": st.booleans(), "all_lanes": st.booleans()},
    ),
    "reactive-flush": st.fixed_dictionaries({"pooled": st.booleans()}),
}


@st.composite
def instances_of_one_size(draw) -> Instance:
    """Blocks that come and go, with runs that touch; the fast tier holds from one of them to all."""
    n_lanes, n_steps, n_blocks = draw(st.integers(1, 3)), draw(st.integers(1, 14)), draw(st.integers(1, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    write = np.maximum(rng.integers(-n_steps, n_steps, n_blocks), -1)
    free = np.where(rng.random(n_blocks) < 0.5, n_steps, rng.integers(np.maximum(write, 0) + 1, n_steps + 1))
    step = np.arange(n_steps)
    alive = (step >= write[:, None]) & (step < free[:, None])
    read = alive & (rng.random(alive.shape) < draw(st.sampled_from([0.1, 0.4, 0.8])))
    trace = Trace.from_accesses(
        *np.nonzero(read),
        n_steps=n_steps,
        n_lanes=n_lanes,
        lane=np.sort(rng.integers(0, n_lanes, n_blocks)),
        size_bytes=np.full(n_blocks, 7),
        write_step=write,
        free_step=free,
    )
    platform = Platform.preset("gh200").with_capacity(7.0 * draw(st.integers(1, n_blocks)) + draw(st.integers(0, 6)))
    return Instance(cut_in_two(trace, rng), platform, Rules(draw(st.sampled_from(["exclusive", "inclusive"]))))


def cut_in_two(trace: Trace, rng: np.random.Generator) -> Trace:
    """The same reads with some runs as two that touch."""
    cut = np.where(rng.random(trace.n_runs) < 0.5, (trace.run_start + trace.run_stop) // 2, trace.run_start)
    cut = np.where(cut == trace.run_start, -1, cut)
    pieces = 1 + (cut >= 0)
    start, stop = np.repeat(trace.run_start, pieces), np.repeat(trace.run_stop, pieces)
    last = np.cumsum(pieces) - 1
    start[last[cut >= 0]] = stop[last[cut >= 0] - 1] = cut[cut >= 0]
    counts = np.bincount(np.repeat(trace.run_block, pieces), minlength=trace.n_blocks)
    return trace._replace(run_ptr=np.concatenate([[0], np.cumsum(counts)]), run_start=start, run_stop=stop)


def both(instance: Instance, policy) -> tuple:
    fast = simulation_of(instance, policy)
    assert fast is not None
    return fast(instance, policy, None), simulate_by_slots(instance, policy)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None)
@given(instances_of_one_size(), st.data())
def test_placements_are_those_of_the_loop(name, instance, data):
    fast, slow = both(instance, get(name, **data.draw(OPTIONS.get(name, st.just({})))))
    assert fast == slow


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in NAMES),
        ("page", {"all_lanes": True}),
        ("page", {"all_lanes": True, "whole": False}),
        ("page", {"page_tokens": 300}),
        ("reactive-flush", {"pooled": False}),
    ],
)
@pytest.mark.parametrize("share", [0.01, 0.1, 0.2, 0.3, 0.7])
@pytest.mark.parametrize("drift", [0.05, 0.6])
def test_placements_are_those_of_the_loop_on_lanes_of_many_blocks(name, options, share, drift):
    """From less HBM than a step reads to more; lanes of more blocks than a vector batch, and not a multiple of one."""
    trace = drifting(150, 41, n_lanes=3, read_share=0.2, drift=drift, seed=3)
    instance = Instance(trace, Platform.preset("gh200")).with_hbm_bytes(share * trace.size_bytes.sum())
    fast, slow = both(instance, get(name, **options))
    assert fast == slow
    assert fast.violations(instance) == []


@pytest.mark.parametrize("rules", [Rules(), Rules("inclusive", "read-through")])
def test_lru_looks_again_at_blocks_that_join_a_slot_it_has_been_through(rules):
    """Two of three new blocks do not fit and leave; the third dies, so the first comes in without anything leaving.

    It joins the very slot that was looked through up to the third, and is what must leave a slot later.
    """
    trace = Trace.from_accesses(
        [0, 0, 1, 1, 2],
        [0, 2, 1, 2, 0],
        n_steps=3,
        n_lanes=1,
        lane=np.zeros(3, np.int64),
        size_bytes=np.full(3, 64),
        write_step=np.zeros(3, np.int64),
        free_step=np.array([3, 3, 1]),
    )
    instance = Instance(trace, Platform.preset("gh200").with_capacity(64.0), rules)
    fast, slow = both(instance, Lru())
    assert fast == slow
    assert fast.violations(instance) == []


@pytest.mark.parametrize("name", ["static-hottest", "static-oldest"])
def test_static_policies_take_blocks_of_any_size_in_any_order_of_lanes(name):
    rng = np.random.default_rng(0)
    for _ in range(60):
        n_blocks, n_steps = int(rng.integers(1, 30)), int(rng.integers(1, 12))
        write = np.maximum(rng.integers(-n_steps, n_steps, n_blocks), -1)
        free = rng.integers(np.maximum(write, 0) + 1, n_steps + 1)
        step = np.arange(n_steps)
        read = (step >= write[:, None]) & (step < free[:, None]) & (rng.random((n_blocks, n_steps)) < 0.5)
        trace = Trace.from_accesses(
            *np.nonzero(read),
            n_steps=n_steps,
            n_lanes=2,
            lane=rng.integers(0, 2, n_blocks),
            size_bytes=rng.integers(1, 9, n_blocks),
            write_step=write,
            free_step=free,
        )
        instance = Instance(trace, Platform.preset("gh200")).with_hbm_bytes(float(rng.integers(8, 60)))
        fast, slow = both(instance, get(name))
        assert fast == slow


def two_lanes(**changes) -> Trace:
    return drifting(20, 10, n_lanes=2, read_share=0.3, seed=1)._replace(**changes)


def test_the_loop_runs_where_there_is_no_compiled_simulation():
    trace = two_lanes()
    fast = Instance(trace, Platform.preset("gh200")).with_hbm_bytes(10 * 4096)
    size = np.where(np.arange(trace.n_blocks) == 3, 100, 4096)
    three = Platform.preset("gh200-cxl").with_capacity(10 * 4096)
    for instance in (
        Instance(two_lanes(size_bytes=size), fast.platform),
        Instance(two_lanes(lane=1 - trace.lane), fast.platform),
        Instance(trace, fast.platform, Rules("inclusive", writes="back")),
        Instance(trace, three),
        Instance(trace, fast.platform.with_capacity(float(51 * 4096), tier=1)),
        fast.with_initial(simulate(fast, get("lru"))),
    ):
        assert simulation_of(instance, Lru()) is None
        assert simulate(instance, Lru()) == simulate_by_slots(instance, Lru())
    assert simulation_of(fast, Lru()) is not None


def test_a_policy_derived_from_a_shipped_one_is_asked_itself():
    @dataclass
    class Lazy(Lru):
        def step(self, view):
            return view.arriving[:0], view.arriving[:0]

    instance = Instance(two_lanes(), Platform.preset("gh200")).with_hbm_bytes(10 * 4096)
    assert simulation_of(instance, Lazy()) is None
    assert simulate(instance, Lazy()) != simulate(instance, Lru())


def test_progress_and_an_interruption():
    instance = Instance(two_lanes(), Platform.preset("gh200")).with_hbm_bytes(10 * 4096)
    events = []
    policies.simulate(instance, Lru(), events.append)
    assert [e.detail for e in events] == [f"slot {slot} of 20" for slot in range(19)]

    def interrupt(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        policies.simulate(instance, Lru(), interrupt)


@pytest.mark.parametrize("name", ["belady", "look-ahead", "lru", "page", "reactive-flush"])
def test_a_full_page_is_turned_and_nothing_is_lost(name, monkeypatch):
    from kvopt.policies.kernels import log

    instance = Instance(two_lanes(), Platform.preset("gh200")).with_hbm_bytes(10 * 4096)
    whole = simulate(instance, get(name))
    monkeypatch.setattr(log, "_SPARE", 3)
    monkeypatch.setattr("kvopt.policies.fast.EVENTS", 1)
    assert simulate(instance, get(name)) == whole
