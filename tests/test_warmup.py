"""Compiling before any clock starts: what is compiled, and how often."""

import subprocess
import sys
import textwrap
import threading

import numba
import numpy as np
import pytest
from numba.core import event

import kvopt
from kvopt import policies, preload, warmup
from kvopt.objective import worst_step
from kvopt.sources.synthetic import drifting


@pytest.fixture
def calls(monkeypatch):
    """What warming up calls, nothing of it being computed."""
    made = []
    monkeypatch.setattr(warmup, "bound_of", lambda instance, **options: made.append("bound"))
    monkeypatch.setattr(warmup, "solve", lambda instance, method, **options: made.append(method))
    monkeypatch.setattr(warmup, "_warmed", set())
    # Nothing is listed, and all is run in this process.
    monkeypatch.setattr(warmup.preload, "load", lambda what: False)
    monkeypatch.setattr(warmup.preload, "keep", lambda what, besides: None)
    monkeypatch.setattr(warmup, "is_worker", lambda: True)
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
    assert told == [warmup._NOTICE]
    with warmup._compiling(silent):
        assert twice(3) == 6


NOTHING_SOLVED = """
    import numpy as np, kvopt
    from kvopt import warmup
    from numba.core import event
    instance = kvopt.Instance(warmup._trace(np.full(8, 4096)), kvopt.Platform.preset("gh200")).with_hbm_bytes(8192)
    solved = warmup.bound_of
    def refuse(*arguments, **options):
        raise AssertionError("solved what is listed")
    warmup.bound_of = warmup.solve = refuse
    warmup.warm_up_once(print, instance, bound_only=True)
    compiled = []
    class Listener(event.Listener):
        def on_start(self, event): compiled.append(event.data["dispatcher"].py_func.__name__)
        def on_end(self, event): pass
    event.register("numba:compile", Listener())
    solved(instance, tolerance=1.0)
    print(compiled)
"""


def test_what_an_earlier_run_compiled_is_loaded_and_nothing_solved(instance):
    """By a process of its own, since this one may have called kernels of any kind."""
    warmup.warm_up_once(lambda text: None, instance, bound_only=True)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(NOTHING_SOLVED)], capture_output=True, text=True, timeout=600, check=True
    )
    assert done.stdout.split("\n")[-2] == "[]", done.stdout + done.stderr


def test_a_broken_list_is_made_again(monkeypatch, tmp_path):
    monkeypatch.setattr(preload, "_path", lambda what: tmp_path / "list.nbk")
    assert not preload.load(("x",))
    (tmp_path / "list.nbk").write_bytes(b"no pickle")
    assert not preload.load(("x",))
    listed = set()
    preload.keep(("x",), listed)
    assert preload.load(("x",))
    preload.keep(("x",), listed)
    assert preload.load(("x",))  # Of nothing, since all is in a list already.


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
