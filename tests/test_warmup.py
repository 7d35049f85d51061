"""Compiling before any clock starts: what is compiled, and how often."""

import threading

import numba
import numpy as np
import pytest
from numba.core import event

import kvopt
from kvopt import policies, warmup
from kvopt.objective import worst_step
from kvopt.sources.synthetic import drifting


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
    assert {"anneal", *policies.shipped()} <= set(calls)


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
    assert told == ["compiling the numerical kernels, once (about six minutes) ..."]
    with warmup._compiling(silent):
        assert twice(3) == 6


def test_every_policy_of_kvopt_is_shipped():
    assert {"lru", "belady", "look-ahead", "page", "reactive-flush", "static-oldest", "static-hottest"} == set(
        policies.shipped()
    )
    assert set(policies.shipped()) <= set(policies.names())


def test_hits_are_compiled_once_for_traces_of_every_kind():
    """Written and prefilled blocks, lanes in order or not: the kernels see arrays of one kind."""
    warmup._count_hits()
    compiled = []

    class Compiling(event.Listener):
        def on_start(self, event):
            if event.data["dispatcher"].py_func.__module__.startswith("kvopt.policies"):
                compiled.append(event.data["dispatcher"])

        def on_end(self, event):
            pass

    written = drifting(12, 12, n_lanes=3, seed=1)
    mixed = kvopt.Trace.from_accesses(
        np.array([0, 1, 2]),
        np.array([1, 2, 4]),
        n_steps=5,
        n_lanes=2,
        lane=np.array([1, 0, 1]),
        size_bytes=np.ones(3),
        write_step=np.array([0, -1, 2]),
    )
    with event.install_listener("numba:compile", Compiling()):
        for trace in (written, written.window(blocks=written.write_step == -1), mixed):
            for policy in ("lru", "belady"):
                assert policies.hits(trace, 2, policy) >= 0
    assert not compiled
