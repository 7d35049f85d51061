"""A solver that says what is wrong is not believed: its claims are refuted with both values, or asked for again."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt.exact import highs, lp_bound, solve_exact
from kvopt.result import Role, SolutionStatus, Termination
from tests.instances import brute_force, tiny_instance


@pytest.fixture(scope="module")
def instance() -> kvopt.Instance:
    """One whose optimum is below what is in hand at first."""
    for seed in range(100):
        found = tiny_instance(np.random.default_rng(seed))
        backing = kvopt.Placement.backing(found)
        if not backing.violations(found) and brute_force(found)[0] < 0.9 * kvopt.evaluate(found, backing).latency_s:
            return found
    raise AssertionError("no such instance")


def lying(monkeypatch, change, times: int = 10**9) -> list:
    """HiGHS as it is, but for what ``change`` makes of its outcome, so many times; a list of the runs."""
    minimise, runs = highs.minimise, []

    def lie(*arguments, **options):
        outcome = minimise(*arguments, **options)
        runs.append(outcome)
        return change(outcome) if len(runs) <= times else outcome

    monkeypatch.setattr(highs, "minimise", lie)
    return runs


def too_high(outcome: highs.Outcome) -> highs.Outcome:
    return replace(outcome, bound=outcome.bound * 1.5)


def infeasible(outcome: highs.Outcome) -> highs.Outcome:
    return replace(outcome, termination=Termination.INFEASIBLE, values=None, bound=None)


def nothing_found(outcome: highs.Outcome) -> highs.Outcome:
    return replace(outcome, values=None)


def test_a_bound_above_what_is_achieved_is_refuted_with_both_values(instance, monkeypatch):
    best = brute_force(instance)[0]
    runs = lying(monkeypatch, too_high)
    result = solve_exact(instance)
    assert len(runs) == 3
    assert result.termination is Termination.REFUTED
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert result.objective == pytest.approx(best, rel=1e-9)
    assert (result.bound, result.gap) == (None, None)
    assert result.refuted.role is Role.REFUTED
    assert result.refuted.value == pytest.approx(1.5 * best, rel=1e-7)
    assert result.refuted.refuted_by.value == result.objective
    assert all(event.bound is None or event.bound <= event.objective * (1 + 1e-7) for event in result.history)


@pytest.mark.parametrize("times", [1, 2])
def test_what_does_not_stand_is_asked_for_again(instance, monkeypatch, times):
    for change in (too_high, infeasible):
        with monkeypatch.context() as patched:
            runs = lying(patched, change, times)
            result = solve_exact(instance)
        assert len(runs) == times + 1
        assert result.termination is Termination.OPTIMAL
        assert result.refuted is None
        assert result.objective == pytest.approx(brute_force(instance)[0], rel=1e-9)
        assert result.bound.value == pytest.approx(result.objective, rel=1e-7)


def test_infeasible_is_no_answer_where_a_placement_is_in_hand(instance, monkeypatch):
    lying(monkeypatch, infeasible)
    result = solve_exact(instance)
    assert result.termination is Termination.REFUTED
    assert result.placement is not None
    assert result.refuted.value == math.inf
    assert result.refuted.refuted_by.value == result.objective


def test_optimal_without_a_placement_that_is_worth_it_is_not_optimal(instance, monkeypatch):
    """HiGHS's own solutions do not reach us, as when each breaks a capacity by a byte."""
    lying(monkeypatch, nothing_found)
    with monkeypatch.context() as patched:
        patched.setattr("kvopt.exact.tracker.Tracker.incumbent", lambda *_: None)
        result = solve_exact(instance)
    assert result.termination is Termination.FINISHED
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert result.objective == kvopt.evaluate(instance, kvopt.Placement.backing(instance)).objective
    assert result.bound.value < result.objective


def test_a_relaxation_above_what_is_achieved_is_refuted(instance, monkeypatch):
    minimise = highs.minimise_relaxed

    def lie(*arguments, **options):
        outcome = minimise(*arguments, **options)
        return replace(outcome, bound=outcome.bound * 100)

    monkeypatch.setattr(highs, "minimise_relaxed", lie)
    bound = lp_bound(instance)
    assert bound.role is Role.REFUTED
    assert bound.refuted_by.value < bound.value


def test_the_first_event_is_what_is_in_hand(instance):
    events = []
    solve_exact(instance, on_progress=events.append)
    assert events[0].objective == kvopt.evaluate(instance, kvopt.Placement.backing(instance)).objective
    assert events[-1].last
    assert [event.last for event in events].count(True) == 1


def test_a_proof_above_an_optimum_is_our_own_fault(instance):
    wrong = replace(kvopt.bound(instance), value=2 * brute_force(instance)[0])
    with pytest.raises(AssertionError, match="certified bound given"):
        kvopt.solve(instance, "exact", bound=wrong)
