"""From a command to its first event, beside another commit: ``python -m tests.benchmarks.bench_start [--before C]``.

Needs the project's git history. First both compile their kernels into an empty cache, at the same time, one process
each where there are two processors, so that both meet the same machine: processor time, of all processes and threads.
Then, with these caches: elapsed seconds of ``import kvopt``, the help, the lists, and from each command's start to the
first line it tells on standard error of its work; the least of several runs, taken in turns. By default, before is the
last tag, or version 0.1.0 where there is none, and after is the working tree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.bench_general import LAST, _last_tag
from tests.checkouts import ROOT, unpacked_once

WHOLE = {
    "import kvopt": ("-c", "import kvopt"),
    "kvopt --help": ("-m", "kvopt", "--help"),
    "kvopt platforms": ("-m", "kvopt", "platforms"),
    "kvopt models": ("-m", "kvopt", "models"),
    "kvopt instances": ("-m", "kvopt", "instances"),
}
FIRST_EVENT = {
    name: ("-m", "kvopt", *name.split()[1:], "--time-limit", "2")
    for name in ("kvopt compare", "kvopt solve", "kvopt bound", "kvopt explain")
} | {
    "kvopt size": ("-m", "kvopt", "size", "--target-latency-s", "1", "--time-limit", "2"),
    "kvopt sweep": ("-m", "kvopt", "sweep", "--vary", "hbm_bytes=10M:20M:2", "--time-limit", "2"),
}
_NOTICE = "compiling"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=None, help="A commit, or a checkout's folder.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--warm", action="store_true", help="Leave out the empty caches: compile where it is needed.")
    parser.add_argument("--quick", action="store_true", help="One round of two rows: does everything run?")
    given = parser.parse_args()
    before = given.before or _last_tag() or LAST
    sites = {"before": unpacked_once(before), "after": ROOT}
    print(f"before: {before}; after: the working tree")
    with tempfile.TemporaryDirectory() as folder:
        caches = {which: None if given.warm or given.quick else Path(folder, which) for which in sites}
        if not (given.warm or given.quick):
            used = compiled(sites, caches)
            print(f"{'processor time of python -m kvopt.warmup, empty cache':55}" + _row(used), flush=True)
        rows = WHOLE | ({} if given.quick else FIRST_EVENT)
        for name, command in rows.items():
            best = {which: float("inf") for which in sites}
            for _ in range(1 if given.quick else given.rounds):
                for which, site in sites.items():
                    run = whole if name in WHOLE else first_event
                    best[which] = min(best[which], run(command, _environment(site, caches[which])))
            what = name if name in WHOLE else f"{name}, first event"
            print(f"{what:55}" + _row(best), flush=True)


def _row(seconds: dict[str, float]) -> str:
    return f"{seconds['before']:9.2f} s {seconds['after']:9.2f} s   x{seconds['after'] / seconds['before']:.2f}"


def _environment(site: Path, cache: Path | None) -> dict[str, str]:
    found = os.environ | {"PYTHONPATH": str(site)}
    return found if cache is None else found | {"NUMBA_CACHE_DIR": str(cache)}


def compiled(sites: dict[str, Path], caches: dict[str, Path | None]) -> dict[str, float]:
    """Processor time that each takes to compile, side by side."""
    measure = "import resource, sys; "
    measure += "from kvopt import warmup; getattr(warmup, 'main', warmup.warm_up)(); "
    measure += "used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]; "
    measure += "print(sum(of.ru_utime for of in used))"
    running = {
        which: subprocess.Popen(
            [sys.executable, "-c", measure], env=_environment(site, caches[which]), cwd=site, stdout=subprocess.PIPE
        )
        for which, site in sites.items()
    }
    return {which: float(process.communicate()[0].split()[-1]) for which, process in running.items()}


def whole(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """Seconds that a command takes."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *command], env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def first_event(command: tuple[str, ...], environment: dict[str, str]) -> float:
    """Seconds to the first line on standard error that is not about kernels."""
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        for line in process.stderr:
            if not line.startswith(_NOTICE):
                took_s = time.perf_counter() - began
                process.kill()
                return took_s
    raise RuntimeError(f"{' '.join(command)} told nothing")


if __name__ == "__main__":
    main()
