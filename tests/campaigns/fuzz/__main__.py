"""``python -m tests.campaigns.fuzz``: a table of what came of the inputs; exit code 1 when one ended as none may."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from pathlib import Path

from tests.campaigns.fuzz.calls import ALL
from tests.campaigns.fuzz.campaign import Tally, run

_MOST_LISTED = 8
KINDS = ("bare", "slow", "crash")


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and print its table."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000, help="over all readers (default: 100,000)")
    parser.add_argument("--readers", default=",".join(ALL), help="separated by commas (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kvopt", help="folder of another checkout to attack instead")
    parser.add_argument("--save", type=Path, default=Path("build/fuzz"), help="folder for inputs that failed")
    given = parser.parse_args(arguments)
    names = given.readers.split(",")
    unknown = [name for name in names if name not in ALL]
    if unknown:
        parser.error(f"no reader {unknown[0]!r}; choose from {', '.join(ALL)}")
    share, rest = divmod(given.inputs, len(names))
    inputs = {name: share + (k < rest) for k, name in enumerate(names)}
    began = time.monotonic()
    tallies = run(inputs, given.seed, given.processes, given.save, kvopt=given.kvopt)
    print("\n".join(table(tallies)))
    faults = [fault for tally in tallies.values() for fault in tally.faults]
    listed: Counter[tuple[str, str, str]] = Counter()
    for fault in faults:
        like = fault.reader, fault.kind, fault.words.split(":")[0]
        listed[like] += 1
        if listed[like] <= _MOST_LISTED:
            print(f"{fault.kind}: {fault.reader} {fault.index}: {fault.words}")
    print(f"{sum(inputs.values()):,} inputs in {time.monotonic() - began:.0f} s; {len(faults)} failed")
    return 1 if faults else 0


def table(tallies: dict[str, Tally]) -> list[str]:
    """The counts of each reader, and their sums."""
    lines = [f"{'reader':12} {'inputs':>8} {'accepted':>9} {'refused':>8} {'bare':>6} {'over 1 s':>9} {'crashes':>8}"]
    rows = [(name, t.inputs, t.accepted, t.refused, *(t.of(kind) for kind in KINDS)) for name, t in tallies.items()]
    rows.append(("all", *(sum(row[k] for row in rows) for k in range(1, 7))))
    return lines + [f"{n:12} {a:>8,} {b:>9,} {c:>8,} {d:>6,} {e:>9,} {f:>8,}" for n, a, b, c, d, e, f in rows]


if __name__ == "__main__":
    sys.exit(main())
