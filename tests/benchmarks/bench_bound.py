"""Dual bound against HiGHS's linear relaxation, side by side.

``python -m tests.benchmarks.bench_bound [--columns N ...] [--regimes R ...] [--solvers S ...] [--time-limit S]
[--copies C] [--moves M] [--objective O]``

The relaxation goes from arrays into HiGHS, and what counts is what HiGHS's solver takes, at HiGHS's own tolerances:
simplex, interior points with and without crossover, first-order methods to seven digits and to four. The dual is told
the relaxation's value and stops when it is at most 0.1 % below. Its time is all it takes: lowering, sampling,
evaluations, and the certificate's verification; the median of three. A ratio is the solver's time over the dual's; one
with ">" is of a solver that ran into its limit. The line below is the dual that knows no such value, and stops where
two temperatures in a row changed it by less than 0.05 % each.
"""

from __future__ import annotations

import argparse
import sys
import time

from kvopt import Bound, Instance, Rules
from kvopt.bounds import dual_bound
from kvopt.exact import arrays, column_count
from kvopt.exact.layout import Layout
from kvopt.lowering import lower
from kvopt.objective import Objective
from kvopt.objective_text import parse
from kvopt.warmup import warm_up
from tests.benchmarks.regimes import HBM_SHARES, regime
from tests.benchmarks.relaxation import SOLVERS, Solved, solved

_BELOW = 1e-3
"""How far below the relaxation's value the dual may stop, as a share of that."""
_TOLERANCE = 5e-4
_ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--columns", type=lambda text: int(float(text)), nargs="+", default=[50_000, 100_000])
    parser.add_argument("--regimes", nargs="+", choices=HBM_SHARES, default=list(HBM_SHARES))
    parser.add_argument("--solvers", nargs="+", choices=SOLVERS, default=list(SOLVERS))
    parser.add_argument("--time-limit", type=float, default=300.0, help="Seconds for each of HiGHS's solvers.")
    parser.add_argument("--copies", default="exclusive")
    parser.add_argument("--moves", default="explicit")
    parser.add_argument("--objective", default="latency")
    given = parser.parse_args()
    rules, wanted = Rules(given.copies, given.moves), parse(given.objective)
    warm_up(_instance("knee", 2_000, rules, wanted))
    for columns in given.columns:
        for name in given.regimes:
            table(name, _instance(name, columns, rules, wanted), given.solvers, given.time_limit)


def _instance(name: str, columns: int, rules: Rules, wanted: Objective) -> Instance:
    return regime(name, columns, rules=rules).with_objective(wanted)


def table(name: str, instance: Instance, solvers: list[str], limit_s: float) -> None:
    """Measure and print one instance."""
    low = lower(instance)
    program = arrays.build(low, Layout(low))
    print(f"\n{name}, {column_count(instance):,} columns, {instance.trace.n_runs:,} runs", flush=True)
    found = {}
    for solver in solvers:
        found[solver] = solved(program, solver, limit_s)
        print(f"  {solver:17} {found[solver].elapsed_s:9.3f} s  {_told(found[solver].value)}", flush=True)
    value = next((one.value for one in found.values() if one.value is not None), None)
    free, free_s = _timed(instance)
    if value is None:
        print(
            f"  dual, by itself   {free_s:9.3f} s  {_told(free.value)}, and no relaxation to compare it with",
            flush=True,
        )
        return
    near, near_s = _timed(instance, target=value)
    for title, dual, took_s in (("dual, within 0.1 %", near, near_s), ("dual, by itself", free, free_s)):
        below = 1 - dual.value / value
        if below < -_BELOW:
            sys.exit(f"the dual's {dual.value!r} lies above the relaxation's {value!r}")
        missed = ", MORE THAN 0.1 %" if dual is near and below > _BELOW + 1e-8 else ""
        evaluations = dual.history[-1].detail.split(", ")[-1] if dual.history else "none"
        print(f"  {title:18}{took_s:9.3f} s  {_told(dual.value)}  {below:.4%} below{missed}, {evaluations}")
        print(f"  {'':17} times faster: {', '.join(_ratio(s, found[s], took_s) for s in solvers)}", flush=True)


def _told(value: float | None) -> str:
    return f"{'no value':>14}" if value is None else f"{value:14.8g}"


def _ratio(solver: str, one: Solved, dual_s: float) -> str:
    """How many times as long as the dual a solver took; at least, where it was stopped."""
    if one.value is not None:
        return f"{solver} {one.elapsed_s / dual_s:.0f}"
    return f"{solver} > {one.elapsed_s / dual_s:.0f}" if "limit" in one.status else f"{solver} - ({one.status})"


def _timed(instance: Instance, target: float | None = None) -> tuple[Bound, float]:
    """The dual and the median of its times; with a target, stopped just below that."""
    options = {"tolerance": _TOLERANCE} if target is None else {"target_s": target, "gap": _BELOW / (1 - _BELOW)}
    rounds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        found = dual_bound(instance, **options)
        rounds.append((time.perf_counter() - began, found))
    took_s, found = sorted(rounds, key=lambda one: one[0])[_ROUNDS // 2]
    return found, took_s


if __name__ == "__main__":
    main()
