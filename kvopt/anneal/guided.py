"""Annealing as the literature has it: not the placement, but the two parameters of a look-ahead policy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from kvopt import interrupts
from kvopt.arguments import check_seed, whole
from kvopt.errors import MethodError
from kvopt.evaluate import evaluated
from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.result import OnProgress, Progress, Result, Termination

Point = tuple[int, int]
"""(W, R in tenths)."""
Place = Callable[[Instance, int, float], Placement]
"""(instance, W, R) -> the placement of the policy."""

_START: Point = (5, 5)
_WINDOW_MOVES, _RATIO_MOVES = (-2, -1, 1, 2), (-1, 1)
_KINDS, _KIND_SHARES = ("window", "ratio", "both"), (0.4, 0.4, 0.2)
_FIRST_ACCEPTANCE, _COOLING, _LEAST_IMPROVEMENT = 0.8, 0.9, 1e-3


class _Over(Exception):
    """The time limit has passed."""


@dataclass
class _Search:
    """What has been tried so far."""

    instance: Instance
    place: Place
    deadline: float
    began: float
    on_progress: OnProgress | None
    reserve: float = 0.0
    """Time to keep for the end, in times of one try."""
    where: str = ""
    known: dict[Point, float] = field(default_factory=dict)
    best: Point | None = None
    placement: Placement | None = None
    history: list[Progress] = field(default_factory=list)

    def cost(self, point: Point) -> float:
        """What the policy with these parameters achieves; simulated once.

        Raises
        ------
        _Over
            When time is over, and something has been tried.
        """
        if point in self.known:
            return self.known[point]
        if self.best is not None and time.perf_counter() > self.deadline:
            raise _Over
        began = time.perf_counter()
        placement = self.place(self.instance, point[0], point[1] / 10)
        cost = self.known[point] = evaluated(self.instance, placement).objective
        if self.best is None:
            # What is left to do after the search takes its time, too.
            self.deadline -= self.reserve * (time.perf_counter() - began)
        if self.best is None or cost < self.known[self.best]:
            self.best, self.placement = point, placement
        detail = f"W = {point[0]}, R = {point[1] / 10:g}{self.where}"
        unit = self.instance.objective.unit
        event = Progress(time.perf_counter() - self.began, self.known[self.best], detail=detail, unit=unit)
        self.history.append(event)
        if self.on_progress is not None:
            self.on_progress(event)
        return cost


@interrupts.interruptible
def solve_guided(
    instance: Instance,
    place: Place,
    *,
    time_limit_s: float | None = None,
    seed: int = 0,
    moves_per_level: int = 10,
    patience: int = 3,
    search_lanes: int | None = None,
    on_progress: OnProgress | None = None,
) -> Result:
    """Anneal the window W and the ratio R of the look-ahead policy.

    From W = 5, R = 0.5 a move changes W by 1 or 2, R by 0.1, or both, with probabilities 0.4, 0.4 and 0.2, and is
    accepted by Metropolis on what the policy's placement achieves. The first temperature accepts 80 % of the moves that
    make things worse, by the mean over as many moves as a level has; each level is 0.9 times as hot as the one before.
    The source does not say how many moves a level has, nor where to stop in words a program could follow: here it is
    when ``patience`` levels in a row improved the best by less than 0.1 % each.

    Parameters
    ----------
    instance : Instance
    place : callable
        (instance, W, R) -> the placement of the policy.
    time_limit_s : float, optional
        The best so far is returned when it is over, or at Ctrl-C; one policy is tried at least.
    seed : int
    moves_per_level, patience : int
        At least 1.
    search_lanes : int, optional
        Search on so many of the lanes, evenly spread, with their share of every tier but the last and a free start, and
        run the best on all of them at the end; on all unless given. Where lanes are read alike nothing is lost by that.
    on_progress : callable, optional
        During a search on some of the lanes, told what is achieved on those.

    Returns
    -------
    Result
        ``details`` has ``window_steps``, ``ratio`` and ``policies_tried``.

    Raises
    ------
    MethodError
        For fewer than one move, level or lane, or more lanes than there are.

    References
    ----------
    Fang et al., IEEE CAL 2025, arXiv 2508.13231.
    """
    check_seed(seed)
    for name, value in (("moves_per_level", moves_per_level), ("patience", patience)):
        whole(f"guided {name}", value, "Give one", MethodError)
    n_lanes = instance.trace.n_lanes
    if search_lanes is not None:
        whole("guided search_lanes", search_lanes, "Give one", MethodError, most=n_lanes)
    searched = instance if search_lanes in (None, n_lanes) else instance.with_lanes(search_lanes)
    began = time.perf_counter()
    deadline = began + (math.inf if time_limit_s is None else time_limit_s)
    search = _Search(searched, place, deadline, began, on_progress)
    if searched is not instance:
        search.reserve, search.where = n_lanes / search_lanes, f", on {search_lanes} of {n_lanes} lanes"
    termination = Termination.FINISHED
    try:
        _anneal(search, np.random.default_rng(seed), moves_per_level, patience)
    except _Over:
        termination = Termination.TIME_LIMIT
    except KeyboardInterrupt:
        termination = Termination.INTERRUPTED
    details = {"policies_tried": len(search.known)}
    if search.best is not None:
        details |= {"window_steps": search.best[0], "ratio": search.best[1] / 10}
    placement = search.placement
    if searched is not instance and placement is not None:
        try:
            placement = place(instance, search.best[0], search.best[1] / 10)
        except KeyboardInterrupt:
            placement, termination = None, Termination.INTERRUPTED
    return Result.judge(
        "guided",
        instance,
        placement,
        termination=termination,
        elapsed_s=time.perf_counter() - began,
        seed=seed,
        history=tuple(search.history),
        details=details,
    )


def _anneal(search: _Search, rng: np.random.Generator, moves_per_level: int, patience: int) -> None:
    """Cool until nothing is gained any more."""
    most = search.instance.trace.n_steps
    point = (min(_START[0], most), _START[1])
    cost = search.cost(point)
    worse = [search.cost(_moved(point, most, rng)) - cost for _ in range(moves_per_level)]
    worse = [by for by in worse if by > 0]
    temperature = float(np.mean(worse)) / -math.log(_FIRST_ACCEPTANCE) if worse else 0.0
    idle = 0
    while idle < patience:
        before = search.known[search.best]
        for _ in range(moves_per_level):
            other = _moved(point, most, rng)
            by = search.cost(other) - cost
            if by <= 0 or (temperature > 0 and rng.random() < math.exp(-by / temperature)):
                point, cost = other, cost + by
        idle = idle + 1 if before - search.known[search.best] <= _LEAST_IMPROVEMENT * before else 0
        temperature *= _COOLING


def _moved(point: Point, most: int, rng: np.random.Generator) -> Point:
    """A neighbour; at the ends of the ranges, W in 1..most and R in 0.1..1, a move may stay where it is."""
    window, tenths = point
    kind = rng.choice(_KINDS, p=_KIND_SHARES)
    if kind != "ratio":
        window = min(max(window + int(rng.choice(_WINDOW_MOVES)), 1), most)
    if kind != "window":
        tenths = min(max(tenths + int(rng.choice(_RATIO_MOVES)), 1), 10)
    return window, tenths
