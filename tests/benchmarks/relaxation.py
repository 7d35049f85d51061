"""HiGHS on the linear relaxation, by each of its solvers and at its own tolerances."""

from __future__ import annotations

import time
from dataclasses import dataclass

import highspy

from kvopt.exact import highs
from kvopt.exact.program import Program

SOLVERS: dict[str, dict[str, object]] = {
    "simplex": {"solver": "simplex"},
    "ipm": {"solver": "ipm"},
    "ipm-no-crossover": {"solver": "ipm", "run_crossover": "off"},
    "pdlp": {"solver": "pdlp"},
    "hipdlp": {"solver": "hipdlp"},
    "hipdlp-1e-4": {"solver": "hipdlp", "kkt_tolerance": 1e-4},
}
"""By name, HiGHS's options. "ipm" ends in a crossover to a vertex; the last is HiGHS's quickest, to four digits."""
_TOLERANCES = ("primal_feasibility_tolerance", "dual_feasibility_tolerance")
"""kvopt sets them lower than HiGHS does; a race should be run at the usual ones."""


@dataclass(frozen=True)
class Solved:
    """How a solver fared.

    Parameters
    ----------
    value : float or None
        In the objective's unit; None when it did not get there.
    elapsed_s : float
        Of the solver alone: the program is built and loaded before.
    status : str
        HiGHS's words.
    """

    value: float | None
    elapsed_s: float
    status: str


def solved(program: Program, solver: str, time_limit_s: float) -> Solved:
    """Solve the relaxation.

    Parameters
    ----------
    program : Program
    solver : str
        A key of ``SOLVERS``.
    time_limit_s : float
    """
    model = highs._highs(program, time_limit_s, 0, integer=False)
    usual = highspy.HighsOptions()
    options = {name: getattr(usual, name) for name in _TOLERANCES} | SOLVERS[solver]
    for name, value in options.items():
        if model.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            return Solved(None, 0.0, f"HiGHS {model.version()} has no {name} = {value}")
    began = time.perf_counter()
    model.run()
    elapsed_s, status = time.perf_counter() - began, model.modelStatusToString(model.getModelStatus())
    value = model.getInfo().objective_function_value * program.unit if status == "Optimal" else None
    return Solved(value, elapsed_s, status.lower())
