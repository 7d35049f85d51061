"""A comparison: one method's failure costs no other its row, and no solver is believed against a placement."""

from __future__ import annotations

import importlib
import io
import json
import math
from dataclasses import replace

import pytest

import kvopt
from kvopt import report
from kvopt.errors import MethodError
from kvopt.progress import PlainLines
from kvopt.result import Bound, Progress, Result, Role, SolutionStatus, Termination, lies_above
from kvopt.sources.synthetic import drifting

compare_module = importlib.import_module("kvopt.compare")  # Under that name the package has the function.
POLICIES = ("static-oldest", "lru", "belady")


@pytest.fixture(scope="module")
def instance() -> kvopt.Instance:
    trace = drifting(40, 8, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(30e3))


def with_method(monkeypatch, name: str, ends):
    """``solve`` as it is, but for one method, which ends as ``ends(instance, **limits)`` does."""
    solve = compare_module.solve

    def instead(instance, method="anneal", **limits):
        return ends(instance, **limits) if method == name else solve(instance, method, **limits)

    monkeypatch.setattr(compare_module, "solve", instead)


def breaks(*_, **__):
    raise TypeError("unsupported operand\n  for -: 'NoneType' and 'float'")


def refuses(*_, **__):
    raise MethodError("policy 'lru'", "found no split", "Give the backing tier more capacity")


@pytest.mark.parametrize(
    ("ends", "reason"),
    [
        (breaks, "TypeError: unsupported operand for -: 'NoneType' and 'float'"),
        (refuses, "policy 'lru': found no split. Give the backing tier more capacity"),
    ],
)
def test_a_failed_method_has_a_row_that_says_why(instance, monkeypatch, ends, reason):
    with_method(monkeypatch, "lru", ends)
    events = []
    found = kvopt.compare(
        instance, POLICIES, time_limit=5, on_progress=lambda name, event: events.append((name, event))
    )
    failed = found.results["lru"]
    assert (failed.termination, failed.solution_status) == (Termination.FAILED, SolutionStatus.NONE)
    assert failed.error == reason
    assert ends.__name__ in failed.details["traceback"]
    assert [r.objective is not None for r in found.results.values()] == [True, False, True]
    rows = json.loads(json.dumps(found.to_json(), allow_nan=False))["rows"]
    assert [(row["status"], row["error"]) for row in rows] == [
        ("finished", None),
        ("failed", reason),
        ("finished", None),
    ]
    text = report.plain(found)
    assert f"note      lru failed: {reason}" in text
    assert all(name in text for name in POLICIES)
    assert [event.detail for name, event in events if name == "lru"] == [f"failed: {reason}"]


def test_a_method_alone_fails_as_it_does(instance, monkeypatch):
    with_method(monkeypatch, "lru", breaks)
    with pytest.raises(TypeError, match="unsupported"):
        kvopt.compare(instance, ["lru"], time_limit=5)


def test_an_unknown_method_is_an_error_before_any_work(instance, monkeypatch):
    monkeypatch.setattr(compare_module, "bound", breaks)
    with pytest.raises(MethodError, match="there is no method 'lifo'"):
        kvopt.compare(instance, ["lru", "lifo"])


