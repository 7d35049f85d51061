"""What a user would pick instead, side by side.

``python -m tests.benchmarks.bench_alternatives [--accesses N ...] [--time-limit S] [--only METHOD ...] [--json F]``

Every method gets the same instance and the same time limit, modelling included; its placement is checked and judged by
``kvopt.evaluate``, its gap is to one certified dual bound, and its ratio to kvopt's annealer.

- anneal: kvopt's, its own bound included.
- mip: the exact model in HiGHS, from arrays. lp-ipm, lp-pdlp: its linear relaxation, which makes no placement; what is
  printed is the relaxation's value, for PDLP within its tolerance, and how far it lies above the dual bound.
- cp-sat: the same model, by way of an MPS file, in OR-Tools' CP-SAT.
- guided: the literature's annealing over the window and the ratio of a look-ahead policy.
- simanneal: the package of that name; flips of one run, or one gap between runs, at the exact change of the decode time
  (:mod:`tests.benchmarks.segments`), from the greedy placement by reads per slot, with as many steps as the limit
  allows and kvopt's own temperatures.
- dual-annealing: SciPy's, over a priority for each run, from that of the greedy placement; runs are packed whole, each
  with the gap before it, in falling priority. Its local search is off: it would take a gradient in as many dimensions.
- belady, look-ahead: the two clairvoyant policies, as they are.

Models of more than a million columns are not built. A package that is missing is named, and its method left out.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import kvopt
from kvopt.exact import arrays, column_count
from kvopt.exact.layout import Layout
from kvopt.lowering import lower, unit_per_byte
from kvopt.warmup import warm_up
from tests.benchmarks.regimes import regime
from tests.benchmarks.relaxation import solved
from tests.benchmarks.segments import Segments

_NAMES = {"dram-bound": "backing-bound", "knee": "knee", "balanced": "balanced"}
_MOST_COLUMNS = 1_000_000
_COLUMNS_PER_ACCESS = 40
_TEMPERATURES = (0.3, 0.005)
"""simanneal's first and last, in the time to read a block from the backing tier."""
_CHUNK = 2_000
_INFEASIBLE = "INFEASIBLE"


@dataclass(frozen=True)
class Outcome:
    """What a method came to.

    Parameters
    ----------
    placement : Placement or None
    value_s : float or None
        Of a relaxation, instead.
    remark : str
    """

    placement: kvopt.Placement | None = None
    value_s: float | None = None
    remark: str = ""


class NotBuiltError(Exception):
    """The model is too large."""


class _Over(Exception):
    """The time limit has passed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accesses", type=int, nargs="+", default=[3_000, 400_000])
    parser.add_argument("--time-limit", type=float, default=60.0)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--instances", nargs="+", choices=_NAMES, default=list(_NAMES))
    parser.add_argument("--json")
    given = parser.parse_args()
    rows = []
    for accesses in given.accesses:
        for name in given.instances:
            for row in compared(name, make(name, accesses), given.only, given.time_limit):
                rows.append(row)
                if given.json:
                    Path(given.json).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    wrong = [f"{row['instance']}: {row['method']}" for row in rows if row["remark"].startswith(_INFEASIBLE)]
    if wrong:
        sys.exit(f"infeasible placements: {', '.join(wrong)}")


def make(name: str, accesses: int) -> kvopt.Instance:
    """An instance of about so many accesses: of a named family, where there are some, else a synthetic regime."""
    try:
        from kvopt import instances
    except ImportError:
        return regime(_NAMES[name], max(_COLUMNS_PER_ACCESS * accesses, 15_000))
    return instances.make(name, accesses, 0)


def compared(name: str, instance: kvopt.Instance, only: list[str], limit_s: float) -> Iterator[dict]:
    """Print and yield a row for every method; kvopt's annealer comes first, whether asked for or not."""
    trace = instance.trace
    warm_up(instance)
    bound = kvopt.bound(instance, time_limit=limit_s)
    print(
        f"\n{name}: {trace.n_accesses:,} accesses, {trace.n_blocks:,} blocks, {trace.n_slots} slots, "
        f"{column_count(instance):,} columns; {limit_s:g} s a method; certified bound {bound.value_s:.6g} s "
        f"({bound.elapsed_s:.1f} s)"
    )
    print(f"{'method':15} {'took s':>8} {'decode time s':>14} {'above bound':>12} {'of anneal':>10}  remark")
    reference = None
    for method in dict.fromkeys(["anneal", *only]):
        row = _row(method, instance, limit_s, bound.value_s, reference)
        reference = row["objective_s"] if method == "anneal" else reference
        yield {"instance": name, "accesses": trace.n_accesses, "bound_s": bound.value_s, **row}


