"""Dual bound against HiGHS's linear relaxation, side by side.

``python -m tests.benchmarks.bench_bound [--columns N ...] [--copies C] [--moves M] [--objective O]``

The relaxation goes straight from arrays into HiGHS, by interior points and by simplex; the ratios are times of HiGHS
over times of the dual, which stops where two temperatures in a row changed it by less than 0.05 % each. Kernels are
compiled beforehand.
"""

from __future__ import annotations

import argparse

from kvopt import Rules
from kvopt.bounds import dual_bound
from kvopt.exact import column_count, lp_bound
from kvopt.objective import Objective
from kvopt.objective_text import parse
from tests.benchmarks.regimes import HBM_SHARES, regime

_SOLVERS = ("ipm", "simplex")
_LIMIT_S = 300.0
_TOLERANCE = 5e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="+", default=[50_000, 100_000])
    parser.add_argument("--copies", default="exclusive")
    parser.add_argument("--moves", default="explicit")
    parser.add_argument("--objective", default="latency")
    arguments = parser.parse_args()
    rules = Rules(arguments.copies, arguments.moves)
    wanted = parse(arguments.objective)
    dual_bound(regime("knee", 2_000, rules=rules), time_limit_s=5.0)
    print(
        f"{'regime':14} {'columns':>8} {'LP value':>12} {'LP s (ipm, simplex)':>20} {'dual':>12} {'dual s':>7} ", end=""
    )
    print(f"{'below LP':>9} {'than ipm':>9} {'simplex':>8}")
    for columns in arguments.columns:
        for name in HBM_SHARES:
            row(name, columns, rules, wanted)


def row(name: str, columns: int, rules: Rules, wanted: Objective) -> None:
    """Measure and print one instance."""
    instance = regime(name, columns, rules=rules).with_objective(wanted)
    found = [lp_bound(instance, solver=solver, time_limit_s=_LIMIT_S) for solver in _SOLVERS]
    dual = dual_bound(instance, tolerance=_TOLERANCE)
    times = ", ".join("-" if lp is None else f"{lp.elapsed_s:.2f}" for lp in found)
    value = next(lp.value for lp in found if lp is not None)
    ratios = [float("nan") if lp is None else lp.elapsed_s / dual.elapsed_s for lp in found]
    print(
        f"{name:14} {column_count(instance):>8} {value:12.6g} {times:>20} {dual.value:12.6g} {dual.elapsed_s:7.2f} "
        f"{100 * (1 - dual.value / value):8.4f}% {ratios[0]:8.1f}x {ratios[1]:7.1f}x",
        flush=True,
    )


if __name__ == "__main__":
    main()
