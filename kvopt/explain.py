"""Diagnosis: where the time of a placement method goes, rung by rung, each rung certified or achieved.

=====================  =========  ==================================================================================
rung                   role       what the step up to it costs
=====================  =========  ==================================================================================
ideal bandwidth        certified  nothing: all reads at the bandwidth of all channels together
limited capacity       certified  the tiers' capacities and the writes of new blocks, were moving free: often nothing,
                                  since what a slot reads could then be brought in just before it
moving blocks          certified  moves take bandwidth, so blocks stay and room runs out; nothing beats this rung
pages of p tokens      certified  whole pages are read and moved for single tokens; only with ``page_tokens``
best found             achieved   what is left between proof and practice: unproven either way
clairvoyant policy     achieved   deciding by rule, with the future known
the method at hand     achieved   not knowing the future (or, of a clairvoyant method, deciding by rule)
=====================  =========  ==================================================================================

With ``page_tokens`` the rungs below the pages place single tokens, each with the life of its page: it is written, and
takes room, when the page does (:func:`kvopt.pages.with_lives_of_pages`). They differ from the pages in reads and moves
alone, so what they certify holds for the pages too; the trace of tokens as it is would not do, since its writes fall in
other slots. Everything from the rung of the pages on is about the paged instance. What one certified rung costs over
another is the ratio of two bounds, neither of which need be attained.

The multipliers of the bound say what binds, phase by phase: the price of a channel in a slot is its weight in the
slot's maximum, the price of a byte of capacity what one more byte would save.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from kvopt import interrupts
from kvopt.arguments import check_progress, whole
from kvopt.errors import MethodError
from kvopt.instance import Instance, Moves
from kvopt.pages import with_lives_of_pages
from kvopt.platform import Platform
from kvopt.result import Bound, Progress, Result, Role, Termination, one_line
from kvopt.solve import bound, check_arguments, check_instance, solve
from kvopt.units import count

if TYPE_CHECKING:
    import pandas as pd

_KNOWS_THE_FUTURE = {"lru": "belady", "static-oldest": "static-hottest"}
"""The clairvoyant method nearest to an online one."""
_PHASES = 8
_MOST_PHASES = 100_000
_SHARE_OF_FREE = 0.25
_SHARE_OF_BOUND = 0.35
_SHARE_OF_PAGES = 0.15
"""Shares of the time limit for the bound with free moves, for the bound and for that of pages, of which there are few;
annealing has the rest."""
_NO_TIME_S = 1e-3
"""For a bound that is to be what its start proves."""

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
        That of pages, if there are any.
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
    failed : dict of method to str
        Methods without a rung, and the errors they ended in.
    """

    instance: Instance
    rungs: tuple[Rung, ...]
    bound: Bound
    best: Result
    method: Result
    n_phases: int
    elapsed_s: float
    interrupted: bool
    failed: dict[str, str] = field(default_factory=dict)

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
        # Where no block fits, nothing is worth its rent, and another byte is worth nothing.
        price[np.array(self.instance.capacity_bytes) < self.instance.trace.size_bytes.min()] = 0.0
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
            "failed": self.failed,
        }

    def plot(self, ax=None):
        """Draw the ladder; see :func:`kvopt.plotting.plot_ladder`."""
        from kvopt.plotting import plot_ladder

        return plot_ladder(self, ax)

    def _repr_html_(self) -> str:
        return self.frame._repr_html_()


@interrupts.interruptible
def explain(
    instance: Instance,
    method: str = "lru",
    *,
    time_limit: float | None = 30.0,
    seed: int = 0,
    phases: int = _PHASES,
    page_tokens: int | None = None,
    on_progress: OnRungProgress | None = None,
) -> Explanation:
    """Say which of capacity, migration, pages, search and foresight costs how much.

    Parameters
    ----------
    instance : Instance
    method : str
        The policy at hand: the top of the ladder.
    time_limit : float, optional
        Seconds for the bounds and annealing together.
    seed : int
    phases : int
        Parts of the decode, of equal length, for which what binds is told.
    page_tokens : int, optional
        Tell what placing whole pages of so many tokens costs over placing the instance's tokens one by one.
    on_progress : callable, optional
        Called with the rung's name and its progress.

    Raises
    ------
    MethodError
        For an unknown method, one that is no policy, or a number of phases below 1.
    TraceError
        When :meth:`Trace.paged` refuses ``page_tokens``.
    """
    began = time.perf_counter()
    check_instance(instance)
    check_progress(on_progress)
    method = _policy(method, time_limit)
    if not instance.timed:
        raise MethodError("objective", f"{instance.objective.name!r} is not the decode time", "Explain that")
    phases = whole("phases", phases, "Give the number of phases", MethodError, most=_MOST_PHASES)

    tokens = instance
    if page_tokens is not None:
        instance, tokens = instance.paged(page_tokens), _single_tokens(instance, page_tokens)
    ladder = _certified(tokens, instance, time_limit, on_progress)
    certified = ladder[-1][1]
    policies, failed = [solve(instance, method)], {}
    if method in _KNOWS_THE_FUTURE:
        twin = _attempt(_KNOWS_THE_FUTURE[method], lambda name: solve(instance, name), failed)
        policies += [] if twin is None else [twin]
    best = by_rule = min(policies, key=lambda r: r.objective)
    if not _cut_short(ladder):
        left = None if time_limit is None else max(time_limit - (time.perf_counter() - began), 0.05 * time_limit)
        limits = {"time_limit": left, "seed": seed, "bound": certified, "start": by_rule}
        tell = _named("best found", on_progress)
        best = _attempt("anneal", lambda name: solve(instance, name, on_progress=tell, **limits), failed) or by_rule
    below = "" if page_tokens is None else ", single tokens"
    return Explanation(
        instance=instance,
        rungs=(*_certified_rungs(ladder, below), *_achieved_rungs(best, policies)),
        bound=certified,
        best=best,
        method=policies[0],
        n_phases=phases,
        elapsed_s=time.perf_counter() - began,
        interrupted=best.termination is Termination.INTERRUPTED or _cut_short(ladder),
        failed=failed,
    )