def _row(method: str, instance: kvopt.Instance, limit_s: float, bound_s: float, reference: float | None) -> dict:
    """Run, judge and print one method."""
    began = time.perf_counter()
    try:
        found = METHODS[method](instance, limit_s)
    except ImportError as error:
        found = Outcome(remark=f"skipped: {error}; pip install 'kvopt[bench]'")
    except NotBuiltError as error:
        found = Outcome(remark=str(error))
    took = time.perf_counter() - began
    objective = None
    if found.placement is not None:
        wrong = found.placement.violations(instance, most=1)
        if wrong:
            found = Outcome(remark=f"{_INFEASIBLE}: {wrong[0]}")
        else:
            objective = kvopt.evaluate(instance, found.placement).objective
    value = objective if objective is not None else found.value_s
    gap = None if value is None else value / bound_s - 1
    ratio = None if objective is None else objective / (reference or objective)
    cells = ("-" if v is None else format(v, f) for v, f in ((value, ".6g"), (gap, "+.3%"), (ratio, ".4f")))
    print("{:15} {:8.1f} {:>14} {:>12} {:>10}  {}".format(method, took, *cells, found.remark), flush=True)
    keys = ("method", "took_s", "objective_s", "relaxation_s", "gap", "ratio_to_anneal", "remark")
    return dict(zip(keys, (method, took, objective, found.value_s, gap, ratio, found.remark), strict=True))


def _by_kvopt(method: str) -> Callable[[kvopt.Instance, float], Outcome]:
    def run(instance: kvopt.Instance, limit_s: float) -> Outcome:
        result = kvopt.solve(instance, method, time_limit=limit_s)
        shown = {k: v for k, v in result.details.items() if k in ("window_steps", "ratio", "policies_tried")}
        remark = ", ".join([result.termination.value, *(f"{k} {v}" for k, v in shown.items())])
        return Outcome(result.placement, remark=remark)

    return run


def _check_size(instance: kvopt.Instance) -> None:
    columns = column_count(instance)
    if columns > _MOST_COLUMNS:
        raise NotBuiltError(f"not built: {columns:,} columns")


def _mip(instance: kvopt.Instance, limit_s: float) -> Outcome:
    _check_size(instance)
    result = kvopt.solve(instance, "exact", time_limit=limit_s, backend="arrays")
    claimed = "no bound" if result.bound is None else f"claims at least {result.bound.value:.6g} s"
    return Outcome(result.placement, remark=f"{result.termination.value}, {claimed}")


def _lp(solver: str) -> Callable[[kvopt.Instance, float], Outcome]:
    def run(instance: kvopt.Instance, limit_s: float) -> Outcome:
        _check_size(instance)
        low = lower(instance)
        began = time.perf_counter()
        program = arrays.build(low, Layout(low))
        left_s = limit_s - (time.perf_counter() - began)
        found = solved(program, solver, left_s)
        if found.value is None:
            return Outcome(remark=f"no value: {found.status}")
        return Outcome(value_s=found.value, remark="relaxation only")

    return run


