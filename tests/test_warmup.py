"""Compiling before any clock starts: what is compiled, and how often."""

import threading

import numba
import numpy as np
import pytest

import kvopt
from kvopt import warmup
from kvopt.objective import worst_step


@pytest.fixture
def calls(monkeypatch):
    """What warming up calls, nothing of it being computed."""
    made = []
    monkeypatch.setattr(warmup, "bound_of", lambda instance, **options: made.append("bound"))
    monkeypatch.setattr(warmup, "solve", lambda instance, method, **options: made.append(method))
    monkeypatch.setattr(warmup, "_warmed", set())
    return made


@pytest.fixture
def instance():
    return kvopt.Instance(warmup._trace(np.full(8, 4096)), kvopt.Platform.preset("gh200"))


def silent(text):
    raise AssertionError(text)


def test_a_bound_alone_compiles_neither_annealer_nor_policies(calls, instance):
    warmup.warm_up_once(silent, instance, bound_only=True)
    assert set(calls) == {"bound"}
    warmup.warm_up_once(silent, instance)
    assert {"anneal", "lru"} <= set(calls)


def test_each_kind_is_compiled_once(calls, instance):
    warmup.warm_up_once(silent, instance)
    count = len(calls)
    warmup.warm_up_once(silent, instance)
    warmup.warm_up_once(silent, instance, bound_only=True)
    assert len(calls) == count
    warmup.warm_up_once(silent, instance.with_objective(worst_step()))
    assert len(calls) > count


def test_only_what_is_compiled_is_told_of(monkeypatch):
    monkeypatch.setattr(warmup, "_PATIENCE_S", 0.0)
    told, heard = [], threading.Event()

    def say(text):
        told.append(text)
        heard.set()

    twice = numba.njit(lambda x: 2 * x)
    with warmup._compiling(say):
        assert twice(2) == 4
        assert heard.wait(60)
        assert twice(2.0) == 4.0
    assert told == ["compiling the numerical kernels, once (about three minutes) ..."]
    with warmup._compiling(silent):
        assert twice(3) == 6
