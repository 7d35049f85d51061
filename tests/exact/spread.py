"""Tiny instances whose blocks differ in size by up to a billion, in tiers full to within a byte."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

import kvopt
from kvopt.errors import InstanceError
from tests.exact import general
from tests.instances import brute_force

RATIOS = (1, 10**3, 10**6, 10**9)


def instance(seed: int) -> tuple[kvopt.Instance, float]:
    """One under rules and an objective that the seed chooses, and its optimum."""
    rng = np.random.default_rng(9000 + seed)
    base = general.instance(seed)
    while True:
        size = rng.integers(1, 20, base.trace.n_blocks) * rng.choice(RATIOS, base.trace.n_blocks)
        size += rng.integers(0, 2, len(size))
        platform = base.platform
        for tier, capacity in enumerate(base.capacity_bytes):
            if np.isfinite(capacity) or rng.random() < 0.2:
                platform = platform.with_capacity(_full_to_a_byte(rng, size), tier=tier)
        try:
            trace = base.trace._replace(size_bytes=size)
            found = replace(base, trace=trace, platform=platform, initial=None)
            return found, brute_force(found)[0]
        except (InstanceError, ValueError):
            continue  # No placement.


def _full_to_a_byte(rng: np.random.Generator, size: np.ndarray) -> float:
    """The sum of some blocks, a byte more or a byte less."""
    some = [c for r in range(1, len(size) + 1) for c in combinations(size.tolist(), r)]
    return float(max(sum(some[rng.integers(len(some))]) + int(rng.integers(-1, 2)), 1))
