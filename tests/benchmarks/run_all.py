"""All tables, on the terminal and in a file.

``python -m tests.benchmarks.run_all [--quick] [--only NAME ...] [--resume] [-o F]``

Each benchmark of :mod:`tests.benchmarks.plan` runs in a process of its own, by the command that its table names. The
file, by default ``docs/benchmarks.md``, says on which machine and with which versions, and of each benchmark when, of
which commit, and whether it ended, failed or was skipped. It is written after every benchmark; what it holds of others
stays, if it is from the same machine and versions. ``--resume`` runs those alone that it has no result of. ``--quick``
takes minutes and shows only that all of them run; its file is ``build/benchmarks.md``.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
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


_SECTION = re.compile(
    r"^## \w+\n\n    (?P<command>[^\n]+)\n\n(?P<status>[^;\n]+); (?P<told>[^\n]+)\n\n```\n(?P<text>.*?)\n```$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Run:
    """What came of a job.

    Parameters
    ----------
    text : str
        All it printed, errors too.
    status : str
        Begins with "FAILED" where it did.
    told : str
        When, of which commit, beside what, and for how long.
    """

    text: str
    status: str
    told: str

    @property
    def failed(self) -> bool:
        """Whether it did."""
        return self.status.startswith("FAILED")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Small sizes and short limits: does everything run?")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--resume", action="store_true", help="Leave out what the file has a result of.")
    parser.add_argument("--limit-minutes", type=float, default=60.0, help="For each benchmark; it has then failed.")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    output = given.output or ROOT / ("build" if given.quick else "docs") / "benchmarks.md"
    output.parent.mkdir(exist_ok=True)
    head = heading(given.quick)
    runs = recorded(output.read_text(encoding="utf-8"), head, given.quick) if output.exists() else {}
    wanted = [
        job for job in jobs(given.only, given.quick) if not (given.resume and job in runs and not runs[job].failed)
    ]
    for job in wanted:
        print(f"== {job.command(given.quick)}", flush=True)
        runs[job] = run([sys.executable, "-m", f"tests.benchmarks.{job.name}", *job.arguments(given.quick)], given)
        print(f"-- {runs[job].status}; {runs[job].told}", flush=True)
        told = report(head, runs, given.quick)
        write_whole("--output", output, lambda path, told=told: path.write_text(told, encoding="utf-8"))
    failed = [job.command(given.quick) for job in wanted if runs[job].failed]
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))


def run(command: list[str], given: argparse.Namespace) -> Run:
    """A command's output, printed as it grows, and how it ended."""
    lines, late = [], threading.Event()
    began, beside = time.perf_counter(), os.getloadavg()[0]
    told = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}, beside {beside:.1f} processes that wanted a core"
    )
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="backslashreplace",
        cwd=ROOT,
        # Each line as it is printed: what is in a buffer when a process is killed is lost.
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
        start_new_session=True,
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
    took_s = time.perf_counter() - began
    return Run("".join(lines).strip("\n"), over or _ended(process.returncode), f"{told}, {took_s:.0f} s")


def _ended(code: int) -> str:
    if code in (0, SKIPPED):
        return "skipped" if code else "done"
    return f"FAILED: killed by {signal.Signals(-code).name}" if code < 0 else f"FAILED: exit status {code}"


def report(head: str, runs: dict[Job, Run], quick: bool) -> str:
    """The file."""
    rows, sections = [], []
    for job in jobs(NAMES, quick):
        done, command = runs.get(job), job.command(quick)
        rows.append(f"| `{command}` | {done.status if done else _NOT_RUN} |")
        if done:
            sections.append(f"## {job.name}\n\n    {command}\n\n{done.status}; {done.told}\n\n```\n{done.text}\n```\n")
    return "\n".join([head, "\n".join(["| benchmark | status |", "| --- | --- |", *rows]) + "\n", *sections])


def recorded(text: str, head: str, quick: bool) -> dict[Job, Run]:
    """What a file made by :func:`report` says of benchmarks still planned; nothing, if it begins otherwise."""
    if not text.startswith(head):
        return {}
    found = {match["command"]: match for match in _SECTION.finditer(text)}
    planned = {job: found.get(job.command(quick)) for job in jobs(NAMES, quick)}
    return {job: Run(one["text"], one["status"], one["told"]) for job, one in planned.items() if one}


def heading(quick: bool) -> str:
    """What all figures depend on."""
    found = versions() | {package: _version(package) for package in _BESIDE}
    listed = ", ".join(f"{package} {version}" for package, version in found.items())
    told = (
        "`make bench-quick`: small sizes, to see that all run. **The figures mean little**" if quick else "`make bench`"
    )
    return (
        "# Benchmarks\n\n"
        f"Written by {told}; do not edit. Times differ between machines, ratios less.\n\n"
        f"- machine: {processor()}, {len(os.sched_getaffinity(0))} cores, {memory_gib():.0f} GiB, "
        f"{platform.system()} {platform.machine()}\n"
        f"- versions: {listed}\n"
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
