"""The stages of the dual's ascent: from hot to cold, and what they leave behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kvopt.bounds.ascent import TAU_FACTOR, Ascent
from kvopt.bounds.checkpoint import STAGES, Checkpoint, Reached
from kvopt.bounds.lanes import widened
from kvopt.bounds.sample import thinning
from kvopt.instance import Instance
from kvopt.result import Bound, Certificate, Guide, OnProgress, Progress, Termination

_FIRST_TAU = 0.1
"""First temperature, in units of the dearest channel-second a byte read from the backing tier takes."""
_GUIDE_STAGES = 9
"""The first so many stages leave their multipliers as guides for an annealer (tau = 0.1 to 0.0004)."""
_HOT_STAGES = 3
"""Stages before the first (tau = 0.0125) whose prices are more than rough."""
_LEAST_SETTLED, _MOST_SETTLED = 0.0003, 0.0025
"""A stage is over when a step gains less than a share of tau, relative to the value, between these. What a stage has
not gained, the colder ones, whose dual is all but kinked, hardly ever do: with the larger share throughout, the dual
over three tiers ends 0.1 % below its maximum; with the smaller it is within 0.02 % after 600 evaluations."""
_SETTLED_EVALUATIONS = 0.3
"""The share, times the evaluations that the time limit has room for. With few, it is more to have been at all the
temperatures: at 330 evaluations of a request log 0.0025 ends 0.15 % higher than 0.0005."""
_STEPS_SETTLED = 0.25
"""The steps a temperature may take at most, times the share."""
_MOST_HOT_STEPS = 20, 60
"""At the hot temperatures, a fifth of that, but no fewer and no more than these."""
_FULLER = 4
"""Where a sample's prices prove what the last did, or less than the sample's own smooth dual, which is below its D,
they suit the sample alone: the next one has so many times the blocks."""
_FALLEN = 0.01
"""Share by which what a few lanes prove for all may fall before they are left."""
_EVENT_S = 5.0
"""Stages that take longer report in between."""


def reached_by(earlier: Bound | None) -> Reached | None:
    """Where the ascent of a bound was, and at which stage."""
    if earlier is None or earlier.reached is None:
        return None
    return Reached(earlier.certificate, earlier.reached.certificate, _stage_of(earlier.reached))


def _stage_of(guide: Guide) -> int:
    return round(math.log(guide.tau / _FIRST_TAU, TAU_FACTOR))


@dataclass(frozen=True, eq=False)
class Found:
    """Multipliers, and what the kernels say they prove; minus infinity where they were not asked."""

    certificate: Certificate
    value: float = -np.inf
    hard: bool = True
    """Whether that is D itself, or D at a temperature, which is less."""


@dataclass
class Wide:
    """What a few lanes' multipliers prove for all, temperature by temperature.

    Colder ones prove more, unless lanes in the midst of a step profit from what the few know nothing of: moves in the
    cheap slots of others. Then all prove less and less, and the few are left.
    """

    ascent: Ascent
    few: Instance
    whole: Instance
    guides: list[Guide] = field(default_factory=list)
    """The hottest first, up to the one that proves most."""
    value: float = -np.inf

    @property
    def best(self) -> Certificate:
        """That proves most."""
        return self.guides[-1].certificate

    @property
    def stage(self) -> int:
        """Of that."""
        return _stage_of(self.guides[-1])

    def __call__(self, guide: Guide) -> bool:
        """Whether to go on, after one more."""
        wide = widened(guide, self.few, self.whole)
        value = self.ascent.hard(wide.certificate)
        if value > self.value:
            self.value = value
            self.guides.append(wide)
        return value >= self.value - _FALLEN * abs(self.value)


@dataclass
class Climb:
    """Stages of falling temperature, and the best multipliers so far."""

    ascent: Ascent
    unit: str
    target: float | None
    goal: float
    on_progress: OnProgress | None
    file: Checkpoint | None
    best: Found | None = None
    guides: list[Guide] = field(default_factory=list)
    history: list[Progress] = field(default_factory=list)
    fullest: int = np.iinfo(int).max
    """No sample is thinner any more."""
    now: Guide | None = None
    """Where the last stage ended."""
    interrupted: bool = False
    """Ctrl-C has come before."""
    go_on: Callable[[Guide], bool] = lambda guide: True
    """Asked after every stage."""
    outward: Callable[[Certificate], Certificate] = lambda certificate: certificate
    """Makes the ascent's multipliers ones of the instance."""

    def of_lanes(self, count: int) -> OnProgress | None:
        """What to call with the progress of an ascent of some lanes, whose bound says nothing of all."""
        if self.on_progress is None:
            return None
        clock, n_lanes = self.ascent.clock, self.ascent.low.n_lanes

        def relay(event: Progress) -> None:
            detail = f"{event.detail}, on {count} of {n_lanes} lanes"
            self.on_progress(Progress(clock.elapsed_s, self.target, None, detail, self.unit))

        return relay

    def climb(self, reached: Reached, first: Certificate, tolerance: float, wide: Wide | None) -> Termination:
        """From where it was, or where some lanes lead, to the coldest temperature, or until something stops it."""
        self.best = Found(reached.best)
        stage = reached.stage
        try:
            for certificate in (reached.best, first)[: 2 if reached.best is not first else 1]:
                self._offer(Found(certificate, self.ascent.hard(certificate)))
            if wide is not None and wide.value > self.best.value:
                reached, stage = Reached(wide.best, wide.best, wide.stage), wide.stage
                self.best, self.now, self.guides = Found(wide.best, wide.value), wide.guides[-1], list(wide.guides)
            if self.interrupted:
                raise KeyboardInterrupt
            quiet, last = 0, -np.inf
            while stage < STAGES and quiet < 2 and self.best.value < self.goal:
                value = self._stage(stage, reached)
                stage += 1
                self._save(stage, reached.now)
                # Each halving of tau halves the loss, so what a stage has gained is about what is left to gain.
                # At 0 it has not begun: prices may yet make what costs something cost something everywhere.
                still = value != 0.0 and abs(value - last) <= tolerance * abs(value)
                if self.ascent.every == 1:
                    quiet = quiet + 1 if still else 0
                elif still or value < self.ascent.soft_value():
                    self.fullest = max(1, self.ascent.every // _FULLER)
                last = value
                if not self.go_on(self.now):
                    break
            termination = Termination.FINISHED
        except TimeoutError:
            termination = Termination.TIME_LIMIT
        except KeyboardInterrupt:
            termination = Termination.INTERRUPTED
        self._save(stage, reached.now, at_last=True)
        return termination

    def _stage(self, stage: int, reached: Reached) -> float:
        """One temperature, and the hard value it ends with."""
        tau = _FIRST_TAU * TAU_FACTOR**stage
        ascent = self.ascent
        ascent.ask(min(thinning(ascent.low, tau), self.fullest))
        try:
            self._settle(stage, tau, reached)
        except TimeoutError:
            self._judge(stage, tau, reached)
            raise
        return self._judge(stage, tau, reached)

    def _judge(self, stage: int, tau: float, reached: Reached) -> float:
        """Evaluate where a stage ended."""
        self.now = Guide(tau, self.ascent.multipliers(reached.now))
        if stage < _GUIDE_STAGES or not self.guides:
            self.guides = [guide for guide in self.guides if guide.tau > tau] + [self.now]
        value, multipliers = self.ascent.hardest(self.now.certificate)
        self._offer(Found(multipliers, value))
        self._report(tau)
        return value

    def _settle(self, stage: int, tau: float, reached: Reached) -> None:
        """Ascend until the last few steps gained less than cooling would."""
        fell: list[float] = []
        descent = self.ascent.cool(tau, reached.now, lift=stage == 0)
        while self.best.value < self.goal:
            fell.append(descent.step())
            share = self._settled()
            most = _STEPS_SETTLED / share
            if stage < _HOT_STAGES:
                most = float(np.clip(0.2 * most, *_MOST_HOT_STEPS))
            if len(fell) >= most or (len(fell) >= 3 and sum(fell[-3:]) <= 3 * share * tau * abs(descent.value)):
                break
            if self.ascent.every == 1 and self.ascent.soft_value() > self.best.value + self.ascent.rounding_s:
                self._offer(Found(self.ascent.multipliers(reached.now), self.ascent.soft_value(), hard=False))
            if self.ascent.clock.elapsed_s - self._last_event_s() > _EVENT_S:
                self._report(tau)
            self._save(stage, reached.now)

    def _settled(self) -> float:
        """The share of tau that ends a stage, as the time limit allows."""
        clock = self.ascent.clock
        evaluations = clock.limit_s / max(self.ascent.whole_s(), 1e-9)
        return float(np.clip(_SETTLED_EVALUATIONS / evaluations, _LEAST_SETTLED, _MOST_SETTLED))

    def _offer(self, found: Found) -> None:
        """Keep the better."""
        if found.value > self.best.value:
            self.best = found

    def _last_event_s(self) -> float:
        return self.history[-1].elapsed_s if self.history else 0.0

    def _report(self, tau: float) -> None:
        ascent = self.ascent
        sample = "" if ascent.every == 1 else f", 1 block in {ascent.every}"
        detail = f"tau {tau:.2g}{sample}, {ascent.evaluations} evaluations"
        event = Progress(ascent.clock.elapsed_s, self.target, self.best.value, detail, self.unit)
        self.history.append(event)
        if self.on_progress:
            self.on_progress(event)

    def _save(self, stage: int, start: Certificate, *, at_last: bool = False) -> None:
        """Write the checkpoint, if there is one and it is time to."""
        if self.file is not None and (at_last or self.file.due()):
            best, now = self.outward(self.best.certificate), self.outward(self.ascent.multipliers(start))
            self.file.write(Reached(best, now, stage))
