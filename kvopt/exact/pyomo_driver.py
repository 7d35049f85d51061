"""The Pyomo model on its way to HiGHS: compiled to arrays by Pyomo's own standard-form writer.

Pyomo's solver interfaces show neither incumbent nor bound while HiGHS runs, hang in threads, and differ in whether
they take a warm start and whether they raise at a time limit. Compiled, the model goes through the same
:mod:`kvopt.exact.highs` as the arrays do, and all of that is settled in one place.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyomo.environ as pyo
from pyomo.common.gc_manager import PauseGC
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler
from scipy import sparse

from kvopt.exact.program import Program
from kvopt.instance import Instance
from kvopt.models import placement


def build(instance: Instance) -> Program:
    """The placement problem by way of :func:`kvopt.models.placement.build`."""
    with PauseGC():  # Thousands of small objects, none of them garbage: 40 % of the build's time.
        model = placement.build(instance)
    return compile_model(model)


def write(instance: Instance, path: Path) -> None:
    """The model by Pyomo's own writer, as the path's ending says.

    Parameters
    ----------
    instance : Instance
    path : Path
        Ends in .lp or .mps.
    """
    with PauseGC():
        placement.build(instance).write(str(path), io_options={"symbolic_solver_labels": True})


def compile_model(model: pyo.ConcreteModel) -> Program:
    """The arrays of a placement model, columns and rows in the order of their declaration.

    Parameters
    ----------
    model : pyomo.environ.ConcreteModel
        Of :func:`kvopt.models.placement.build`.
    """
    variables = [*model.z.values(), *model.m.values(), *model.L.values()]
    form = LinearStandardFormCompiler().write(model, mixed_form=True, column_order=variables)
    # The writer leaves out variables that occur nowhere (a copy of a block that lives for one slot, unread).
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
    return Program(
        cost=cost,
        lower=np.array([v.lb for v in variables], float),
        upper=np.array([np.inf if v.ub is None else v.ub for v in variables], float),
        matrix=matrix,
        row_lower=np.where(bound_type == 0, rhs, -np.inf),
        row_upper=rhs,
        n_binary=sum(not v.is_continuous() for v in model.z.values()),
        n_slots=len(model.L),
        n_channels=len(model.slot_time) // len(model.L),
        unit=model.cost_unit,
        offset=float(np.sum(form.c_offset)),
    )
