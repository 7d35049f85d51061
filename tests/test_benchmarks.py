"""What the benchmarks stand on: the plan is complete, failures show, and the small instances are what they say."""

from __future__ import annotations

import argparse
import os
import sys

import numpy as np
import pytest

from kvopt import evaluate, solve
from kvopt.exact import arrays, column_count, lp_bound
from kvopt.exact.layout import Layout
from kvopt.lowering import lower
from tests.benchmarks import bench_scale, small
from tests.benchmarks.apart import Died, measure, measure_what_can_be
from tests.benchmarks.plan import JOBS, SKIPPED
from tests.benchmarks.regimes import regime
from tests.benchmarks.relaxation import SOLVERS, solved
from tests.benchmarks.run_all import ROOT, Run, recorded, report, run


def test_every_benchmark_is_planned_and_has_a_quick_command():
    modules = {path.stem for path in (ROOT / "tests" / "benchmarks").glob("bench_*.py")}
    assert {job.name for job in JOBS} == modules
    assert {job.name for job in JOBS if job.quick is not None} == modules


@pytest.mark.parametrize(
    ("code", "minutes", "status"),
    [
        ("print('a table')", 1.0, "done"),
        (f"print('a table'); raise SystemExit({SKIPPED})", 1.0, "skipped"),
        ("print('a table', flush=True); 1 / 0", 1.0, "FAILED: exit status 1"),
        ("import os; print('a table', flush=True); os.kill(os.getpid(), 9)", 1.0, "FAILED: killed by SIGKILL"),
        ("import time; print('a table'); time.sleep(60)", 0.05, "FAILED: stopped after 0.05 minutes"),
    ],
)
def test_what_fails_is_told(code, minutes, status):
    done = run([sys.executable, "-c", code], argparse.Namespace(limit_minutes=minutes))
    assert done.status == status
    assert done.failed == status.startswith("FAILED")
    head, first, second = "# Benchmarks\n", JOBS[0], JOBS[1]
    told = report(head, {first: done}, quick=False)
    assert f"| `{first.command(False)}` | {status} |" in told
    assert f"| `{second.command(False)}` | not run |" in told
    assert "a table" in told
    assert ("ZeroDivisionError" in told) == ("1 / 0" in code)
    assert recorded(told, head, quick=False) == {first: done}


def test_a_file_keeps_what_it_has_of_the_same_machine_alone():
    one, other = Run("a table\n\n## of two\n", "done", "today, 3 s"), Run("", "FAILED: exit status 1", "now")
    runs = {JOBS[0]: one, JOBS[2]: other}
    text = report("here\n", runs, quick=False)
    assert recorded(text, "here\n", quick=False) == runs
    assert report("here\n", recorded(text, "here\n", quick=False), quick=False) == text
    assert recorded(text, "there\n", quick=False) == {}
    assert recorded(text.replace(JOBS[0].command(False), "python -m gone"), "here\n", quick=False) == {JOBS[2]: other}


def _noisy(number):
    """Figures amid what a library prints; dies over the third of a negative number."""
    print("a banner", flush=True)
    os.write(1, b"{not json\n")
    yield {"runs": abs(number)}
    yield {"bound": 2.0, "bound_s": 0.5}
    if number < 0:
        os._exit(7)
    yield {"gap": np.float64(0.25)}


def test_figures_of_another_process_come_whatever_it_prints():
    assert measure(_noisy, 3) == {"runs": 3, "bound": 2.0, "bound_s": 0.5, "gap": 0.25}


def test_figures_that_were_there_outlive_their_process(capfd):
    with pytest.raises(Died, match="exit code 7 after runs, bound, bound_s") as caught:
        measure(_noisy, -3)
    assert caught.value.told == {"runs": 3, "bound": 2.0, "bound_s": 0.5}
    assert measure_what_can_be(_noisy, -3) == caught.value.told
    assert "_noisy: exit code 7" in capfd.readouterr().err


def test_a_row_of_the_scale_shows_what_there_is():
    found = {"runs": 1000, "bound": 2.0, "bound_s": 0.5, "evaluations": "12", "peak_gb": 0.25}
    times = {"hard_s": 1e-6, "hard_cpu_s": 2e-6, "soft_s": 3e-6, "soft_cpu_s": 4e-6}
    whole = bench_scale.table_row("knee", 5000, found | times | {"gap": 0.125}, "lru")
    assert " ".join(whole.split()) == "knee 5,000 1,000 2 0.5 12 1 ( 2) 3 ( 4) 0.25 lru +12.50 % above"
    part = bench_scale.table_row("knee", 5000, found, "lru")
    assert " ".join(part.split()) == "knee 5,000 1,000 2 0.5 12 - ( -) - ( -) 0.25"
    assert whole.index(" 0.25") == part.index(" 0.25")
    none = bench_scale.table_row("knee", 5000, {}, None)
    assert " ".join(none.split()) == "knee 5,000 - - - - - ( -) - ( -) -"


@pytest.mark.parametrize("number", range(10))
def test_small_instances_are_small_and_can_be_solved(number):
    one, again = small.make(number), small.make(number)
    instance = one.instance
    assert str(one) == str(again)
    assert (instance.trace.run_start == again.instance.trace.run_start).all()
    assert 1_000 < column_count(instance) < 60_000
    assert instance.rules == one.rules
    # The fast tier decides something, and blocks are not cut.
    assert 0 < instance.capacity_bytes[0] < instance.live_bytes.max()
    assert instance.capacity_bytes[0] % instance.trace.size_bytes.max() == 0
    found = solve(instance, "static-hottest")
    assert found.placement.violations(instance) == []
    assert evaluate(instance, found.placement).objective == pytest.approx(found.objective)


@pytest.mark.parametrize("solver", SOLVERS)
def test_all_of_highs_finds_the_same_relaxation(solver):
    instance = regime("knee", 2_000)
    low = lower(instance)
    found = solved(arrays.build(low, Layout(low)), solver, 60.0)
    assert found.value == pytest.approx(lp_bound(instance).value, rel=1e-3 if solver.endswith("1e-4") else 1e-5)


def test_a_relaxation_that_is_stopped_has_no_value():
    low = lower(regime("knee", 20_000))
    found = solved(arrays.build(low, Layout(low)), "ipm", 0.0)
    assert found.value is None
    assert "limit" in found.status
