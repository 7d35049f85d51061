"""What HiGHS leaves open on hard instances: ``python -m tests.benchmarks.bench_mip [--time-limit S] [--columns N]``.

Each row is one of the three synthetic regimes; the exact model starts from the annealer's placement. Both gaps are to
certified bounds: HiGHS's own at the end, and the dual's.
"""

from __future__ import annotations

import argparse

import kvopt
from kvopt.exact import column_count
from kvopt.warmup import warm_up_once
from tests.benchmarks.regimes import HBM_SHARES, regime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=20.0)
    parser.add_argument("--columns", type=int, nargs="+", default=[15_000, 50_000])
    arguments = parser.parse_args()
    limit = arguments.time_limit
    print(
        f"{'regime':14} {'columns':>8} {'annealed':>12} {'s':>5} {'MIP':>12} {'s':>5} {'status':>11} {'MIP gap':>8} "
        f"{'dual gap':>8}"
    )
    for columns in arguments.columns:
        for name in HBM_SHARES:
            instance = regime(name, columns)
            warm_up_once(lambda _: None, instance)
            annealed = kvopt.solve(instance, "anneal", time_limit=limit)
            exact = kvopt.solve(instance, "exact", time_limit=limit, start=annealed)
            mip_gap = exact.objective / max(exact.bound.value_s, 1e-300) - 1
            print(
                f"{name:14} {column_count(instance):8} {annealed.objective:12.6g} {annealed.elapsed_s:5.1f} "
                f"{exact.objective:12.6g} {exact.elapsed_s:5.1f} {exact.termination.value:>11} {100 * mip_gap:7.3f}% "
                f"{100 * annealed.gap:7.3f}%",
                flush=True,
            )


if __name__ == "__main__":
    main()
