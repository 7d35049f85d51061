"""Sweeps: the band holds the true optimum and falls, however the points were come by; files are taken up or refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import sweep_file
from kvopt.cli import main
from kvopt.cli.types import SPREAD
from kvopt.errors import Infeasible, KvoptError, MethodError
from kvopt.fingerprint import fingerprint
from kvopt.sources.synthetic import drifting
from kvopt.sweep import tightened
from kvopt.vary import axis
from kvopt.workers import run_each
from tests.cli.test_commands import heed_interrupts
from tests.instances import brute_force, tiny_instance

mpl.use("Agg")

SLACK = 1 + 1e-9


def tiny(seed: int) -> kvopt.Instance:
    """A tiny instance whose backing tier holds everything, so that every capacity of at least a block is feasible."""
    instance = tiny_instance(np.random.default_rng(700 + seed))
    return replace(instance, platform=instance.platform.with_capacity(float("inf"), tier=1))


@pytest.fixture(scope="module")
def trace():
    return drifting(20, 4, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)


@pytest.fixture(scope="module")
def instance(trace):
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(20e3))


@pytest.fixture(scope="module")
def trace_file(trace, tmp_path_factory):
    path = tmp_path_factory.mktemp("traces") / "small.parquet"
    trace.save(path)
    return path


VALUES = (4e3, 8e3, 16e3)


@pytest.fixture(scope="module")
def found(instance):
    return kvopt.sweep(instance, "hbm_bytes", VALUES, time_limit=None, processes=1)


def bare(points) -> list[kvopt.SweepPoint]:
    """Points without the time they took, which no two runs share."""
    return [replace(p, elapsed_s=0.0) for p in points]


def check_band(points, optimum_at) -> None:
    """Both ends fall, the optimum lies between, and each end comes from where it holds."""
    bounds, achieved = [p.bound_s for p in points], [p.achieved_s for p in points]
    assert bounds == sorted(bounds, reverse=True)
    assert achieved == sorted(achieved, reverse=True)
    for number, p in enumerate(points):
        optimum = optimum_at(p.value)
        assert p.bound_s <= optimum * SLACK
        assert optimum <= p.achieved_s * SLACK
        assert p.lower_from >= p.value >= p.upper_from
        # What a smaller value achieved, a larger one's bound cannot exclude.
        assert all(p.bound_s <= smaller.achieved_s * SLACK for smaller in points[: number + 1])


@pytest.mark.parametrize("seed", range(12))
def test_the_optimum_lies_in_the_band_over_capacity(seed):
    instance = tiny(seed)
    along = axis(instance, "hbm_bytes")
    values = np.linspace(along.least, along.most, 4)
    found = kvopt.sweep(instance, "hbm_bytes", values, time_limit=None, processes=1)
    assert [p.value for p in found.points] == sorted({float(int(v)) for v in values})
    assert found.unit == "bytes"
    check_band(found.points, lambda value: brute_force(along.at(value))[0])


@pytest.mark.parametrize("seed", range(8))
def test_the_optimum_lies_in_the_band_over_bandwidth(seed):
    instance = tiny(seed)
    vary = "+".join(c.name for c in instance.platform.channels[1:])
    along = axis(instance, vary)
    rate = instance.platform.channels[1].bandwidth_bytes_per_s
    found = kvopt.sweep(instance, vary, [2 * rate, rate / 2, rate], time_limit=None, processes=1)
    assert [p.value for p in found.points] == [rate / 2, rate, 2 * rate]
    assert found.unit == "bytes_per_s"
    check_band(found.points, lambda value: brute_force(along.at(value))[0])


def a_point(value: float, bound_s: float, achieved_s: float) -> kvopt.SweepPoint:
    return kvopt.SweepPoint(
        value, bound_s, "dual", kvopt.Role.CERTIFIED, True, achieved_s, "anneal", value, value, elapsed_s=1.0
    )


points_drawn = st.dictionaries(
    st.integers(1, 20), st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8
).map(lambda ends: [a_point(float(v), float(low), float(low + more)) for v, (low, more) in ends.items()])


@settings(deadline=None)
@given(points=points_drawn, data=st.data())
def test_tightening_is_the_running_best_and_may_be_done_in_parts(points, data):
    whole = tightened(points)
    own = {p.value: p for p in points}
    for p in whole:
        assert p.bound_s == max(q.bound_s for q in points if q.value >= p.value)
        assert p.achieved_s == min(q.achieved_s for q in points if q.value <= p.value)
        assert own[p.lower_from].bound_s == p.bound_s
        assert own[p.upper_from].achieved_s == p.achieved_s
    assert tightened(whole) == whole
    first = data.draw(st.integers(0, len(points)))
    assert tightened([*tightened(points[:first]), *points[first:]]) == whole


def test_points_are_what_bound_and_solve_find(instance, found):
    for p in found.points:
        there = instance.with_hbm_bytes(p.lower_from)
        assert p.bound_s == kvopt.bound(there).value_s
        assert p.verified
        assert p.bound_role is kvopt.Role.CERTIFIED
        assert p.gap == p.achieved_s / p.bound_s - 1


def test_the_number_of_processes_changes_nothing_but_the_time(instance, found):
    events, sizes = [], []
    again = kvopt.sweep(
        instance,
        "hbm_bytes",
        VALUES,
        time_limit=None,
        processes=2,
        on_progress=lambda label, event: events.append((label, event.detail)),
        on_point=lambda so_far: sizes.append(len(so_far.points)),
    )
    assert bare(again.points) == bare(found.points)
    assert sizes == [1, 2, 3]
    assert {label for label, detail in events if detail == "starting"} == {
        "1/3: 4.00 kB",
        "2/3: 8.00 kB",
        "3/3: 16.0 kB",
    }


def test_interrupted_and_taken_up_it_ends_like_one_run(instance, found):
    def interrupt(so_far):
        if len(so_far.points) == 2:
            raise KeyboardInterrupt

    half = kvopt.sweep(instance, "hbm_bytes", VALUES, time_limit=None, processes=1, on_point=interrupt)
    assert half.interrupted
    assert len(half.points) == 2
    computed = []
    whole = kvopt.sweep(
        instance,
        "hbm_bytes",
        VALUES,
        time_limit=None,
        processes=1,
        done=half.points,
        on_progress=lambda label, _: computed.append(label.split("/")[0]),
    )
    assert not whole.interrupted
    assert set(computed) == {"3"}
    assert bare(whole.points) == bare(found.points)


def test_a_point_cut_short_is_not_kept(instance):
    def interrupt(_label, event):
        if "tau" in event.detail:
            raise KeyboardInterrupt

    found = kvopt.sweep(instance, "hbm_bytes", VALUES, processes=1, on_progress=interrupt)
    assert found.interrupted
    assert found.points == ()


def test_records_tables_and_pictures(found):
    data = json.loads(json.dumps(found.to_json()))
    assert {"instance", "vary", "unit", "points", "seed", "time_limit_s", "versions"} <= set(data)
    assert [kvopt.SweepPoint.from_json(p) for p in data["points"]] == list(found.points)
    assert list(found.frame["value"]) == list(VALUES)
    assert set(found.frame["bound_role"]) == {"certified"}
    assert set(found.frame["achieved_role"]) == {"achieved"}
    assert "<table" in found._repr_html_()
    ax = found.plot()
    labels = [line.get_label() for line in ax.get_lines()]
    assert [label.split(":")[0] for label in labels] == ["achieved", "certified bound"]
    upper, lower = ax.get_lines()
    # Stairs that hold between the points, too: the smaller value's placement, the larger one's bound.
    assert (upper.get_drawstyle(), lower.get_drawstyle()) == ("steps-post", "steps-pre")
    size = upper.get_ydata()[0] / found.points[0].achieved_s
    assert np.allclose(lower.get_ydata(), [p.bound_s * size for p in found.points])
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "values: there is none"),
        ({"values": [-1.0]}, "hbm_bytes: must be finite and 0 or more"),
        ({"values": [float("nan")]}, "hbm_bytes: must be finite and 0 or more"),
        ({"values": [float("inf")]}, "hbm_bytes: must be finite and 0 or more"),
        ({"vary": "backing_bytes", "values": [10.0]}, "capacity_bytes"),
        ({"vary": "hbm", "values": [0.0]}, "hbm: must be finite and greater than 0"),
        ({"vary": "smoke"}, "vary: there is no channel 'smoke'"),
        ({"time_limit": 0.0}, "time_limit: must be greater than 0"),
        ({"processes": 0}, "processes: must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_by_name(instance, arguments, message):
    with pytest.raises(KvoptError, match=message):
        kvopt.sweep(instance, **{"vary": "hbm_bytes", "values": VALUES, **arguments})


def test_other_objectives_are_refused(instance):
    from kvopt.objective import latency

    with pytest.raises(KvoptError, match="is not the decode time"):
        kvopt.sweep(instance.with_objective(2.0 * latency()), "hbm_bytes", VALUES)


def test_fingerprints_tell_problems_apart_but_not_words(instance, trace):
    same = kvopt.Instance(replace(trace, provenance={"made by": "hand"}), instance.platform)
    assert fingerprint(same) == fingerprint(instance)
    other_reads = drifting(20, 6, n_lanes=2, read_share=0.2, seed=4, size_bytes=1024)
    tiers = instance.platform.tiers
    heavier = replace(tiers[1], write=dict.fromkeys(tiers[1].write, 2.0))
    for other in (
        kvopt.Instance(other_reads, instance.platform),
        kvopt.Instance(trace, instance.platform, kvopt.Rules("inclusive")),
        kvopt.Instance(trace, replace(instance.platform, tiers=(tiers[0], heavier))),
        instance.with_hbm_bytes(19e3),
    ):
        assert fingerprint(other) != fingerprint(instance)
    along = [axis(i, "hbm_bytes") for i in (instance, instance.with_hbm_bytes(19e3))]
    assert fingerprint(along[0].neutral) == fingerprint(along[1].neutral)


def _leave(_shared, item, tell):
    """Work that ends its process at one item, and cannot be done at another."""
    tell(item)
    if item == 2:
        os._exit(3)
    if item == 3:
        raise Infeasible("item", "is 3", "Take 1", tier="hbm", slot=0, shortfall_bytes=7)
    return item


def test_a_worker_that_dies_is_an_error_of_one_line():
    with pytest.raises(MethodError, match="processes: a worker process died"):
        run_each(_leave, None, [2], processes=2, on_event=lambda _: None, on_done=lambda _: None)


def test_an_error_in_a_worker_comes_back_as_it_was():
    with pytest.raises(Infeasible, match=r"item: is 3\. Take 1") as caught:
        run_each(_leave, None, [3, 1], processes=2, on_event=lambda _: None, on_done=lambda _: None)
    assert (caught.value.tier, caught.value.shortfall_bytes) == ("hbm", 7)


# The command.


def run(*arguments):
    """The finished run of ``kvopt sweep`` with these arguments."""
    return CliRunner().invoke(main, ["sweep", *map(str, arguments)])


def points_of(path) -> list[kvopt.SweepPoint]:
    return bare(kvopt.SweepPoint.from_json(p) for p in json.loads(path.read_text())["points"])


VARY = ("--vary", "hbm_bytes=4kB:24kB:3", "--processes", 1)


@pytest.fixture(scope="module")
def swept(trace_file, tmp_path_factory):
    """(run, file) of one sweep that several tests look at."""
    folder = tmp_path_factory.mktemp("swept")
    done = run(trace_file, *VARY, "--time-limit", 60, "--json", folder / "sweep.json", "--plot", folder / "sweep.png")
    assert done.exit_code == 0, done.output
    return done, folder / "sweep.json"


def test_the_command_prints_writes_and_draws(swept):
    done, path = swept
    data = json.loads(path.read_text())
    assert [p["value"] for p in data["points"]] == [4000.0, 9797.0, 24000.0]
    for p in data["points"]:
        assert (p["bound"]["role"], p["achieved"]["role"]) == ("certified", "achieved")
        assert p["bound"]["verified"] is True
        assert p["bound"]["value"] <= p["achieved"]["objective"]
    assert (data["vary"], data["unit"], data["seed"], data["time_limit_s"]) == ("hbm_bytes", "bytes", 0, 60.0)
    for word in ("decode time by hbm_bytes", "certified", "achieved", "9.80 kB"):
        assert word in done.stdout
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def _counted(monkeypatch) -> list:
    """The values that are computed from now on."""
    # As an attribute of the package, the name stands for the function.
    module = sys.modules["kvopt.sweep"]
    real, seen = module.compare, []

    def compare(instance, *rest, **options):
        seen.append(instance.capacity_bytes[0])
        return real(instance, *rest, **options)

    monkeypatch.setattr(module, "compare", compare)
    return seen


def test_the_same_command_again_computes_what_is_missing(swept, trace_file, tmp_path, monkeypatch):
    _, path = swept
    data = json.loads(path.read_text())
    del data["points"][1]
    part = tmp_path / "part.json"
    part.write_text(json.dumps(data))
    seen = _counted(monkeypatch)
    # Another HBM of the instance itself is no matter: that is what varies.
    done = run(trace_file, *VARY, "--time-limit", 60, "--json", part, "--hbm-bytes", "5k")
    assert done.exit_code == 0, done.output
    assert seen == [9797.0]
    assert points_of(part) == points_of(path)
    assert run(trace_file, *VARY, "--time-limit", 60, "--json", part).exit_code == 0
    assert seen == [9797.0]


def test_a_file_from_before_requests_were_counted_is_taken_up(swept, tmp_path, instance, trace):
    data = json.loads(swept[1].read_text())
    del data["instance"]["trace"]["n_block_requests"]
    path = tmp_path / "older.json"
    path.write_text(json.dumps(data))
    whole = kvopt.Instance(trace, kvopt.Platform.preset("gh200"))
    points = sweep_file.load(path, whole, "hbm_bytes", seed=0, time_limit=60.0)
    assert len(points) == len(data["points"])
    del data["instance"]["trace"]
    path.write_text(json.dumps(data))
    with pytest.raises(KvoptError, match=r"holds another sweep: its instance\.trace\.name is None"):
        sweep_file.load(path, whole, "hbm_bytes", seed=0, time_limit=60.0)


OTHERS = {
    "seed": (("--seed", 1), "its seed is 0, not 1"),
    "time limit": (("--time-limit", 7), "its time_limit_s is 60.0, not 7.0"),
    "vary": (("--vary", "lpddr=1e9:2e9:2"), "its vary is 'hbm_bytes', not 'lpddr'"),
    "rules": (("--copies", "inclusive"), "its instance.copies is 'exclusive', not 'inclusive'"),
    "platform": (("--platform", "fang2025"), "its instance.platform is 'gh200', not 'fang2025'"),
    "block size": (("--kv-bytes-per-token-layer", 512), "its instance.trace.read_bytes is"),
    "backing": (("--backing-bytes", "1e9"), "its trace, platform or rules differ"),
}


@pytest.mark.parametrize(("options", "message"), OTHERS.values(), ids=OTHERS)
def test_the_file_of_another_sweep_is_refused(options, message, swept, trace_file, tmp_path):
    _, path = swept
    copy = tmp_path / "copy.json"
    copy.write_bytes(path.read_bytes())
    done = run(trace_file, *VARY, "--time-limit", 60, *options, "--json", copy)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"error: --json: {copy} holds another sweep: {message}")
    assert done.stderr.rstrip().endswith("overwrite this one with --fresh")
    assert copy.read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [("precious", "is no JSON"), ("[1]", "holds no sweep"), ('{"rows": []}', "holds no sweep")],
)
def test_a_file_that_is_no_sweep_is_refused(text, message, trace_file, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(text)
    done = run(trace_file, *VARY, "--json", path)
    assert done.exit_code == 2
    assert message in done.stderr
    assert path.read_text() == text


def test_a_point_that_is_none_is_refused(swept, tmp_path, instance, trace):
    data = json.loads(swept[1].read_text())
    del data["points"][0]["achieved"]
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(data))
    whole = kvopt.Instance(trace, kvopt.Platform.preset("gh200"))
    with pytest.raises(KvoptError, match="has a point that is none"):
        sweep_file.load(path, whole, "hbm_bytes", seed=0, time_limit=60.0)
    with pytest.raises(KvoptError, match="path: cannot read"):
        sweep_file.load(tmp_path / "absent.json", instance, "hbm_bytes", seed=0, time_limit=60.0)


def test_fresh_overwrites(trace_file, tmp_path):
    path = tmp_path / "old.json"
    path.write_text("precious no more")
    done = run(trace_file, "--vary", "hbm_bytes=4kB:24kB:2", "--processes", 1, "--json", path, "--fresh")
    assert done.exit_code == 0, done.output
    assert len(points_of(path)) == 2


BAD_SPREADS = {
    "hbm_bytes": "is not PARAM=A:B:N",
    "=1:2:3": "is not PARAM=A:B:N",
    "hbm_bytes=1k:2k": "is not PARAM=A:B:N",
    "hbm_bytes=1k:2k:3:4": "is not PARAM=A:B:N",
    "hbm_bytes=a:2k:3": "'a' is not a number",
    "hbm_bytes=1k:much:3": "'much' is not a number",
    "hbm_bytes=1k:inf:3": "'inf' is not a number",
    "hbm_bytes=1k:2k:three": "'three' is no number of values",
    "hbm_bytes=1k:2k:2.5": "'2.5' is no number of values",
    "hbm_bytes=-1k:2k:3": "begins at -1000",
    "hbm_bytes=2k:1k:3": "does not rise from 2000 to 1000",
    "hbm_bytes=2k:2k:3": "does not rise",
    "hbm_bytes=1k:2k:1": "asks for 1 values",
}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("hbm_bytes=1k:4k:3", [1e3, 2e3, 4e3]),
        ("hbm_bytes=0:4k:4", [0.0, 40.0, 400.0, 4e3]),
        ("hbm_bytes=0:4k:2", [0.0, 4e3]),
    ],
)
def test_a_spread_is_of_equal_ratios_and_may_begin_at_nothing(text, values):
    name, found = SPREAD.convert(text, None, None)
    assert name == "hbm_bytes"
    assert found == pytest.approx(values, rel=1e-12)


@pytest.mark.parametrize(("text", "message"), BAD_SPREADS.items(), ids=BAD_SPREADS)
def test_bad_spreads_are_refused(text, message, trace_file):
    done = run(trace_file, "--vary", text)
    assert done.exit_code == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: --vary: ")
    assert message in line


def test_what_cannot_be_varied_is_refused_before_the_work(trace_file):
    for options, field in (
        (("--vary", "smoke=1:2:3"), "vary: there is no channel 'smoke'"),
        ((), "--vary: is missing"),
        ((*VARY, "--processes", 0), "--processes: "),
        ((*VARY, "--plot", "x.xls"), "--plot: "),
    ):
        done = run(trace_file, *options)
        assert done.exit_code == 2
        assert field in done.stderr.splitlines()[-1]


def test_spreads_are_geometric_and_hold_both_ends():
    name, values = SPREAD.convert("link_in + lpddr = 1GB:16e9:5", None, None)
    assert name == "link_in + lpddr"
    assert values == pytest.approx([1e9, 2e9, 4e9, 8e9, 16e9])
    assert (values[0], values[-1]) == (1e9, 16e9)


@pytest.fixture
def long_sweep(tmp_path):
    """A sweep in a process group of its own, at work in two processes."""
    path, out = tmp_path / "long.parquet", tmp_path / "sweep.json"
    drifting(3000, 300, n_lanes=2, read_share=0.05, seed=1).save(path)
    command = [sys.executable, "-m", "kvopt", "sweep", str(path), "--vary", "hbm_bytes=1M:3M:6", "--processes", "2"]
    command += ["--time-limit", "600", "--json", str(out)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as process:
        while "starting" not in process.stderr.readline():
            pass
        yield process


def test_ctrl_c_ends_all_processes_with_a_report(long_sweep):
    os.killpg(long_sweep.pid, signal.SIGINT)
    stdout, stderr = long_sweep.communicate(timeout=120)
    assert long_sweep.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1].startswith("interrupted: these are the points so far")
    assert "none was finished" in stdout
    assert _gone(long_sweep.pid)


def test_workers_end_when_their_parent_is_killed(long_sweep):
    long_sweep.kill()
    assert long_sweep.wait(timeout=60) == -signal.SIGKILL
    assert _gone(long_sweep.pid)


def _gone(group: int, patience_s: float = 20.0) -> bool:
    """Whether no process of the group is left, after a moment."""
    until = time.perf_counter() + patience_s
    while time.perf_counter() < until:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


def test_a_curve_from_nothing_shows_its_first_point():
    instance = tiny_instance(np.random.default_rng(3))
    role = kvopt.result.Role.CERTIFIED
    points = [
        kvopt.SweepPoint(value, 1.0, "dual", role, True, 2.0, "lru", value, value, 0.0) for value in (0.0, 10.0, 100.0)
    ]
    ax = kvopt.Sweep(instance, "hbm_bytes", "bytes", tuple(points), 0, None).plot()
    ax.figure.canvas.draw()
    shown = ax.transData.transform([(value, 1.0) for value in (0.0, 10.0, 100.0)])
    left, right = ax.get_window_extent().intervalx
    assert np.isfinite(shown).all()
    assert left <= shown[0, 0] < shown[1, 0] < shown[2, 0] <= right


def test_a_sweep_may_begin_at_nothing(instance):
    found = kvopt.sweep(instance, "hbm_bytes", [0.0], time_limit=2.0, processes=1)
    only = kvopt.evaluate(instance, kvopt.Placement.backing(instance)).latency_s
    (point,) = found.points
    assert point.achieved_s == pytest.approx(only, rel=1e-9)
    assert point.bound_s == pytest.approx(only, rel=1e-6)
