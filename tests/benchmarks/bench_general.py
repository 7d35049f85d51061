"""What generality costs: ``python -m tests.benchmarks.bench_general [--rounds N]``. Needs the project's git history.

First the general form against the last version that knew two tiers only (commit ``TWO_TIERS``), on the main job's
instance: both in processes of their own, taking turns, each with its kernels compiled beforehand. Then three tiers
against two in the present version, on the same trace. Time is processor time of one thread; memory the peak of the
process. Ratios are of medians.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
PLATFORMS = ROOT / "kvopt" / "specs" / "platforms"
TWO_TIERS = "a9c232f"
_STEPS = ("lower", "evaluate", "hard minimum", "soft minimum and gradient", "annealing, 3 sweeps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", choices=("two", "three"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(given.measure)))
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", TWO_TIERS, "kvopt", "models"], cwd=ROOT, stdout=-1, check=True)
        subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
        jobs = {"before": (folder, "two"), "two tiers": (str(ROOT), "two"), "three tiers": (str(ROOT), "three")}
        found: dict[str, list[dict[str, float]]] = {name: [] for name in jobs}
        for _ in range(given.rounds):
            for name, (path, kind) in jobs.items():
                found[name].append(_in_process(path, kind))
    _table(found, "two tiers", "before", "the general form over the two-tier one")
    _table(found, "three tiers", "two tiers", "three tiers over two")


def _in_process(path: str, kind: str) -> dict[str, float]:
    """One measurement by the kvopt that lies at ``path``."""
    command = [sys.executable, str(Path(__file__)), "--measure", kind]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, stdout=-1, check=True, text=True)
    return json.loads(done.stdout)


def _table(found: dict[str, list[dict[str, float]]], name: str, base: str, title: str) -> None:
    print(title)
    for key in (*_STEPS, "peak memory"):
        a, b = (float(np.median([one[key] for one in found[which]])) for which in (name, base))
        scale, unit = (1e-6, "MB") if key == "peak memory" else (1e3, "ms")
        print(f"  {key:28} {scale * b:9.1f} {unit} {scale * a:9.1f} {unit}   x{a / b:.2f}")


def measured(kind: str) -> dict[str, float]:
    """Seconds of each step of the work, and bytes of memory at most."""
    import kvopt
    from kvopt.anneal import Schedule, solve_anneal
    from kvopt.bounds.aggregate import slotwise_prices
    from kvopt.lowering import lower
    from kvopt.trellis import Trellis, hard_minimum, soft_minimum

    trace = kvopt.example_trace()
    peak = trace.summary()["peak_live_bytes"]
    # The main job's instance; of three tiers the middle one holds as much as the fast one, so that all of them matter.
    # From the present file in both versions: its bandwidths have been corrected since.
    platform = kvopt.Platform.from_toml(PLATFORMS / ("gh200.toml" if kind == "two" else "gh200-cxl.toml"))
    instance = kvopt.Instance(trace, platform.with_capacity(0.25 * peak))
    if kind == "three":
        instance = kvopt.Instance(trace, instance.platform.with_capacity(0.25 * peak, tier=1))
    low = lower(instance)
    trellis = Trellis(low, threads=1)
    lam = slotwise_prices(low)[1] + 0.02
    lam /= lam.sum(axis=0)
    unit = float(low.op_s_per_byte.max())
    mu = np.where(np.isfinite(low.capacity_bytes)[:, None], 0.01 * unit, 0.0) * np.ones(low.n_slots)
    prices = trellis.prices(lam, mu)
    placement = kvopt.solve(instance, "lru").placement
    schedule = Schedule(sweeps=3, first=0.02, last=0.01)

    # The old version knew no other; the new one would take windows for an instance of that size.
    dense = {"windows": False} if "windows" in inspect.signature(solve_anneal).parameters else {}

    def annealing():
        solve_anneal(instance, start=placement, schedule=schedule, restarts=1, threads=1, **dense)

    work = (
        lambda: lower(instance),
        lambda: kvopt.evaluate(instance, placement),
        lambda: hard_minimum(trellis, prices),
        lambda: soft_minimum(trellis, prices, 0.05 * unit),
        annealing,
    )
    found = {name: _seconds(job, 1 if job is annealing else 5) for name, job in zip(_STEPS, work, strict=True)}
    found["peak memory"] = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


def _seconds(job, repeats: int) -> float:
    job()
    taken = []
    for _ in range(repeats):
        began = time.process_time()
        job()
        taken.append(time.process_time() - began)
    return float(np.median(taken))


if __name__ == "__main__":
    main()
