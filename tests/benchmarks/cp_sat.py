"""OR-Tools' CP-SAT on an MPS file, in a process of its own.

``python -m tests.benchmarks.cp_sat MODEL.mps SECONDS ANSWER.json``

OR-Tools and highspy each bring a HiGHS of their own, and cannot be loaded into one process. Writes JSON:
``status``, ``bound`` (in the model's unit) and ``ones``, the names of the variables that are 1 and begin with z.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    from ortools.linear_solver.python import model_builder

    model = model_builder.Model()
    model.import_from_mps_file(sys.argv[1])
    solver = model_builder.Solver("sat")
    solver.set_time_limit_in_seconds(float(sys.argv[2]))
    status = solver.solve(model)
    found = status in (model_builder.SolveStatus.OPTIMAL, model_builder.SolveStatus.FEASIBLE)
    variables = model.get_variables() if found else ()
    ones = [v.name for v in variables if v.name.startswith("z") and solver.value(v) > 0.5]
    bound = solver.best_objective_bound if found else None
    answer = {"status": status.name.lower(), "bound": bound, "ones": ones if found else None}
    # To a file: the solvers print as they like.
    Path(sys.argv[3]).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
