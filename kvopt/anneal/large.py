"""The annealer of large instances: windows of time side by side, round after round, their borders shifted.

A chain of the annealer proper keeps the state of every block in every slot, which a real trace has 10^11 of. Here a
path is the few slots in which it changes (:mod:`kvopt.anneal.paths`). A round cuts time into windows; in each, on a
thread of its own, every block's path is drawn anew or optimised (:mod:`kvopt.anneal.window_moves`), which takes time in
proportion to its runs, whatever the number of lanes. Windows share no slot, so the result does not
depend on the number of threads; what their borders keep fixed the next round's are free to change.

A chain starts from a sample of the dual at the very temperature at which its multipliers are optimal: there the
expected loads and occupancy are those of a nearly feasible fractional placement, and what is left to do is to mend the
noise of sampling. Made to fit (:mod:`kvopt.anneal.fitting`) it is what there is to return until a round has ended with
something better. First it does rounds in which rules are prices (:mod:`kvopt.anneal.relaxed`), then some by the rules
themselves. Temperatures go by what it costs to move a block up and down again, which is 20 times less where a read
brings it up anyway and copies are dropped than where it is carried both ways.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from kvopt import interrupts
from kvopt.anneal.cuts import cutting_of, make_scratch
from kvopt.anneal.fitting import fitted
from kvopt.anneal.moves import above_least, shuffle
from kvopt.anneal.paths import Paths, Piece, gather, joined, load_paths, paths_of, placement_of, scatter, total_cost
from kvopt.anneal.relaxed import NO_LIMIT, ROUNDS, Relaxation, Relaxed, strict
from kvopt.anneal.schedule import Schedule
from kvopt.anneal.state import Problem
from kvopt.anneal.window import Window, make_tables, with_room
from kvopt.anneal.window_moves import sweep
from kvopt.lowering import Lowered, unit_per_byte
from kvopt.placement import Placement
from kvopt.result import Guide
from kvopt.trellis.rng import stream

_GUIDE_TAU = 0.0125
"""Temperature of the dual that is sampled, and of the first round by prices, where moving up and down costs two
reads."""
_POWER, _LAST_POWER = 0.6, 0.25
"""How that, and the last temperature without guides, fall with what moves cost. Measured at 2 (embedded trace) and 0.09
reads (published setting)."""
_SWEEPS, _FIRST, _LAST = 10, 0.3, 0.1
"""Rounds by the rules that follow those by prices; the temperatures of the first and of the last, by that."""
_UNGUIDED_SWEEPS, _UNGUIDED_FIRST, _UNGUIDED_LAST = 24, 0.3, 0.004
"""Where no multipliers guide a chain, it must find a structure by heat alone."""
_BY_RULES = 4
"""Where there is time for fewer rounds, one in so many is by the rules."""
_DESCENTS = 6
_ENOUGH = 2e-5
"""Descents end when one gains less than this share."""
_ANNEALING_SHARE = 0.8
"""Share of the time left after the first round that further ones may take; the rest is for descents."""
_JUDGE_S_PER_RUN = 2e-7
"""Seconds that checking and evaluating the result takes, by run of the trace."""
_MOST_CLASSES = 8
"""Sizes for which tables are kept; a block uses those of the nearest."""
_LEAST_STEPS, _MOST_STEPS, _MOST_SLOTS, _ONE_WINDOW = 48, 256, 16_384, 1024
"""Steps of a window, or more where it has no more slots than that; two at least, for threads to share, unless there are
no more slots than the last. What is read again after a longer time than a window takes is not kept for that, unless its
neighbours do: on the balanced family, 400 steps, one window ends at 0.13 %, two at 0.21, four at 0.29."""
_REFRESH_MOVES, _REFRESHES = 16, 100
"""Moves between two looks at the tables, by lane, unless that is more than so many looks."""
_STRIDES = 8, 16
"""Steps from cut to cut within runs and between them."""
_TOGETHER, _MANY_BLOCKS = 64, 100_000
"""Neighbours moved one after another where there are at least so many blocks: a third less time per move."""
_PART = 20_000
"""Blocks between two looks at the clock."""
_RECHARGE = 40
"""Slots, times sizes, charged anew per move while rules are prices: ten times as many gained nothing."""
_ROUND_S_PER_RUN = 2.5e-6
"""Seconds of a round at the published size, by run of the trace: what is expected until one has been timed."""


_WIND_UP_S_PER_RUN = 1e-7
"""Seconds that a round takes to end, once it is to, by run of the trace."""


class Run(Protocol):
    """What the solver gives to all its chains."""

    problem: Problem
    rent: np.ndarray
    unit_s: float
    deadline: float
    in_hand: bool
    cut_short: bool

    @property
    def over(self) -> bool: ...

    def report(self, feasible: bool, cost: float, detail: str) -> None: ...

    def tell(self, detail: str) -> None: ...

    def interrupt(self) -> None: ...


def guide_tau(low: Lowered) -> float:
    """Temperature of the dual to sample the start from, in units of a byte's read from the backing tier."""
    return _GUIDE_TAU * (_round_trip(low) / 2) ** _POWER


