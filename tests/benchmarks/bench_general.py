"""Two commits side by side: ``python -m tests.benchmarks.bench_general [--before COMMIT] [--after COMMIT] [--quick]``.

Needs the project's git history. Whatever the layout of a commit, it is measured through public calls alone
(:mod:`tests.benchmarks.public_calls`), in processes of its own that take turns with the other's, after its kernels are
compiled: on the example trace over two and three tiers, and on families of instances. Time is processor time, of all
threads; memory the peak of the process. Ratios are of medians, and each is printed as soon as it is known; the
objective or bound that a call came to stands beside it, to show whether the work was the same. By default, before is
the last tag, or ``LAST`` where there is none, and after is the working tree. Then three tiers over two, after.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.benchmarks import public_calls
from tests.checkouts import ROOT, unpacked_once

LAST = "c218352"
"""Version 0.1.0."""
FAMILIES = ("knee", "published-middle", "request-log", "three-tier")
_SCRIPT = Path(public_calls.__file__)
_POLL_S = 0.2
_NOISE = 1.05
"""Ratios above are marked."""

Figures = dict[str, dict]
"""What one process told, by call."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default=None, help="A commit, or a checkout's folder.")
    parser.add_argument("--after", default=None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--accesses", type=lambda text: int(float(text)), default=200_000, help="Of the families.")
    parser.add_argument("--only", nargs="+", metavar="INSTANCE", choices=(*public_calls.EXAMPLES, *FAMILIES))
    parser.add_argument("--quick", action="store_true", help="One round on one small instance: does everything run?")
    given = parser.parse_args()
    if given.quick:
        given.rounds, given.accesses, given.only = 1, 2_000, given.only or ["knee"]
    before = given.before or _last_tag() or LAST
    sites = {
        "before": unpacked_once(before),
        "after": ROOT if given.after is None else unpacked_once(given.after),
    }
    print(f"before: {before}; after: {given.after or 'the working tree'}; {given.rounds} rounds", flush=True)
    found = {}
    for name in given.only or (*public_calls.EXAMPLES, *FAMILIES):
        print(f"\n{name}", flush=True)
        for which, site in sites.items():
            _told(site, name, given.accesses, f"{which}, compiling", timed=False)
        found[name] = _side_by_side(sites, name, given.accesses, given.rounds)
    two, three = (found.get(name, {}).get("after") for name in public_calls.EXAMPLES)
    if two and three:
        print("\nthree tiers over two, after")
        for call in two[0]:
            _print_row(call, [f.get(call, {}) for f in two], [f.get(call, {}) for f in three])


def _side_by_side(sites: dict[str, Path], name: str, accesses: int, rounds: int) -> dict[str, list[Figures]]:
    """Both commits on one instance, taking turns."""
    found: dict[str, list[Figures]] = defaultdict(list)
    for turn in range(rounds):
        for which in list(sites) if turn % 2 == 0 else reversed(sites):
            told = f"{which}, round {turn + 1}"
            found[which].append(_told(sites[which], name, accesses, told, timed=True))
    calls = dict.fromkeys(call for figures in (*found["before"], *found["after"]) for call in figures)
    for call in calls:
        _print_row(call, *([figures.get(call, {}) for figures in found[which]] for which in ("before", "after")))
    return found


def _told(site: Path, name: str, accesses: int, told: str, *, timed: bool) -> Figures:
    """What one process measures of the kvopt at ``site``; each figure is printed when it is there."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as folder:
        where, said = Path(folder) / "figures.jsonl", Path(folder) / "said"
        where.touch()
        command = [sys.executable, str(_SCRIPT), name, str(accesses), str(where), *([] if timed else ["--no-time"])]
        env = {**os.environ, "PYTHONPATH": str(site)}
        with said.open("wb") as out, where.open(encoding="utf-8") as lines:
            process = subprocess.Popen(command, env=env, cwd=folder, stdout=out, stderr=out)
            over, unread = False, ""
            while not over:
                over = process.poll() is not None
                *whole, unread = (unread + lines.read()).split("\n")
                for one in map(json.loads, whole):
                    figures[one["name"]] = one
                    if timed:
                        print(f"    {told}: {one['name']} {_figure(one)}", flush=True)
                time.sleep(_POLL_S)
        if process.returncode != 0:
            print(f"  {told} ended with status {process.returncode} after {list(figures)}", flush=True)
            raise SystemExit(said.read_text(encoding="utf-8", errors="replace")[-3000:])
    return figures


def _figure(one: dict) -> str:
    """One figure in words."""
    if "missing" in one:
        return f"not there ({one['missing']})"
    return f"{1e-6 * one['bytes']:.1f} MB" if "bytes" in one else f"{1e3 * one['seconds']:.2f} ms"


def _print_row(call: str, before: list[dict], after: list[dict]) -> None:
    """One call: medians, their ratio, and the values where they differ."""
    sides = []
    for figures in (before, after):
        numbers = [f["seconds"] if "seconds" in f else f["bytes"] for f in figures if "missing" not in f and f]
        sides.append(statistics.median(numbers) if numbers else None)
    scale, unit = (1e-6, "MB") if call == "peak memory" else (1e3, "ms")
    cells = ["not there".rjust(13) if side is None else f"{scale * side:10.2f} {unit}" for side in sides]
    ratio = ""
    if None not in sides and sides[0] > 0:
        ratio = f"x{sides[1] / sides[0]:.2f}{' !' if sides[1] > _NOISE * sides[0] else ''}"
    values = [next((f["value"] for f in figures if f.get("value") is not None), None) for figures in (before, after)]
    same = ""
    if values[0] is not None or values[1] is not None:
        same = "same value" if values[0] == values[1] else f"values {_value(values[0])}, {_value(values[1])}"
    print(f"  {call:22} {cells[0]} {cells[1]}   {ratio:8} {same}", flush=True)


def _value(value: float | None) -> str:
    return "none" if value is None else f"{value:.8g}"


def _last_tag() -> str | None:
    done = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return done.stdout.decode().strip() or None


if __name__ == "__main__":
    main()
