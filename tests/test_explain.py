"""The ladder: every rung a true bound or an achieved time, in order, and prices that say what binds."""

from __future__ import annotations

import importlib
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import report
from kvopt.errors import MethodError, TraceError
from kvopt.explain import _single_tokens
from kvopt.sources.synthetic import drifting
from tests.instances import brute_force, instances

mpl.use("Agg")


@pytest.fixture(scope="module")
def instance():
    trace = drifting(40, 8, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(20e3))


@pytest.fixture(scope="module")
def found(instance):
    return kvopt.explain(instance, "lru")


@settings(max_examples=15, deadline=None)
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


def test_every_tier_has_its_worth(found):
    tiers = [t.name for t in found.instance.platform.tiers]
    for row in found.phase_rows:
        worth = row["tiers_seconds_per_byte"]
        assert list(worth) == tiers
        assert row["seconds_per_byte"] == max(worth.values())
    assert "tiers_seconds_per_byte" not in found.phases.columns


def test_the_report_names_every_tier_that_binds():
    phase = {"tiers_seconds_per_byte": {"hbm": 2e-12, "dram": 3e-12, "ssd": 1e-18}}
    assert report._worths(phase) == ["dram, worth 3 µs/MB", "hbm, worth 2 µs/MB"]
    assert report._worths({"tiers_seconds_per_byte": {"hbm": 0.0, "dram": 0.0}}) == []


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


@pytest.fixture(scope="module")
def paged(instance):
    return kvopt.explain(instance, "lru", page_tokens=4)


@st.composite
def paged_instances(draw):
    """(instance of tokens, tokens a page, instance of pages); in some, moving a byte out loads more than reading it."""
    instance, p = draw(instances()), draw(st.integers(1, 3))
    dear = {c.name: draw(st.sampled_from([0.0, 1.0, 3.0])) for c in instance.platform.channels}
    tiers = [replace(t, move_out=dear) if draw(st.booleans()) else t for t in instance.platform.tiers]
    instance = replace(instance, platform=replace(instance.platform, tiers=tuple(tiers)))
    try:
        return instance, p, instance.paged(p)
    except kvopt.Infeasible:
        return assume(False)


@settings(max_examples=150, deadline=None)
@given(drawn=paged_instances(), seed=st.integers(0, 2**32 - 1))
def test_tokens_with_the_lives_of_their_pages_relax_them_at_any_prices(drawn, seed):
    instance, p, pages = drawn
    single = _single_tokens(instance, p)
    slack = 1 + 1e-9
    assert brute_force(single)[0] <= brute_force(pages)[0] * slack
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.ones(len(instance.platform.channels)), instance.n_slots).T
    rent = rng.exponential(0.3, (2, instance.n_slots)) * np.isfinite(instance.capacity_bytes)[:, None]
    prices = kvopt.Certificate(share, rent)
    assert kvopt.verify(single, prices) <= kvopt.verify(pages, prices) + 1e-9


def test_leaving_a_tier_may_cost_a_page_less_than_its_tokens():
    """Under read-through: the page moves in slot 0 for its write alone, as one token is read; the other is not read."""
    slow = kvopt.Tier("slow", np.inf, {"dram": 1.0}, {"dram": 1.0}, move_out={"dram": 3.0})
    channels = (kvopt.Channel("bus", 1.0), kvopt.Channel("dram", 1.0))
    platform = kvopt.Platform("dear", (kvopt.Tier("fast", 2, {"bus": 1.0}, {"bus": 1.0}), slow), channels)
    columns = {"n_steps": 2, "n_lanes": 1, "lane": [0, 0], "size_bytes": [1, 1], "write_step": [-1, -1]}
    trace = kvopt.Trace.from_accesses([0, 0, 1], [0, 1, 1], **columns)
    instance = kvopt.Instance(trace, platform, kvopt.Rules(moves="read-through"))
    prices = kvopt.Certificate(np.array([[0.0, 0.0], [0.1, 1.0]]), np.array([[10.0, 0.0], [0.0, 0.0]]))
    rent = 2 * 10.0
    assert kvopt.verify(instance.paged(2), prices) == pytest.approx(0.1 + 0.1 - rent)
    assert kvopt.verify(instance, prices) == pytest.approx(0.1 + 0.3 - rent)
    assert kvopt.verify(_single_tokens(instance, 2), prices) == pytest.approx(0.1 + 0.1 - rent)


