"""What bounds take as instances grow: ``python -m tests.benchmarks.bench_scale [--only NAME ...] [--accesses N ...]``.

For each family and size, in a process of its own: runs, the certified bound and the time it took (all of it:
sampling, evaluations, verification), evaluations with gradient, wall-clock and processor nanoseconds by run of the hard
minimum and of the soft minimum with gradient over all blocks, peak memory, and the gap to the bound of a policy's
placement (``--placement POLICY``) and of an annealed one (``--anneal SECONDS``). Below, for each family, the exponents
of a power law in the runs, fitted to time (of the minima, the processor's) and memory. A time to bound that is the
limit says nothing about growth. ``--results FILE`` gets every row as a line of JSON; what a process that died had found
stands there, and in the table beside dashes. ``--full`` adds the published size; with it, ``--time-limit 1200`` is what
its bound should be given.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import kvopt
from kvopt import instances
from kvopt.bounds.aggregate import slotwise_prices
from kvopt.lowering import lower, unit_per_byte
from kvopt.trellis import Trellis, hard_minimum, soft_minimum
from kvopt.warmup import warm_up
from tests.benchmarks.apart import Figures, measure_what_can_be

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
    parser.add_argument("--results", type=Path, help="Append every row to this file, as a line of JSON.")
    given = parser.parse_args()
    print(_HEAD, flush=True)
    for name in given.only:
        sizes = [*(int(a) for a in given.accesses), *([_FULL] if given.full else [])]
        rows = [_row(name, accesses, given) for accesses in sizes]
        fitted = [(what, key, [row for row in rows if key in row]) for what, key in _FITTED]
        print(", ".join(f"{what} ~ runs^{_exponent(r, key):.2f}" for what, key, r in fitted if len(r) > 1), flush=True)


_COLUMNS = (
    ("runs", "11,"),
    ("bound", "10.6g"),
    ("bound_s", "8.1f"),
    ("evaluations", ">6"),
    ("hard_ns", "7.0f"),
    ("hard_cpu_ns", "7.0f"),
    ("soft_ns", "7.0f"),
    ("soft_cpu_ns", "7.0f"),
    ("peak_gb", "8.2f"),
)
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


def _row(name: str, accesses: int, given: argparse.Namespace) -> Figures:
    """Measure in a new process, print, and keep."""
    asked = {"accesses": accesses, "time_limit": given.time_limit, "placement": given.placement, "anneal": given.anneal}
    found = measure_what_can_be(measured, name, accesses, given.time_limit, given.placement, given.anneal)
    if given.results is not None:
        with given.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"family": name, **asked, **found}) + "\n")
    print(table_row(name, accesses, found, given.placement), flush=True)
    return found


def table_row(name: str, accesses: int, found: Figures, placement: str | None) -> str:
    """A row of the table, with a dash for each figure that is missing."""
    by_run = {f"{key}ns": 1e9 * found[f"{key}s"] / found["runs"] for key in _PER_RUN if f"{key}s" in found}
    cells = [_cell(found | by_run, key, form) for key, form in _COLUMNS]
    hard, hard_cpu, soft, soft_cpu = cells[4:8]
    cells[4:8] = [f"{hard} ({hard_cpu.strip():>5})", f"{soft} ({soft_cpu.strip():>5})"]
    row = f"{name:16} {accesses:14,} {' '.join(cells)}"
    if "gap" in found:
        row += f"  {placement} {100 * found['gap']:+.2f} % above"
    return row + (_ANNEALED.format(**found) if "annealed" in found else "")


_PER_RUN = ("hard_", "hard_cpu_", "soft_", "soft_cpu_")


def _cell(found: Figures, key: str, form: str) -> str:
    if key in found:
        return format(found[key], form)
    return format("-", f">{int(form.strip('>,').split('.')[0].rstrip('fg'))}")


def measured(
    name: str, accesses: int, time_limit: float, placement: str | None, anneal_s: float | None
) -> Iterator[Figures]:
    """Bound one instance, time single evaluations over all its blocks, and whatever else is asked for."""
    instance = instances.make(name, accesses)
    warm_up(instance)
    yield {"runs": instance.trace.n_runs}
    began = time.perf_counter()
    bound = kvopt.bound(instance, time_limit=time_limit)
    evaluated = bound.history[-1].detail.split()[-2] if bound.history else "0"
    yield {"bound": bound.value, "bound_s": time.perf_counter() - began, "evaluations": evaluated, "peak_gb": peak_gb()}
    yield evaluations(instance)
    if placement:
        yield {"gap": kvopt.solve(instance, placement).objective / bound.value - 1.0}
    if anneal_s:
        annealed = kvopt.solve(instance, "anneal", bound=bound, time_limit=anneal_s)
        yield {"annealed": annealed.gap, "annealed_s": annealed.elapsed_s, "annealed_gb": peak_gb()}


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
