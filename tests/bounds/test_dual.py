"""The dual bound: weak duality, strength, and what a time limit leaves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt.bounds import aggregate_bound, dual_bound, verify
from kvopt.bounds.sample import thinned
from kvopt.exact import lp_bound
from kvopt.lowering import lower
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
    """Its maximum is the LP's value, as every block's path problem is integral."""
    instance = tiny_instance(np.random.default_rng(2000 + seed))
    relaxed = lp_bound(instance).value_s
    value = dual_bound(instance, tolerance=1e-7).value_s
    assert value <= relaxed * (1 + 1e-6)
    assert value >= relaxed * (1 - 3e-3)


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
    of_blocks = ("size_bytes", "lane", "first_step", "last_step", "birth_slot", "death_slot", "prefilled", "initial")
    many = replace(
        low,
        base_s=low.base_s * every,
        capacity_bytes=low.capacity_bytes * every,
        run_ptr=ptr,
        run_start=low.run_start[runs],
        run_stop=low.run_stop[runs],
        **{name: getattr(low, name)[twins] for name in of_blocks},
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