def _cp_sat(instance: kvopt.Instance, limit_s: float) -> Outcome:
    if find_spec("ortools") is None:
        raise ImportError("No module named 'ortools'")
    _check_size(instance)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = kvopt.export_model(instance, Path(folder) / "model.mps", backend="arrays")
        left_s = max(limit_s - (time.perf_counter() - began), 1.0)
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "tests.benchmarks.cp_sat", str(file.path), str(left_s), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return Outcome(remark=f"failed: {(done.stderr.strip() or 'silently').splitlines()[-1]}")
        found = json.loads(answer.read_text(encoding="utf-8"))
    if found["ones"] is None:
        return Outcome(remark=f"no placement: {found['status']}")
    in_fast = np.zeros((instance.trace.n_blocks, instance.n_slots), bool)
    for name in found["ones"]:
        block, tier, slot = map(int, re.findall(r"\d+", name))
        if tier == 0:
            in_fast[block, slot] = True
    remark = f"{found['status']}, claims at least {found['bound'] * file.unit:.6g} s"
    return Outcome(kvopt.Placement.from_dense(in_fast), remark=remark)


def _simanneal(instance: kvopt.Instance, limit_s: float) -> Outcome:
    from simanneal import Annealer

    began = time.perf_counter()
    segments = Segments(instance)
    segments.reset(segments.greedy(segments.density[segments.is_run]))
    rng = np.random.default_rng(0)

    class Flips(Annealer):
        """Flips of one segment; what simanneal turns down is taken back at the next move."""

        copy_strategy = "method"
        proposed = -1

        def move(self) -> float:
            if self.proposed >= 0 and self.state[self.proposed] != segments.inside[self.proposed]:
                segments.flip(self.proposed)
            self.user_exit = time.perf_counter() - began > limit_s
            self.proposed = int(rng.integers(len(self.state)))
            if not segments.fits(self.proposed):
                self.proposed = -1
                return 0.0
            by = segments.flip(self.proposed)
            self.state[self.proposed] = segments.inside[self.proposed]
            return by

        def energy(self) -> float:
            return segments.cost()

        def update(self, *_) -> None:
            pass

    search = Flips(segments.inside.copy())
    unit = unit_per_byte(segments.low) * float(segments.low.size_bytes.mean())
    search.Tmax, search.Tmin = (unit * t for t in _TEMPERATURES)
    search.updates = 0
    search.steps = _CHUNK
    started = time.perf_counter()
    search.anneal()
    took = time.perf_counter() - started
    search.steps = max(int(_CHUNK * (limit_s - (time.perf_counter() - began)) / took), _CHUNK)
    segments.reset(search.state)
    search.proposed = -1
    best, _ = search.anneal()
    return Outcome(segments.placement(best), remark=f"{search.steps:,} flips, {len(best):,} segments")


def _dual_annealing(instance: kvopt.Instance, limit_s: float) -> Outcome:
    from scipy.optimize import dual_annealing

    began = time.perf_counter()
    segments = Segments(instance)
    density = segments.density[segments.is_run]
    start = (np.argsort(np.argsort(density, kind="stable")) + 0.5) / len(density)
    tried, best = 0, [np.inf, None]

    def decode_time(priority: np.ndarray) -> float:
        nonlocal tried
        if tried and time.perf_counter() - began > limit_s:
            raise _Over
        tried += 1
        placement = segments.placement(segments.greedy(priority))
        objective = kvopt.evaluate(instance, placement).objective
        if objective < best[0]:
            best[:] = [objective, placement]
        return objective

    try:
        bounds = np.tile([0.0, 1.0], (len(density), 1))
        dual_annealing(decode_time, bounds, x0=start, seed=0, no_local_search=True, maxiter=10**9, maxfun=1e12)
    except _Over:
        pass
    return Outcome(best[1], remark=f"{tried:,} placements tried, {len(density):,} priorities")


METHODS: dict[str, Callable[[kvopt.Instance, float], Outcome]] = {
    "anneal": _by_kvopt("anneal"),
    "mip": _mip,
    "lp-ipm": _lp("ipm"),
    "lp-pdlp": _lp("pdlp"),
    "cp-sat": _cp_sat,
    "guided": _by_kvopt("guided"),
    "simanneal": _simanneal,
    "dual-annealing": _dual_annealing,
    "belady": _by_kvopt("belady"),
    "look-ahead": _by_kvopt("look-ahead"),
}


if __name__ == "__main__":
    main()
