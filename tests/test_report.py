"""The report: what each number is called, and that nothing is lost or mislabelled."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

import kvopt
from kvopt import describe, report
from kvopt.progress import display
from kvopt.result import Bound, Progress, Result, Role, Termination
from kvopt.sources.synthetic import drifting
from kvopt.units import bytes_text, percent, rate_text, seconds_text, time_unit


@pytest.fixture(scope="module")
def instance():
    trace = drifting(40, 8, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(30e3))


@pytest.fixture(scope="module")
def comparison(instance):
    """Policies and their bound: enough for every line of the report, and quick."""
    names = ("static-oldest", "lru", "belady")
    bound = kvopt.bound(instance)
    results = {name: kvopt.solve(instance, name, bound=bound) for name in names}
    return kvopt.Comparison(instance, bound, kvopt.bound(instance, method="aggregate"), results)


def test_every_method_and_every_bound_has_a_row(comparison):
    rows = report.table(comparison).rows
    assert [row[0] for row in rows[:3]] == ["static-oldest", "lru", "belady"]
    assert [row[1] for row in rows] == ["achieved"] * 3 + ["certified"] * 2
    assert {row[0] for row in rows[3:]} == {"bound: ideal bandwidth", "bound: dual (verified)"}


def test_bounds_are_marked_as_limits_and_achieved_times_are_not(comparison):
    for row in report.table(comparison).rows:
        limits = row[2].startswith(">= ") and row[3].startswith("<= ")
        assert limits == row[0].startswith("bound: ")


@pytest.mark.parametrize("encoding", ["ascii", "gbk"])
def test_a_console_of_any_encoding_shows_it_all(encoding, comparison, instance):
    from rich.console import Console

    named = replace(instance, trace=instance.trace._replace(name="1 µs \udce9"))
    comparison = replace(comparison, instance=named)
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding, "strict")
    report.show(comparison, Console(file=file, force_terminal=True, width=150))
    file.flush()
    text = raw.getvalue().decode(encoding)
    assert "1 us \\udce9: 8 steps" in text
    assert all(method in text for method in comparison.results)


def test_progress_is_shown_in_any_encoding_and_never_in_the_way():
    event = Progress(1.0, objective=2e-6, bound=1e-6, detail="…")
    raw = io.BytesIO()
    with display("lru", io.TextIOWrapper(raw, "ascii", "strict")) as show:
        show("lru", event)
    assert raw.getvalue().decode("ascii").startswith("lru: 1.0 s, best 2.000 us, bound 1.000 us")

    class Full(io.StringIO):
        def flush(self):
            raise OSError("No space left on device")

    with display("lru", Full()) as show:
        show("lru", event)


def test_the_best_row_is_the_fastest(comparison):
    table = report.table(comparison)
    assert table.rows[table.best][0] == comparison.best.method


def test_a_solvers_bound_is_called_claimed(comparison, instance):
    claim = Bound(comparison.bound.value_s * 1.001, "HiGHS MIP", Role.CLAIMED)
    claimed = replace(comparison.results["belady"], method="exact", bound=claim)
    with_claim = replace(comparison, results={**comparison.results, "exact": claimed})
    (row,) = [row for row in report.table(with_claim).rows if "HiGHS" in row[0]]
    assert row[:2] == ("bound: HiGHS MIP", "claimed")


def test_a_method_without_a_placement_is_shown_with_dashes(comparison, instance):
    nothing = Result.judge("exact", instance, None, termination=Termination.TIME_LIMIT, elapsed_s=3.0)
    row = report.table(replace(comparison, results={"exact": nothing})).rows[0]
    assert row == ("exact", "nothing found", *("-",) * 6, "3.00 s", "time limit")


def test_the_ladder_ascends_and_names_roles(comparison):
    steps = report.ladder(comparison)[1:]
    values = [float(re.match(r"\s*([0-9.]+)", line)[1]) for line in steps]
    assert values == sorted(values)
    assert "certified" in steps[0]
    assert "certified" in steps[1]
    assert all("achieved" in line and "bound, " not in line for line in steps[2:])


def test_the_ladder_of_an_interrupted_comparison_has_bounds_alone(comparison):
    stopped = replace(comparison, results={}, interrupted=True)
    assert len(report.ladder(stopped)) == 3
    assert "Where the time goes" in report.plain(stopped)


def test_plain_text_states_the_instance_and_the_sub_instance(comparison):
    text = report.plain(replace(comparison, sub=comparison))
    assert "8 steps x 2 lanes, 96 blocks" in text
    assert "30.0 kB for the KV cache, 30.5 % of the 98.3 kB alive at the peak" in text
    assert "exact on a sub-instance: drifting-3: 8 steps x 2 lanes" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_terminals_of_any_width_show_methods_and_gaps_whole(comparison, width):
    from rich.console import Console

    stream = io.StringIO()
    report.show(comparison, Console(file=stream, width=width, force_terminal=True, color_system=None))
    shown = stream.getvalue()
    assert "..." not in shown
    if width >= 80:
        table = report.table(comparison)
        for row in table.rows:
            assert all(cell in shown for cell in (row[0], row[1], row[2], row[5]))
        assert ("too narrow" in shown) == (width < 120)


def test_room_for_everything_is_noted(comparison, instance):
    assert not any("everything fits" in line for line in describe.header(instance))
    roomy = kvopt.Instance(instance.trace, kvopt.Platform.preset("gh200"))
    assert any("everything fits" in line for line in describe.header(roomy))


def test_bound_line_says_on_what_authority(comparison, instance):
    assert "(dual, certified, verified)" in describe.bound_line(instance, comparison.bound)
    stopped = replace(comparison.bound, termination=Termination.TIME_LIMIT)
    assert "verified, time limit)" in describe.bound_line(instance, stopped)


def test_trace_and_platform_are_described(instance):
    lines = describe.trace_lines(instance.trace)
    assert any("96, of which 80 were there before step 0" in line for line in lines)
    assert any(f"requests  {instance.trace.n_block_requests:,} for blocks" in line for line in lines)
    record = describe.platform_record(instance.platform.with_capacity(float("inf"), tier=1))
    assert [tier["capacity_bytes"] for tier in record["tiers"]] == [30e3, None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (seconds_text(0.0123456), "12.35 ms"),
        (seconds_text(3.0), "3.000 s"),
        (seconds_text(None), "-"),
        (seconds_text(2e-6, time_unit([0.5])), "0.002000 ms"),
        (bytes_text(999), "999 B"),
        (bytes_text(96e9), "96.0 GB"),
        (bytes_text(float("inf")), "unlimited"),
        (rate_text(12345.6), "12,346"),
        (rate_text(0.0312), "0.03120"),
        (percent(0.0031), "0.310 %"),
        (percent(0.5, sign=True), "+50.0 %"),
        (percent(1e-7), "< 0.01 %"),
        (percent(0.0), "0 %"),
        (percent(None), "-"),
    ],
)
def test_numbers_keep_their_digits(text, expected):
    assert text == expected


def test_the_header_names_rules_starts_and_tiers_between(instance):
    platform = kvopt.Platform.preset("gh200-cxl").with_capacity(30e3).with_capacity(20e3, tier=1)
    three = replace(instance, platform=platform, rules=kvopt.Rules("inclusive", writes="back"))
    three = three.with_initial(kvopt.solve(three, "lru").placement)
    lines = describe.header(three)
    assert lines[1] == "platform  gh200-cxl, inclusive copies, explicit moves, written back, from a given start"
    assert lines[3] == f"{platform.tiers[1].name:<9} 20.0 kB, 20.3 % of what is alive at the peak"
