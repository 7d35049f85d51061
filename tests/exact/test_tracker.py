"""What is kept while HiGHS runs."""

from __future__ import annotations

import time

import numpy as np
import pytest

import kvopt
from kvopt.exact.layout import Layout
from kvopt.exact.tracker import Tracker
from kvopt.lowering import lower
from tests.instances import brute_force, tiny_instance


@pytest.fixture
def instance() -> kvopt.Instance:
    """One in which the fast tier helps."""
    for seed in range(100):
        found = tiny_instance(np.random.default_rng(seed))
        backing = kvopt.Placement.backing(found)
        if not backing.violations(found) and brute_force(found)[0] < kvopt.evaluate(found, backing).latency_s:
            return found
    raise AssertionError("no such instance")


@pytest.fixture
def tracker(instance) -> Tracker:
    return Tracker(instance, Layout(lower(instance)), 2.0, time.perf_counter(), None)


def test_keeps_the_best_feasible_placement(tracker, instance):
    best_s, best = brute_force(instance)
    tracker.consider(kvopt.Placement.backing(instance), "first")
    tracker.consider(best, "better")
    tracker.consider(kvopt.Placement.backing(instance), "worse")
    life = np.arange(instance.trace.n_blocks)
    everything = kvopt.Placement.from_intervals(len(life), life, instance.birth_slot, instance.death_slot)
    tracker.consider(everything, "not feasible, or no better")
    assert tracker.best == best
    assert tracker.objective == pytest.approx(best_s, rel=1e-12, abs=0)
    assert [event.detail for event in tracker.history] == ["first", "better"]


def test_keeps_the_highest_bound_in_seconds(tracker):
    for bound in (-np.inf, 1.0, 3.0, 2.0):
        tracker.bound(bound, nodes=1)
    assert tracker.bound_value == 6.0


def test_rounding_between_claim_and_what_is_achieved_is_taken_off(tracker, instance):
    tracker.consider(kvopt.Placement.backing(instance), "achieved")
    tracker.bound(tracker.objective / 2 * (1 + 1e-8), nodes=1)  # The unit is 2 s.
    tracker.conclude("end")
    assert tracker.sound
    assert tracker.bound_value == tracker.objective
    assert tracker.history[-1].gap == 0.0
    assert tracker.history[-1].last


def test_a_claim_above_what_is_achieved_is_kept_but_told_of_as_no_bound(tracker, instance):
    tracker.consider(kvopt.Placement.backing(instance), "achieved")
    tracker.bound(tracker.objective, nodes=1)  # Twice the time achieved.
    tracker.conclude("end")
    assert not tracker.sound
    assert tracker.bound_value == 2 * tracker.objective
    assert tracker.history[-1].bound is None