def _cut_short(ladder: list[tuple[str, Bound]]) -> bool:
    """Whether Ctrl-C came during one of the bounds: what is then owed is a ladder, not a long run."""
    return any(found.termination is Termination.INTERRUPTED for _, found in ladder)


def _attempt(name: str, run: Callable[[str], Result], failed: dict[str, str]) -> Result | None:
    """The result of a method that is not the one asked about; where it fails, the reason joins ``failed``."""
    try:
        return run(name)
    except Exception as error:
        failed[name] = one_line(error)
        return None


def _single_tokens(instance: Instance, page_tokens: int) -> Instance:
    """The relaxation of the paged instance in which each token of a page goes its own way."""
    single = replace(instance, trace=with_lives_of_pages(instance.trace, page_tokens))
    if not instance.rules.read_through:
        return single
    # A read page moves for its write alone, with all its tokens, so leaving a tier may cost no token more than a read.
    return replace(single, platform=_cheap_leaving(instance.platform))


def _cheap_leaving(platform: Platform) -> Platform:
    """The platform on which no channel carries more for a byte that moves out of a tier than for one read from it."""
    tiers = tuple(
        replace(tier, move_out={c: min(load, tier.read.get(c, 0.0)) for c, load in tier.move_out.items()})
        for tier in platform.tiers
    )
    return replace(platform, tiers=tiers)


def _certified(
    tokens: Instance, instance: Instance, time_limit: float | None, on_progress: OnRungProgress | None
) -> list[tuple[str, Bound]]:
    """(rung, bound) from the ideal up. Each problem is a relaxation of the next, and the last one is the instance."""
    free = replace(tokens, rules=replace(tokens.rules, moves=Moves.FREE))
    problems = [("limited capacity", free, _SHARE_OF_FREE), ("moving blocks", tokens, _SHARE_OF_BOUND)]
    if tokens is not instance:
        name = f"pages of {count(instance.trace.tokens_per_page or 1, 'token')}"
        problems.append((name, instance, _SHARE_OF_PAGES))
    found = [("ideal bandwidth", bound(tokens, method="aggregate"))]
    for name, problem, share in problems:
        # Prices prove as much for a problem as for its relaxation, so no bound starts lower than the one before it.
        start = found[-1][1].certificate if len(found) > 1 else None
        limit = None if time_limit is None else share * time_limit
        if _cut_short(found):
            limit = _NO_TIME_S
        found.append((name, bound(problem, time_limit=limit, start=start, on_progress=_named(name, on_progress))))
    return found


def _named(name: str, on_progress: OnRungProgress | None):
    return None if on_progress is None else lambda event: on_progress(name, event)


def _policy(method: str, time_limit: float | None) -> str:
    from kvopt import policies

    method = check_arguments(method, time_limit)
    if method not in policies.names():
        raise MethodError(
            "method",
            f"{method!r} is no policy, so there is nothing to explain",
            f"Choose: {', '.join(policies.names())}",
        )
    return method


def _certified_rungs(ladder: list[tuple[str, Bound]], below: str) -> list[Rung]:
    """The rungs of the bounds, ``below`` added to the source of all but the last."""
    rungs, highest = [], 0.0
    for name, found in ladder:
        # Each bound holds for every rung above it: where a search was cut short, the lower rung's value is the better.
        highest = max(found.value, highest)
        source = f"{found.source}, moves free" if name == "limited capacity" else found.source
        rungs.append(Rung(name, highest, found.role, source if found is ladder[-1][1] else source + below))
    return rungs


def _achieved_rungs(best: Result, policies: list[Result]) -> list[Rung]:
    method, *twin = policies
    rungs = [Rung("best found", best.objective, Role.ACHIEVED, best.method)]
    rungs += [Rung("deciding by rule", r.objective, Role.ACHIEVED, r.method) for r in twin]
    last = "missing foresight" if twin else "deciding by rule"
    return [*rungs, Rung(last, method.objective, Role.ACHIEVED, method.method)]
