"""What is in hand without a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt.exact.plain import plain_placement
from tests.instances import RULES, general_instance


@pytest.mark.parametrize("given_start", [False, True])
def test_is_feasible_under_every_rule(given_start):
    found = 0
    for seed in range(60):
        rng = np.random.default_rng(700 + seed)
        instance = general_instance(rng, rules=RULES[seed % len(RULES)], given_start=given_start)
        placement = plain_placement(instance)
        if placement is not None:
            found += 1
            assert not placement.violations(instance), f"seed {seed}"
    assert found > 50


def tight(backing: float) -> kvopt.Instance:
    """Blocks of 5, 4 and 3 bytes, 5 of which fit in the fast tier."""
    trace = kvopt.Trace.from_accesses(
        [0], [0], n_steps=2, n_lanes=1, lane=[0, 0, 0], size_bytes=[5, 4, 3], write_step=[-1, -1, 0]
    )
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(5.0).with_capacity(backing, tier=1))


def test_leaves_everything_in_the_backing_tier_where_it_fits():
    assert plain_placement(tight(12.0)) == kvopt.Placement.backing(tight(12.0))


def test_fills_the_slowest_tier_with_the_largest_blocks_first():
    placement = plain_placement(tight(9.0))
    assert placement.held_bytes(tight(9.0)).tolist() == [[3, 3], [9, 9]]


def test_begins_where_blocks_are_given_to_begin():
    begun = replace(tight(12.0), initial=np.array([0, 1, 1]))
    placement = plain_placement(begun)
    assert placement.held_bytes(begun).tolist() == [[5, 0], [7, 12]]
