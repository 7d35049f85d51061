"""How near annealing comes to the certified bound, family by family: ``python -m tests.benchmarks.bench_families``.

One setting for all: ``kvopt.solve(instance, "anneal", time_limit=...)``, the bound's time included. With
``--by-rules`` the annealer takes the rules as they are from its first round on, for as many rounds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import kvopt
from kvopt.anneal.large import guide_tau, schedule_of
from kvopt.anneal.relaxed import ROUNDS
from kvopt.anneal.schedule import Schedule
from kvopt.lowering import lower
from kvopt.warmup import warm_up_once

_POLICIES = ("static-hottest", "belady")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accesses", type=lambda text: int(float(text)), default=400_000)
    parser.add_argument("--time-limit", type=float, default=60.0, help="Seconds, bound and annealing together.")
    parser.add_argument("--families", nargs="+", choices=kvopt.instances.names(), default=kvopt.instances.names())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by-rules", action="store_true")
    given = parser.parse_args()
    print(f"{given.accesses:,} accesses, {given.time_limit:g} s, seed {given.seed}")
    print(f"{'family':18} {'runs':>9} {'annealed':>11} {'bound':>11} {'gap':>8} {'best policy':>12} {'took':>7}")
    for name in given.families:
        instance = kvopt.instances.make(name, given.accesses, given.seed)
        warm_up_once(lambda _: None, instance)
        options = {"schedule": _by_rules(instance)} if given.by_rules else {}
        found = kvopt.solve(instance, "anneal", time_limit=given.time_limit, seed=given.seed, **options)
        policy = min(kvopt.solve(instance, method).objective for method in _POLICIES)
        print(
            f"{name:18} {instance.trace.n_runs:9,} {1e3 * found.objective:8.4f} ms {1e3 * found.bound.value:8.4f} ms "
            f"{100 * found.gap:6.2f} % {100 * (policy / found.bound.value - 1):10.1f} % {found.elapsed_s:5.1f} s",
            flush=True,
        )


def _by_rules(instance: kvopt.Instance) -> Schedule:
    """As many rounds, from the temperature of the first by prices to that of the last by the rules."""
    low = lower(instance)
    schedule = schedule_of(low, guided=True)
    return replace(schedule, sweeps=ROUNDS + schedule.sweeps, first=guide_tau(low), rent_until=0.6)


if __name__ == "__main__":
    main()
