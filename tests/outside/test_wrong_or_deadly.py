"""Inputs that once gave wrong numbers or ended the process, with the right answers."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import kvopt
from kvopt import Certificate, Channel, Instance, KvoptError, Platform, Tier, Trace
from kvopt.cli import main
from kvopt.policies import hits
from kvopt.result import SolutionStatus, Termination
from kvopt.sources.request_log import import_mooncake

DATA = Path(__file__).parent / "data"


def in_a_process(code: str, *arguments: str) -> subprocess.CompletedProcess:
    """The finished run of some code in a process of its own, which may die."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


ZERO_TIERS = """
    import json, sys, kvopt
    from kvopt import Channel, Instance, Platform, Tier, Trace
    B, N, caps, runs = json.loads(sys.argv[1])
    channels = (Channel("hbm", 1.0), Channel("link", 1.0))
    loads = [{"hbm": 1.0}] + [{"link": 1.0}] * (len(caps) - 1)
    tiers = tuple(Tier(f"t{k}", float(c), load, load) for k, (c, load) in enumerate(zip(caps, loads)))
    ptr = [len(runs) * i for i in range(B + 1)]
    starts, stops = [r[0] for r in runs] * B, [r[1] for r in runs] * B
    trace = Trace(N, 1, [0] * B, [1] * B, [-1] * B, [N if runs else 1] * B, ptr, starts, stops)
    instance = Instance(trace, Platform("p", tiers, channels))
    print(json.dumps([kvopt.bound(instance).value, *(kvopt.solve(instance, m).objective for m in
        ("exact", "anneal", "lru", "belady", "look-ahead", "static-oldest", "static-hottest"))]))
"""


@pytest.mark.parametrize(
    ("blocks", "steps", "capacities", "runs", "optimum", "relaxed"),
    [
        (1, 3, (1, 0), [], 0.0, 0.0),
        (1, 3, (1, 0, 1), [], 0.0, 0.0),
        (2, 4, (1, 0, 5), [(0, 2)], 2.0, 2.0),
        (3, 3, (2, 0, math.inf), [(0, 3)], 6.0, 4.5),
        (2, 3, (0, math.inf), [(0, 3)], 6.0, 6.0),
        (2, 3, (0.5, math.inf), [(0, 3)], 6.0, 6.0),
    ],
)
def test_tiers_that_hold_nothing(blocks, steps, capacities, runs, optimum, relaxed):
    """Blocks split over two channels take as long as the slower; a bound may split them in parts."""
    done = in_a_process(ZERO_TIERS, json.dumps([blocks, steps, capacities, runs]))
    assert done.returncode == 0, done.stderr
    bound, exact, *others = json.loads(done.stdout)
    assert exact == pytest.approx(optimum, abs=1e-12)
    assert bound <= optimum + 1e-12
    assert bound == pytest.approx(relaxed, rel=1e-3, abs=1e-12)
    assert all(other >= optimum - 1e-12 for other in others)


def test_a_backing_tier_of_less_than_a_byte_is_refused():
    done = CliRunner().invoke(main, ["bound", "--backing-bytes", "0.5", "--hbm-bytes", "1MB", "--time-limit", "4"])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: capacity_bytes: ")


