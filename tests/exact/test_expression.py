"""A user's own Pyomo expression as the objective of the exact engine."""

from __future__ import annotations

import numpy as np
import pyomo.environ as pyo
import pytest

import kvopt
from kvopt.errors import MethodError
from kvopt.exact import Backend, export_model, lp_bound, solve_exact
from kvopt.result import Termination
from tests.exact import general
from tests.instances import RULES, brute_force, general_instance
from tests.models.test_placement import two_blocks


class Own:
    """A name and a unit; what they share that follow."""

    name, unit = "own", "s"

    def of_loads(self, load_s, instance):
        return float(load_s.max(axis=0).sum())


class DecodeTime(Own):
    def expression(self, model, instance):
        return model.latency_s


class WorstStep(Own):
    """With a variable and constraints of its own."""

    def of_loads(self, load_s, instance):
        return float(load_s.max(axis=0).reshape(instance.trace.n_steps, -1).sum(axis=1).max())

    def expression(self, model, instance):
        model.worst_s = pyo.Var()
        model.no_step_is_longer = pyo.Constraint(model.step_s.index_set(), rule=lambda m, n: m.worst_s >= m.step_s[n])
        return 1000.0 * model.worst_s / 1000.0


class BusySlots(Own):
    """How many slots take longer than a second: with integer variables of its own."""

    unit = "slots"

    def of_loads(self, load_s, instance):
        return float((load_s.max(axis=0) > 1.0 + 1e-6).sum())

    def expression(self, model, instance):
        most_s = 1e3
        model.busy = pyo.Var(model.L.index_set(), domain=pyo.Binary)
        model.calm = pyo.Constraint(
            model.L.index_set(), rule=lambda m, t: m.time_unit_s * m.L[t] <= 1.0 + 1e-6 + most_s * m.busy[t]
        )
        return pyo.quicksum(model.busy.values())


class Quadratic(Own):
    def expression(self, model, instance):
        return model.latency_s**2


class CrookedRow(DecodeTime):
    def expression(self, model, instance):
        model.crooked = pyo.Constraint(expr=model.L[0] * model.L[1] <= 1e9)
        return model.latency_s


class InOtherUnits(Own):
    """The usual slip: L counts in units of time_unit_s."""

    def expression(self, model, instance):
        return pyo.quicksum(model.L.values())


class Downhill(Own):
    def expression(self, model, instance):
        return -model.latency_s


class Words(Own):
    def expression(self, model, instance):
        return "fast"


class Comparison(Own):
    def expression(self, model, instance):
        return model.L[0] <= 1.0


class Forgotten(Own):
    def expression(self, model, instance):
        pass


def instances(n: int):
    for seed in range(n):
        yield general_instance(np.random.default_rng(8000 + seed), rules=RULES[seed % len(RULES)])


def test_the_decode_time_said_in_pyomo_is_the_decode_time():
    for instance in instances(30):
        best, placement = brute_force(instance)
        own = instance.with_objective(DecodeTime())
        result = solve_exact(own, start=placement)
        assert result.termination is Termination.OPTIMAL
        assert result.objective == pytest.approx(best, rel=1e-9)
        assert result.bound.value == pytest.approx(best, rel=1e-7)
        assert result.details["backend"] == "pyomo"
        assert lp_bound(own).value == pytest.approx(lp_bound(instance).value, rel=1e-7)


@pytest.mark.parametrize("from_start", [False, True])
def test_variables_of_its_own_are_solved_for(from_start):
    """Columns that no placement completes are left to HiGHS, also in a start."""
    for instance in instances(30):
        declared = instance.with_objective(kvopt.objective.worst_step())
        best, placement = brute_force(declared)
        result = solve_exact(instance.with_objective(WorstStep()), start=placement if from_start else None)
        assert result.termination is Termination.OPTIMAL
        assert result.objective == pytest.approx(best, rel=1e-9)
        extra = result.details["columns"] - solve_exact(instance).details["columns"]
        assert extra == 1


def test_integer_variables_of_its_own():
    instance = two_blocks("exclusive", "explicit")
    result = solve_exact(instance.with_objective(BusySlots()))
    counts = []
    for seed in range(200):
        placement = general.random_feasible(instance, np.random.default_rng(seed))
        counts.append(kvopt.evaluate(instance.with_objective(BusySlots()), placement).objective)
    assert result.termination is Termination.OPTIMAL
    assert result.objective == min(counts)
    assert max(counts) > min(counts)


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (Quadratic(), "'own' expression: is not linear, and HiGHS solves linear ones"),
        (CrookedRow(), "'own' constraint crooked: is not linear"),
        (InOtherUnits(), "expression and of_loads disagree: HiGHS minimised .*, of_loads makes .*time_unit_s"),
        (Downhill(), "unbounded below"),
        (Words(), "is no Pyomo expression but 'fast'"),
        (Comparison(), "is no Pyomo expression but"),
        (Forgotten(), "is no Pyomo expression but None"),
        (Own(), "exact of objective 'own'"),
    ],
)
def test_refuses(objective, message):
    with pytest.raises(MethodError, match=message):
        solve_exact(two_blocks("exclusive", "explicit").with_objective(objective))


@pytest.mark.parametrize("take", [solve_exact, export_model])
def test_arrays_are_refused_with_the_reason(take, tmp_path):
    instance = two_blocks("exclusive", "explicit").with_objective(DecodeTime())
    path = () if take is solve_exact else (tmp_path / "model.lp",)
    with pytest.raises(MethodError, match="backend: 'arrays' cannot hold objective 'own': its expression is over"):
        take(instance, *path, backend="arrays")


def test_the_exported_model_is_that_of_the_expression(tmp_path):
    import highspy

    instance = two_blocks("exclusive", "explicit").with_objective(WorstStep())
    made = export_model(instance, tmp_path / "model.lp")
    assert made.backend is Backend.PYOMO
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.readModel(str(made.path))
    assert (solver.getNumCol(), solver.getNumRow()) == (made.columns, made.rows)
    solver.run()
    found = solver.getObjectiveValue() * made.unit
    assert found == pytest.approx(solve_exact(instance).objective, rel=1e-6)


def test_a_time_limit_compares_no_more_than_can_be_known():
    instance = two_blocks("exclusive", "explicit").with_objective(WorstStep())
    result = solve_exact(instance, time_limit_s=1e-9, start=kvopt.solve(instance, "static-oldest").placement)
    assert result.placement is not None
