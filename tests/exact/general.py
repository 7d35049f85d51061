"""Tiny instances under every rule, over two and three tiers, each under every kind of objective."""

from __future__ import annotations

import numpy as np

import kvopt
from kvopt import objective
from kvopt.errors import InstanceError
from tests.instances import RULES, general_instance, random_placement
from tests.test_steps import random_steps

KINDS = 3


def by_the_byte(rng: np.random.Generator, instance: kvopt.Instance) -> objective.Objective:
    """Energy of reads, writes, moves, holding and perhaps of time, and perhaps the decode time on top."""
    tiers = [t.name for t in instance.platform.tiers]
    scale = 1.0 / float(instance.platform.bandwidth_bytes_per_s.min())
    reads, writes, holds = (
        dict(zip(tiers, scale * rng.uniform(0, most, len(tiers)), strict=True)) for most in (2.0, 2.0, 0.3)
    )
    energy = objective.energy(reads, writes, power_w=float(rng.choice([0.0, 1.0])), hold_j_per_byte_slot=holds)
    return energy if rng.random() < 0.5 else 0.4 * objective.latency() + energy


def instance(seed: int) -> kvopt.Instance:
    """Rules and kinds of objective in turn: all of them in ``KINDS * len(RULES)`` seeds."""
    rng = np.random.default_rng(5000 + seed)
    rules = RULES[seed % len(RULES)]
    wanted = (None, random_steps, by_the_byte)[seed // len(RULES) % KINDS]
    while True:
        try:
            return general_instance(rng, rules=rules, objective=wanted)
        except InstanceError:  # Balanced reads beside prices of reads and of steps: refused by name.
            continue


def random_feasible(instance: kvopt.Instance, rng: np.random.Generator) -> kvopt.Placement:
    """One of the feasible placements of a tiny instance."""
    while True:
        placement = random_placement(instance, rng)
        if not placement.violations(instance):
            return placement
