"""All tables, on the terminal and in a file: ``python -m tests.benchmarks.run_all [--only NAME ...] [-o F]``.

Each ``bench_*.py`` runs in a process of its own, as it would by itself, with its own defaults. The file, by default
``docs/benchmarks.md``, says on which machine, with which versions and when, and is written after every benchmark.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from kvopt.output import write_whole
from kvopt.result import versions

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("bench_*.py"))
_BESIDE = ("libcachesim", "ortools", "simanneal")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER.parents[1] / "docs" / "benchmarks.md")
    given = parser.parse_args()
    given.output.parent.mkdir(exist_ok=True)
    parts, failed = [heading()], []
    for name in given.only:
        print(f"== {name}", flush=True)
        text, code = run(name)
        failed += [name] if code else []
        ended = f"\n(ended with exit status {code})" if code else ""
        parts.append(f"## {name}\n\n    python -m tests.benchmarks.{name}\n\n```\n{text.rstrip()}{ended}\n```\n")
        write_whole("--output", given.output, lambda path: path.write_text("\n".join(parts), encoding="utf-8"))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(name: str) -> tuple[str, int]:
    """A benchmark's table, printed as it grows, and its exit status."""
    command = [sys.executable, "-m", f"tests.benchmarks.{name}"]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=FOLDER.parents[1]) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return "".join(lines), process.returncode


def heading() -> str:
    """What the figures depend on."""
    found = versions() | {package: _version(package) for package in _BESIDE}
    listed = ", ".join(f"{package} {version}" for package, version in found.items())
    return (
        "# Benchmarks\n\n"
        "Written by `make bench`; do not edit. Times differ between machines, ratios less.\n\n"
        f"- date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC\n"
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


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    main()
