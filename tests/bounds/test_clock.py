"""What the clock keeps of a limit."""

from __future__ import annotations

import time

import numpy as np
import pytest

import kvopt
from kvopt.bounds import clock as clock_module
from kvopt.bounds import paths
from kvopt.bounds.clock import Clock
from kvopt.lowering import lower
from kvopt.sources.synthetic import drifting
from tests.instances import tiny_instance


@pytest.fixture
def low():
    return lower(tiny_instance(np.random.default_rng(1)))


def test_without_a_limit_everything_is_allowed(low):
    clock = Clock(low, time.perf_counter(), np.inf)
    clock.note_hard(1e6)
    assert clock.allows(1e9)


def test_what_must_follow_is_kept(low):
    clock = Clock(low, time.perf_counter(), 1000.0)
    assert clock.allows(900.0)
    clock.note_hard(100.0)
    assert not clock.allows(900.0)
    assert clock.allows(700.0)
    # The quickest counts: the first loads kernels.
    clock.note_hard(200.0)
    assert clock.allows(700.0)


def test_no_more_than_half_is_kept(low):
    clock = Clock(low, time.perf_counter(), 1000.0)
    clock.note_hard(1e6)
    assert clock.allows(400.0)
    assert not clock.allows(600.0)


def test_verification_is_kept_as_slow_as_evaluations_are(low):
    """On a machine that is as quick at them as usual, or half as quick."""
    usual_s = clock_module._RUN_S * len(low.run_start) + clock_module._TABLE_S * low.n_slots
    for slower in (1.0, 2.0):
        clock = Clock(low, time.perf_counter(), 1000.0, 100.0)
        clock.note_hard(slower * usual_s)
        assert clock.allows(995.0 - slower * 100.0)
        assert not clock.allows(1005.0 - slower * 100.0)


def test_longer_lives_more_states_and_reading_through_take_verification_longer():
    def usual_s(n_steps=100, moves="explicit"):
        trace = drifting(200, n_steps, seed=0)
        rules = kvopt.Rules("inclusive", moves)
        return paths.usual_s(kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(1e6), rules))

    assert usual_s() < usual_s(n_steps=200)
    assert usual_s() < usual_s(moves="read-through") < 3 * usual_s()
