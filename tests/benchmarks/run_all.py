"""All tables, on the terminal and in a file: ``python -m tests.benchmarks.run_all [--quick] [--only NAME ...] [-o F]``.

Each benchmark of :mod:`tests.benchmarks.plan` runs in a process of its own, by the command that its table names. The
file, by default ``docs/benchmarks.md``, says on which machine, with which versions and when, and of each benchmark
whether it ended, failed, was skipped or has not been run; it is written after every one. ``--quick`` takes minutes and
shows only that all of them run; its file is ``build/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from kvopt.output import write_whole
from kvopt.result import versions
from tests.benchmarks.plan import JOBS, SKIPPED, Job, jobs

ROOT = Path(__file__).parents[2]
NAMES = list(dict.fromkeys(job.name for job in JOBS))
_BESIDE = ("libcachesim", "ortools", "simanneal")
_NOT_RUN = "not run"


@dataclass(frozen=True)
class Run:
    """What came of a job.

    Parameters
    ----------
    text : str
        All it printed, errors too.
    status : str
        Begins with "FAILED" where it did.
    took_s : float
    """

    text: str = ""
    status: str = _NOT_RUN
    took_s: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it did."""
        return self.status.startswith("FAILED")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Small sizes and short limits: does everything run?")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--limit-minutes", type=float, default=60.0, help="For each benchmark; it has then failed.")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    output = given.output or ROOT / ("build" if given.quick else "docs") / "benchmarks.md"
    output.parent.mkdir(exist_ok=True)
    runs = {job: Run() for job in jobs(given.only, given.quick)}
    head = heading(given.quick)
    for job in runs:
        print(f"== {job.command(given.quick)}", flush=True)
        runs[job] = run([sys.executable, "-m", f"tests.benchmarks.{job.name}", *job.arguments(given.quick)], given)
        print(f"-- {runs[job].status}, {runs[job].took_s:.0f} s", flush=True)
        told = report(head, runs, given.quick)
        write_whole("--output", output, lambda path, told=told: path.write_text(told, encoding="utf-8"))
    failed = [job.command(given.quick) for job in runs if runs[job].failed]
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


def run(command: list[str], given: argparse.Namespace) -> Run:
    """A command's output, printed as it grows, and how it ended."""
    lines, late = [], threading.Event()
    began = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True
    )

    def stop() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    limit = threading.Timer(60 * given.limit_minutes, stop)
    limit.start()
    try:
        with process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line)
    except KeyboardInterrupt:
        # In a session of its own it has not heard the Ctrl-C, nor have the processes that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        limit.cancel()
    over = f"FAILED: stopped after {given.limit_minutes:g} minutes" if late.is_set() else None
    return Run("".join(lines), over or _ended(process.returncode), time.perf_counter() - began)


def _ended(code: int) -> str:
    if code in (0, SKIPPED):
        return "skipped" if code else "done"
    return f"FAILED: killed by {signal.Signals(-code).name}" if code < 0 else f"FAILED: exit status {code}"


def report(head: str, runs: dict[Job, Run], quick: bool) -> str:
    """The file."""
    rows = [f"| `{job.command(quick)}` | {done.status} | {done.took_s:.0f} s |" for job, done in runs.items()]
    parts = [head, "\n".join(["| benchmark | status | took |", "| --- | --- | --- |", *rows]) + "\n"]
    for job, done in runs.items():
        if done.status != _NOT_RUN:
            ended = f"\n({done.status})" if done.status != "done" else ""
            text = done.text.strip("\n")
            parts.append(f"## {job.name}\n\n    {job.command(quick)}\n\n```\n{text}{ended}\n```\n")
    return "\n".join(parts)


def heading(quick: bool) -> str:
    """What the figures depend on, asked before they are made."""
    found = versions() | {package: _version(package) for package in _BESIDE}
    listed = ", ".join(f"{package} {version}" for package, version in found.items())
    told = (
        "`make bench-quick`: small sizes, to see that all run. **The figures mean little**" if quick else "`make bench`"
    )
    return (
        "# Benchmarks\n\n"
        f"Written by {told}; do not edit. Times differ between machines, ratios less.\n\n"
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n"
        f"- machine: {processor()}, {len(os.sched_getaffinity(0))} cores, {memory_gib():.0f} GiB, "
        f"{platform.system()} {platform.machine()}\n"
        f"- other work: {os.getloadavg()[0]:.1f} processes wanted a core in the minute before\n"
        f"- versions: {listed}\n"
        f"- commit: {commit()}\n"
    )


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or "unknown processor"
    names = [line.split(":", 1)[1].strip() for line in told.splitlines() if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def memory_gib() -> float:
    """The machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def commit() -> str:
    """Of the sources, where there is a git history."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
