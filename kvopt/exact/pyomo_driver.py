"""The Pyomo model on its way to HiGHS: compiled to arrays by Pyomo's own standard-form writer.

Pyomo's solver interfaces show neither incumbent nor bound while HiGHS runs, hang in threads, and differ in whether
they take a warm start and whether they raise at a time limit. Compiled, the model goes through the same
:mod:`kvopt.exact.highs` as the arrays do, and all of that is settled in one place.

Here too a user's ``expression(model, instance)`` takes the place of the model's cost, see :mod:`kvopt.objective`.
"""

from __future__ import annotations

from numbers import Real
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC
from pyomo.repn import generate_standard_repn
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler
from scipy import sparse

from kvopt.errors import MethodError
from kvopt.exact.program import Program, Steps
from kvopt.instance import Instance
from kvopt.models import placement

_OWN = ("z", "m", "r", "L", "eta", "excess", "late")
"""The variables of the page, in the order of their columns."""


def build(instance: Instance) -> Program:
    """The placement problem by way of :func:`kvopt.models.placement.build`.

    Raises
    ------
    MethodError
        When the objective has an expression of its own that is not linear.
    """
    with PauseGC():  # Thousands of small objects, none of them garbage: 40 % of the build's time.
        model = model_of(instance)
    trace = instance.trace
    steps = Steps.of(instance.prices, trace.n_steps, trace.n_lanes, model.time_unit_s, model.cost_unit)
    return compile_model(model, steps)


def write(instance: Instance, path: Path) -> None:
    """The model by Pyomo's own writer, as the path's ending says.

    Parameters
    ----------
    instance : Instance
    path : Path
        Ends in .lp or .mps.
    """
    with PauseGC():
        model_of(instance).write(str(path), io_options={"symbolic_solver_labels": True})


def model_of(instance: Instance) -> pyo.ConcreteModel:
    """The page's model, with the objective's own expression as its cost if it has one."""
    model = placement.build(instance)
    if instance.custom:
        _use_expression(model, instance)
    return model


def _use_expression(model: pyo.ConcreteModel, instance: Instance) -> None:
    before = {id(c) for c in model.component_data_objects(pyo.Constraint)}
    expression = instance.objective.expression(model, instance)
    repn = _linear(expression, "expression", instance)
    for constraint in model.component_data_objects(pyo.Constraint, active=True):
        if id(constraint) not in before:
            _linear(constraint.body, f"constraint {constraint.name}", instance)
    # In units of the dearest column, as the page counts in units of the dearest block.
    model.cost_unit = max((abs(float(c)) for c in repn.linear_coefs), default=0.0) or 1.0
    for other in model.component_data_objects(pyo.Objective, active=True):
        other.deactivate()
    model.own_cost = pyo.Objective(expr=expression / model.cost_unit)


def _linear(expression, what: str, instance: Instance):
    """Pyomo's standard form of an expression, after refusing one that is not linear."""
    field = f"objective {instance.objective.name!r} {what}"
    # Pyomo's comparisons are expressions, too, but no numeric ones.
    if not (isinstance(expression, Real) or getattr(expression, "is_numeric_type", bool)()):
        raise MethodError(
            field, f"is no Pyomo expression but {expression!r}", "Return a sum over the model's variables"
        )
    repn = generate_standard_repn(expression, quadratic=False)
    if not repn.is_linear():
        raise MethodError(
            field,
            "is not linear, and HiGHS solves linear ones",
            "Linearise it with variables and constraints added to the model, or let 'anneal' judge it by of_loads",
        )
    return repn


def compile_model(model: pyo.ConcreteModel, steps: Steps | None = None) -> Program:
    """The arrays of a placement model, columns and rows in the order of their declaration.

    Parameters
    ----------
    model : pyomo.environ.ConcreteModel
        Of :func:`kvopt.models.placement.build`; variables and constraints may have been added to it.
    steps : Steps, optional
        What the model's eta, excess and late are; none unless given.
    """
    variables = [v for name in _OWN for v in getattr(model, name).values()]
    form = LinearStandardFormCompiler().write(model, mixed_form=True, column_order=variables)
    # The writer leaves out variables that occur nowhere (a copy of a block that lives for one slot, unread), and
    # appends those that an expression has brought.
    number = {id(v): n for n, v in enumerate(variables)}
    variables += [v for v in form.columns if id(v) not in number]
    number = {id(v): n for n, v in enumerate(variables)}
    column = np.array([number[id(v)] for v in form.columns])
    # L[t] >= a constant arrives as a lower bound, all else as an upper one: turned, every row reads alike.
    bound_type = np.array([row.bound_type for row in form.rows])
    sign = np.where(bound_type < 0, -1.0, 1.0)
    n, rhs = len(variables), sign * form.rhs
    cost = np.zeros(n)
    cost[column] = form.c.toarray()[0]
    entries = form.A.tocoo()
    matrix = sparse.coo_array(
        (entries.data * sign[entries.row], (entries.row, column[entries.col])), (len(rhs), n)
    ).tocsc()
    matrix.sort_indices()
    lower, upper = np.array([_bounds(v) for v in variables], float).T
    return Program(
        cost=cost,
        lower=lower,
        upper=upper,
        matrix=matrix,
        row_lower=np.where(bound_type == 0, rhs, -np.inf),
        row_upper=rhs,
        integer=np.array([not v.is_continuous() for v in variables]),
        slot_column=sum(len(getattr(model, name)) for name in ("z", "m", "r")),
        slot_row=next(n for n, row in enumerate(form.rows) if row.constraint.parent_component() is model.slot_time),
        n_slots=len(model.L),
        n_channels=len(model.slot_time) // len(model.L),
        unit=model.cost_unit,
        time_unit_s=model.time_unit_s,
        offset=float(np.sum(form.c_offset)),
        steps=steps or Steps(),
    )


def _bounds(variable) -> tuple[float, float]:
    if variable.fixed:
        return variable.value, variable.value
    return -np.inf if variable.lb is None else variable.lb, np.inf if variable.ub is None else variable.ub
