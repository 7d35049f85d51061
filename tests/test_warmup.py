"""Compiling before any clock starts: what is compiled, and how often."""

import numpy as np
import pytest

import kvopt
from kvopt import warmup
from kvopt.objective import worst_step


@pytest.fixture
def calls(monkeypatch):
    """What warming up calls, nothing of it being computed."""
    made = []
    monkeypatch.setattr(kvopt, "bound", lambda instance, **options: made.append("bound"))
    monkeypatch.setattr(kvopt, "solve", lambda instance, method, **options: made.append(method))
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
