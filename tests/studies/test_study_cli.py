"""``kvopt study``: what there is, a run that goes on, and what is refused."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from kvopt import studies
from kvopt.cli import main
from kvopt.units import percent, seconds_text
from tests.studies.test_engine import STUDY


def run(*arguments):
    return CliRunner().invoke(main, ["study", *map(str, arguments)])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(studies, "get", lambda name: STUDY)


@pytest.mark.parametrize("arguments", [(), ("--list",)])
def test_lists_studies_with_paper_and_scales(arguments):
    done = run(*arguments)
    assert done.exit_code == 0
    assert "fang2025: " in done.output
    assert "arXiv 2508.13231" in done.output
    assert "tenth (" in done.output


def test_lists_the_settings_of_one(small):
    done = run("small", "--list")
    assert done.exit_code == 0
    assert "    roomy\n    tight" in done.output
    assert "half (0.5 of the published size)" in done.output


def test_runs_and_goes_on(small, tmp_path):
    done = run("small", "--scale", "whole", "--out", tmp_path, "--processes", 1)
    assert done.exit_code == 0, done.output
    assert "14 rows" in done.output
    line = next(line for line in done.output.splitlines() if line.startswith("  tight"))
    rows = {r["policy"]: r for r in studies.load(tmp_path).rows if r["setting"] == "tight"}
    best = min((r for p, r in rows.items() if r["feasible"] and p != "annealed"), key=lambda r: r["reproduced_s"])
    for row in (rows["bound"], rows["annealed"], best):
        assert seconds_text(row["reproduced_s"]) in line
    assert f" {best['policy']} " in line
    assert line.endswith(percent(best["gap"], sign=True))
    before = json.loads((tmp_path / "study.json").read_text(encoding="utf-8"))
    again = run("small", "--scale", "whole", "--out", tmp_path)
    assert again.exit_code == 0, again.output
    assert json.loads((tmp_path / "study.json").read_text(encoding="utf-8")) == before
    other = run("small", "--scale", "half", "--out", tmp_path)
    assert other.exit_code == 2
    assert "its scale is 'whole', not 'half'" in other.output


def test_what_is_not_there_is_refused_by_name(tmp_path):
    unknown = run("nothing", "--out", tmp_path)
    assert unknown.exit_code == 2
    assert "there is no 'nothing'. Choose one of: fang2025" in unknown.output
    scale = run("fang2025", "--scale", "third", "--out", tmp_path)
    assert scale.exit_code == 2
    assert "Choose one of: full, tenth, hundredth" in scale.output


def test_tells_the_rows_that_failed_and_keeps_the_rest(small, tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(studies.engine, "dual_bound", broken)
    done = run("small", "--scale", "half", "--out", tmp_path, "--processes", 1)
    assert done.exit_code == 2
    assert "10 rows" in done.output
    assert "study.json lacks their rows: tight, bound: ZeroDivisionError: by nothing; roomy, bound" in done.output
