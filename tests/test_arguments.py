"""Arguments: shorter forms mean what the long ones do, and what cannot be meant is refused by its field."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest

import kvopt
from kvopt import objective
from kvopt.arguments import amount, as_float, expect, real, whole
from kvopt.errors import InstanceError, KvoptError, PlatformError, TraceError
from kvopt.fingerprint import fingerprint
from kvopt.units import parse_amount


@pytest.fixture(scope="module")
def trace() -> kvopt.Trace:
    return kvopt.Trace(6, 2, [0, 1], [3, 4], [-1, -1], [6, 6], [0, 1, 2], [0, 1], [2, 3])


@pytest.fixture(scope="module")
def instance(trace) -> kvopt.Instance:
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200"))


@pytest.mark.parametrize(
    ("text", "number"),
    [("3MB", 3e6), ("24 GiB", 24 * 2**30), ("24e9", 24e9), ("1.5k", 1500.0), ("-2", -2.0), (" 7B ", 7.0)],
)
def test_amounts_are_read(text, number):
    assert parse_amount(text) == number
    assert amount("x", text) == number


@pytest.mark.parametrize("text", ["", "nan", "inf", "1e400", "9" * 400, "1..2", "3 parsecs", "GB", "0x10", "1_000"])
def test_what_is_no_amount_is_none(text):
    assert parse_amount(text) is None
    with pytest.raises(KvoptError, match=r"x: .* is not a number of bytes"):
        amount("x", text)


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.float32(3), np.array(3), Decimal(3), True + 2])
def test_whole_numbers_of_any_class_are_ints(value):
    assert whole("x", value, "") == 3
    assert type(whole("x", value, "")) is int
    assert real("x", value, "") == 3


@pytest.mark.parametrize("value", [True, None, "3", 3.5, math.nan, math.inf, [3], np.array([3]), 1j, 10**400, 0, -1])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(KvoptError, match=r"^x: must be "):
        whole("x", value, "Give one")


@pytest.mark.parametrize(
    "value", [True, None, "3", math.nan, math.inf, -math.inf, [3], 1j, 10**400, -1, Decimal("nan")]
)
def test_what_is_no_number_in_the_range_is_refused(value):
    with pytest.raises(KvoptError, match=r"^x: must be "):
        real("x", value, "Give one", least=0)


def test_only_a_float_is_unlimited():
    assert real("x", math.inf, "", unlimited=True) == math.inf
    with pytest.raises(KvoptError, match="must be finite"):
        real("x", 10**400, "", unlimited=True)
    assert as_float(-(10**400)) == -math.inf


def test_messages_name_class_and_value_in_short():
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(KvoptError, match=r"^field: must be an int or str, got a list \[0, 0, .*\.\.\.\. The fix$"):
        expect((int, str), "field", [0] * 1000, "The fix")
    with pytest.raises(KvoptError, match="a Odd that cannot be written"):
        expect(int, "field", Odd(), "The fix")
    assert len(str(KvoptError("f" * 10**6, "p" * 10**6, "x"))) < 5000


def test_an_instance_takes_names_mappings_and_lines(trace):
    rules = kvopt.Rules("inclusive", moves="free")
    long = kvopt.Instance(trace, kvopt.Platform.preset("gh200"), rules, 8.0, objective=0.5 * objective.worst_step())
    short = kvopt.Instance(trace, "gh200", {"copies": "inclusive", "moves": "free"}, "8 B", objective="0.5*worst_step")
    assert fingerprint(short) == fingerprint(long)
    assert short.platform == long.platform
    assert short.rules == rules


def test_a_platform_file_is_taken_by_its_path(trace, tmp_path):
    from kvopt.spec_io import shipped

    path = tmp_path / "mine.toml"
    path.write_bytes(shipped("platforms")["gh200"].read_bytes())
    for given in (path, str(path)):
        assert kvopt.Instance(trace, given).platform == kvopt.Platform.preset("gh200")


def test_bytes_may_be_written_with_units(instance):
    assert instance.with_hbm_bytes("3MB").capacity_bytes[0] == 3_000_000
    platform = instance.platform.with_capacity("5 GiB", 1)
    assert platform.tiers[1].capacity_bytes == 5 * 2**30
    assert kvopt.Tier("a", "3MB", {}, {}).capacity_bytes == 3e6
    assert kvopt.Channel("a", "4TB").bandwidth_bytes_per_s == 4e12
    lanes = kvopt.ModelSpec.preset("llama-3.1-8b").layers
    one = kvopt.Trace(2, lanes, np.zeros(1), 1, -1, 2, [0, 1], [0], [2])
    made = kvopt.Instance.from_specs("llama-3.1-8b", "gh200", one, hbm_bytes="2GB")
    assert made.capacity_bytes[0] == 2_000_000_000


def test_one_number_stands_for_all_blocks():
    accesses = {"block": [0, 1, 2, 1], "step": [0, 1, 2, 2]}
    long = kvopt.Trace.from_accesses(
        **accesses, n_steps=3, n_lanes=1, lane=[0] * 3, size_bytes=[4096] * 3, write_step=[-1] * 3, free_step=[3] * 3
    )
    short = kvopt.Trace.from_accesses(**accesses, n_steps=3, n_lanes=1, lane=0, size_bytes=4096, write_step=-1)
    text = kvopt.Trace.from_accesses(**accesses, n_steps=3, n_lanes=1, lane=[0] * 3, size_bytes="4KiB", write_step=-1)
    direct = kvopt.Trace(3, 1, 0, 4096, -1, 3, long.run_ptr, long.run_start, long.run_stop)
    for other in (short, text, direct):
        for column in ("lane", "size_bytes", "write_step", "free_step", "run_ptr", "run_start", "run_stop"):
            assert np.array_equal(getattr(other, column), getattr(long, column)), column
            assert getattr(other, column).dtype == getattr(long, column).dtype


def test_counts_are_stored_as_ints(instance, trace):
    made = kvopt.Trace(6.0, np.int64(2), trace.lane, 3, -1, 6, trace.run_ptr, trace.run_start, trace.run_stop)
    assert type(made.n_steps) is int
    assert type(made.n_lanes) is int


@pytest.mark.parametrize(
    ("ask", "error", "field"),
    [
        (lambda i: kvopt.Instance(None, "gh200"), InstanceError, "trace"),
        (lambda i: kvopt.Instance(i.trace, 3), InstanceError, "platform"),
        (lambda i: kvopt.Instance(i.trace, "gh201"), PlatformError, "platform"),
        (lambda i: kvopt.Instance(i.trace, "gh200", "inclusive"), InstanceError, "rules"),
        (lambda i: kvopt.Instance(i.trace, "gh200", {"copys": 1}), InstanceError, "rules['copys']"),
        (lambda i: kvopt.Instance(i.trace, "gh200", weight_bytes="x"), InstanceError, "weight_bytes"),
        (lambda i: kvopt.Instance(i.trace, "gh200", batch=10**400), InstanceError, "batch"),
        (lambda i: kvopt.Instance(i.trace, "gh200", objective=3), KvoptError, "objective"),
        (lambda i: kvopt.Instance(i.trace, "gh200", objective=objective.Latency), KvoptError, "objective"),
        (lambda i: kvopt.Instance(i.trace, "gh200", initial=["a", "b"]), InstanceError, "initial"),
        (lambda i: i.with_hbm_bytes("3 parsecs"), InstanceError, "hbm_bytes"),
        (lambda i: i.with_hbm_bytes([3]), InstanceError, "hbm_bytes"),
        (lambda i: i.with_objective(None), KvoptError, "objective"),
        (lambda i: i.with_initial(kvopt.solve(i, "static")), InstanceError, "initial"),
        (lambda i: kvopt.Trace("a", 1, 0, 1, -1, 1, [0, 0], [], []), TraceError, "n_steps"),
        (lambda i: kvopt.Trace(1, 1, 0, [[1]], -1, 1, [0, 0], [], []), TraceError, "size_bytes"),
        (lambda i: kvopt.Trace(1, 1, 0, 1, -1, 1, [0, 0], [], [], name=3), TraceError, "name"),
        (lambda i: kvopt.Trace(1, 1, 0, 1, -1, 1, [0, 0], [], [], provenance="x"), TraceError, "provenance"),
        (lambda i: kvopt.Trace(1, 1, [[1], [2, 3]], 1, -1, 1, [0, 0], [], []), TraceError, "lane"),
        (lambda i: i.trace.window(steps=3), TraceError, "steps"),
        (lambda i: i.trace.window(lanes=["a"]), TraceError, "lanes"),
        (lambda i: i.trace.window(blocks=[1, 0]), TraceError, "blocks"),
        (lambda i: kvopt.load_trace(None), TraceError, "trace"),
        (lambda i: i.trace.save(None), TraceError, "path"),
        (lambda i: i.trace.save(""), TraceError, "path"),
        (lambda i: i.trace.save("a\0b"), TraceError, "path"),
        (lambda i: kvopt.save_placement(kvopt.Placement.backing(i), "/"), KvoptError, "path"),
        (lambda i: kvopt.Rules(copies=[]), InstanceError, "rules.copies"),
        (lambda i: i.trace.window(blocks=[[True], 1]), TraceError, "blocks"),
        (lambda i: kvopt.Platform("p", None, ()), PlatformError, "platform 'p' tiers"),
        (lambda i: kvopt.Platform("p", ["a", "b"], ()), PlatformError, "platform 'p' tiers[0]"),
        (lambda i: kvopt.Tier("a", None, {}, {}), PlatformError, "tier 'a' capacity_bytes"),
        (lambda i: kvopt.Tier("a", 1, [], {}), PlatformError, "tier 'a' read"),
        (lambda i: kvopt.Channel(3, 1.0), PlatformError, "channel name"),
        (lambda i: kvopt.Platform.preset(None), PlatformError, "platform"),
        (lambda i: i.platform.with_capacity(1.0, 7), PlatformError, "tier"),
        (lambda i: kvopt.ModelSpec.preset([]), KvoptError, "model"),
        (lambda i: kvopt.evaluate(i, kvopt.solve(i, "static")), KvoptError, "placement"),
        (lambda i: kvopt.evaluate(i, kvopt.Placement([0, 0], [], [])), KvoptError, "placement"),
        (lambda i: kvopt.evaluate(i, kvopt.Placement([0, 1, 1], [0], [99])), KvoptError, "placement"),
        (lambda i: kvopt.Placement([0, 2], [0], [1]), KvoptError, "ptr"),
        (lambda i: kvopt.Placement([0, 1], [0.5], [1]), KvoptError, "start"),
        (lambda i: kvopt.verify(i, kvopt.bound(i, method="aggregate")), KvoptError, "certificate"),
        (lambda i: kvopt.solve(i.trace), KvoptError, "instance"),
        (lambda i: kvopt.solve(i, 3), KvoptError, "method"),
        (lambda i: kvopt.solve(i, "lru", seed="x"), KvoptError, "seed"),
        (lambda i: kvopt.solve(i, "exact", start=i), KvoptError, "start"),
        (lambda i: kvopt.solve(i, "anneal", bound=3.0), KvoptError, "bound"),
        (lambda i: kvopt.solve(i, "anneal", time_limit="x"), KvoptError, "time_limit"),
        (lambda i: kvopt.solve(i, "exact", gap="x"), KvoptError, "gap"),
        (lambda i: kvopt.solve(i, "exact", gap=True), KvoptError, "gap"),
        (lambda i: kvopt.solve(i, "anneal", windows="x"), KvoptError, "windows"),
        (lambda i: kvopt.solve(i, "anneal", refine=np.ones(2)), KvoptError, "refine"),
        (lambda i: kvopt.solve(i, "anneal", multipliers=None), KvoptError, "option 'multipliers'"),
        (lambda i: kvopt.solve(i, "guided", time_limit_s=1.0), KvoptError, "option 'time_limit_s'"),
        (lambda i: kvopt.solve(i, "page", whole=3), KvoptError, "page whole"),
        (lambda i: kvopt.solve(i, "page", all_lanes=np.ones(2)), KvoptError, "page all_lanes"),
        (lambda i: kvopt.solve(i, "reactive-flush", pooled=None), KvoptError, "reactive-flush pooled"),
        (lambda i: kvopt.solve(i, "lru", on_progress=3), KvoptError, "on_progress"),
        (lambda i: kvopt.bound(i, on_progress="x"), KvoptError, "on_progress"),
        (lambda i: kvopt.compare(i, on_progress=3), KvoptError, "on_progress"),
        (lambda i: kvopt.size(i, 1.0, on_progress=3), KvoptError, "on_progress"),
        (lambda i: kvopt.sweep(i, "hbm_bytes", [1e3], on_progress=3), KvoptError, "on_progress"),
        (lambda i: kvopt.bound(None), KvoptError, "instance"),
        (lambda i: kvopt.bound(i, method=None), KvoptError, "bound method"),
        (lambda i: kvopt.bound(i, start=kvopt.Placement.backing(i)), KvoptError, "start"),
        (lambda i: kvopt.bound(i, checkpoint=3), KvoptError, "checkpoint"),
        (lambda i: kvopt.compare(i, "lru"), KvoptError, "methods"),
        (lambda i: kvopt.compare("x"), KvoptError, "instance"),
        (lambda i: kvopt.size(i, "x"), KvoptError, "target_latency_s"),
        (lambda i: kvopt.size(i, 1.0, vary=3), KvoptError, "vary"),
        (lambda i: kvopt.sweep(i, "hbm_bytes", 3), KvoptError, "values"),
        (lambda i: kvopt.sweep(i, "hbm_bytes", [None]), KvoptError, "hbm_bytes"),
        (lambda i: kvopt.explain(i, on_progress=3), KvoptError, "on_progress"),
        (lambda i: kvopt.explain(None), KvoptError, "instance"),
        (lambda i: kvopt.explain(i, "lru", phases="x"), KvoptError, "phases"),
        (lambda i: kvopt.accepts(None), KvoptError, "instance"),
        (lambda i: kvopt.save_placement(kvopt.solve(i, "static"), "x"), KvoptError, "placement"),
        (lambda i: kvopt.Certificate.load(None, i), KvoptError, "certificate"),
        (lambda i: objective.energy(1, 2), KvoptError, "energy.read_j_per_byte"),
        (lambda i: objective.energy({"hbm": "x"}, {}), KvoptError, "energy.read_j_per_byte['hbm']"),
        (lambda i: objective.cvar("x"), KvoptError, "cvar alpha"),
        (lambda i: objective.traffic([1]), KvoptError, "traffic.channel"),
        (lambda i: objective.latency() + 3, KvoptError, "objective"),
        (lambda i: "x" * objective.latency(), KvoptError, "objective weight"),
        (lambda i: objective.WeightedSum((1, 2)), KvoptError, "objective terms"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_its_field(instance, ask, error, field):
    with pytest.raises(error) as caught:
        ask(instance)
    assert caught.value.field == field
    assert caught.value.fix
