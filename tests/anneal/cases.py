"""Tiny instances under all rules and kinds of objective, and chains on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import kvopt
from kvopt import objective
from kvopt.anneal.state import make_problem, make_state, to_placement
from kvopt.errors import InstanceError
from kvopt.lowering import lower
from tests.instances import brute_force, general_instance, random_placement


@dataclass(frozen=True)
class Uneven:
    """A function of the loads that no prices make up: the seconds of all channels, squared."""

    name: str = "uneven"
    unit: str = "s2"

    def of_loads(self, load_s, instance):
        return float((load_s.sum(axis=0) ** 2).sum())


def energy(rng, instance):
    tiers = [t.name for t in instance.platform.tiers]
    read, write, hold = (dict(zip(tiers, rng.uniform(0, 2, len(tiers)), strict=True)) for _ in range(3))
    hold = {tier: 0.2 * price for tier, price in hold.items()}
    return objective.energy(read, write, power_w=float(rng.choice([0.0, 1.0])), hold_j_per_byte_slot=hold)


def late(rng, instance):
    step_s = kvopt.evaluate(instance, kvopt.Placement.backing(instance)).step_s
    return objective.late_steps((float(step_s.mean()) or 1.0) * float(rng.uniform(0.3, 0.9)))


OBJECTIVES = {
    "latency": lambda rng, instance: objective.latency(),
    "energy": energy,
    "worst-step": lambda rng, instance: objective.worst_step(),
    "cvar": lambda rng, instance: objective.cvar(float(rng.uniform(0.1, 0.9))),
    "late-steps": late,
    "sum": lambda rng, instance: 0.5 * objective.latency() + 2.0 * objective.worst_step() + late(rng, instance),
    "function": lambda rng, instance: Uneven(),
}
SUMS = ("latency", "energy")
STEPWISE = ("worst-step", "cvar", "late-steps", "sum")


def drawn(seed: int, names=tuple(OBJECTIVES), **fixed) -> kvopt.Instance:
    """Any rules, two or three tiers, one of the objectives in turn."""
    rng = np.random.default_rng(60_000 + seed)
    make = OBJECTIVES[names[seed % len(names)]]
    while True:
        try:
            return general_instance(rng, objective=make, **fixed)
        except InstanceError:  # Balanced reads beside prices of reads and of steps: refused by name.
            continue


def chain(instance: kvopt.Instance, seed: int, feasible: bool = True):
    """A problem and a chain on it, feasible unless told otherwise."""
    rng = np.random.default_rng(seed)
    problem = make_problem(lower(instance))
    state = make_state(problem, random_placement(instance, rng))
    for _ in range(1000):
        if not feasible or is_feasible(instance, problem, state):
            return problem, state
        state = make_state(problem, random_placement(instance, rng))
    # Hard to hit by chance: what brute force finds.
    return problem, make_state(problem, brute_force(instance.with_objective(objective.latency()))[1])


def is_feasible(instance: kvopt.Instance, problem, state) -> bool:
    """Whether the chain's placement breaks no rule."""
    return not to_placement(problem, state.z).violations(instance)
