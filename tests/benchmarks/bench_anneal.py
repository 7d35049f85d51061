"""Annealing against the certified bound: ``python -m tests.benchmarks.bench_anneal [--time-limit S]``.

Every row is one instance: the embedded trace at several HBM sizes and rules, and the three synthetic regimes. Both
sides are computed in the run, within the time limit together. Beside the annealer the best policy.
"""

from __future__ import annotations

import argparse

import kvopt
from kvopt import policies
from kvopt.warmup import warm_up_once
from tests.benchmarks.regimes import HBM_SHARES, regime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time-limit", type=float, default=60.0)
    limit = parser.parse_args().time_limit
    print(f"{'instance':44} {'bound':>11} {'annealed':>11} {'gap':>8} {'best policy':>24} {'its gap':>8} {'s':>6}")
    for name, instance in instances():
        warm_up_once(lambda _: None, instance)
        annealed = kvopt.solve(instance, "anneal", time_limit=limit)
        results = [kvopt.solve(instance, policy, bound=annealed.bound) for policy in policies.names()]
        best = min(results, key=lambda result: result.objective)
        print(
            f"{name:44} {annealed.bound.value_s:11.5g} {annealed.objective:11.5g} {100 * annealed.gap:7.3f}% "
            f"{best.method:>24} {100 * best.gap:7.1f}% {annealed.elapsed_s:6.1f}",
            flush=True,
        )


def instances():
    """(name, instance) of every row."""
    trace = kvopt.example_trace()
    peak = trace.summary()["peak_live_bytes"]
    platform = kvopt.Platform.preset("gh200")
    for share in (0.1, 0.25):
        for rules in (kvopt.Rules(), kvopt.Rules("inclusive", "read-through")):
            name = f"embedded, HBM {share:.0%}, {rules.copies.value}, {rules.moves.value}"
            yield name, kvopt.Instance(trace, platform, rules).with_hbm_bytes(share * peak)
    for name in HBM_SHARES:
        yield f"synthetic, {name}, 1M columns", regime(name, 1_000_000)


if __name__ == "__main__":
    main()