def schedule_of(low: Lowered, guided: bool) -> Schedule:
    """Temperatures of a chain's rounds by the rules."""
    scale = _round_trip(low) / 2
    if not guided:
        last = _UNGUIDED_LAST * scale**_LAST_POWER
        first = max(_UNGUIDED_FIRST * scale**_POWER, last)
        return Schedule(sweeps=_UNGUIDED_SWEEPS, first=first, last=last, rent_until=0.0)
    tau = guide_tau(low)
    return Schedule(sweeps=_SWEEPS, first=_FIRST * tau, last=_LAST * tau, rent_until=0.0)


def _round_trip(low: Lowered) -> float:
    """What it costs to bring a byte that is read to the fastest tier and back, in reads from the backing tier."""
    op, price, second = low.op_s_per_byte, low.op_price_per_byte, low.prices.per_second
    up = (second * (op[1, -1, 0] - op[1, -1, -1])).max() + price[1, -1, 0] - price[1, -1, -1]
    down = (second * (op[0, 0, -1] - op[0, 0, 0])).max() + price[0, 0, -1] - price[0, 0, 0]
    return float(np.clip((up + down) / unit_per_byte(low), 0.01, 4.0))


def anneal_windows(
    run: Run,
    low: Lowered,
    start: Placement,
    schedule: Schedule,
    seed: int,
    threads: int,
    guides: Sequence[Guide] = (),
) -> tuple[float, Placement] | None:
    """Cool a chain from a start, then descend.

    Parameters
    ----------
    run : Run
    low : Lowered
    start : Placement
        A sample of the guide nearest to :func:`guide_tau`, where there are guides.
    schedule : Schedule
        Of the rounds by the rules.
    seed, threads : int
    guides : sequence of Guide
        What rounds by prices follow; without, there are none.

    Returns
    -------
    (objective, placement)
        Of the best feasible round, or of the start made to fit; None when there was none.
    """
    chain = Chain(run.problem, low, paths_of(run.problem, start), threads)
    deadline = run.deadline - _JUDGE_S_PER_RUN * len(low.run_start)
    best = None if run.in_hand else chain.fitted()
    if best is not None:
        run.report(True, best[0], "start" if chain.feasible else "start made to fit")
    done = 0

    def over() -> bool:
        # As long as there is nothing to judge, the time for that may be used up too.
        return run.over or (time.perf_counter() > deadline and (run.in_hand or best is not None))

    def go(temperature: float, rent: np.ndarray, detail: str, relaxed: Relaxed | None = None) -> None:
        nonlocal best, done

        def tell(share: float) -> None:
            run.tell(f"{detail}, {share:.0%}")

        chain.round(done, temperature * run.unit_s, rent, seed, over, run.interrupt, relaxed, tell)
        done += 1
        if chain.feasible and (best is None or chain.cost < best[0]):
            best = chain.cost, chain.paths
        run.report(chain.feasible, chain.cost, detail)

    def affordable(round_s: float) -> float:
        return _ANNEALING_SHARE * max(deadline - time.perf_counter(), 0.0) / max(round_s, 1e-9)

    nothing = np.zeros_like(run.rent)
    whole = schedule
    rounds, schedule = _in_time(ROUNDS if guides else 0, whole, affordable(_ROUND_S_PER_RUN * len(low.run_start)))
    relaxation = None
    if rounds:
        unit = run.unit_s / float(low.size_bytes.mean())
        relaxation = Relaxation(run.problem, low, guides, guide_tau(low), unit, chain.load)
    number, cooled, began = 0, 0, time.perf_counter()
    while (number < rounds or cooled < schedule.sweeps) and not over():
        if relaxation is not None and number < rounds:
            share = number / (rounds - 1) if rounds > 1 else 1.0
            relaxed, temperature = relaxation.at(share), relaxation.temperature(share)
            number += 1
            go(temperature, nothing, f"round {number}/{rounds} by prices, T {temperature:.2g}", relaxed)
            relaxation.learn(share, relaxed, chain.load, chain.held)
        else:
            temperature, rent = schedule.temperature(cooled), run.rent * schedule.rent(cooled)
            cooled += 1
            go(temperature, rent, f"round {cooled}/{schedule.sweeps}, T {temperature:.2g}")
        if done == 1:
            # The first guess may have been too low as well as too high.
            left = ROUNDS - number if number else 0
            more, schedule = _in_time(left, whole, affordable(time.perf_counter() - began) + cooled)
            rounds = number + more
    for descent in range(_DESCENTS):
        if over():
            break
        before = chain.cost
        go(0.0, nothing, f"descent {descent + 1}")
        if chain.feasible and before - chain.cost <= _ENOUGH * chain.cost:
            break
    run.cut_short = time.perf_counter() > deadline
    return None if best is None else (best[0], placement_of(run.problem, best[1]))


