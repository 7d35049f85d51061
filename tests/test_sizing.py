"""Sizing: the true least value, found by brute force, lies between the proven and the achieved end."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt.errors import KvoptError
from kvopt.vary import axis
from tests.instances import brute_force, tiny_instance


def tiny(seed: int) -> kvopt.Instance:
    """A tiny instance whose backing tier holds everything, so that every capacity of at least a block is feasible."""
    instance = tiny_instance(np.random.default_rng(500 + seed))
    return replace(instance, platform=instance.platform.with_capacity(float("inf"), tier=1))


def check_ends(found: kvopt.Sizing, instance: kvopt.Instance, along) -> None:
    """Each end is what it claims to be."""
    if found.lower is not None and math.isfinite(found.lower):
        assert kvopt.verify(along.at(found.lower), found.certificate) > found.target_s
    if found.upper is not None:
        there = along.at(found.upper)
        assert found.result.placement.violations(there) == []
        assert kvopt.evaluate(there, found.result.placement).latency_s <= found.target_s


@pytest.mark.parametrize("seed", range(10))
def test_the_least_capacity_lies_in_the_interval(seed):
    instance = tiny(seed)
    along = axis(instance, "hbm_bytes")
    optima = {c: brute_force(along.at(c))[0] for c in range(int(along.least), int(along.most) + 1)}
    assert list(optima.values()) == sorted(optima.values(), reverse=True)
    rng = np.random.default_rng(seed)
    for target in (rng.choice(list(optima.values())) * 1.001, min(optima.values()) * 0.9):
        if target <= 0:
            continue
        found = kvopt.size(instance, float(target), time_limit=None, tolerance=1e-6)
        enough = [c for c, optimum in optima.items() if optimum <= target]
        check_ends(found, instance, along)
        if found.lower is not None:
            assert all(c > found.lower for c in enough)
        if enough:
            assert found.upper is not None
            assert found.upper >= min(enough)
        else:
            assert found.upper is None


@pytest.mark.parametrize("seed", range(6))
def test_the_least_bandwidth_lies_in_the_interval(seed):
    instance = tiny(seed)
    names = [c.name for c in instance.platform.channels]
    vary = "+".join(names[1:])
    along = axis(instance, vary)
    target = brute_force(instance)[0] * 1.2
    if target <= 0:
        return
    found = kvopt.size(instance, target, vary=vary, time_limit=None, tolerance=0.05)
    check_ends(found, instance, along)
    assert found.unit == "bytes_per_s"
    if found.lower is not None:
        assert brute_force(along.at(found.lower))[0] > target
    assert found.upper is not None
    assert brute_force(along.at(found.upper))[0] <= target * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_the_least_backing_capacity_lies_in_the_interval(seed):
    """The smaller the backing tier, the more blocks must be in the fast one."""
    instance = tiny(seed)
    if instance.rules.inclusive:
        return
    along = axis(instance, "backing_bytes")
    optima = {}
    for capacity in range(int(along.least), int(along.most) + 1):
        try:
            optima[capacity] = brute_force(along.at(capacity))[0]
        except (ValueError, KvoptError):
            optima[capacity] = math.inf
    target = float(np.median([o for o in optima.values() if o < math.inf])) * 1.001
    if target <= 0:
        return
    found = kvopt.size(instance, target, vary="backing_bytes", time_limit=None, tolerance=1e-6)
    enough = [c for c, optimum in optima.items() if optimum <= target]
    check_ends(found, instance, along)
    assert found.upper >= min(enough)
    assert found.lower is None or found.lower < min(enough)


def test_interrupted_it_returns_what_is_in_hand():
    instance = tiny(3)
    calls = 0

    def interrupt(_end, _event):
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt

    found = kvopt.size(instance, brute_force(instance)[0], time_limit=None, on_progress=interrupt)
    assert found.termination is kvopt.Termination.INTERRUPTED
    check_ends(found, instance, axis(instance, "hbm_bytes"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"target_latency_s": 0.0}, "target_latency_s: must be finite and greater than 0"),
        ({"target_latency_s": float("nan")}, "target_latency_s: must be finite"),
        ({"target_latency_s": 1.0, "vary": "smoke"}, "vary: there is no channel 'smoke'"),
        ({"target_latency_s": 1.0, "tolerance": 0.0}, "tolerance: must be finite"),
        ({"target_latency_s": 1.0, "time_limit": -1.0}, "time_limit: must be finite"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(KvoptError, match=message):
        kvopt.size(tiny(1), **arguments)
    if "vary" in arguments:
        channel = tiny(1).platform.channels[0].name
        with pytest.raises(KvoptError, match="is named twice"):
            kvopt.size(tiny(1), 1.0, vary=f"{channel}+{channel}")


def test_other_objectives_are_refused():
    from kvopt.objective import latency

    with pytest.raises(KvoptError, match="is not the decode time"):
        kvopt.size(tiny(1).with_objective(2.0 * latency()), 1.0)