@settings(max_examples=12, deadline=None)
@given(drawn=paged_instances())
def test_with_pages_certified_rungs_lie_below_the_optimum_of_the_pages(drawn):
    instance, p, pages = drawn
    optimum, slack = brute_force(pages)[0], 1 + 1e-9
    found = kvopt.explain(instance, "lru", page_tokens=p)
    certified = [r.latency_s for r in found.rungs if r.role is kvopt.Role.CERTIFIED]
    assert certified == sorted(certified)
    assert len(certified) == 4
    assert certified[-1] <= optimum * slack
    assert all(optimum <= r.latency_s * slack for r in found.rungs if r.role is kvopt.Role.ACHIEVED)


def test_pages_are_one_rung_more_and_all_above_is_about_them(paged, instance):
    names = [r.name for r in paged.rungs]
    assert names[:5] == ["ideal bandwidth", "limited capacity", "moving blocks", "pages of 4 tokens", "best found"]
    pages = instance.paged(4)
    assert paged.instance.summary() == pages.summary()
    rung = paged.rungs[3]
    assert (rung.role, rung.source) == (kvopt.Role.CERTIFIED, "dual")
    assert rung.latency_s == paged.bound.value == kvopt.verify(pages, paged.bound.certificate)
    assert paged.rungs[-1].latency_s == kvopt.solve(pages, "lru").objective
    assert paged.best.placement.violations(pages) == []
    assert [r.source for r in paged.rungs[:3]] == [
        "aggregate bandwidth, single tokens",
        "dual, moves free, single tokens",
        "dual, single tokens",
    ]


def test_the_cost_of_pages_compares_two_certified_bounds(paged, instance):
    row = paged.rows[3]
    single = kvopt.bound(_single_tokens(instance, 4)).value
    assert paged.rungs[2].latency_s == pytest.approx(single, rel=1e-3)
    assert row["cost_percent"] == pytest.approx(100 * (paged.rungs[3].latency_s / paged.rungs[2].latency_s - 1))
    # A page of 4 is read whole for a fifth of the tokens.
    assert row["cost_percent"] > 50


def test_pages_of_one_token_cost_nothing(instance, found):
    rungs = kvopt.explain(instance, "static-oldest", page_tokens=1).rungs
    assert rungs[3].name == "pages of 1 token"
    assert rungs[2].latency_s <= rungs[3].latency_s <= rungs[2].latency_s * (1 + 1e-3)
    assert rungs[2].latency_s == pytest.approx(found.rungs[2].latency_s, rel=1e-3)


def test_a_bad_number_of_tokens_is_refused(instance):
    with pytest.raises(TraceError, match=r"tokens_per_page: must be a whole number of at least 1, got 0"):
        kvopt.explain(instance, page_tokens=0)


def test_plot_draws_every_rung(found):
    ax = found.plot()
    assert [t.get_text().split("\n")[0] for t in ax.get_yticklabels()] == [r.name for r in found.rungs]
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches[1::2]]
    assert np.argmax(ends) == np.argmax([r.latency_s for r in found.rungs])


def test_a_clairvoyant_twin_or_an_annealer_that_fails_costs_its_own_rung(instance, monkeypatch):
    """The ladder of the method at hand is there all the same, and says what is missing."""
    module = importlib.import_module("kvopt.explain")
    solve = module.solve

    def instead(instance, method, **limits):
        if method in ("belady", "anneal"):
            raise RuntimeError("no luck")
        return solve(instance, method, **limits)

    monkeypatch.setattr(module, "solve", instead)
    found = kvopt.explain(instance, "lru", time_limit=5)
    assert found.failed == {"belady": "RuntimeError: no luck", "anneal": "RuntimeError: no luck"}
    assert found.best.method == "lru"
    assert "note      belady failed: RuntimeError: no luck" in report.explanation(found)
    assert found.to_json()["failed"] == found.failed
