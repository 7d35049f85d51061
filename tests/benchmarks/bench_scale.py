"""What bounds take as instances grow: ``python -m tests.benchmarks.bench_scale [--only NAME ...] [--accesses N ...]``.

For each family and size, in a process of its own: runs, the certified bound and the time it took (all of it:
sampling, evaluations, verification), evaluations with gradient, wall-clock and processor nanoseconds by run of the hard
minimum and of the soft minimum with gradient over all blocks, peak memory, and the gap to the bound of a policy's
placement (``--placement POLICY``) and of an annealed one (``--anneal SECONDS``). Below, for each family, the exponents
of a power law in the runs, fitted to time (of the minima, the processor's) and memory. A time to bound that is the
limit says nothing about growth. ``--full`` adds the published size; with it, ``--time-limit 1200`` is what its bound
should be given.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

import kvopt
from kvopt import instances
from kvopt.bounds.aggregate import slotwise_prices
from kvopt.lowering import lower, unit_per_byte
from kvopt.trellis import Trellis, hard_minimum, soft_minimum
from kvopt.warmup import warm_up

_FULL = 4_700_000_000
_TAU = 0.0125
_HEAD = (
    "family                 accesses        runs      bound  bound s  evals   hard ns (cpu)   soft ns (cpu)  peak GB"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=instances.names(), default=["published-high"])
    parser.add_argument("--accesses", type=float, nargs="*", default=[1e6, 1e7, 1e8])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--time-limit", type=float, default=60.0, help="Seconds for each bound.")
    parser.add_argument("--placement", help="A policy, whose gap to the bound is printed.")
    parser.add_argument("--anneal", type=float, help="Seconds to anneal in from the bound on; prints the gap.")
    parser.add_argument("--part", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(measured(given)))
        return
    print(_HEAD)
    for name in given.only:
        sizes = [*(int(a) for a in given.accesses), *([_FULL] if given.full else [])]
        rows = [_row(name, accesses, given) for accesses in sizes]
        if len(rows) > 1:
            print(", ".join(f"{what} ~ runs^{_exponent(rows, key):.2f}" for what, key in _FITTED), flush=True)


_ANNEALED = "  annealed {annealed:+.3%} above in {annealed_s:.0f} s, {annealed_gb:.1f} GB"
_FITTED = (
    ("time to bound", "bound_s"),
    ("hard minimum", "hard_cpu_s"),
    ("soft minimum", "soft_cpu_s"),
    ("memory", "peak_gb"),
)


def _exponent(rows: list[dict], key: str) -> float:
    """Slope of the logarithm over that of the runs."""
    return float(np.polyfit(np.log([row["runs"] for row in rows]), np.log([row[key] for row in rows]), 1)[0])


def _row(name: str, accesses: int, given: argparse.Namespace) -> dict:
    """Measure in a new process, and print."""
    command = [sys.executable, "-m", "tests.benchmarks.bench_scale", "--part", "--only", name, "--accesses", accesses]
    command += ["--time-limit", given.time_limit, *(["--placement", given.placement] if given.placement else [])]
    command += ["--anneal", given.anneal] if given.anneal else []
    found = json.loads(subprocess.run([str(c) for c in command], stdout=-1, check=True, text=True).stdout)
    by_run = {key: 1e9 * found[key] / found["runs"] for key in ("hard_s", "hard_cpu_s", "soft_s", "soft_cpu_s")}
    print(
        f"{name:16} {accesses:14,} {found['runs']:11,} {found['bound']:10.6g} {found['bound_s']:8.1f} "
        f"{found['evaluations']:>6} {by_run['hard_s']:7.0f} ({by_run['hard_cpu_s']:5.0f}) "
        f"{by_run['soft_s']:7.0f} ({by_run['soft_cpu_s']:5.0f}) {found['peak_gb']:8.2f}"
        + (f"  {given.placement} {100 * found['gap']:+.2f} % above" if given.placement else "")
        + (_ANNEALED.format(**found) if given.anneal else ""),
        flush=True,
    )
    return found


def measured(given: argparse.Namespace) -> dict:
    """Bound one instance, and time single evaluations over all its blocks."""
    instance = instances.make(given.only[0], int(given.accesses[0]))
    warm_up(instance)
    began = time.perf_counter()
    bound = kvopt.bound(instance, time_limit=given.time_limit)
    found = {"bound": bound.value, "bound_s": time.perf_counter() - began, "runs": instance.trace.n_runs}
    found["evaluations"] = bound.history[-1].detail.split()[-2] if bound.history else "0"
    found["peak_gb"] = peak_gb()
    found |= evaluations(instance)
    if given.placement:
        found["gap"] = kvopt.solve(instance, given.placement).objective / bound.value - 1.0
    if given.anneal:
        annealed = kvopt.solve(instance, "anneal", bound=bound, time_limit=given.anneal)
        found |= {"annealed": annealed.gap, "annealed_s": annealed.elapsed_s, "annealed_gb": peak_gb()}
    return found


def peak_gb() -> float:
    """Of this process's memory so far."""
    return 1024e-9 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def evaluations(instance: kvopt.Instance) -> dict[str, float]:
    """Wall-clock and processor seconds of one hard and one soft minimum over all blocks."""
    low = lower(instance)
    trellis = Trellis(low)
    lam = slotwise_prices(low)[1] + 0.02
    lam /= lam.sum(axis=0)
    mu = np.zeros((low.n_tiers, low.n_slots))
    tau = _TAU * unit_per_byte(low)
    works: dict[str, Callable] = {
        "hard": lambda: hard_minimum(trellis, trellis.prices(lam, mu)),
        "soft": lambda: soft_minimum(trellis, trellis.prices(lam, mu, tau), tau),
    }
    found = {}
    for name, work in works.items():
        began, cpu = time.perf_counter(), time.process_time()
        work()
        found |= {f"{name}_s": time.perf_counter() - began, f"{name}_cpu_s": time.process_time() - cpu}
    return found


if __name__ == "__main__":
    main()