def _in_time(rounds: int, schedule: Schedule, affordable: float) -> tuple[int, Schedule]:
    """Rounds by prices and a schedule of those by the rules, of so many or fewer.

    Where there is time for a few only, one in four is by the rules, and all are if not even so many. (Measured at 1e7
    accesses of the published setting: 3 and 1 end at 0.069 %, 2 and 2 at 0.13, 0 and 4 at 0.081; 1 and 1 at 0.15, 0
    and 2 at 0.11.)
    """
    if affordable >= rounds + schedule.sweeps:
        return rounds, schedule
    most = max(int(affordable), 1)
    by_prices = min(most - most // _BY_RULES, rounds) if most >= _BY_RULES else 0
    return by_prices, schedule.cut(most - by_prices)


class Chain:
    """One chain.

    Parameters
    ----------
    problem : Problem
    low : Lowered
    paths : Paths
    threads : int

    Attributes
    ----------
    paths : Paths
    cost : float
        The objective, recomputed from the paths after every round.
    """

    def __init__(self, problem: Problem, low: Lowered, paths: Paths, threads: int) -> None:
        self.problem, self.low, self.paths, self.threads = problem, low, paths, threads
        n_slots = low.n_slots
        self.load = np.empty((n_slots, low.n_channels))
        self.either = np.empty(n_slots if problem.balanced else 0)
        self.held = np.empty((len(problem.capacity), n_slots))
        self.class_size, self.class_of = _classes(problem.size)
        self.window_steps = _window_steps(low)
        self.cutting = cutting_of(problem, *_STRIDES)
        self.strict = strict(problem)
        self._rebuild()

    def _rebuild(self) -> None:
        """Loads, occupancy and the objective from the paths alone."""
        price = load_paths(self.problem, self.paths, self.load, self.either, self.held)
        self.cost = total_cost(self.problem, self.load, self.either, price)

    @property
    def feasible(self) -> bool:
        """Whether all tiers hold what they are given."""
        return self._fits(self.held)

    def _fits(self, held: np.ndarray) -> bool:
        return bool((held <= self.problem.capacity[:, None]).all())

    def fitted(self) -> tuple[float, Paths] | None:
        """Objective and paths with what finds no room left out; None where the backing tier then holds too much."""
        if self.feasible:
            return self.cost, self.paths
        paths = fitted(self.problem, self.paths)
        load, either, held = (np.empty_like(array) for array in (self.load, self.either, self.held))
        price = load_paths(self.problem, paths, load, either, held)
        if not self._fits(held):
            return None
        return total_cost(self.problem, load, either, price), paths

    def round(
        self,
        number: int,
        temperature: float,
        rent: np.ndarray,
        seed: int,
        over: Callable[[], bool] = lambda: False,
        interrupt: Callable[[], None] | None = None,
        relaxed: Relaxed | None = None,
        tell: Callable[[float], None] = lambda share: None,
    ) -> int:
        """New paths for all blocks, window by window; returns how many changed.

        Parameters
        ----------
        number : int
            Of the round: it shifts the windows' borders.
        temperature : float
            In the objective's unit; 0 for best paths.
        rent : float64[T, S]
            What a byte is charged for being in each state in each slot.
        seed : int
        over : callable
            When it says so, blocks keep the paths they have.
        interrupt : callable, optional
            Called at Ctrl-C, after which ``over`` must say so; the round is then finished with what is drawn so far.
        relaxed : Relaxed, optional
            Prices in place of the rules, whatever the rent; the paths then need not fit.
        tell : callable, optional
            Called with the share of the round that is done, from any thread.
        """
        charge = above_least(self.problem, rent)
        borders = self._borders(number)
        shares = np.zeros(len(borders) - 1)

        def work(w: int) -> tuple[Piece, int]:
            def moved(share: float) -> None:
                shares[w] = share
                tell(float(shares.mean()))

            rng = stream(seed, (number + 1 << 20) + w)
            return self._window(borders[w], borders[w + 1], temperature, charge, rng, over, relaxed, moved)

        def stop() -> None:
            if interrupt is None:
                raise KeyboardInterrupt
            interrupt()

        jobs = [functools.partial(work, w) for w in range(len(borders) - 1)]
        patience_s = interrupts.PATIENCE_S + _WIND_UP_S_PER_RUN * len(self.low.run_start)
        done = interrupts.side_by_side(jobs, self.threads, stop, patience_s)
        self.paths = joined(len(self.problem.size), [piece for piece, _ in done])
        self._rebuild()
        return sum(changed for _, changed in done)

    def _borders(self, number: int) -> list[int]:
        """First steps of the windows, and the last one's end."""
        n_steps, steps = self.low.n_steps, self.window_steps
        # Multiples of the golden section never come near to one another.
        shift = int(steps * (number * 0.6180339887 % 1.0))
        inner = range(steps - shift, n_steps, steps)
        return [0, *(n for n in inner if _LEAST_STEPS // 2 <= n <= n_steps - _LEAST_STEPS // 2), n_steps]

    def _window(self, first, stop, temperature, charge, rng, over, relaxed, moved) -> tuple[Piece, int]:
        low, problem, n_lanes = self.low, self.problem, self.low.n_lanes
        slots = slice(first * n_lanes, stop * n_lanes)
        charged = np.zeros((len(charge[slots]) + 1, charge.shape[1]))
        np.cumsum(charge[slots], axis=0, out=charged[1:])
        paths = gather(problem, self.paths, first, stop - first, low.last_step, low.first_step)
        recharge_every = 0
        if relaxed is not None:
            recharge_every = max(1, (stop - first) * n_lanes * len(self.class_size) // _RECHARGE)
            gain = relaxed.gain * recharge_every / max(len(paths[0]), 1)
            problem = problem._replace(capacity=np.full_like(problem.capacity, NO_LIMIT))
        window = Window(
            self.load[slots],
            self.either[slots] if problem.balanced else self.either,
            # In one piece, since kernels are compiled for the layout of memory. All of it is made anew after the round.
            np.ascontiguousarray(self.held[:, slots]),
            charge[slots],
            charged,
            first,
            *paths,
            self.strict.cut(slots, 0.0) if relaxed is None else relaxed.cut(slots, gain),
        )
        tables, scratch = make_tables(problem, window, self.class_size), make_scratch(problem, stop - first)
        every = 1 if n_lanes == 1 else max(_REFRESH_MOVES * n_lanes, len(window.block) // _REFRESHES)
        order = _in_some_order(len(window.block), rng)
        changed, parts = 0, np.array_split(order, max(1, len(order) // _PART))
        for done, part in enumerate(parts):
            if over():
                break
            moved(done / len(parts))
            window = with_room(window, part)
            looks = every, recharge_every
            changed += sweep(
                problem,
                window,
                self.class_size,
                self.class_of,
                part,
                float(temperature),
                self.cutting,
                tables,
                looks,
                scratch,
                rng,
            )
        else:
            moved(1.0)
        return Piece(*scatter(problem, self.paths, first, window, low.first_step)), changed


def _in_some_order(n_blocks: int, rng: np.ndarray) -> np.ndarray:
    """All blocks in random order; where they are many, some neighbours at a time, which lie together in memory."""
    together = _TOGETHER if n_blocks >= _MANY_BLOCKS else 1
    first = np.arange(0, n_blocks, together)
    shuffle(first, rng)
    order = (first[:, None] + np.arange(together)).ravel()
    return order[order < n_blocks]


def _classes(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[Q] representative sizes, and int64[B] the one of each block: the next larger, so that what has room for
    it has room for the block."""
    class_size, class_of = np.unique(size, return_inverse=True)
    if len(class_size) <= _MOST_CLASSES:
        return class_size, class_of.astype(np.int64)
    edges = np.geomspace(size.min(), size.max(), _MOST_CLASSES)
    edges[-1] = size.max()
    return edges, np.searchsorted(edges, size).astype(np.int64)


def _window_steps(low: Lowered) -> int:
    """Steps of a window."""
    if low.n_slots <= _ONE_WINDOW:
        return low.n_steps
    most = max(_MOST_STEPS, _MOST_SLOTS // low.n_lanes)
    return int(min(max(-(-low.n_steps // 2), _LEAST_STEPS), most))
