"""The ladder: every rung a true bound or an achieved time, in order, and prices that say what binds."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given, settings

import kvopt
from kvopt.errors import MethodError
from kvopt.sources.synthetic import drifting
from tests.instances import brute_force, instances

mpl.use("Agg")


@pytest.fixture(scope="module")
def instance():
    trace = drifting(60, 10, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(30e3))


@pytest.fixture(scope="module")
def found(instance):
    return kvopt.explain(instance, "lru")


@settings(max_examples=40, deadline=None)
@given(instance=instances())
def test_certified_rungs_lie_below_the_optimum_and_achieved_ones_above(instance):
    optimum = brute_force(instance)[0]
    free = replace(instance, rules=replace(instance.rules, moves="free"))
    free_optimum = brute_force(free)[0]
    found = kvopt.explain(instance, "lru")
    rung = {r.name: r for r in found.rungs}
    slack = 1 + 1e-9
    assert rung["ideal bandwidth"].latency_s <= free_optimum * slack
    assert rung["limited capacity"].latency_s <= free_optimum * slack
    assert free_optimum <= optimum * slack
    assert rung["moving blocks"].latency_s <= optimum * slack
    assert optimum <= rung["best found"].latency_s * slack
    assert rung["best found"].latency_s <= rung["missing foresight"].latency_s * slack


def test_certified_rungs_never_fall(found):
    certified = [r.latency_s for r in found.rungs if r.role is kvopt.Role.CERTIFIED]
    assert certified == sorted(certified)
    assert len(certified) == 3


def test_costs_multiply_up_to_the_method(found):
    rows = found.rows
    factor = np.prod([1 + row["cost_percent"] / 100 for row in rows[1:]])
    assert rows[0]["latency_s"] * factor == pytest.approx(rows[-1]["latency_s"])
    assert sum(row["share_percent"] for row in rows) == pytest.approx(100)
    lru = kvopt.solve(found.instance, "lru")
    assert rows[-1]["latency_s"] == lru.objective
    assert list(found.frame.columns)[:4] == ["rung", "latency_s", "role", "cost_percent"]


def test_phases_cover_all_steps_and_price_what_binds(found):
    rows = found.phase_rows
    assert [row["first_step"] for row in rows[1:]] == [row["last_step"] + 1 for row in rows[:-1]]
    assert rows[0]["first_step"] == 0
    assert rows[-1]["last_step"] == found.instance.trace.n_steps - 1
    for row in rows:
        assert sum(row["channels_percent"].values()) == pytest.approx(100, abs=1e-6)
        assert row["channel_percent"] == max(row["channels_percent"].values())


def test_capacity_is_worth_what_its_prices_say(found):
    """The same multipliers prove a bound with more capacity too, lower by the price."""
    instance = found.instance
    worth = sum(row["seconds_per_byte"] for row in found.phase_rows if row["tier"] == "hbm")
    assert worth > 0
    extra = 1024.0
    more = instance.with_hbm_bytes(instance.capacity_bytes[0] + extra)
    assert kvopt.verify(more, found.bound.certificate) == pytest.approx(
        found.bound.value_s - worth * extra, rel=1e-6, abs=1e-15
    )


def test_no_capacity_binds_where_all_fits(instance):
    roomy = instance.with_hbm_bytes(1e9)
    assert {row["tier"] for row in kvopt.explain(roomy, "static-oldest", phases=3).phase_rows} == {None}


def test_a_clairvoyant_method_has_no_foresight_to_miss(instance):
    names = [r.name for r in kvopt.explain(instance, "belady", time_limit=5).rungs]
    assert names[-2:] == ["best found", "deciding by rule"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "anneal"}, "is no policy"),
        ({"method": "magic"}, "there is no method"),
        ({"phases": 0}, "phases: must be at least 1"),
        ({"time_limit": -1}, "time_limit: must be greater than 0"),
    ],
)
def test_bad_arguments_are_refused_by_name(instance, arguments, message):
    with pytest.raises(MethodError, match=message):
        kvopt.explain(instance, **arguments)


def test_plot_draws_every_rung(found):
    ax = found.plot()
    assert [t.get_text().split("\n")[0] for t in ax.get_yticklabels()] == [r.name for r in found.rungs]
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches[1::2]]
    assert np.argmax(ends) == np.argmax([r.latency_s for r in found.rungs])
