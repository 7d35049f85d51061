"""The axes of sizing and sweeps: capacities of the first and the last tier, from the least that is feasible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt import Rules, policies
from kvopt.errors import Infeasible, InstanceError
from kvopt.vary import axis
from tests.policies.test_cascade import platform, unit_trace

SHARED = [Rules(), Rules("inclusive", writes="back")]


@pytest.mark.parametrize("rules", SHARED)
@pytest.mark.parametrize(("vary", "least"), [("hbm_bytes", 20.0), ("backing_bytes", 10.0)])
def test_the_least_is_what_all_other_tiers_leave_over(rules, vary, least):
    instance = kvopt.Instance(unit_trace(6, 2), platform(30, 20, 20), rules)
    along = axis(instance, vary)
    assert along.least == least
    assert along.most == 60
    assert along.at(least).capacity_bytes[along.tier] == least
    assert not policies.simulate(along.at(least), policies.get("lru")).violations(along.at(least))
    with pytest.raises(Infeasible):
        along.at(least - 1)


def test_written_through_the_backing_tier_holds_everything():
    instance = kvopt.Instance(unit_trace(6, 2), platform(30, 20, 70), Rules("inclusive"))
    assert (axis(instance, "hbm_bytes").least, axis(instance, "backing_bytes").least) == (0, 60)
    with pytest.raises(Infeasible):
        axis(instance, "backing_bytes").at(59)


def test_given_states_need_their_room():
    instance = kvopt.Instance(unit_trace(6, 2), platform(30, 20, np.inf))
    begun = instance.with_initial(kvopt.solve(instance, "lru").placement)
    assert (axis(begun, "hbm_bytes").least, axis(begun, "backing_bytes").least) == (30, 10)
    with pytest.raises(InstanceError):
        axis(begun, "hbm_bytes").at(29)


def test_prices_of_the_varied_tier_alone_are_left_out():
    certificate = kvopt.Certificate(np.ones((3, 2)), np.ones((3, 2)))
    for vary, tier in (("hbm_bytes", 0), ("backing_bytes", 2)):
        along = axis(kvopt.Instance(unit_trace(2, 2), platform(30, 20, 20)), vary)
        left = along.without(certificate).capacity_price_s_per_byte
        assert (left.sum(axis=1) == [0 if k == tier else 2 for k in range(3)]).all()


@pytest.mark.parametrize("rules", [Rules(), Rules("inclusive"), Rules("inclusive", writes="back")])
def test_parts_keep_the_share_of_every_finite_tier(rules):
    whole = kvopt.Instance(unit_trace(400, 20), platform(1000, 500, 4000), rules)
    part = kvopt.sub_instance(whole, most_columns=8 * 100 * len(whole.states) ** 2)
    share = part.trace.n_blocks / 400
    assert part.trace.n_blocks == 100
    assert np.allclose(part.capacity_bytes, np.floor(np.array([1000, 500, 4000]) * share))
    assert np.isinf(kvopt.sub_instance(replace(whole, platform=platform(1000, 500, np.inf))).capacity_bytes[2])
    begun = whole.with_initial(kvopt.solve(whole, "lru").placement)
    assert kvopt.sub_instance(begun).initial is None
