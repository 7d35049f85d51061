"""Diagnosis: where the time of a placement method goes, rung by rung, each rung certified or achieved.

=====================  =========  ==================================================================================
rung                   role       what the step up to it costs
=====================  =========  ==================================================================================
ideal bandwidth        certified  nothing: all reads at the bandwidth of all channels together
limited capacity       certified  the tiers' capacities and the writes of new blocks, were moving free: often nothing,
                                  since what a slot reads could then be brought in just before it
moving blocks          certified  moves take bandwidth, so blocks stay and room runs out; nothing beats this rung
best found             achieved   what is left between proof and practice: unproven either way
clairvoyant policy     achieved   deciding by rule, with the future known
the method at hand     achieved   not knowing the future (or, of a clairvoyant method, deciding by rule)
=====================  =========  ==================================================================================

The multipliers of the bound say what binds, phase by phase: the price of a channel in a slot is its weight in the
slot's maximum, the price of a byte of capacity what one more byte would save.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from kvopt.errors import MethodError
from kvopt.instance import Instance, Moves
from kvopt.result import Bound, Progress, Result, Role, Termination
from kvopt.solve import ALIASES, bound, check_arguments, solve

if TYPE_CHECKING:
    import pandas as pd

_KNOWS_THE_FUTURE = {"lru": "belady", "static-oldest": "static-hottest"}
"""The clairvoyant method nearest to an online one."""
_PHASES = 8
_SHARE_OF_FREE = 0.25
_SHARE_OF_BOUND = 0.35
"""Shares of the time limit for the bound with free moves and for the bound; annealing has the rest."""

OnRungProgress = Callable[[str, Progress], None]


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Parameters
    ----------
    name : str
    latency_s : float
    role : Role
    source : str
        The bound's source, or the method that achieved it.
    """

    name: str
    latency_s: float
    role: Role
    source: str


@dataclass(frozen=True, eq=False)
class Explanation:
    """The ladder from the ideal to a method, and what binds when.

    Parameters
    ----------
    instance : Instance
    rungs : tuple of Rung
        From the ideal up. Certified rungs never fall; an achieved one may lie below the one before it, when a
        clairvoyant policy does worse than the method it is to explain.
    bound : Bound
        The highest certified rung, with its multipliers.
    best : Result
    method : Result
        The method at hand.
    n_phases : int
    elapsed_s : float
    interrupted : bool
        Ctrl-C, or the time limit, left a rung at less than it might be.
    """

    instance: Instance
    rungs: tuple[Rung, ...]
    bound: Bound
    best: Result
    method: Result
    n_phases: int
    elapsed_s: float
    interrupted: bool

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One record a rung; ``cost_percent`` is over the rung before it, ``share_percent`` of the whole."""
        total = self.rungs[-1].latency_s
        before = [None, *(r.latency_s for r in self.rungs)]
        return [
            {
                "rung": rung.name,
                "latency_s": rung.latency_s,
                "role": rung.role.value,
                "cost_percent": 100 * (rung.latency_s / last - 1) if last else None,
                "share_percent": 100 * (rung.latency_s - (last or 0.0)) / total if total else None,
                "source": rung.source,
            }
            for rung, last in zip(self.rungs, before, strict=False)
        ]

    @property
    def frame(self) -> pd.DataFrame:
        """The ladder as a DataFrame: rung, latency_s, role, cost_percent, share_percent, source."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    @property
    def phase_rows(self) -> list[dict[str, Any]]:
        """One record a phase: its steps, the share of its time each channel decides, and what each tier is worth."""
        multipliers = self.bound.certificate
        lanes, n_steps = self.instance.trace.n_lanes, self.instance.trace.n_steps
        edges = np.linspace(0, n_steps, min(self.n_phases, n_steps) + 1).astype(int)
        found = []
        for first, last in pairwise(edges):
            slots = slice(first * lanes, last * lanes)
            weight = self.best.evaluation.slot_s[slots]
            decides = multipliers.channel_price[:, slots] @ weight / max(weight.sum(), 1e-300)
            found.append(self._phase(int(first), int(last), decides, slots))
        return found

    def _phase(self, first: int, last: int, decides: np.ndarray, slots: slice) -> dict[str, Any]:
        platform = self.instance.platform
        price = self.bound.certificate.capacity_price_s_per_byte[:, slots].sum(axis=1)
        channel, tier = int(np.argmax(decides)), int(np.argmax(price))
        return {
            "first_step": first,
            "last_step": last - 1,
            "channel": platform.channels[channel].name,
            "channel_percent": 100 * float(decides[channel]),
            "channels_percent": {
                c.name: 100 * float(share) for c, share in zip(platform.channels, decides, strict=True)
            },
            "tier": platform.tiers[tier].name if price[tier] > 0 else None,
            "seconds_per_byte": float(price[tier]),
            "tiers_seconds_per_byte": {t.name: float(p) for t, p in zip(platform.tiers, price, strict=True)},
        }

    @property
    def phases(self) -> pd.DataFrame:
        """What binds in each phase, from the multipliers of the bound.

        ``channel`` decides most of the phase's time and ``channel_percent`` how much; ``tier`` is the one whose
        capacity is worth most, ``seconds_per_byte`` what another byte of it in this phase is worth at most, or None
        where no capacity binds.
        """
        import pandas as pd

        return pd.DataFrame(self.phase_rows).drop(columns=["channels_percent", "tiers_seconds_per_byte"])

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        return {
            "instance": self.instance.summary(),
            "method": self.method.method,
            "rungs": self.rows,
            "phases": self.phase_rows,
            "elapsed_s": self.elapsed_s,
            "interrupted": self.interrupted,
        }

    def plot(self, ax=None):
        """Draw the ladder; see :func:`kvopt.plotting.plot_ladder`."""
        from kvopt.plotting import plot_ladder

        return plot_ladder(self, ax)

    def _repr_html_(self) -> str:
        return self.frame._repr_html_()


