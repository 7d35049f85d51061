"""The named families: sizes, ratios, reproducibility, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt import instances
from kvopt.errors import InstanceError
from kvopt.evaluate import evaluate
from kvopt.solve import solve

COLUMNS = ("lane", "size_bytes", "write_step", "free_step", "run_ptr", "run_start", "run_stop")
SIZES = (1_000, 1_700, 12_345, 90_000, 400_000, 2_000_000)


@pytest.mark.parametrize("name", instances.names())
def test_sizes_are_met_and_ratios_stay(name):
    for accesses in SIZES:
        instance = instances.make(name, accesses)
        assert instance.trace.n_accesses == pytest.approx(accesses, rel=0.1)
        assert instance.capacity_bytes[0] % instance.trace.size_bytes[0] == 0
        slot = instance.trace.summary()["mean_read_bytes_per_slot"]
        step, peak = slot * instance.trace.n_lanes, instance.live_bytes.max()
        weights = instance.weight_bytes_per_slot / slot
        hbm = instance.capacity_bytes[0]
        if name.startswith("published"):
            assert hbm / peak == pytest.approx(16_600 / 41_538, rel=0.02)
            # 162.9 MB beside the mean of 0.4 times 31,300 to 41,538 tokens.
            assert weights == pytest.approx(162.9e6 / (16_384 * 0.4 * 36_419), rel=0.01)
        elif name in ("embedded", "request-log"):
            assert hbm / peak == pytest.approx({"embedded": 0.25, "request-log": 0.05}[name], rel=0.07)
            assert weights == 0
        else:
            times = {"dram-bound": 0.6, "balanced": 5, "knee": 1.5, "weights-heavy": 1.5, "three-tier": 1}[name]
            assert hbm / step == pytest.approx(times, rel=0.03)
            assert weights == pytest.approx(2.0 if name == "weights-heavy" else 0.0)
            if name == "three-tier":
                assert len(instance.capacity_bytes) == 3
                assert instance.capacity_bytes[1] / step == pytest.approx(6, rel=0.03)


@pytest.mark.parametrize("name", instances.names())
def test_name_size_and_seed_make_the_same_instance_again(name):
    one, same, other = (instances.make(name, 5_000, seed) for seed in (3, 3, 4))
    for column in COLUMNS:
        assert np.array_equal(getattr(one.trace, column), getattr(same.trace, column))
    assert (one.platform, one.rules, one.weight_bytes_per_slot) == (
        same.platform,
        same.rules,
        same.weight_bytes_per_slot,
    )
    differ = any(not np.array_equal(getattr(one.trace, c), getattr(other.trace, c)) for c in COLUMNS)
    assert differ == (name != "embedded")
    made = {key: one.trace.provenance[key] for key in ("instance", "accesses", "seed")}
    assert made == {"instance": name, "accesses": 5_000, "seed": 3}
    again = instances.make(made["instance"], made["accesses"], made["seed"])
    assert np.array_equal(again.trace.run_start, one.trace.run_start)


@pytest.mark.parametrize("name", instances.names())
def test_a_placement_can_be_found_and_judged(name):
    instance = instances.make(name, 2_000)
    found = solve(instance, "lru")
    assert evaluate(instance, found.placement).latency_s == pytest.approx(found.objective, rel=1e-12)


def test_the_middle_tier_matters():
    """Blocks of the three-tier family that no longer fit above are slower to reach, and LPDDR cannot hold them all."""
    instance = instances.make("three-tier", 100_000)
    assert sum(instance.capacity_bytes[:2]) < instance.live_bytes.max()
    slower = instance.platform.with_capacity(float(instance.trace.size_bytes[0]), tier=1)
    without = type(instance)(instance.trace, slower, instance.rules)
    assert solve(instance, "static-hottest").objective < 0.8 * solve(without, "static-hottest").objective


def test_lanes_and_steps_grow_to_the_published_size():
    # The sizes alone: the trace takes a minute.
    assert [instances._lanes(a) for a in (10**3, 4 * 10**5)] == [1, 1]
    lanes = [instances._lanes(a) for a in np.geomspace(1e3, 4.77e9, 30)]
    assert lanes == sorted(lanes)
    assert lanes[-1] == 32
    rule = instances._published_rule(10_239, 0.95)
    assert (rule.prompt_tokens, int(rule.present[-1])) == (31_299, 41_538)
    assert instances._published_accesses() == pytest.approx(4.77e9, rel=0.01)


def test_the_published_size_has_the_published_ideal_time():
    """24.596 s at 60 % sparsity in the authors' simulator: all bytes over the rates of HBM and link together."""
    weights = instances._PUBLISHED_WEIGHT_BYTES * 32 * 10_239
    ideal_s = (weights + 16_384 * instances._published_accesses()) / (4900e9 + 450e9)
    assert ideal_s == pytest.approx(24.596, rel=2e-4)


def test_copies_of_the_embedded_trace_arrive_and_leave():
    instance = instances.make("embedded", 20_000_000)
    trace = instance.trace
    assert instance.batch > 4
    assert ((trace.write_step > 0) & (trace.free_step < trace.n_steps)).any()
    example = instances.make("embedded", 1_417_110).trace
    assert example.n_runs == 657_557
    assert (example.n_steps, example.n_lanes) == (512, 6)


def test_a_size_may_be_written_as_a_float():
    for whole in (5e3, np.float64(5e3), np.int64(5_000)):
        trace = instances.make("knee", whole).trace
        assert trace.name == "knee-5000-0"
        assert trace.provenance["accesses"] == 5_000
        assert type(trace.provenance["accesses"]) is int


@pytest.mark.parametrize(
    ("arguments", "field", "words"),
    [
        (("nee",), "instance", "no family 'nee'. Choose from: published-low, .*embedded"),
        (("knee", 999), "accesses", r"1,000\.\.2,000,000,000 for 'knee', got 999"),
        (("knee", 3_000_000_000), "accesses", "Give a whole number of 1,000 to 2,000,000,000"),
        (("knee", 5e4 + 0.5), "accesses", "got 50000.5"),
        (("knee", float("nan")), "accesses", "got nan"),
        (("knee", float("inf")), "accesses", "got inf"),
        (("knee", True), "accesses", "got True"),
        (("knee", 5_000, -1), "seed", "got -1"),
        (("knee", 5_000, 2**31), "seed", "got 2147483648"),
        (("published-high", 10**10), "accesses", "4,800,000,000"),
    ],
)
def test_what_there_is_not_is_refused(arguments, field, words):
    with pytest.raises(InstanceError, match=words) as caught:
        instances.make(*arguments)
    assert caught.value.field == field
    assert caught.value.fix


def test_every_family_is_described():
    for name in instances.names():
        family = instances.describe(name)
        assert family.name == name
        assert family.description
        assert family.most_accesses >= 200_000_000
