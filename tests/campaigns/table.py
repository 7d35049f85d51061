"""What a campaign has found, counted by command and kind of fault."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Tally:
    """Of some runs of a command.

    Parameters
    ----------
    ended_before : int
        Runs that were over before anything was done to them.
    faults : Counter of str
        By kind.
    seconds : list of float
        How long each run took to end; its length is the number of runs.
    """

    ended_before: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    def __add__(self, other: Tally) -> Tally:
        """Both together."""
        return Tally(self.ended_before + other.ended_before, self.faults + other.faults, self.seconds + other.seconds)

    def text(self) -> str:
        """The faults, in words."""
        return ", ".join(f"{count} {kind}" for kind, count in self.faults.most_common()) or "no fault"

    @staticmethod
    def print_all(tallies: dict[str, Tally]) -> int:
        """Print a line per command and one for all; 1 if there was a fault, else 0."""
        print(f"{'command':24}{'runs':>5}{'ended before':>14}{'median s':>10}{'most s':>8}  faults")
        for name, tally in (*tallies.items(), ("all", sum(tallies.values(), Tally()))):
            times = (f"{median(tally.seconds):.2f}", f"{max(tally.seconds):.2f}") if tally.seconds else ("-", "-")
            head = f"{name:24}{len(tally.seconds) + tally.ended_before:>5}{tally.ended_before:>14}"
            print(f"{head}{times[0]:>10}{times[1]:>8}  {tally.text()}")
        return int(any(tally.faults for tally in tallies.values()))
