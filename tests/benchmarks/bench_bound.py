"""Dual bound against HiGHS's linear relaxation, side by side: ``python -m tests.benchmarks.bench_bound [--columns N ...]``.

The relaxation goes straight from arrays into HiGHS, by each of its algorithms; the ratio is against the fastest that
finished. Kernels are compiled beforehand.
"""

from __future__ import annotations

import argparse

from kvopt import Rules
from kvopt.bounds import dual_bound
from kvopt.exact import lp_bound
from tests.benchmarks.regimes import HBM_SHARES, describe, regime

_SOLVERS = ("ipm", "simplex")
_LIMIT_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="+", default=[50_000, 100_000])
    parser.add_argument("--copies", default="exclusive")
    parser.add_argument("--moves", default="explicit")
    arguments = parser.parse_args()
    rules = Rules(arguments.copies, arguments.moves)
    dual_bound(regime("knee", 2_000, rules=rules), time_limit_s=5.0)
    print(
        f"{'regime':14} {'columns':>8} {'LP value':>12} {'LP s (ipm, simplex)':>22} {'dual':>12} {'dual s':>7} {'below LP':>9} {'faster':>8}"
    )
    for columns in arguments.columns:
        for name in HBM_SHARES:
            instance = regime(name, columns, rules=rules)
            found = [lp_bound(instance, solver=solver, time_limit_s=_LIMIT_S) for solver in _SOLVERS]
            dual = dual_bound(instance, tolerance=1e-3)
            finished = [lp for lp in found if lp is not None]
            times = ", ".join("-" if lp is None else f"{lp.elapsed_s:.2f}" for lp in found)
            value = finished[0].value_s
            fastest = min(lp.elapsed_s for lp in finished)
            print(
                f"{name:14} {describe(instance).split(', ')[-1].split()[0]:>8} {value:12.6g} {times:>22} {dual.value_s:12.6g} "
                f"{dual.elapsed_s:7.2f} {100 * (1 - dual.value_s / value):8.4f}% {fastest / dual.elapsed_s:7.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    main()
