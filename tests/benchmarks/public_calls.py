"""Processor time of public calls, by whatever kvopt ``PYTHONPATH`` has: the worker of ``bench_general``.

``python tests/benchmarks/public_calls.py INSTANCE ACCESSES WHERE [--no-time]`` writes a line of JSON per figure to the
file WHERE as soon as it is known. Only names and options that users have are called, so that commits of any layout can
be measured; a call that a commit does not have is told as "not there". Nothing of the tests is imported.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

EXAMPLES = ("example, 2 tiers", "example, 3 tiers")
POLICIES = ("static-oldest", "static-hottest", "lru", "belady", "look-ahead", "page", "reactive-flush")
TOLERANCE = 0.02
"""Relative, at which a bound has converged: some dozens of evaluations."""
_HBM_SHARE = 0.25
_LEAST_S = 0.1
"""Calls shorter than this are repeated."""
_REPEATS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instance")
    parser.add_argument("accesses", type=int)
    parser.add_argument("where", type=Path)
    parser.add_argument("--no-time", action="store_true", help="Do everything once, to compile and load kernels.")
    given = parser.parse_args()
    # Libraries print where they like; the figures go elsewhere.
    os.dup2(2, 1)
    with given.where.open("w", encoding="utf-8") as out:

        def tell(name: str, **figures) -> None:
            out.write(json.dumps({"name": name, **figures}) + "\n")
            out.flush()

        _measure(given.instance, given.accesses, tell, timed=not given.no_time)


def _measure(name: str, accesses: int, tell: Callable[..., None], *, timed: bool) -> None:
    began = time.process_time()
    import kvopt

    tell("import kvopt", seconds=time.process_time() - began, value=None)
    wanted = os.environ.get("PYTHONPATH", "").split(os.pathsep)[0]
    if not Path(kvopt.__file__).is_relative_to(Path(wanted).resolve()):
        raise SystemExit(f"imported {kvopt.__file__}, not the one of {wanted}")
    instance = _instance(kvopt, name, accesses)
    for call, job in _jobs(kvopt, instance).items():
        gc.collect()
        try:
            # Once beforehand: kernels are loaded, and files are in memory.
            value = job()
            seconds = _seconds(job) if timed else 0.0
        except (TypeError, AttributeError, ImportError, kvopt.KvoptError) as error:
            tell(call, missing=f"{type(error).__name__}: {error}")
            continue
        tell(call, seconds=seconds, value=value)
    tell("peak memory", bytes=1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _seconds(job: Callable[[], object]) -> float:
    """Processor time of a call, of all threads; the median where it is short."""
    taken: list[float] = []
    while not taken or (len(taken) < _REPEATS and sum(taken) < _LEAST_S * _REPEATS and taken[0] < _LEAST_S):
        began = time.process_time()
        job()
        taken.append(time.process_time() - began)
    return sorted(taken)[len(taken) // 2]


def _instance(kvopt, name: str, accesses: int):
    """The example trace on a machine stated here, so that presets may change; or one of a family."""
    if name not in EXAMPLES:
        return kvopt.instances.make(name, accesses, 0)
    trace = kvopt.example_trace()
    room = _HBM_SHARE * trace.summary()["peak_live_bytes"]
    rates = {"hbm": 4.0e12, "link": 419e9, "out": 371e9, "dram": 486e9, "far": 64e9}
    channels = tuple(kvopt.Channel(channel, rate) for channel, rate in rates.items())
    fast = kvopt.Tier("hbm", room, {"hbm": 1.0}, {"hbm": 1.0})
    dram = {"read": {"dram": 1.0, "link": 1.0}, "write": {"dram": 1.0, "out": 1.0}}
    if name == EXAMPLES[0]:
        tiers = (fast, kvopt.Tier("dram", math.inf, **dram))
        channels = channels[:-1]
    else:
        far = {"read": {"far": 1.0, "link": 1.0}, "write": {"far": 1.0, "out": 1.0}}
        tiers = (fast, kvopt.Tier("dram", room, **dram), kvopt.Tier("far", math.inf, **far))
    return kvopt.Instance(trace, kvopt.Platform(name, tiers, channels))


def _jobs(kvopt, instance) -> dict[str, Callable[[], float | None]]:
    """Public calls by name, each of which gives a value that shows whether the work was the same."""
    known: dict[str, object] = {}

    def policy(name: str) -> float:
        result = kvopt.solve(instance, name)
        known.setdefault("placement", result.placement)
        return result.objective

    def bound() -> float:
        known["bound"] = kvopt.bound(instance, tolerance=TOLERANCE, threads=1)
        return known["bound"].value

    def aggregate() -> float:
        known["aggregate"] = kvopt.bound(instance, method="aggregate")
        return known["aggregate"].value

    def anneal() -> float:
        from kvopt.anneal import Schedule

        schedule = Schedule(sweeps=3, first=0.02, last=0.01)
        options = {"schedule": schedule, "restarts": 1, "threads": 1, "windows": False, "refine": False}
        return kvopt.solve(instance, "anneal", bound=known["aggregate"], seed=0, **options).objective

    def exact() -> float:
        part = kvopt.sub_instance(instance, 2_000, 8)
        return kvopt.solve(part, "exact", backend="arrays").objective

    folder = tempfile.mkdtemp()
    file = Path(folder) / "trace.parquet"

    def load() -> float:
        return float(kvopt.load_trace(file).n_accesses)

    def save() -> None:
        instance.trace.save(file)

    def build() -> float:
        return float(kvopt.Instance(instance.trace, instance.platform, instance.rules).n_slots)

    return {
        "save": save,
        "load_trace": load,
        "Instance": build,
        **{f"solve {name}": lambda name=name: policy(name) for name in POLICIES},
        "evaluate": lambda: kvopt.evaluate(instance, known["placement"]).objective,
        "bound, aggregate": aggregate,
        f"bound to {TOLERANCE:g}": bound,
        "verify": lambda: kvopt.verify(instance, known["bound"].certificate),
        "anneal, 3 sweeps": anneal,
        "exact on a part": exact,
    }


if __name__ == "__main__":
    sys.exit(main())
