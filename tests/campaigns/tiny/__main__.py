"""``python -m tests.campaigns.tiny [--seeds 2000] [--processes 2] [--kvopt PATH or COMMIT] [--only-seed N]``.

Exit status 1 when any fault was found. ``--only-seed`` prints the whole case and all values. ``--kvopt`` judges another
checkout, or another commit of this one; its kernels are compiled on first use.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from pprint import pprint

from tests.campaigns.tiny.campaign import HANGS_S, Fault, Outcome, campaign
from tests.campaigns.tiny.cases import draw
from tests.campaigns.tiny.optimum import TooLarge, optimum
from tests.campaigns.tiny.page import Page
from tests.checkouts import unpacked_once

_SHOWN = 3
"""Seeds shown of each kind of fault."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="Seed to begin with.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kvopt", help="Checkout or commit to judge in place of this one.")
    parser.add_argument("--only-seed", type=int)
    parser.add_argument("--most-states", type=int, default=15, help="Draw no case whose blocks have more states.")
    parser.add_argument("--hangs-s", type=float, default=HANGS_S, help="How long a check may take.")
    parser.add_argument("--output", type=Path, help="File for all faults, a line of JSON each.")
    parser.add_argument("--all", action="store_true", help="List every fault.")
    given = parser.parse_args()
    only = given.only_seed
    seeds = range(given.first, given.first + given.seeds) if only is None else [only]
    if only is not None:
        _show_case(only, given.most_states)
    began = time.perf_counter()
    outcome = campaign(
        seeds,
        processes=given.processes,
        kvopt=None if given.kvopt is None else unpacked_once(given.kvopt),
        most_states=given.most_states,
        hangs_s=given.hangs_s,
        on_seed=_told(len(seeds), began),
    )
    if only is not None:
        pprint(outcome.values.get(only, {}))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(table(outcome, time.perf_counter() - began, used.ru_utime + used.ru_stime))
    print(listed(outcome.faults, _SHOWN if only is None and not given.all else sys.maxsize))
    if given.output is not None:
        lines = [json.dumps(asdict(fault)) + "\n" for fault in outcome.faults]
        given.output.write_text("".join(lines), encoding="utf-8")
    return int(bool(outcome.faults))


def _told(count: int, began: float):
    def on_seed(outcome: Outcome) -> None:
        if outcome.done % 25 == 0:
            taken = time.perf_counter() - began
            print(f"{outcome.done} of {count} seeds, {len(outcome.faults)} faults, {taken:.0f} s", file=sys.stderr)

    return on_seed


def _show_case(seed: int, most_states: int) -> None:
    case = draw(seed, most_states=most_states)
    page = Page(case)
    pprint(case, width=120, sort_dicts=False)
    print("states:", ["+".join(t.name for t, h in zip(case.tiers, held, strict=True) if h) for held in page.states])
    print("lives:", list(zip(page.birth, page.death, strict=True)))
    try:
        best = optimum(page)
    except TooLarge:
        print("optimum: too large to know")
        return
    if best is None:
        print("optimum: no placement is feasible")
    else:
        print(f"optimum: {best.value} = {float(best.value)!r} by {best.paths}")


def table(outcome: Outcome, taken_s: float, processor_s: float) -> str:
    """Checks with the cases they looked at and the faults found, and what was compared."""
    faults: dict[str, Counter] = defaultdict(Counter)
    for fault in outcome.faults:
        faults[fault.check][fault.kind] += 1
    took = f"{taken_s:.0f} s, {processor_s:.0f} s of processor time"
    lines = [f"{outcome.done} seeds in {took}, {len(outcome.faults)} faults", ""]
    lines += ["| check | cases | faults | kinds |", "| --- | --- | --- | --- |"]
    for check, cases in outcome.runs.items():
        kinds = ", ".join(f"{kind} {n}" for kind, n in faults[check].most_common())
        lines.append(f"| {check} | {cases} | {sum(faults[check].values())} | {kinds} |")
    lines += ["", *(f"- {name}: {n}" for name, n in sorted(outcome.counts.items()))]
    return "\n".join(lines)


def listed(faults: Iterable[Fault], most: int) -> str:
    """The first faults of each kind, with how to see each again."""
    lines, shown = [], Counter()
    for fault in faults:
        kind = (fault.check, fault.kind)
        shown[kind] += 1
        if shown[kind] <= most:
            words = fault.words.replace("\n", " ")
            lines.append(f"\nseed {fault.seed}: {fault.check}: {fault.kind}: {words}")
            lines.append(f"    python -m tests.campaigns.tiny --only-seed {fault.seed}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
