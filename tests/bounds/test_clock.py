"""What the clock keeps of a limit."""

from __future__ import annotations

import time

import numpy as np
import pytest

from kvopt.bounds.clock import Clock
from kvopt.lowering import lower
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
