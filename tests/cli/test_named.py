"""Named instances on the command line."""

from __future__ import annotations

import json

import pytest

import kvopt
from kvopt import instances
from tests.cli.test_commands import assert_refused, run

NAMED = ("--instance", "published-high", "--accesses", "5e3", "--seed", 2)
AGGREGATE = ("--method", "aggregate", "--json", "-")


def test_the_families_are_listed():
    done = run("instances", "--json", "-")
    assert [record["name"] for record in json.loads(done.stdout)] == instances.names()
    assert "up to 4.8e+09 accesses" in run("instances").stdout


def test_a_named_instance_brings_platform_rules_capacities_and_weights():
    done = run("bound", *NAMED, *AGGREGATE)
    made = instances.make("published-high", 5_000, 2)
    assert json.loads(done.stdout)["instance"] == made.summary()


def test_what_is_given_wins():
    options = ("--platform", "gh200", "--copies", "exclusive", "--moves", "free", "--reads", "nearest", "--batch", 3)
    done = run("bound", *NAMED, *options, "--weight-bytes-per-slot", 0, *AGGREGATE)
    found, made = json.loads(done.stdout)["instance"], instances.make("published-high", 5_000, 2)
    assert (found["platform"], found["copies"], found["moves"], found["batch"]) == ("gh200", "exclusive", "free", 3)
    assert found["weight_bytes_per_slot"] == 0
    assert found["capacity_bytes"][0] == made.capacity_bytes[0]
    done = run("bound", *NAMED, "--hbm-bytes", "1MB", "--kv-bytes-per-token-layer", 4096, *AGGREGATE)
    found = json.loads(done.stdout)["instance"]
    assert found["capacity_bytes"][0] == 1e6
    assert found["trace"]["read_bytes"] == 4096 * made.trace.n_accesses


def test_the_seed_serves_instance_and_search():
    options = ("--instance", "knee", "--accesses", 2000, "--method", "lru", "--time-limit", 1, "--json", "-")
    found = [json.loads(run("solve", *options, "--seed", seed).stdout) for seed in (1, 2)]
    assert [one["instance"]["trace"]["name"] for one in found] == ["knee-2000-1", "knee-2000-2"]
    assert found[0]["rows"][0]["latency_s"] != found[1]["rows"][0]["latency_s"]


def test_trace_make_writes_what_make_makes(tmp_path):
    out = tmp_path / "log.parquet"
    done = run("trace", "make", "request-log", "--accesses", "3e3", "--seed", 1, "-o", out)
    assert f"written to {out}" in done.stdout
    want = instances.make("request-log", 3_000, 1).trace
    read = kvopt.load_trace(out)
    assert read.run_start.tolist() == want.run_start.tolist()
    assert read.provenance == want.provenance
    info = run("trace", "info", "--instance", "request-log", "--accesses", "3e3", "--seed", 1, "--json", "-")
    assert json.loads(info.stdout)["n_runs"] == want.n_runs


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (("bound", "--instance", "nee"), "instance"),
        (("bound", "--instance", "knee", "--accesses", "10"), "accesses"),
        (("bound", "--instance", "knee", "--accesses", "1000.5"), "--accesses"),
        (("bound", "--accesses", "1e4"), "--accesses"),
        (("bound", "some.parquet", "--instance", "knee"), "--instance"),
        (("trace", "info", "some.parquet", "--instance", "knee"), "--instance"),
        (("trace", "make", "nee", "-o", "x.parquet"), "instance"),
        (("trace", "make", "knee", "-o", "absent/x.parquet"), "--output"),
        (("bound", "--instance", "published-low", "--reads", "nearest", "--copies", "none"), "rules.copies"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(arguments, field, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*arguments), field)
