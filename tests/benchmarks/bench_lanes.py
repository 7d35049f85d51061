"""What asking few lanes first gains: ``python -m tests.benchmarks.bench_lanes [--scale tenth] [--time-limit S]``.

Settings of the published study, 32 layers, at equal time limits with and without: the dual begun with one lane's
multipliers, and annealing begun with one lane's placement where lanes are alike. Gaps are to the higher of both bounds.
"""

from __future__ import annotations

import argparse

import kvopt
from kvopt import studies
from kvopt.anneal import lanes as annealed_lanes
from kvopt.bounds import dual_bound
from kvopt.bounds import lanes as bound_lanes
from kvopt.warmup import warm_up

SETTINGS = ("60 %, low", "60 %, high", "60 %, high, layers differ", "60 %, high, exclusive", "40 %, middle")
_NEVER = 10**9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", default="tenth")
    parser.add_argument("--time-limit", type=float, default=20.0, help="of each bound, and of each annealing after it")
    args = parser.parse_args()
    study = studies.get("fang2025")
    scale = study.scales[args.scale]
    known = {setting.key: setting for setting in study.settings(scale)}
    print(
        f"{'setting':26} {'runs':>9}  {'bound with':>10} {'without':>9} {'by':>8}  {'annealed with':>13} {'without':>8}"
    )
    for key in SETTINGS:
        instance = study.instance(known[key], scale, 0)
        warm_up(instance)
        first = found(instance, args.time_limit)
        few = annealed_lanes._LEAST_LANES, bound_lanes._LEAST_LANES
        annealed_lanes._LEAST_LANES = bound_lanes._LEAST_LANES = _NEVER
        second = found(instance, args.time_limit)
        annealed_lanes._LEAST_LANES, bound_lanes._LEAST_LANES = few
        (with_s, best_s), (without_s, other_s) = first, second
        proved = max(with_s, without_s)
        unit = 1 / scale.share**2
        print(
            f"{key:26} {instance.trace.n_runs:9,}  {unit * with_s:8.4f} s {unit * without_s:7.4f} s "
            f"{100 * (with_s / without_s - 1):+7.3f}%  {100 * (best_s / proved - 1):+12.3f}% "
            f"{100 * (other_s / proved - 1):+7.3f}%",
            flush=True,
        )


def found(instance: kvopt.Instance, time_limit: float) -> tuple[float, float]:
    """(bound, annealed) in seconds."""
    bound = dual_bound(instance, time_limit_s=time_limit)
    return bound.value_s, kvopt.solve(instance, "anneal", bound=bound, time_limit=time_limit).objective


if __name__ == "__main__":
    main()
