"""A chain on a large instance: windows of time side by side, again and again, their borders shifted."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kvopt.anneal.moves import above_least, shuffle
from kvopt.anneal.paths import Paths, Piece, gather, joined, load_paths, scatter, total_cost
from kvopt.anneal.state import Problem
from kvopt.anneal.window import Window, make_tables, mode_of
from kvopt.anneal.window_moves import make_scratch, sweep
from kvopt.lowering import Lowered
from kvopt.trellis.rng import stream

_MOST_CLASSES = 8
"""Sizes for which tables are kept; a block uses those of the nearest."""
_LEAST_STEPS, _MOST_STEPS, _WINDOWS = 48, 256, 4
_MOST_BYTES = 4e8
_PART = 20_000
"""Blocks between two looks at the clock."""


class LargeState:
    """One chain.

    Parameters
    ----------
    problem : Problem
    low : Lowered
    paths : Paths
    threads : int
    """

    def __init__(self, problem: Problem, low: Lowered, paths: Paths, threads: int) -> None:
        self.problem, self.low, self.paths, self.threads = problem, low, paths, threads
        n_slots = low.n_slots
        self.load = np.empty((n_slots, low.n_channels))
        self.either = np.empty(n_slots if problem.balanced else 0)
        self.held = np.empty((len(problem.capacity), n_slots))
        self.class_size, self.class_of = _classes(problem.size)
        self.n_steps = _window_steps(low)
        self.cost = np.inf
        self.rebuild()

    def rebuild(self) -> None:
        """Loads, occupancy and the objective from the paths alone."""
        price = load_paths(self.problem, self.paths, self.load, self.either, self.held)
        self.cost = total_cost(self.problem, self.load, self.either, price)

    @property
    def feasible(self) -> bool:
        """Whether all tiers hold what they are given."""
        return bool((self.held <= self.problem.capacity[:, None]).all())

    def round(
        self,
        number: int,
        temperature: float,
        rent: np.ndarray,
        seed: tuple[int, int],
        over: Callable[[], bool],
        sweeps: int = 1,
    ) -> int:
        """New paths for all blocks, window by window; returns how many changed."""
        charge = above_least(self.problem, rent)
        borders = self._borders(number)

        def work(w: int) -> tuple[Piece, int]:
            rng = stream(seed[0], seed[1] + (number << 16) + w)
            return self._window(borders[w], borders[w + 1], temperature, charge, rng, over, sweeps)

        with ThreadPoolExecutor(self.threads) as pool:
            done = list(pool.map(work, range(len(borders) - 1)))
        self.paths = joined(len(self.problem.size), [piece for piece, _ in done])
        self.rebuild()
        return sum(changed for _, changed in done)

    def _borders(self, number: int) -> list[int]:
        """First steps of the windows, and the last one's end; shifted from round to round."""
        n_steps = self.low.n_steps
        shift = int(self.n_steps * ((number * 0.381966) % 1.0))
        inner = range(self.n_steps - shift, n_steps, self.n_steps)
        return [0, *(n for n in inner if _LEAST_STEPS // 2 <= n <= n_steps - _LEAST_STEPS // 2), n_steps]

    def _window(self, first, stop, temperature, charge, rng, over, sweeps) -> tuple[Piece, int]:
        low, problem, n_lanes = self.low, self.problem, self.low.n_lanes
        slots = slice(first * n_lanes, stop * n_lanes)
        paths = gather(problem, self.paths, first, stop - first, low.last_step, low.first_step)
        window = Window(
            self.load[slots],
            self.either[slots] if len(self.either) else self.either,
            self.held[:, slots],
            charge[slots],
            first,
            *paths,
        )
        tables = make_tables(problem, window, self.class_size)
        scratch = make_scratch(problem, stop - first)
        order = np.arange(len(window.block))
        every = 1 if n_lanes == 1 else 16 * n_lanes
        changed = 0
        for _ in range(sweeps):
            shuffle(order, rng)
            for part in np.array_split(order, max(1, len(order) // _PART)):
                if over():
                    break
                tables.dirty[:] = True
                more, _ = sweep(
                    problem,
                    window,
                    self.class_size,
                    self.class_of,
                    part,
                    mode_of(temperature),
                    tables,
                    every,
                    scratch,
                    rng,
                )
                changed += more
        piece = scatter(
            problem,
            self.paths,
            first,
            window.block,
            window.z,
            window.when,
            window.begin,
            window.end,
            low.first_step,
            low.last_step,
        )
        return Piece(*piece), changed


def _classes(size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[Q] representative sizes, and int64[B] the one of each block."""
    class_size, class_of = np.unique(size, return_inverse=True)
    if len(class_size) <= _MOST_CLASSES:
        return class_size, class_of
    edges = np.geomspace(size.min(), size.max(), _MOST_CLASSES)
    return edges, np.abs(np.log(size)[:, None] - np.log(edges)).argmin(axis=1)


def _window_steps(low: Lowered) -> int:
    """Steps a window: some windows at least, for threads to share, and no more memory than reasonable."""
    steps = min(max(low.n_steps // _WINDOWS, _LEAST_STEPS), _MOST_STEPS)
    return int(max(min(steps, _MOST_BYTES / (3 * low.n_blocks)), _LEAST_STEPS))
