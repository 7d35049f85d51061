"""The annealer on small instances that HiGHS proves optimal.

``python -m tests.benchmarks.bench_proved [--count N] [--first K] [--time-limit S] [--proof-limit S]``

The numbered instances of :mod:`tests.benchmarks.small` are given to HiGHS in their order, with no start and a gap of 0,
one on each core, until so many count: those that it needs between 0.1 and 60 s to prove. Which count depends on HiGHS
alone, and on the machine, by its pace. Then the annealer runs on these with its defaults, its own bound included in its
time. Both placements are judged by ``kvopt.evaluate``.

Equal means within 1e-7 of each other, relative: what HiGHS, at tolerances of 1e-9, is taken to have proved between
placement and bound. How many are equal within 1e-9 is said too. A placement that beats the optimum by more than that is
an error, and ends this with one.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import kvopt
from kvopt.exact import column_count
from kvopt.result import Termination
from kvopt.warmup import warm_up_once
from tests.benchmarks import small

_LEAST_PROOF_S = 0.1
_MOST_TRIED = 10
"""Instances for each that must count."""
_EQUAL, _NEARLY_THE_SAME = 1e-7, 1e-9
_WANTED_EQUAL, _WANTED_WORST = 0.95, 2e-3
"""What is claimed."""


@dataclass(frozen=True)
class Proof:
    """What HiGHS came to.

    Parameters
    ----------
    number : int
        Of the instance.
    proved : bool
    optimum, elapsed_s : float
        Seconds.
    """

    number: int
    proved: bool
    optimum: float
    elapsed_s: float


@dataclass(frozen=True)
class Counted:
    """An instance with a proved optimum.

    Parameters
    ----------
    number : int
    family : str
    excess : float
        Of the annealed time over the optimum, relative.
    """

    number: int
    family: str
    excess: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="Instances that must count.")
    parser.add_argument("--first", type=int, default=0, help="Number of the first instance.")
    parser.add_argument("--time-limit", type=float, default=20.0, help="The annealer's, in seconds.")
    parser.add_argument("--proof-limit", type=float, default=60.0, help="HiGHS's, in seconds.")
    given = parser.parse_args()
    began = time.perf_counter()
    proofs, easy, still_open = proved(given.first, given.count, given.proof_limit)
    print(
        f"{len(proofs)} of {len(proofs) + easy + still_open} count, after {time.perf_counter() - began:.0f} s of HiGHS"
    )
    print(f"{'no.':>4} {'slots':>5} {'blocks':>6} {'columns':>7} {'HiGHS s':>8} {'anneal s':>8} {'excess':>9} instance")
    counted = [_annealed(proof, given.time_limit) for proof in proofs]
    if counted:
        summary(counted, given.time_limit)
    print(f"not counted: {easy} proved in less than {_LEAST_PROOF_S:g} s, {still_open} open at {given.proof_limit:g} s")
    if len(counted) < given.count:
        sys.exit(f"of {_MOST_TRIED * given.count} instances only {len(counted)} count")
    if any(one.excess < -_EQUAL for one in counted):
        sys.exit("the annealer beats a proved optimum")


def proved(first: int, count: int, limit_s: float) -> tuple[list[Proof], int, int]:
    """Proofs that count, as many instances at a time as there are cores; and how many were too easy or left open."""
    numbers = range(first, first + _MOST_TRIED * count)
    found, easy, still_open = [], 0, 0
    with multiprocessing.get_context("spawn").Pool(len(os.sched_getaffinity(0))) as pool:
        for proof in pool.imap(partial(prove, limit_s=limit_s), numbers):
            still_open += not proof.proved
            easy += proof.proved and proof.elapsed_s < _LEAST_PROOF_S
            if proof.proved and proof.elapsed_s >= _LEAST_PROOF_S:
                found.append(proof)
            if len(found) == count:
                break
    return found, easy, still_open


def prove(number: int, limit_s: float) -> Proof:
    """Give an instance to HiGHS."""
    found = kvopt.solve(small.make(number).instance, "exact", time_limit=limit_s, backend="arrays")
    # Within its limit it may not even have found a placement.
    optimal = found.termination is Termination.OPTIMAL
    return Proof(number, optimal, found.objective if optimal else math.nan, found.elapsed_s)


def _annealed(proof: Proof, limit_s: float) -> Counted:
    """Anneal, and print both."""
    problem = small.make(proof.number)
    instance = problem.instance
    warm_up_once(lambda _: None, instance)
    found = kvopt.solve(instance, "anneal", time_limit=limit_s)
    excess = found.objective / proof.optimum - 1
    told = "equal" if abs(excess) <= _EQUAL else f"{excess:+.4%}"
    print(
        f"{proof.number:4} {instance.n_slots:5} {instance.trace.n_blocks:6} {column_count(instance):7,} "
        f"{proof.elapsed_s:8.2f} {found.elapsed_s:8.2f} {told:>9} {problem}",
        flush=True,
    )
    return Counted(proof.number, problem.family, excess)


def summary(counted: list[Counted], limit_s: float) -> None:
    """By family, and in all beside what is claimed."""
    families: dict[str, list[Counted]] = defaultdict(list)
    for one in counted:
        families[one.family].append(one)
    print(f"\n{'family':18} {'proved':>6} {'equal':>6} {'worst':>9}")
    for name, ones in sorted(families.items()):
        print(f"{name:18} {len(ones):6} {_equal(ones, _EQUAL):6} {max(one.excess for one in ones):+9.4%}")
    worst = max(counted, key=lambda one: one.excess)
    equal = _equal(counted, _EQUAL)
    print(
        f"\n{equal} of {len(counted)} equal within {_EQUAL:g} ({_equal(counted, _NEARLY_THE_SAME)} within "
        f"{_NEARLY_THE_SAME:g}) after at most {limit_s:g} s; worst {worst.excess:+.4%}, number {worst.number}"
    )
    held = equal >= _WANTED_EQUAL * len(counted) and worst.excess <= _WANTED_WORST
    print(
        f"claimed: {_WANTED_EQUAL:.0%} equal, none more than {_WANTED_WORST:.1%} above: {'held' if held else 'MISSED'}"
    )


def _equal(ones: list[Counted], within: float) -> int:
    return sum(abs(one.excess) <= within for one in ones)


if __name__ == "__main__":
    main()
