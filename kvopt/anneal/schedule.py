"""Temperatures of a chain."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kvopt.arguments import real, whole
from kvopt.errors import MethodError, shown


@dataclass(frozen=True)
class Schedule:
    """Temperatures and lengths; every temperature is in units of reading a mean block from the backing tier.

    Parameters
    ----------
    sweeps : int
        Sweeps over all blocks a chain; with none it only descends.
    first, last : float
        Temperatures of the first and the last sweep; geometric in between. Below about 0.007 the dearest slots cost
        more temperatures than a weight can hold (see ``moves._MOST_COST``); colder is what the descent is for.
    rent_until : float
        Share of the sweeps during which the capacity prices are charged in full; they fade to 0 after that.
    sample_tau : float
        Temperature at which the start is sampled from the dual.

    Raises
    ------
    MethodError
        For numbers outside these ranges, or a first temperature below the last.
    """

    sweeps: int = 24
    first: float = 0.03
    last: float = 0.008
    rent_until: float = 0.6
    sample_tau: float = 1e-3

    def __post_init__(self) -> None:
        whole("sweeps", self.sweeps, "Give one", MethodError, least=0)
        for name in ("first", "last", "sample_tau"):
            real(name, getattr(self, name), "Give one", MethodError, above=0.0)
        if not 0 <= real("rent_until", self.rent_until, "Give one", MethodError) <= 1:
            raise MethodError(
                "rent_until", f"must be from 0 to 1, got {shown(self.rent_until)}", "Give a share of the sweeps"
            )
        if not self.first >= self.last:
            raise MethodError(
                "temperature",
                f"must fall from first to last > 0, got {self.first} to {self.last}",
                "Swap or raise them",
            )

    def temperature(self, sweep: int) -> float:
        """Temperature of a sweep."""
        return self.first * (self.last / self.first) ** (sweep / max(self.sweeps - 1, 1))

    def shortened(self, sweeps: int) -> Schedule:
        """Fewer sweeps, and as there is less time to cool, less heat to start with.

        Measured on the embedded trace: 6 sweeps in place of 24 leave 0.2-0.5 % from half the temperature, 0.6-1.2 %
        from all of it.
        """
        first = max(self.last, self.first * (sweeps / self.sweeps) ** 0.5)
        return replace(self, sweeps=sweeps, first=first)

    def cut(self, sweeps: int) -> Schedule:
        """Fewer sweeps over the same temperatures."""
        return replace(self, sweeps=max(sweeps, 1))

    def rent(self, sweep: int) -> float:
        """Share of the capacity prices charged in a sweep."""
        done = sweep / max(self.sweeps - 1, 1)
        return 1.0 if done <= self.rent_until else (1 - done) / (1 - self.rent_until)
