"""The dual bound: weak duality, strength, and what a time limit leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt.bounds import aggregate_bound, dual_bound, verify
from kvopt.bounds.ascent import Ascent
from kvopt.bounds.clock import Clock
from kvopt.bounds.sample import thinned, thinning
from kvopt.errors import KvoptError, MethodError
from kvopt.exact import lp_bound
from kvopt.lowering import OF_BLOCKS, lower
from kvopt.result import Role, Termination
from kvopt.sources.synthetic import drifting
from kvopt.trellis import Trellis, hard_minimum
from tests.benchmarks.regimes import regime
from tests.instances import brute_force, tiny_instance


@pytest.mark.parametrize("seed", range(60))
def test_weak_duality(seed):
    instance = tiny_instance(np.random.default_rng(1000 + seed))
    bound = dual_bound(instance)
    assert bound.value_s <= brute_force(instance)[0] * (1 + 1e-12)
    assert bound.value_s >= aggregate_bound(instance).value_s * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(25))
def test_reaches_the_linear_relaxation(seed):
    """Its maximum is the LP's value, as every block's path problem is integral; also where blocks are too large for
    tiers."""
    instance = tiny_instance(np.random.default_rng(2000 + seed))
    relaxed = lp_bound(instance).value_s
    value = dual_bound(instance, tolerance=1e-7).value_s
    assert value <= relaxed * (1 + 1e-6)
    assert value >= relaxed * (1 - 3e-3)


def test_no_bound_is_below_zero():
    """Nothing is read, and what rounding leaves of rents that meet would be below it; so is what is cut short."""
    rates = {"fast": 2.5, "bus": 5.0, "far": 2.0}
    tiers = (
        kvopt.Tier("none", 0.0, {"fast": 1.0}, {"fast": 3.0}),
        kvopt.Tier("near", 5.0, {"bus": 1.0}, {"bus": 1.5}),
        kvopt.Tier("far", 6.0, {"far": 1.0}, {"far": 2.0}),
    )
    platform = kvopt.Platform("two shelves", tiers, tuple(kvopt.Channel(*rate) for rate in rates.items()))
    still = kvopt.Trace(1, 2, [1, 1], [4, 6], [-1, -1], [1, 1], [0, 0, 0], [], [])
    bound = dual_bound(kvopt.Instance(still, platform))
    assert bound.value == 0
    assert verify(kvopt.Instance(still, platform), bound.certificate) == 0
    for seed in range(5):
        assert dual_bound(tiny_instance(np.random.default_rng(seed)), time_limit_s=1e-9).value >= 0


@pytest.fixture(scope="module")
def drifted() -> kvopt.Instance:
    trace = drifting(150, 40, n_lanes=2, read_share=0.3, drift=0.3, seed=3)
    share = 0.25 * trace.summary()["peak_live_bytes"]
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(share)


def test_certificate_is_verified_and_re_verifies(drifted):
    bound = dual_bound(drifted)
    assert bound.role is Role.CERTIFIED
    assert bound.verified
    assert verify(drifted, bound.certificate) == bound.value_s
    assert bound.value_s > aggregate_bound(drifted).value_s


def test_history_rises_and_threads_do_not_matter(drifted):
    events = []
    bound = dual_bound(drifted, on_progress=events.append, threads=1)
    values = [event.bound for event in events]
    assert values == sorted(values)
    assert tuple(events) == bound.history
    assert dual_bound(drifted, threads=2).value_s == bound.value_s


def test_a_time_limit_leaves_a_valid_bound(drifted):
    bound = dual_bound(drifted, time_limit_s=1e-6)
    assert bound.termination is Termination.TIME_LIMIT
    assert bound.verified
    assert bound.value_s >= aggregate_bound(drifted).value_s * (1 - 1e-9)


def test_interrupted_ascent_keeps_the_best(drifted):
    def interrupt(event):
        raise KeyboardInterrupt

    bound = dual_bound(drifted, on_progress=interrupt)
    assert bound.termination is Termination.INTERRUPTED
    assert bound.verified


def test_starting_from_a_certificate_never_ends_below_it(drifted):
    first = dual_bound(drifted)
    again = dual_bound(drifted, start=first.certificate, time_limit_s=0.5)
    assert again.value_s >= first.value_s * (1 - 1e-9)


def test_nothing_read_is_bounded_by_zero():
    trace = kvopt.Trace.from_accesses([], [], n_steps=2, n_lanes=1, lane=[0], size_bytes=[8], write_step=[-1])
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200"))
    assert dual_bound(instance).value_s == 0.0


def test_more_capacity_never_raises_the_bound(drifted):
    values = [
        dual_bound(replace(drifted).with_hbm_bytes(share * drifted.capacity_bytes[0])).value_s
        for share in (0.5, 1.0, 2.0)
    ]
    assert values[0] >= values[1] * (1 - 1e-3) >= values[2] * (1 - 2e-3)


@pytest.mark.parametrize("every", [2, 3])
def test_a_sample_of_copies_is_the_whole_at_a_share(every):
    """Where each block has equal ones beside it, the dual of a sample is the dual of all times its share."""
    rng = np.random.default_rng(every)
    low = lower(regime("knee", 1_000))
    twins = np.repeat(np.arange(low.n_blocks), every)
    counts = np.diff(low.run_ptr)[twins]
    ptr = np.concatenate([[0], np.cumsum(counts)])
    runs = np.repeat(low.run_ptr[twins] - ptr[:-1], counts) + np.arange(ptr[-1])
    many = replace(
        low,
        base_s=low.base_s * every,
        capacity_bytes=low.capacity_bytes * every,
        run_ptr=ptr,
        run_start=low.run_start[runs],
        run_stop=low.run_stop[runs],
        **{name: getattr(low, name)[twins] for name in ("size_bytes", *OF_BLOCKS)},
    )
    part, share = thinned(many, every)
    assert share == pytest.approx(1 / every)
    lam = rng.dirichlet(np.ones(low.n_channels), low.n_slots).T
    mu = np.zeros((2, low.n_slots))
    mu[0] = rng.random(low.n_slots) * low.op_s_per_byte.max()
    values = []
    for one in (many, part):
        trellis = Trellis(one)
        prices = trellis.prices(lam, mu)
        values.append(prices.constant + hard_minimum(trellis, prices).sum())
    assert values[1] == pytest.approx(values[0] * share, rel=1e-9)


@pytest.fixture
def thin(monkeypatch):
    """Samples also of small instances."""
    monkeypatch.setattr("kvopt.bounds.sample._LEAST_RUNS", 50)
    monkeypatch.setattr("kvopt.bounds.sample._LEAST_GUIDING_RUNS", 50)
    monkeypatch.setattr("kvopt.bounds.sample._LEAST_RUNS_PER_SLOT", 1.0)
    monkeypatch.setattr("kvopt.bounds.sample._RUNS_PER_SLOT", 0.02)


def test_samples_grow_as_it_gets_colder(drifted, thin):
    low = lower(drifted)
    ladder = [thinning(low, tau) for tau in (0.1, 0.02, 0.005, 0.0001)]
    assert ladder[0] > 1
    assert ladder == sorted(ladder, reverse=True)
    assert ladder[-1] == 1


def test_a_bound_by_way_of_samples_holds(drifted, thin):
    events = []
    bound = dual_bound(drifted, on_progress=events.append)
    assert any("1 block in" in event.detail for event in events)
    relaxed = lp_bound(drifted).value_s
    assert relaxed * (1 - 2e-3) <= bound.value_s <= relaxed * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_weak_duality_by_way_of_samples(seed, thin):
    instance = tiny_instance(np.random.default_rng(3000 + seed))
    assert dual_bound(instance).value_s <= brute_force(instance)[0] * (1 + 1e-12)


def test_goes_on_from_a_checkpoint(drifted, tmp_path):
    path = tmp_path / "kept.npz"

    def interrupt(event):
        if event.detail.startswith("tau 0.0031"):
            raise KeyboardInterrupt

    first = dual_bound(drifted, checkpoint=path, on_progress=interrupt)
    assert first.termination is Termination.INTERRUPTED
    assert verify(drifted, kvopt.Certificate.load(path, drifted)) == first.value_s
    events = []
    again = dual_bound(drifted, checkpoint=path, on_progress=events.append)
    assert events[0].detail.startswith("tau 0.0031")
    assert again.value_s >= first.value_s
    assert again.value_s == pytest.approx(dual_bound(drifted).value_s, rel=1e-4)


def test_a_checkpoint_of_another_instance_is_refused(drifted, tmp_path):
    path = tmp_path / "kept.npz"
    dual_bound(drifted, checkpoint=path, time_limit_s=0.1)
    with pytest.raises(KvoptError, match=r"checkpoint: .*another instance: its capacity_bytes"):
        dual_bound(drifted.with_hbm_bytes(2 * drifted.capacity_bytes[0]), checkpoint=path)
    first = dual_bound(drifted, time_limit_s=0.1)
    first.certificate.save(path, drifted)
    with pytest.raises(KvoptError, match="is a certificate, no checkpoint"):
        dual_bound(drifted, checkpoint=path)


def test_a_gap_to_the_target_ends_it(drifted):
    best = dual_bound(drifted)
    found = dual_bound(drifted, target_s=best.value_s, gap=0.05)
    assert found.termination is Termination.FINISHED
    assert best.value_s / 1.05 <= found.value_s <= best.value_s * (1 + 1e-9)
    assert len(found.history) < len(best.history)
    for options in ({"gap": 0.05}, {"gap": -0.1, "target_s": 1.0}, {"gap": np.nan, "target_s": 1.0}):
        with pytest.raises(MethodError, match="gap"):
            dual_bound(drifted, **options)


def test_a_slot_never_loses_all_its_prices(drifted):
    """Where a step leads to 0 on every channel, lambda would be 0 / 0 and its slope infinite."""
    low = lower(drifted)
    ascent = Ascent(low, Trellis(low), 1.0, Clock(low, 0.0, np.inf))
    rng = np.random.default_rng(0)
    before = rng.random(ascent.n_prices + ascent.n_rents) + 0.1
    x = before * (rng.random(len(before)) < 0.5) * 10.0 ** rng.integers(-9, 1, len(before))
    tried = x.copy()
    ascent.admit(tried, before)
    nu, old, was = (v[: ascent.n_prices].reshape(low.n_channels, low.n_slots) for v in (tried, x, before))
    assert (nu.sum(axis=0) >= 0.1 - 1e-12).all()
    assert (tried[ascent.n_prices :] == x[ascent.n_prices :]).all()
    gone = old.sum(axis=0) < 0.01
    assert gone.any()
    assert (nu[:, gone] == was[:, gone]).all()
    assert nu[:, ~gone] / nu[:, ~gone].sum(axis=0) == pytest.approx(old[:, ~gone] / old[:, ~gone].sum(axis=0))


def test_goes_on_from_an_earlier_bound(drifted):
    events = []
    first = dual_bound(drifted, tolerance=1e-2)
    again = dual_bound(drifted, start=first, on_progress=events.append)
    whole = dual_bound(drifted)
    assert first.reached.tau <= first.guides[-1].tau
    # Neither below what it starts from nor from the start anew: fewer temperatures are left, and all guides are there.
    assert again.value >= first.value
    assert again.value == pytest.approx(whole.value, rel=1e-4)
    assert len(events) < len(whole.history)
    taus = [guide.tau for guide in again.guides]
    assert taus == sorted(taus, reverse=True)
    assert taus == [guide.tau for guide in whole.guides][: len(taus)]
