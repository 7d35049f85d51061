"""Does ``tiny`` find a planted fault? ``python -m tests.campaigns.mutants [--seeds 200] [--only NAME ...]``.

Each mutant is one changed line of kvopt in a copy of this checkout, on which the campaign runs until its first fault. A
fault that the checkout has as it is does not count. The changed text must occur exactly once, so that a mutant whose
line is rewritten is told of at once, not silently lost; ``tests/campaigns/test_mutants.py`` looks every time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.campaigns.tiny.campaign import Fault, campaign
from tests.checkouts import ROOT, unpacked

_HANGS_S = 120.0


@dataclass(frozen=True)
class Mutant:
    """A line of an engine, made wrong.

    Parameters
    ----------
    name : str
        What is wrong with it.
    file : str
        From the root of the checkout.
    old, new : str
        Text that occurs once, and what stands in its place.
    """

    name: str
    file: str
    old: str
    new: str

    def plant(self, site: Path) -> None:
        """Change the file in a copy laid out by :func:`tests.checkouts.unpacked`."""
        file = self.file.replace("models/", "kvopt/models/", 1) if self.file.startswith("models/") else self.file
        path = site / file
        path.write_text(self.mutated(path.read_text(encoding="utf-8")), encoding="utf-8")

    def mutated(self, text: str) -> str:
        """The file's text with the fault in it.

        Raises
        ------
        ValueError
            When the text to change is not there exactly once.
        """
        if text.count(self.old) != 1:
            raise ValueError(
                f"mutant {self.name!r} is stale: {self.file} has {self.old!r} {text.count(self.old)} times"
            )
        return text.replace(self.old, self.new)


MUTANTS = (
    Mutant(
        "every tier holds a byte more",
        "kvopt/instance.py",
        "math.floor(c + 1e-3) if",
        "math.floor(c + 1e-3) + 1 if",
    ),
    Mutant(
        "a byte too much is no violation",
        "kvopt/placement.py",
        "np.flatnonzero(held > capacity)",
        "np.flatnonzero(held > capacity + 1)",
    ),
    Mutant(
        "the last slot of a block is one early in later lanes",
        "kvopt/instance.py",
        "np.minimum(trace.free_step.astype(np.int64) * trace.n_lanes + trace.lane, trace.n_slots)",
        "np.minimum(trace.free_step.astype(np.int64) * trace.n_lanes, trace.n_slots)",
    ),
    Mutant(
        "a full fit is refused",
        "kvopt/feasibility.py",
        "if instance.live_bytes[peak] > room:",
        "if instance.live_bytes[peak] >= room:",
    ),
    Mutant(
        "the evaluator takes read for move_out",
        "kvopt/evaluate.py",
        "+ sigma.T @ moved[:, :, 0].sum(axis=1)",
        "+ rho.T @ moved[:, :, 0].sum(axis=1)",
    ),
    Mutant(
        "the evaluator splits balanced reads as if nothing else were loaded",
        "kvopt/evaluate.py",
        "other_s + by_tier_s.T @ read, by_tier_s[1]",
        "by_tier_s.T @ read, by_tier_s[1]",
    ),
    Mutant(
        "a new block is not written to the fastest tier",
        "kvopt/counts.py",
        "which = written & held[born, k]",
        "which = written & held[born, k] & (k > 0)",
    ),
    Mutant(
        "inclusive copies are made from the slowest tier",
        "kvopt/counts.py",
        "source = np.argmax(held, axis=1)[before]",
        "source = (held.shape[1] - 1 - np.argmax(held[:, ::-1], axis=1))[before]",
    ),
    Mutant(
        "the lowering has read-through moves pay the read",
        "kvopt/lowering.py",
        "op[1] += writing if rules.read_through else writing + reading",
        "op[1] += writing + reading",
    ),
    Mutant(
        "the lowering swaps a sign",
        "kvopt/lowering.py",
        "swap_s_per_byte=swap * (read[-1] - read[0])",
        "swap_s_per_byte=swap * (read[0] - read[-1])",
    ),
    Mutant(
        "moves are free in the lowering",
        "kvopt/lowering.py",
        "op[0] += writing + reading",
        "op[0] += 0 * writing",
    ),
    Mutant(
        "the certificate forgets the rent of every tier but the fastest",
        "kvopt/bounds/certificate.py",
        "rent = math.fsum((mu[bounded] * capacity[bounded][:, None]).ravel())",
        "rent = math.fsum((mu[:1] * np.where(bounded[:1], capacity[:1], 0.0)[:, None]).ravel())",
    ),
    Mutant(
        "the certificate's moves do not read their source",
        "kvopt/bounds/paths.py",
        "return writing, writing + reading",
        "return writing, writing",
    ),
    Mutant(
        "the certificate's paths do not begin as given",
        "kvopt/bounds/paths.py",
        "given = None if instance.initial is None else instance.initial[blocks[:first]]",
        "given = None",
    ),
    Mutant(
        "blocks move half free in the arrays",
        "kvopt/exact/arrays.py",
        "np.zeros(len(layout.placed) * n)",
        "np.full(len(layout.placed) * n, 0.5)",
    ),
    Mutant(
        "the page's moves take read for move_out",
        "models/placement_data.py",
        "out=(out_s * per_byte).tolist()",
        "out=(read_s * per_byte).tolist()",
    ),
    Mutant(
        "the page forgets that a block begins as given",
        "models/placement.py",
        "return z[i, k, 0] == data.given[i, k]",
        "return z[i, k, 0] <= 1",
    ),
    Mutant(
        "the compiled policy takes the coldest for the hottest",
        "kvopt/policies/fast.py",
        "np.argsort(-reads, kind=",
        "np.argsort(reads, kind=",
    ),
    Mutant(
        "the simulator counts a tier's bytes short",
        "kvopt/policies/tiers.py",
        "excess = self.used[tier] - self.capacity[tier]",
        "excess = self.used[tier] - self.capacity[tier] - 1",
    ),
    Mutant(
        "a policy's kernel overfills the fastest tier by a byte",
        "kvopt/policies/kernels/static.py",
        "_most(most, added, first, last) + size_bytes[b] <= capacity_bytes",
        "_most(most, added, first, last) + size_bytes[b] <= capacity_bytes + 1",
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--most-states", type=int, default=4, help="Draw no case whose blocks have more states.")
    parser.add_argument("--known", type=Path, help="Faults of this checkout, as tiny --output wrote them.")
    parser.add_argument("--only", nargs="+", choices=[mutant.name for mutant in MUTANTS], metavar="NAME")
    given = parser.parse_args()
    chosen = [mutant for mutant in MUTANTS if given.only is None or mutant.name in given.only]
    options = {"processes": given.processes, "most_states": given.most_states, "hangs_s": _HANGS_S}
    known: set[tuple[int, str, str]] = set()
    if given.known is not None:
        lines = given.known.read_text(encoding="utf-8").splitlines()
        known = {Fault(**json.loads(line)).key for line in lines}
    print("| mutant | file | found at seed | by | seconds |\n| --- | --- | --- | --- | --- |", flush=True)
    missed = 0
    for mutant in chosen:
        began = time.perf_counter()
        fault = _hunt(mutant, given.seeds, known, options)
        missed += fault is None
        seed, by = ("not found", "") if fault is None else (fault.seed, f"{fault.check}: {fault.kind}")
        taken = time.perf_counter() - began
        print(f"| {mutant.name} | {mutant.file} | {seed} | {by} | {taken:.0f} |", flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} found")
    return int(missed > 0)


def _hunt(mutant: Mutant, n_seeds: int, known: set[tuple[int, str, str]], options: dict) -> Fault | None:
    """The first fault of a mutant that the checkout as it is does not have; what it has is added to ``known``."""
    with tempfile.TemporaryDirectory() as folder:
        site = unpacked(ROOT, Path(folder))
        mutant.plant(site)
        first = 0
        while first < n_seeds:
            seeds = range(first, n_seeds)
            found = campaign(seeds, kvopt=site, ignore=frozenset(known), stop_at_first=True, **options).faults
            if not found:
                return None
            seed = found[0].seed
            known |= {fault.key for fault in campaign([seed], **options).faults}
            for fault in found:
                if fault.seed == seed and fault.key not in known:
                    return fault
            first = seed
    return None


if __name__ == "__main__":
    sys.exit(main())
