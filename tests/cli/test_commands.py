"""The command line as its user sees it: tables, JSON, and one line for every wrong input."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import kvopt
from kvopt import ctrl_c, spec_io
from kvopt.cli import main
from kvopt.sources.synthetic import drifting

ROW_KEYS = {
    "method",
    "role",
    "latency_s",
    "tokens_per_s",
    "speedup_vs_static",
    "gap",
    "kv_hit_rate",
    "moved_bytes",
    "elapsed_s",
    "status",
}
SMALL = ("--hbm-bytes", "40k", "--time-limit", "5", "--methods", "static,lru,anneal")


def run(*arguments):
    """The finished run of ``kvopt`` with these arguments."""
    return CliRunner().invoke(main, [str(a) for a in arguments])


def assert_refused(done, field):
    """Exit code 2, and on standard error one line that names the field; on standard output nothing."""
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert field in lines[0].split(": ")[1]


@pytest.fixture(scope="module")
def trace():
    return drifting(40, 8, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)


@pytest.fixture(scope="module")
def trace_file(trace, tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "small.parquet"
    trace.save(path)
    return path


@pytest.fixture(scope="module")
def compared(trace_file, tmp_path_factory):
    """(run, JSON) of one comparison that several tests look at."""
    out = tmp_path_factory.mktemp("out") / "result.json"
    done = run("compare", trace_file, *SMALL, "--json", out)
    assert done.exit_code == 0, done.output
    return done, json.loads(out.read_text())


def test_compare_writes_what_it_promises(compared):
    _, data = compared
    assert {"instance", "bound", "rows"} <= set(data)
    assert {"value_s", "source", "verified"} <= set(data["bound"])
    assert data["bound"]["verified"] is True
    assert data["instance"]["capacity_bytes"][0] == 40e3
    assert [row["method"] for row in data["rows"]] == ["static-oldest", "lru", "anneal"]
    for row in data["rows"]:
        assert set(row) >= ROW_KEYS
        assert row["role"] == "achieved"
        assert row["gap"] >= 0
        assert data["bound"]["value_s"] <= row["latency_s"]
        assert 0 <= row["kv_hit_rate"] <= 1
    assert data["rows"][0]["speedup_vs_static"] == 1.0


def test_compare_prints_every_method_and_names_roles(compared):
    done, _ = compared
    for word in ("static-oldest", "lru", "anneal", "achieved", "certified", "dual (verified)", "Where the time goes"):
        assert word in done.stdout
    assert "\x1b" not in done.output


def test_how_long_the_start_takes_is_told_where_asked(trace_file):
    """The parts add up to no more than the command takes, and only the command that was asked tells them."""
    began = time.perf_counter()
    done = run("--start-times", "solve", trace_file, "--method", "lru", "--time-limit", 1)
    took_s = time.perf_counter() - ctrl_c.BEGAN_S
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("start: ")]
    seconds = [float(value) for value in re.findall(r"([0-9.]+) s", line)]
    assert len(seconds) == 3
    assert sum(seconds) <= took_s + 0.02
    assert sum(seconds[1:]) <= time.perf_counter() - began
    assert "start: " not in run("solve", trace_file, "--method", "lru", "--time-limit", 1).stderr


def test_json_to_standard_output_is_all_that_is_there(trace_file):
    done = run("compare", trace_file, "--hbm-bytes", 40e3, "--time-limit", 5, "--methods", "static", "--json", "-")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["rows"][0]["method"] == "static-oldest"
    assert "static-oldest" in done.stderr


def test_module_runs_like_the_command(trace_file):
    command = [sys.executable, "-m", "kvopt", "trace", "info", str(trace_file), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n_lanes"] == 2


def test_block_sizes_can_be_set(trace_file, trace):
    done = run("bound", trace_file, "--method", "aggregate", "--kv-bytes-per-token-layer", "2k", "--json", "-")
    assert json.loads(done.stdout)["instance"]["trace"]["read_bytes"] == 2000 * trace.n_accesses


def test_everything_in_hbm_is_pointed_out(trace_file):
    done = run("compare", trace_file, "--time-limit", 5, "--methods", "static")
    assert done.exit_code == 0
    assert "everything fits in hbm" in done.stdout


def test_rules_reach_the_instance(trace_file):
    rules = ("--copies", "inclusive", "--moves", "read-through", "--platform", "fang2025", "--batch", 3)
    done = run("bound", trace_file, "--method", "aggregate", *rules, "--json", "-")
    instance = json.loads(done.stdout)["instance"]
    assert (instance["copies"], instance["moves"]) == ("inclusive", "read-through")
    assert (instance["platform"], instance["batch"]) == ("fang2025", 3)


def _told(trace_file, *options):
    """The instance that a command says it works on."""
    done = run("bound", trace_file, "--method", "aggregate", *options, "--json", "-")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["instance"]


def test_all_rules_reach_the_instance(trace_file):
    told = _told(trace_file, "--copies", "inclusive", "--reads", "balanced", "--writes", "back")
    assert (told["reads"], told["writes"], told["initial"]) == ("balanced", "back", "free")
    done = run("bound", trace_file, "--method", "aggregate", "--copies", "inclusive", "--writes", "back")
    assert "inclusive copies, explicit moves, written back" in done.stdout
    three = ("--platform", "gh200-cxl", "--copies", "inclusive", "--reads", "balanced")
    assert_refused(run("bound", trace_file, *three), "rules.reads")


def test_every_tier_can_be_set(trace_file):
    names = [t.name for t in kvopt.Platform.preset("gh200-cxl").tiers]
    sizes = ("--tier-bytes", f"{names[0]}=50k", "--tier-bytes", f"{names[1]} = 30 kB", "--backing-bytes", "1MB")
    told = _told(trace_file, "--platform", "gh200-cxl", *sizes)
    assert told["capacity_bytes"] == [50e3, 30e3, 1e6]
    done = run("bound", trace_file, "--method", "aggregate", "--platform", "gh200-cxl", *sizes)
    assert f"{names[1]:<9} 30.0 kB, 30.5 % of what is alive at the peak" in done.stdout
    # The embedded trace gets a quarter of its peak unless told, by either option.
    told = json.loads(run("bound", "--method", "aggregate", "--tier-bytes", "hbm=5MB", "--json", "-").stdout)
    assert told["instance"]["capacity_bytes"][0] == 5e6


def test_runs_begin_where_a_policy_or_a_file_has_the_blocks(trace_file, trace, tmp_path):
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(40e3))
    oldest = kvopt.solve(instance, "static-oldest").placement
    kvopt.save_placement(oldest, tmp_path / "oldest.parquet", instance)
    out = tmp_path / "placement.parquet"
    for initial in ("static", "static-oldest", tmp_path / "oldest.parquet"):
        done = run(
            *("solve", trace_file, "--method", "lru", "--hbm-bytes", "40k", "--initial", initial),
            *("--time-limit", 5, "--save-placement", out, "--json", tmp_path / "told.json"),
        )
        assert done.exit_code == 0, done.output
        assert "explicit moves, from a given start" in done.stdout
        assert json.loads((tmp_path / "told.json").read_text())["instance"]["initial"] == "given"
        found = kvopt.load_placement(out, instance)
        assert found.violations(instance.with_initial(oldest)) == []
        assert found != kvopt.solve(instance, "lru").placement
    small = ("--hbm-bytes", "4k", "--initial", tmp_path / "oldest.parquet")
    assert_refused(run("bound", trace_file, *small), "--initial")
    other = ("--hbm-bytes", "40k", "--copies", "inclusive", "--initial", tmp_path / "oldest.parquet")
    assert "places blocks in hbm | lpddr, here there are hbm+lpddr | lpddr" in run("bound", trace_file, *other).stderr


def test_a_start_of_tokens_is_none_of_pages(trace_file):
    options = ("--hbm-bytes", "40k", "--page-tokens", 4, "--initial", "lru")
    assert_refused(run("explain", trace_file, *options), "--initial")
    assert _told(trace_file, *options)["initial"] == "given"


def test_solve_reports_the_gap_and_saves_the_placement(trace_file, trace, tmp_path):
    out = tmp_path / "placement.parquet"
    done = run(
        *("solve", trace_file, "--method", "anneal", "--start", "belady", "--hbm-bytes", "40k"),
        *("--time-limit", 5, "--save-placement", out, "--json", tmp_path / "solved.json"),
    )
    assert done.exit_code == 0, done.output
    row = json.loads((tmp_path / "solved.json").read_text())["rows"][0]
    assert row["gap"] >= 0
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(40e3))
    placement = kvopt.load_placement(out, instance)
    assert kvopt.evaluate(instance, placement).latency_s == row["latency_s"]
    again = run("solve", trace_file, "--hbm-bytes", "40k", "--time-limit", 5, "--start", out, "--json", "-")
    assert json.loads(again.stdout)["rows"][0]["latency_s"] <= row["latency_s"]
    small = run("solve", trace_file, "--hbm-bytes", "4k", "--time-limit", 5, "--start", out)
    assert small.exit_code == 2
    assert small.stderr.startswith("error: --start: placement.parquet is not feasible here: slot ")


def test_plot_is_drawn(trace_file, tmp_path):
    picture = tmp_path / "bars.png"
    done = run(
        "compare", trace_file, "--hbm-bytes", "40k", "--time-limit", 5, "--methods", "static,lru", "--plot", picture
    )
    assert done.exit_code == 0, done.output
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_platforms_name_their_sources():
    done = run("platforms", "--json", "-")
    presets = {p["name"]: p for p in json.loads(done.stdout)}
    assert {"gh200", "fang2025"} <= set(presets)
    assert all(figure["source"] for p in presets.values() for figure in p["tiers"] + p["channels"])
    assert run("platforms").exit_code == 0


def test_models_name_their_sources():
    done = run("models", "--json", "-")
    presets = {m["name"]: m for m in json.loads(done.stdout)}
    assert presets["llama-3.1-8b"]["kv_bytes_per_token_layer"] == 4096
    assert all(m["source"] and m["bits_source"] for m in presets.values())
    listed = run("models")
    assert listed.exit_code == 0
    for line in (
        "llama-3.1-8b: ",
        "4,096 B a token and layer at 16 bits",
        "16.1 GB at 16 bits",
        "Llama-3.1-8B, config",
    ):
        assert line in listed.output


def test_a_platform_may_be_a_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(spec_io.shipped("platforms")["gh200"].read_text().replace('name = "gh200"', 'name = "mine"', 1))
    options = ("bound", "--method", "aggregate", "--platform", path)
    done = run(*options)
    assert done.exit_code == 0, done.output
    assert "mine, exclusive copies" in done.output
    assert "warning" not in done.output
    path.write_text(path.read_text().replace("480e9", "48e9"))
    done = run(*options)
    assert done.exit_code == 0
    assert f"warning: {path}: tiers 'lpddr': capacity_bytes: the backing tier holds 48.0 GB, less" in done.stderr
    path.write_text(path.read_text().replace("96e9", '"96GB"'))
    done = run(*options)
    assert done.exit_code == 2
    assert f"{path}: tiers 'hbm': capacity_bytes: must be a number, got '96GB'" in done.output


def test_mooncake_log_becomes_a_trace(tmp_path):
    log, out = tmp_path / "log.jsonl", tmp_path / "log.parquet"
    requests = [
        {"timestamp": 0, "input_length": 1024, "output_length": 9, "hash_ids": [1, 2]},
        {"timestamp": 5, "input_length": 1500, "output_length": 9, "hash_ids": [1, 2, 3]},
    ]
    log.write_text("\n".join(map(json.dumps, requests)))
    done = run("trace", "import", "mooncake", log, "-o", out, "--bytes-per-token", 100)
    assert done.exit_code == 0, done.output
    loaded = kvopt.load_trace(out)
    assert (loaded.n_blocks, loaded.n_steps, loaded.step_unit) == (3, 2, "request")
    assert "requests  5 for blocks, as hit rates of a plain cache count them: the reads, and 3 writes" in done.stdout
    found = json.loads(run("trace", "info", out, "--json", "-").stdout)
    assert (found["n_accesses"], found["n_block_requests"]) == (2, 5)


BLOCKS_OF_16 = [(0.114, 126, range(8)), (0.451, 40, range(20, 23)), (3.2, 170, range(11)), (9.0, 75, range(20, 25))]


def test_a_log_of_another_block_size_and_unit_is_refused_with_what_fits(tmp_path):
    log, out = tmp_path / "log.jsonl", tmp_path / "log.parquet"
    keys = ("timestamp", "input_length", "hash_ids")
    rows = [{**dict(zip(keys, row, strict=True)), "hash_ids": list(row[2]), "output_length": 9} for row in BLOCKS_OF_16]
    log.write_text("\n".join(map(json.dumps, rows)))
    command = ("trace", "import", "mooncake", log, "-o", out)
    assert_refused(run(*command), "block_tokens")
    assert "All rows fit 16 tokens per id: block_tokens=16 (--block-tokens 16)" in run(*command).stderr
    assert_refused(run(*command, "--block-tokens", 16), "time_unit")
    assert "(--time-unit s)" in run(*command, "--block-tokens", 16).stderr
    assert not out.exists()
    assert run(*command, "--no-check").exit_code == 0
    units = ("--block-tokens", 16, "--time-unit", "s")
    done = run(*command, *units, "--model", "llama-3.1-8b", "--licence", "CC0-1.0")
    assert done.exit_code == 0, done.output
    loaded = kvopt.load_trace(out)
    assert set(loaded.size_bytes.tolist()) == {16 * 131_072}
    assert loaded.provenance["last_timestamp_ms"] == 9000
    assert loaded.provenance["licence"] == "CC0-1.0"
    assert_refused(run(*command, *units, "--model", "llama-3.1-8b", "--bytes-per-token", 100), "bytes_per_token")
    assert_refused(run(*command, "--time-unit", "h"), "--time-unit")
    assert_refused(run(*command, "--block-tokens", 1.5), "--block-tokens")


def test_a_log_comes_from_standard_input(tmp_path):
    row = json.dumps({"timestamp": 0, "input_length": 512, "output_length": 9, "hash_ids": ["ab"]})
    out = tmp_path / "log.parquet"
    command = ["trace", "import", "mooncake", "-", "-o", str(out)]
    done = CliRunner().invoke(main, command, input=row)
    assert done.exit_code == 0, done.output
    assert kvopt.load_trace(out).name == "stdin"


def _columns(**changes):
    """A valid file of two blocks, but for the changes; None removes a column."""
    columns = {
        "lane": [0, 0],
        "size_bytes": [512, 512],
        "write_step": [-1, 1],
        "run_start": [[0, 3], [2]],
        "run_stop": [[2, 4], [4]],
    }
    return {name: values for name, values in {**columns, **changes}.items() if values is not None}


BAD_FILES = {
    "missing column": (_columns(write_step=None), "write_step"),
    "overlapping runs": (_columns(run_stop=[[4, 4], [4]]), "run_start"),
    "read before written": (_columns(run_start=[[0, 3], [0]]), "run_start"),
    "negative size": (_columns(size_bytes=[512, -1]), "size_bytes"),
    "not a number": (_columns(size_bytes=[512.0, float("nan")]), "size_bytes"),
    "null": (_columns(size_bytes=[512, None]), "size_bytes"),
    "fraction": (_columns(size_bytes=[512.0, 0.5]), "size_bytes"),
    "text": (_columns(size_bytes=["512", "many"]), "size_bytes"),
    "lists of other lengths": (_columns(run_stop=[[2], [4]]), "run_stop"),
    "no lists": (_columns(run_stop=[2, 4]), "run_stop"),
    "no rows": (
        {
            "lane": pa.array([], pa.int32()),
            "size_bytes": pa.array([], pa.int64()),
            "write_step": pa.array([], pa.int32()),
            "run_start": pa.array([], pa.list_(pa.int32())),
            "run_stop": pa.array([], pa.list_(pa.int32())),
        },
        "blocks",
    ),
}


@pytest.mark.parametrize(("columns", "field"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_traces_are_refused(columns, field, tmp_path):
    path, out = tmp_path / "bad.parquet", tmp_path / "out.json"
    pq.write_table(pa.table(columns), path)
    out.write_text("precious")
    assert_refused(run("compare", path, "--json", out), field)
    assert out.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.parquet", "out.json"]


@pytest.mark.parametrize("column", ["lane", "write_step", "free_step", "run_stop"])
def test_nan_in_columns_that_sizes_are_guessed_from(column, tmp_path):
    path = tmp_path / "bad.parquet"
    values = [[2.0, np.nan], [4.0]] if column == "run_stop" else [0.0, np.nan]
    pq.write_table(pa.table(_columns(**{column: values})), path)
    assert_refused(run("trace", "info", path), column)


def test_files_that_are_no_trace_are_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not Parquet")
    for path in (text, tmp_path, tmp_path / "absent.parquet"):
        assert_refused(run("compare", path), "trace")
        assert_refused(run("trace", "info", path), "trace")


BAD_OPTIONS = {
    "unknown platform": (("--platform", "abacus"), "platform"),
    "unknown method": (("--methods", "static,magic"), "methods"),
    "no method": (("--methods", " , "), "--methods"),
    "zero time": (("--time-limit", "0"), "time_limit"),
    "negative time": (("--time-limit", "-3"), "time_limit"),
    "time not a number": (("--time-limit", "nan"), "--time-limit"),
    "time in words": (("--time-limit", "soon"), "--time-limit"),
    "negative HBM": (("--hbm-bytes", "-1"), "--hbm-bytes"),
    "too little in all": (("--hbm-bytes", "1000", "--backing-bytes", "0"), "capacity_bytes"),
    "unlimited HBM": (("--hbm-bytes", "inf"), "--hbm-bytes"),
    "zero block size": (("--kv-bytes-per-token-layer", "0"), "size_bytes"),
    "negative weights": (("--weight-bytes-per-slot", "-1"), "weight_bytes_per_slot"),
    "no sequences": (("--batch", "0"), "batch"),
    "unknown copies": (("--copies", "three"), "rules.copies"),
    "unknown moves": (("--moves", "teleport"), "rules.moves"),
    "unknown reads": (("--reads", "twice"), "rules.reads"),
    "unknown writes": (("--writes", "around"), "rules.writes"),
    "balanced reads of one copy": (("--reads", "balanced"), "rules.reads"),
    "one copy written back": (("--writes", "back"), "rules.writes"),
    "unknown start": (("--initial", "magic"), "--initial"),
    "engine as start": (("--initial", "anneal"), "--initial"),
    "absent start": (("--initial", "absent.parquet"), "--initial"),
    "unknown tier": (("--tier-bytes", "cloud=1GB"), "--tier-bytes"),
    "tier without a size": (("--tier-bytes", "hbm"), "--tier-bytes"),
    "size without a tier": (("--tier-bytes", "=1GB"), "--tier-bytes"),
    "tier of no number": (("--tier-bytes", "hbm=much"), "--tier-bytes"),
    "tier of less than nothing": (("--tier-bytes", "lpddr=-1"), "--tier-bytes"),
    "tier twice": (("--tier-bytes", "hbm=40k", "--hbm-bytes", "40k"), "--tier-bytes"),
    "negative seed": (("--seed", "-1"), "--seed"),
    "unknown option": (("--colour",), "--colour"),
    "unknown picture": (("--plot", "bars.xls"), "--plot"),
}


@pytest.mark.parametrize(("options", "field"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_bad_options_are_refused(options, field, trace_file, tmp_path):
    out = tmp_path / "out.json"
    out.write_text("precious")
    assert_refused(run("compare", trace_file, "--json", out, *options), field)
    assert out.read_text() == "precious"


def test_other_commands_refuse_alike(trace_file, tmp_path):
    assert_refused(run("solve", trace_file, "--method", "magic"), "method")
    assert_refused(run("solve", trace_file, "--method", "lru", "--start", "belady"), "start")
    assert_refused(run("solve", trace_file, "--start", "magic"), "start")
    assert_refused(run("bound", trace_file, "--method", "magic"), "bound method")
    assert_refused(run("bound", trace_file, "--time-limit", "-1"), "time_limit")
    assert_refused(run("trace", "import", "mooncake", trace_file), "--output")
    assert_refused(run("trace", "import", "mooncake", tmp_path / "absent", "-o", tmp_path / "x"), "")
    assert_refused(run("nonsense"), "usage")


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_unwritable_outputs_are_refused_before_the_work(option, trace_file, tmp_path):
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "folder.png", tmp_path / "absent" / "x.png", tmp_path / "file" / "x.png"):
        done = run("compare", trace_file, *SMALL, option, path)
        assert_refused(done, option)


def heed_interrupts():
    """What a shell starts in the background ignores Ctrl-C, and so would its children: these must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupt_leaves_a_report_and_130(tmp_path):
    """Ctrl-C once the bound has reported: what is in hand is printed, without a traceback."""
    path = tmp_path / "long.parquet"
    drifting(3000, 300, n_lanes=2, read_share=0.05, seed=1).save(path)
    command = [sys.executable, "-m", "kvopt", "compare", str(path), "--hbm-bytes", "3M", "--time-limit", "600"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as process:
        while not (line := process.stderr.readline()).startswith("bound:"):
            assert line.startswith("compiling")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("interrupted:")
    assert "bound: ideal bandwidth" in stdout or "nothing was finished" in stderr


def test_unexpected_errors_keep_their_traceback(monkeypatch, trace_file):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(kvopt, "load_trace", broken)
    done = run("trace", "info", trace_file)
    assert isinstance(done.exception, RuntimeError)


def test_amounts_take_units(trace_file):
    for text, expected in (("40k", 40e3), ("40KiB", 40960), ("0.04 MB", 40e3), ("4e4", 4e4)):
        done = run("bound", trace_file, "--method", "aggregate", "--hbm-bytes", text, "--json", "-")
        assert np.isclose(json.loads(done.stdout)["instance"]["capacity_bytes"][0], expected)


def test_a_request_log_too_large_for_the_platform_gets_its_room(trace_file, trace):
    total = int(trace.size_bytes.sum())
    tight = ("--hbm-bytes", "40k", "--backing-bytes", str(total // 2), "--methods", "static")
    assert_refused(run("compare", trace_file, *tight), "capacity_bytes")
    done = run(
        "compare", trace_file, "--hbm-bytes", "40k", "--backing-bytes", total, "--methods", "static", "--json", "-"
    )
    assert json.loads(done.stdout)["instance"]["capacity_bytes"][1] == total
    assert_refused(run("compare", trace_file, "--hbm-bytes", "40k", "--backing-bytes", "0"), "capacity_bytes")


def test_explain_names_every_rung(trace_file, tmp_path):
    picture, out = tmp_path / "ladder.png", tmp_path / "ladder.json"
    done = run(
        *("explain", trace_file, "--hbm-bytes", "40k", "--time-limit", 5, "--phases", 2),
        *("--json", out, "--plot", picture),
    )
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    rungs = [row["rung"] for row in found["rungs"]]
    assert rungs[:4] == ["ideal bandwidth", "limited capacity", "moving blocks", "best found"]
    assert rungs[-1] == "missing foresight"
    assert all(rung in done.stdout for rung in rungs)
    assert len(found["phases"]) == 2
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_explain_refuses_what_is_no_policy(trace_file):
    done = run("explain", trace_file, "--hbm-bytes", "40k", "--method", "exact")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: method: 'exact' is no policy")


def test_pages_reach_every_command_with_rules(trace_file, trace, tmp_path):
    paged = trace.paged(4)
    options = ("--hbm-bytes", "40k", "--page-tokens", 4)
    limit, out = ("--time-limit", 5), tmp_path / "out.json"
    for command in (
        ("bound", *limit),
        ("solve", "--method", "belady", *limit),
        ("compare", "--methods", "lru", *limit),
        ("size", "--target-latency-s", "1e-6", *limit),
        ("explain", *limit),
    ):
        done = run(command[0], trace_file, *options, *command[1:], "--json", out)
        assert done.exit_code == 0, done.output
        assert f"{paged.n_blocks} pages of 4 tokens" in done.stdout
        made = json.loads(out.read_text())["instance"]["trace"]
        assert (made["tokens_per_page"], made["n_blocks"]) == (4, paged.n_blocks)
    assert re.search(r"pages of 4 tokens +certified +dual\n", done.stdout)
    done = run("export", trace_file, *options, "-o", tmp_path / "model.lp", "--sub")
    assert done.exit_code == 0, done.output
    assert "pages of 4 tokens" in done.stdout


def test_pages_are_made_of_tokens_only(trace_file, trace, tmp_path):
    assert_refused(run("bound", trace_file, "--page-tokens", 0), "--page-tokens")
    trace.paged(4).save(tmp_path / "pages.parquet")
    assert_refused(run("bound", tmp_path / "pages.parquet", "--page-tokens", 4), "tokens_per_page")
    assert "pages of up to 4 tokens" in run("trace", "info", tmp_path / "pages.parquet").stdout


def test_export_writes_the_model(trace_file, tmp_path):
    done = run("export", trace_file, "--hbm-bytes", "9e5", "--sub", "-o", tmp_path / "model.mps.gz")
    assert done.exit_code == 0, done.stderr
    assert re.search(r"model +[\d,]+ columns \([\d,]+ integer\), [\d,]+ rows", done.stdout)
    assert f"written to {tmp_path / 'model.mps.gz'}" in done.stdout
    assert_refused(run("export", trace_file, "-o", tmp_path / "model.xls"), "--output")
    assert_refused(run("export", trace_file, "-o", tmp_path / "model.lp", "--backend", "gams"), "backend")


def test_size_gives_both_ends_and_their_sources(trace_file, tmp_path):
    out = tmp_path / "size.json"
    done = run("size", trace_file, "--target-latency-s", "1e-6", "--time-limit", 6, "--json", out)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert {"lower_bytes", "lower_source", "upper_bytes", "upper_source", "probes", "status"} <= set(found)
    assert "needs" in done.stdout


def test_size_refuses_an_unknown_channel(trace_file):
    done = run("size", trace_file, "--target-latency-s", 1, "--vary", "smoke")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: vary: there is no channel 'smoke'")


def test_a_bound_is_verified_again_from_its_file(trace_file, tmp_path):
    proof, common = tmp_path / "proof.npz", ("--hbm-bytes", "40k", "--copies", "inclusive", "--json", "-")
    made = run("bound", trace_file, "--time-limit", "1", "--save-certificate", proof, *common)
    again = run("verify", trace_file, proof, *common)
    assert again.exit_code == 0, again.stderr
    first, second = (json.loads(done.stdout) for done in (made, again))
    assert second["bound"]["value"] == first["bound"]["value"]
    assert (second["bound"]["source"], second["bound"]["verified"]) == ("certificate", True)
    assert second["instance"] == first["instance"]
    assert "certified, verified" in run("verify", trace_file, proof, *common[:4]).stdout


def test_certificates_that_prove_nothing_here_are_refused(trace_file, tmp_path):
    proof, common = tmp_path / "proof.npz", (trace_file, "--hbm-bytes", "40k")
    assert run("bound", *common, "--method", "aggregate", "--save-certificate", proof).exit_code == 0
    other = run("verify", trace_file, proof, "--hbm-bytes", "50k")
    assert_refused(other, "CERT.npz")
    assert "its capacity_bytes is" in other.stderr
    assert_refused(run("verify", *common, trace_file), "CERT.npz")
    assert_refused(run("verify", *common, trace_file, proof), "TRACE")
    assert_refused(run("verify"), "CERT.npz")
    with np.load(proof) as file:
        arrays = dict(file)
    np.savez(proof, **{**arrays, "channel_price": arrays["channel_price"] * 2})
    assert_refused(run("verify", *common, proof), "CERT.npz")
    assert_refused(run("bound", *common, "--save-certificate", tmp_path), "--save-certificate")


def test_a_bound_goes_on_from_its_checkpoint(trace_file, tmp_path):
    kept, common = tmp_path / "kept.npz", (trace_file, "--hbm-bytes", "40k", "--json", "-", "--time-limit", "2")
    values = []
    for _ in range(2):
        done = run("bound", *common, "--checkpoint", kept)
        assert done.exit_code == 0, done.stderr
        values.append(json.loads(done.stdout)["bound"]["value"])
    assert values[1] >= values[0] * (1 - 1e-9)
    assert run("verify", trace_file, kept, "--hbm-bytes", "40k").exit_code == 0
    refused = run("bound", trace_file, "--hbm-bytes", "50k", "--checkpoint", kept)
    assert_refused(refused, "checkpoint")
    assert "its capacity_bytes is" in refused.stderr
    assert_refused(run("bound", *common, "--checkpoint", tmp_path), "--checkpoint")
    assert_refused(run("bound", *common, "--gap", "0.1"), "gap")
    assert_refused(run("bound", *common, "--method", "aggregate", "--target", "1"), "option 'target_s'")


@pytest.fixture
def no_work(monkeypatch):
    """Whoever reads a trace, makes a large instance or compiles a kernel fails the test."""

    def work(*_, **__):
        raise AssertionError("worked before the options were checked")

    monkeypatch.setattr("kvopt.cli.instance.loaded_trace", work)
    monkeypatch.setattr("kvopt.cli.instance.named", work)
    monkeypatch.setattr("kvopt.cli.curves.compile_kernels", work)


@pytest.mark.parametrize("where", [(), ("--instance", "published-high"), ("--platform", "fang2025")])
def test_a_wrong_vary_is_refused_before_any_work(no_work, where):
    assert_refused(run("sweep", "--vary", "hmb_bytes=1GB:2GB:3", *where), "vary")
    assert_refused(run("sweep", "--vary", "hbm+hbm=1GB:2GB:3", *where), "vary")
    assert_refused(run("size", "--vary", "smoke", "--target-latency-s", 1, *where), "vary")


def test_targets_limits_and_values_are_checked_before_kernels_are_compiled(monkeypatch, trace_file):
    monkeypatch.setattr("kvopt.cli.curves.compile_kernels", lambda *_: pytest.fail("compiled"))
    assert_refused(run("size", trace_file, "--target-latency-s", 0), "target_latency_s")
    assert_refused(run("size", trace_file, "--target-latency-s", 1, "--time-limit", -1), "time_limit")
    assert_refused(run("sweep", trace_file, "--vary", "hbm_bytes=1:2:3", "--time-limit", 0), "time_limit")
    assert_refused(run("sweep", trace_file, "--vary", f"hbm_bytes=1:2:{10**12}"), "--vary")