def test_one_byte_over_costs_no_report():
    path = str(DATA / "one_byte_over.parquet")
    arguments = ["compare", path, "--hbm-bytes", "100e9", "--methods", "lru,anneal,exact", "--time-limit", "5"]
    done = CliRunner().invoke(main, [*arguments, "--json", "-"])
    assert done.exit_code == 0, done.output
    rows = {row["method"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["anneal"]["latency_s"] == pytest.approx(0.075)
    exact = rows["exact"]
    assert exact["latency_s"] == pytest.approx(0.075) or exact["error"]


@pytest.mark.parametrize("backend", ["arrays", "pyomo"])
@pytest.mark.parametrize("large", [10**4, 10**6, 10**7, 10**8, 10**9, 10**12])
def test_exact_is_optimal_or_does_not_claim_it(backend, large):
    """Of a large block and three small ones; found by trying all placements, the optimum is known for any size."""
    channel = (Channel("c", 2.0),)
    fast = Tier("fast", float(large), {}, {"c": 2.0}, {})
    back = Tier("back", large + 21.0, {"c": 1.0}, {"c": 2.0}, {"c": 1.0})
    trace = Trace(5, 1, [0] * 4, [6, 14, large, 1], [3, -1, 2, 4], [5] * 4, [0, 1, 2, 3, 4], [4, 1, 2, 4], [5, 5, 3, 5])
    instance = Instance(trace, Platform("p", (fast, back), channel), initial=[1, 0, 1, 1])
    methods = ("lru", "static-hottest", "belady", "look-ahead", "anneal")
    best = min(kvopt.solve(instance, method).objective for method in methods)
    found = kvopt.solve(instance, "exact", backend=backend, time_limit=20)
    assert found.objective <= best * (1 + 1e-9)
    if found.solution_status is SolutionStatus.OPTIMAL:
        assert found.bound.value <= found.objective * (1 + 1e-6)
    assert found.termination is not Termination.INFEASIBLE


@pytest.mark.parametrize("family", ["request-log", "three-tier"])
@pytest.mark.parametrize("capacity", [0.0, 1.0, 1e3])
def test_a_tier_that_holds_no_block_does_not_loosen_the_bound(family, capacity):
    instance = kvopt.instances.make(family, 20_000, 1)
    platform = instance.platform
    assert capacity < instance.trace.size_bytes.min()
    useless = replace(platform.tiers[-1], name="useless", capacity_bytes=capacity)
    tiers = (*platform.tiers[:-1], useless, platform.tiers[-1])
    more = replace(instance, platform=replace(platform, tiers=tiers))
    without = kvopt.bound(instance, time_limit=8)
    mu = without.certificate.capacity_price_s_per_byte
    same = Certificate(without.certificate.channel_price, np.insert(mu, len(mu) - 1, 0.0, axis=0))
    assert kvopt.verify(more, same) <= without.value * (1 + 1e-9)
    assert kvopt.bound(more, time_limit=8).value >= without.value * (1 - 1e-3)


@pytest.mark.parametrize(
    ("size", "blocks", "capacities"),
    [
        (4 * 10**18, 4, (5e18, 6e18)),
        (4 * 10**18, 4, (5e18, math.inf)),
        (2**62, 2, (2.0**62, math.inf)),
        (2**62, 5, (2.0**62, 2.0**62)),
    ],
)
def test_totals_beyond_64_bits_are_refused(size, blocks, capacities):
    channels = (Channel("hbm", 4e12), Channel("link", 1e12))
    fast = Tier("a", capacities[0], {"hbm": 1.0}, {"hbm": 1.0})
    back = Tier("b", capacities[1], {"link": 1.0}, {"link": 1.0})
    blocks_of = {"lane": [0] * blocks, "size_bytes": [size] * blocks, "write_step": [-1] * blocks}
    reads = {"run_ptr": range(blocks + 1), "run_start": [0] * blocks, "run_stop": [2] * blocks}

    def made():
        trace = Trace(2, 1, **blocks_of, free_step=[2] * blocks, **reads)
        return Instance(trace, Platform("p", (fast, back), channels))

    with pytest.raises(KvoptError, match="size_bytes"):
        made()


def test_totals_beyond_64_bits_in_a_file_are_refused():
    path = str(DATA / "int64_overflow.parquet")
    done = CliRunner().invoke(main, ["bound", path, "--method", "aggregate", "--hbm-bytes", "6e18"])
    assert done.exit_code == 2
    assert "size_bytes" in done.stderr


def test_a_request_for_a_block_that_is_new_is_a_miss():
    """Three requests for two blocks each: all but the first two find them."""
    trace = import_mooncake(DATA / "first_write_is_a_miss.jsonl")
    assert trace.n_accesses == 4
    assert trace.n_block_requests == 6
    assert hits(trace, 10) == hits(trace, 10, "belady") == 4


def test_a_log_of_another_block_size_is_refused_naming_it(tmp_path):
    log, out = str(DATA / "bailian_block16.jsonl"), str(tmp_path / "o.parquet")
    done = CliRunner().invoke(main, ["trace", "import", "mooncake", log, "-o", out])
    assert done.exit_code == 2
    assert "--block-tokens 16" in done.stderr
    told = ["--block-tokens", "16", "--time-unit", "s"]
    done = CliRunner().invoke(main, ["trace", "import", "mooncake", log, "-o", out, *told])
    assert done.exit_code == 0, done.output
    trace = kvopt.load_trace(out)
    assert trace.size_bytes.sum() == pytest.approx(99.6e6, rel=1e-3)
    assert "Apache" not in str(dict(trace.provenance))


@pytest.mark.parametrize(
    "name",
    [
        "mooncake_crlf.jsonl",
        "mooncake_bom.jsonl",
        "mooncake_gz.jsonl.gz",
        "mooncake_iso_ts.jsonl",
        "mooncake_unsorted.jsonl",
        "mooncake_session_delay.jsonl",
        "hashes_hex.jsonl",
        "hashes_u64.jsonl",
    ],
)
def test_logs_in_forms_of_the_field_come_in(name):
    assert import_mooncake(DATA / name).n_blocks >= 1


@pytest.mark.parametrize(
    "name", ["mooncake_no_hash_ids.jsonl", "mooncake_text_input.jsonl", "mooncake_truncated.jsonl"]
)
def test_logs_without_what_is_needed_are_refused(name):
    with pytest.raises(KvoptError, match="line"):
        import_mooncake(DATA / name)


MULTIPLIERS = """
    import sys, numpy as np, kvopt
    from pathlib import Path
    from kvopt import Certificate, Instance, Platform, Trace
    from kvopt.bounds.checkpoint import Checkpoint, Reached
    via, case, folder = sys.argv[1:]
    trace = Trace(6, 2, [0, 0, 1, 1, 0], [3, 4, 5, 6, 7], [-1, -1, -1, 1, 2], [6, 5, 6, 6, 6], [0, 2, 3, 4, 5, 5],
                  [0, 3, 1, 0, 2], [2, 5, 4, 6, 5])
    instance = Instance(trace, Platform.preset("gh200").with_capacity(12.0))
    good = kvopt.bound(instance, method="aggregate").certificate
    lam, mu = good.channel_price.copy(), good.capacity_price_s_per_byte.copy()
    odd = {"nan": np.nan, "inf": np.inf, "negative": -1e300, "huge": 1e308}
    if case in odd: lam[0, 0] = odd[case]
    if case == "shape": lam = lam[:, :3]
    if case == "zero-dimensional": lam = np.array(1.0)
    bad, stage = Certificate(lam, mu), {"stage -1": -1, "stage 10**6": 10**6}.get(case, 1)
    try:
        if via == "checkpoint":
            file = Path(folder) / "c.npz"
            Checkpoint(file, instance).write(Reached(good, bad, stage))
            kvopt.bound(instance, checkpoint=file, time_limit=3)
        else:
            kvopt.bound(instance, start=bad, time_limit=3)
    except kvopt.KvoptError as error:
        print("refused", error)
"""


@pytest.mark.parametrize(
    ("via", "case"),
    [
        *(("start", case) for case in ("nan", "inf", "negative", "huge", "shape", "zero-dimensional")),
        *(("checkpoint", case) for case in ("nan", "huge", "shape", "zero-dimensional", "stage -1", "stage 10**6")),
    ],
)
def test_multipliers_that_are_none_are_refused(via, case, tmp_path):
    done = in_a_process(MULTIPLIERS, via, case, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused ")
