"""How a chain sweeps, by what its objective is: a sum over slots, of single steps, or any function of the loads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kvopt.anneal.moves import flip_sweep, improve_sweep, resample_sweep, shift_path
from kvopt.anneal.state import Problem, State, make_state, rebuild, split_loads, total_cost
from kvopt.anneal.steps import follow_steps, improve_steps, resample_steps, take_weights, weigh_evenly, weigh_steps
from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.placement import Placement
from kvopt.trellis.rng import draw

_PART = 2000
"""Blocks between two looks at the clock."""
_FLIPS = 1_000_000
_FREE = 0.1
"""A guide above this lets a chain draw from the surrogate without rejections."""
_SMOOTHED = 0.2
"""Share of a mean step over which the longest are told from the others, at first."""


class Sweeps:
    """Sweeps for an objective that is a sum over slots.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def cost(self, state: State) -> float:
        """The objective."""
        return total_cost(self.problem, state)

    def begin(self, state: State) -> None:
        """Prepare a chain."""

    def draw(self, state: State, order, temperature: float, rent: np.ndarray, guide: float, rng) -> Iterator[None]:
        """Redraw the paths of all blocks, in parts, so that a time limit and Ctrl-C are heeded.

        Parameters
        ----------
        order : int64[B]
        temperature : float
        rent : float64[T, S]
        guide : float
            From 1 to 0 as the chain cools: how far to go by a surrogate, where the objective is no sum.
        rng : uint64[1]
        """
        for part in np.array_split(order, max(1, len(order) // _PART)):
            yield
            resample_sweep(self.problem, state, part, temperature, rent, rng)

    def flip(self, state: State, temperature: float, rng: np.ndarray) -> Iterator[None]:
        """As many single flips as there are states, in parts."""
        parts = max(1, len(state.z) // _FLIPS)
        for _ in range(parts):
            yield
            flip_sweep(self.problem, state, len(state.z) // parts, temperature, rng)

    def improve(self, state: State, order: np.ndarray) -> int:
        """Give every block its best path; returns how many changed."""
        return improve_sweep(self.problem, state, order, np.zeros((len(state.load), len(self.problem.states))))


class StepSweeps(Sweeps):
    """The same where single steps count: :mod:`kvopt.anneal.steps`.

    Parameters
    ----------
    problem : Problem
    step_price : float64[N], optional
        What a second of each step costs to begin with; all alike unless given.
    """

    def __init__(self, problem: Problem, step_price: np.ndarray | None = None) -> None:
        super().__init__(problem)
        self.step_price = step_price

    def begin(self, state: State) -> None:
        """Take the prices that were given."""
        if self.step_price is not None:
            take_weights(self.problem, state, self.step_price)

    def draw(self, state: State, order, temperature: float, rent: np.ndarray, guide: float, rng) -> Iterator[None]:
        """Draw paths from the surrogate, as long as the guide says so; then propose them."""
        if guide > _FREE:
            follow_steps(self.problem, state, _SMOOTHED * guide)
            yield from super().draw(state, order, temperature, rent, guide, rng)
            return
        weigh_steps(self.problem, state, temperature)
        for part in np.array_split(order, max(1, len(order) // _PART)):
            yield
            resample_steps(self.problem, state, part, temperature, rent, rng)

    def improve(self, state: State, order: np.ndarray) -> int:
        """Under the weights of the steps as they are, and under even ones."""
        rebuild(self.problem, state)
        weigh_steps(self.problem, state, 0.0)
        changed = improve_steps(self.problem, state, order)
        weigh_evenly(self.problem, state)
        return changed + improve_steps(self.problem, state, order)


class LoadSweeps(Sweeps):
    """The same for an objective that is any function of the loads; the decode time is the surrogate.

    Every proposal calls the objective with all loads, and redoes what a sweep prepares: a sweep takes time in
    proportion to blocks times slots, whatever the blocks' lives, with a call of Python's for each block. That is for
    small instances: seconds a sweep from a few thousand blocks and slots on.

    Parameters
    ----------
    problem : Problem
        Of the decode time.
    instance : Instance
    """

    def __init__(self, problem: Problem, instance: Instance) -> None:
        super().__init__(problem)
        self.instance = instance
        # Temperatures are in seconds: what the objective makes of a second, on the whole.
        state = make_state(problem, Placement.backing(instance))
        ratio = abs(self.cost(state)) / max(total_cost(problem, state), 1e-300)
        self.per_second = ratio if 0 < ratio < np.inf else 1.0

    def cost(self, state: State) -> float:
        """The objective."""
        return float(self.instance.objective.of_loads(split_loads(self.problem, state), self.instance))

    def draw(self, state: State, order, temperature: float, rent: np.ndarray, guide: float, rng) -> Iterator[None]:
        """Propose a path for each block."""
        cost, time_s = self.cost(state), total_cost(self.problem, state)
        for i in order:
            yield
            old = self._path(state, i).copy()
            resample_sweep(self.problem, state, np.array([i]), temperature, rent, rng)
            new_cost, new_time_s = self.cost(state), total_cost(self.problem, state)
            dearer = (1 - guide) * ((new_cost - cost) / self.per_second - (new_time_s - time_s))
            if dearer <= 0.0 or draw(rng) < np.exp(-dearer / temperature):
                cost, time_s = new_cost, new_time_s
            else:
                shift_path(self.problem, state, i, old)

    def flip(self, state: State, temperature: float, rng: np.ndarray) -> Iterator[None]:
        """Refuse."""
        raise MethodError("move", "'flip' does not take a function of the loads", "Choose 'path'")

    def improve(self, state: State, order: np.ndarray) -> int:
        """Offer every block the path of the least decode time; kept where the objective falls, or stays and the decode
        time falls."""
        changed = 0
        cost = self.cost(state)
        nothing = np.zeros((len(state.load), len(self.problem.states)))
        for i in order:
            old = self._path(state, i).copy()
            if not improve_sweep(self.problem, state, np.array([i]), nothing):
                continue
            new_cost = self.cost(state)
            if new_cost <= cost:
                cost, changed = new_cost, changed + 1
            else:
                shift_path(self.problem, state, i, old)
        return changed

    def _path(self, state: State, i: int) -> np.ndarray:
        cell = self.problem.cell[i]
        return state.z[cell + self.problem.birth[i] : cell + self.problem.death[i]]


def sweeps_of(problem: Problem, instance: Instance, step_price: np.ndarray | None = None) -> Sweeps:
    """Those that suit the objective.

    Parameters
    ----------
    problem : Problem
    instance : Instance
    step_price : float64[N], optional
        Of a dual certificate.
    """
    if instance.custom:
        return LoadSweeps(problem, instance)
    return StepSweeps(problem, step_price) if problem.stepwise else Sweeps(problem)
