"""Certificates survive a round trip, prove the same after it, and are refused for any other instance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import Certificate, KvoptError
from kvopt.bounds import aggregate_bound, verify
from kvopt.objective import late_steps, latency, worst_step
from tests.instances import general_instance, tiny_instance

OBJECTIVES = (latency(), latency() + 30 * worst_step(), latency() + 2.0 * late_steps(1.0))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), objective=st.sampled_from(OBJECTIVES))
def test_round_trip(seed, objective, tmp_path_factory):
    instance = general_instance(np.random.default_rng(seed), objective=lambda *_: objective)
    path = tmp_path_factory.mktemp("certificates") / "proof"
    made = aggregate_bound(instance).certificate
    made.save(path, instance)
    read = Certificate.load(path, instance)
    for name in ("channel_price", "capacity_price_s_per_byte", "step_price", "late_price"):
        assert np.array_equal(getattr(read, name), getattr(made, name))
    assert verify(instance, read) == verify(instance, made)


@pytest.fixture
def instance():
    return tiny_instance(np.random.default_rng(1))


@pytest.fixture
def saved(tmp_path, instance):
    path = tmp_path / "proof.npz"
    aggregate_bound(instance).certificate.save(path, instance)
    return path


def test_another_instance_is_refused_by_what_differs(saved, instance):
    trace, platform = instance.trace, instance.platform
    reads = trace._replace(run_ptr=trace.run_ptr * 0, run_start=[], run_stop=[])
    room = platform.with_capacity(platform.tiers[0].capacity_bytes + 3)
    tier = replace(platform.tiers[1], move_out={"dram": 0.25, "link": 1.0})
    for other, message in (
        (replace(instance, trace=reads), r"its trace\.n_runs is"),
        (replace(instance, platform=room), "its capacity_bytes is"),
        (instance.with_objective(worst_step()), "its objective is"),
        (replace(instance, platform=replace(platform, tiers=(platform.tiers[0], tier))), "its reads, loads or start"),
    ):
        with pytest.raises(KvoptError, match=message):
            Certificate.load(saved, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("about"), "is no certificate"),
        (lambda found: found.update(about=np.array("[]")), "is no certificate"),
        (lambda found: found.update(about=np.array("no json")), "is no certificate"),
        (lambda found: found.update(about=np.array({}, object)), "is no certificate"),
        (lambda found: found.pop("channel_price"), "has no channel_price"),
        (lambda found: found.update(channel_price=np.array(["a"])), "channel_price in .* has dtype"),
    ],
)
def test_what_is_no_certificate_is_refused(saved, instance, change, message):
    with np.load(saved) as file:
        found = dict(file)
    change(found)
    np.savez(saved, **found)
    with pytest.raises(KvoptError, match=message):
        Certificate.load(saved, instance)


def test_what_is_no_archive_is_refused(tmp_path, saved, instance):
    with pytest.raises(KvoptError, match="certificate: cannot read"):
        Certificate.load(tmp_path / "missing.npz", instance)
    whole = saved.read_bytes()
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name, content in (("empty", b""), ("words", b"words"), ("cut", whole[: len(whole) // 2])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KvoptError, match="is no certificate"):
            Certificate.load(tmp_path / name, instance)
    with pytest.raises(KvoptError, match="is no certificate"):
        Certificate.load(tmp_path / "array.npy", instance)


def test_a_place_that_cannot_be_written_is_named(tmp_path, instance):
    with pytest.raises(KvoptError, match="path: cannot write"):
        aggregate_bound(instance).certificate.save(tmp_path / "nowhere" / "proof.npz", instance)


def test_what_was_loaded_proves_what_the_bound_said(tmp_path):
    instance = kvopt.Instance(kvopt.example_trace(), kvopt.Platform.preset("gh200")).with_hbm_bytes(3e6)
    bound = kvopt.bound(instance, time_limit=0.5)
    bound.certificate.save(tmp_path / "proof.npz", instance)
    assert kvopt.verify(instance, Certificate.load(tmp_path / "proof.npz", instance)) == bound.value