def explain(
    instance: Instance,
    method: str = "lru",
    *,
    time_limit: float | None = 30.0,
    seed: int = 0,
    phases: int = _PHASES,
    on_progress: OnRungProgress | None = None,
) -> Explanation:
    """Say which of capacity, migration, search and foresight costs how much.

    Parameters
    ----------
    instance : Instance
    method : str
        The policy at hand: the top of the ladder.
    time_limit : float, optional
        Seconds for the two bounds and annealing together.
    seed : int
    phases : int
        Parts of the decode, of equal length, for which what binds is told.
    on_progress : callable, optional
        Called with the rung's name and its progress.

    Raises
    ------
    MethodError
        For an unknown method, one that is no policy, or a number of phases below 1.
    """
    began = time.perf_counter()
    method = _policy(method, time_limit)
    if not instance.timed:
        raise MethodError("objective", f"{instance.objective.name!r} is not the decode time", "Explain that")
    if phases < 1:
        raise MethodError("phases", f"must be at least 1, got {phases}", "Give the number of phases")

    def part(share: float) -> float | None:
        return None if time_limit is None else share * time_limit

    def progress_of(name: str):
        return None if on_progress is None else lambda event: on_progress(name, event)

    ideal = bound(instance, method="aggregate")
    free = replace(instance, rules=replace(instance.rules, moves=Moves.FREE))
    unmoved = bound(free, time_limit=part(_SHARE_OF_FREE), on_progress=progress_of("limited capacity"))
    # Prices that hold for free moves hold for paid ones too, so the bound starts no lower than this rung.
    certified = bound(
        instance,
        time_limit=part(_SHARE_OF_BOUND),
        start=unmoved.certificate,
        on_progress=progress_of("moving blocks"),
    )
    policies = [solve(instance, name) for name in dict.fromkeys([method, _KNOWS_THE_FUTURE.get(method, method)])]
    left = None if time_limit is None else max(time_limit - (time.perf_counter() - began), 0.05 * time_limit)
    best = solve(
        instance,
        "anneal",
        time_limit=left,
        seed=seed,
        bound=certified,
        start=min(policies, key=lambda r: r.objective),
        on_progress=progress_of("best found"),
    )
    return Explanation(
        instance=instance,
        rungs=_ladder(ideal, unmoved, certified, best, policies),
        bound=certified,
        best=best,
        method=policies[0],
        n_phases=phases,
        elapsed_s=time.perf_counter() - began,
        interrupted=any(r.termination is Termination.INTERRUPTED for r in (unmoved, certified, best)),
    )


def _policy(method: str, time_limit: float | None) -> str:
    from kvopt import policies

    method = check_arguments(ALIASES.get(method, method), time_limit)
    if method not in policies.names():
        raise MethodError(
            "method",
            f"{method!r} is no policy, so there is nothing to explain",
            f"Choose: {', '.join(policies.names())}",
        )
    return method


def _ladder(ideal: Bound, unmoved: Bound, certified: Bound, best: Result, policies: list[Result]) -> tuple[Rung, ...]:
    # Each bound holds for every rung above it: where a search was cut short, the lower rung's value is the better.
    capacity_s = max(unmoved.value, ideal.value)
    moving_s = max(certified.value, capacity_s)
    method, *twin = policies
    rungs = [
        Rung("ideal bandwidth", ideal.value, ideal.role, ideal.source),
        Rung("limited capacity", capacity_s, unmoved.role, f"{unmoved.source}, moves free"),
        Rung("moving blocks", moving_s, certified.role, certified.source),
        Rung("best found", best.objective, Role.ACHIEVED, best.method),
        *(Rung("deciding by rule", r.objective, Role.ACHIEVED, r.method) for r in twin),
    ]
    last = "missing foresight" if twin else "deciding by rule"
    return (*rungs, Rung(last, method.objective, Role.ACHIEVED, method.method))
