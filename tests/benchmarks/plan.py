"""What ``make bench`` runs: every benchmark, in sizes that take 200 minutes on two quiet cores all together."""

from __future__ import annotations

from dataclasses import dataclass

SKIPPED = 77
"""Exit status of a benchmark that cannot be run here, as in automake; its output says why."""


@dataclass(frozen=True)
class Job:
    """One command.

    Parameters
    ----------
    name : str
        Module of :mod:`tests.benchmarks`.
    full : str
        Its arguments.
    quick : str or None
        Arguments that take seconds, to see that it runs; None where another job of the module does that.
    """

    name: str
    full: str
    quick: str | None

    def arguments(self, quick: bool) -> list[str]:
        """As a list."""
        return ((self.quick or "") if quick else self.full).split()

    def command(self, quick: bool) -> str:
        """As it is typed."""
        return " ".join(["python -m", f"tests.benchmarks.{self.name}", *self.arguments(quick)])


JOBS = (
    Job("bench_trellis", "", ""),
    Job("bench_general", "", "--quick"),
    Job("bench_start", "", "--quick"),
    Job("bench_exact", "", "2000 10000"),
    Job("bench_bound", "--columns 50000 100000", "--columns 20000 --regimes knee --time-limit 20"),
    Job(
        "bench_bound",
        "--columns 50000 100000 --copies inclusive --moves read-through",
        "--columns 20000 --regimes knee --time-limit 20 --copies inclusive --moves read-through",
    ),
    Job("bench_bound", "--columns 500000 --solvers simplex ipm ipm-no-crossover pdlp hipdlp-1e-4", None),
    Job("bench_proved", "", "--count 3 --time-limit 2 --proof-limit 10"),
    Job("bench_mip", "", "--columns 15000 --time-limit 3"),
    Job("bench_families", "", "--accesses 1e4 --time-limit 3"),
    Job("bench_anneal", "", "--time-limit 2"),
    Job("bench_anneal", "--time-limit 15", None),
    Job("bench_alternatives", "--time-limit 20", "--accesses 3000 --instances knee --time-limit 3"),
    Job("bench_scale", "", "--accesses 1e5 1e6 --time-limit 5 --anneal 5"),
    Job("bench_scale", "--accesses --full --time-limit 900 --anneal 1680", None),
    Job("bench_scale", "--only published-middle --accesses --full --time-limit 700 --anneal 1500", None),
    Job("bench_lanes", "", "--scale hundredth --time-limit 1"),
    Job("bench_judges", "", "1e5"),
    Job("bench_instances", "", "--accesses 1e3 4e5"),
    Job("bench_instances", "--accesses --full --only published-high", None),
    Job("bench_cache", "", "--accesses 200000 --rounds 1"),
)


def jobs(names: list[str], quick: bool) -> list[Job]:
    """Those of the modules named, in the plan's order."""
    return [job for job in JOBS if job.name in names and not (quick and job.quick is None)]
