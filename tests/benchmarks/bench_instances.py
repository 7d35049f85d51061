"""What traces take: ``python -m tests.benchmarks.bench_instances [--accesses N ...] [--full] [--only NAME ...]``.

For each family and size: the runs, the accesses, the bytes a run takes at rest, and the time and the peak memory of
generating, saving and loading. Saving is done by the process that generated the trace, loading by a new one. Peak
memory is all that a process had at most, the interpreter and the libraries (some 100 MB) included. ``--full`` adds each
family's largest size, about 2e8 runs and up to 3 minutes each; the file then takes up to a gigabyte.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from kvopt import Trace, instances, load_trace
from tests.benchmarks.apart import Figures, measure

_HEAD = "family               accesses         runs  B/run   file MB   generate s, MB       save s, MB       load s, MB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accesses", type=float, nargs="*", default=[1e3, 4e5, 1e7])
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", nargs="+", choices=instances.names(), default=instances.names())
    given = parser.parse_args()
    print(_HEAD, flush=True)
    for name in given.only:
        most = instances.describe(name).most_accesses
        for accesses in [*(int(a) for a in given.accesses), *([most] if given.full else [])]:
            row(name, min(accesses, most))


def row(name: str, accesses: int) -> None:
    """Measure and print one instance."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.parquet"
        found = {**measure(generated, name, accesses, path), **measure(loaded, path)}
    steps = "  ".join(f"{found[f'{step}_s']:7.2f} {found[f'{step}_mb']:7.0f}" for step in ("generate", "save", "load"))
    sizes = f"{found['accesses']:13,} {found['runs']:12,} {found['bytes_per_run']:6.1f} {found['file_mb']:9.2f}"
    print(f"{name:16} {sizes}  {steps}", flush=True)


def generated(name: str, accesses: int, path: Path) -> Iterator[Figures]:
    """Make an instance and save its trace."""
    began = time.perf_counter()
    trace = instances.make(name, accesses).trace
    yield {"generate_s": time.perf_counter() - began, "generate_mb": _peak_mb()}
    began = time.perf_counter()
    trace.save(path)
    yield {"save_s": time.perf_counter() - began, "save_mb": _peak_mb()}
    sizes = {"accesses": trace.n_accesses, "runs": trace.n_runs, "bytes_per_run": _bytes_at_rest(trace) / trace.n_runs}
    yield sizes | {"file_mb": path.stat().st_size / 1e6}


def loaded(path: Path) -> Iterator[Figures]:
    """Read a trace."""
    began = time.perf_counter()
    load_trace(path)
    yield {"load_s": time.perf_counter() - began, "load_mb": _peak_mb()}


def _bytes_at_rest(trace: Trace) -> int:
    columns = ("lane", "size_bytes", "write_step", "free_step", "run_ptr", "run_start", "run_stop")
    return sum(getattr(trace, column).nbytes for column in columns)


def _peak_mb() -> float:
    return 1024e-6 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