def test_ctrl_c_is_no_failure(instance, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with_method(monkeypatch, "lru", stopped)
    found = kvopt.compare(instance, POLICIES, time_limit=5)
    assert found.interrupted
    assert list(found.results) == ["static-oldest"]


def claims(value: float, termination: Termination = Termination.OPTIMAL):
    """An exact engine that has everything in the backing tier, and says that nothing is better."""

    def ends(instance, **_):
        claim = Bound(value, "HiGHS MIP", Role.CLAIMED)
        return Result.judge(
            "exact", instance, kvopt.Placement.backing(instance), termination=termination, elapsed_s=0.1, bound=claim
        )

    return ends


def test_a_claim_that_another_method_beats_is_refuted(instance, monkeypatch):
    backing = kvopt.evaluate(instance, kvopt.Placement.backing(instance)).objective
    with_method(monkeypatch, "exact", claims(backing))
    monkeypatch.setattr(compare_module, "_too_large", lambda _: False)
    found = kvopt.compare(instance, [*POLICIES, "exact"], time_limit=5)
    exact = found.results["exact"]
    assert found.best.objective < backing
    assert exact.termination is Termination.REFUTED
    assert exact.solution_status is SolutionStatus.FEASIBLE
    assert exact.bound is found.bound
    assert exact.refuted.value == backing
    assert (exact.refuted.refuted_by.value, exact.refuted.refuted_by.source) == (
        found.best.objective,
        found.best.method,
    )
    (row,) = [row for row in found.to_json()["rows"] if row["method"] == "exact"]
    assert (row["status"], row["refuted"]["role"]) == ("refuted", "refuted")
    assert row["refuted"]["refuted_by"] == {"value": found.best.objective, "source": found.best.method}
    text = report.plain(found)
    assert f"refuted by {found.best.method}, which achieves" in text
    assert not any("HiGHS" in name for name, _ in report.bounds_of(found))


def test_infeasible_is_refuted_by_any_placement(instance, monkeypatch):
    def ends(instance, **_):
        return Result.judge("exact", instance, None, termination=Termination.INFEASIBLE, elapsed_s=0.1)

    with_method(monkeypatch, "exact", ends)
    monkeypatch.setattr(compare_module, "_too_large", lambda _: False)
    found = kvopt.compare(instance, ["lru", "exact"], time_limit=5)
    exact = found.results["exact"]
    assert (exact.termination, exact.solution_status) == (Termination.REFUTED, SolutionStatus.NONE)
    assert exact.refuted.value == math.inf
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))["rows"][1]["refuted"]
    assert record["value"] is None
    assert "claimed no placement at all (exact); refuted by lru" in report.plain(found)


def test_a_failure_in_the_sub_instance_costs_one_row(instance, monkeypatch):
    with_method(monkeypatch, "exact", breaks)
    monkeypatch.setattr(compare_module, "_too_large", lambda _: True)
    found = kvopt.compare(instance, ["static-oldest", "exact"], time_limit=2)
    assert [r.termination for r in found.sub.results.values()][-1] is Termination.FAILED
    assert list(found.sub.results) == ["static-oldest", "anneal", "exact"]
    assert "note      exact failed: TypeError" in report.plain(found)


def test_the_best_online_policy_may_be_one_that_never_moves(instance):
    found = kvopt.compare(instance, ["static-oldest", "lru", "belady"], time_limit=5)
    static, lru, belady = (found.results[name] for name in ("static-oldest", "lru", "belady"))
    slow_lru = replace(
        found, results={"static-oldest": static, "lru": replace(lru, evaluation=_slower(static)), "b": belady}
    )
    quick_lru = replace(
        found, results={"static-oldest": replace(static, evaluation=_slower(lru)), "lru": lru, "b": belady}
    )
    assert "best online policy, achieved: static-oldest" in "\n".join(report.ladder(slow_lru))
    quick = "\n".join(report.ladder(quick_lru))
    assert "best online policy, achieved: lru" in quick
    assert "static, achieved: static-oldest" in quick


def _slower(result: Result):
    factor = 1.5
    evaluation = result.evaluation
    return replace(evaluation, latency_s=factor * evaluation.latency_s, objective=factor * evaluation.objective)


@pytest.mark.parametrize(
    ("claimed", "achieved", "above"),
    [
        (1.0, 1.0, False),
        (1.0 + 1e-9, 1.0, False),
        (1.0 + 1e-6, 1.0, True),
        (1.0, 2.0, False),
        (1e-12, 0.0, True),
        (0.0, 0.0, False),
        (-1.0, -2.0, True),
        (math.inf, 1e300, True),
        (-math.inf, 0.0, False),
    ],
)
def test_rounding_is_no_contradiction(claimed, achieved, above):
    assert lies_above(claimed, achieved) == above
    claim = Bound(claimed, "HiGHS MIP", Role.CLAIMED)
    assert (claim.against(achieved, "lru").role is Role.REFUTED) == above


def test_a_proof_is_no_claim():
    proof = Bound(2.0, "dual", Role.CERTIFIED)
    assert proof.against(1.0, "lru") is proof


def test_a_finished_policy_tells_its_value(instance):
    events = []
    result = kvopt.solve(instance, "lru", on_progress=events.append)
    assert (events[-1].objective, events[-1].last) == (result.objective, True)


def test_plain_lines_show_what_a_method_is_worth_at_its_end():
    out = io.StringIO()
    with PlainLines(out) as show:
        show("lru", Progress(0.0, detail="slot 0 of 9"))
        show("lru", Progress(0.1, detail="slot 5 of 9"))
        show("lru", Progress(0.2, 1.5, 1.0, "finished", last=True))
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "best 1.500 s" in lines[1]
    assert "finished" in lines[1]
