"""Rounds in which rules are prices: smoothed slot times, prices that follow occupancy, and what they come to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

import kvopt
from kvopt.anneal import large
from kvopt.anneal.cuts import cutting_of, make_scratch
from kvopt.anneal.moves import above_least
from kvopt.anneal.paths import load_paths
from kvopt.anneal.relaxed import NO_LIMIT, Relaxation, Relaxed, prices_of_channels, recharge, smooth_time, strict
from kvopt.anneal.schedule import Schedule
from kvopt.anneal.window import make_tables
from kvopt.anneal.window_moves import sweep
from kvopt.lowering import unit_per_byte
from kvopt.trellis.rng import stream
from tests.anneal.test_windows import TWO_STATES, chain_of, drifted, one_window
from tests.kernels import called_from_python

seconds = st.floats(0, 10, allow_subnormal=False)
shares = st.floats(0, 1, allow_subnormal=False)


@st.composite
def slots(draw):
    """Seconds each channel is busy, and prices that add up to 1."""
    n = draw(st.integers(1, 5))
    busy = np.array(draw(st.lists(seconds, min_size=n, max_size=n)))
    lean = np.array(draw(st.lists(shares, min_size=n, max_size=n))) + 1e-3
    return busy, lean / lean.sum()


def smoothed(busy, lean, width):
    return called_from_python(smooth_time)(busy[None], 0, 0.0, lean, lean, width)


@given(slots(), st.floats(1e-6, 1e3))
def test_a_smoothed_time_lies_between_the_linear_price_and_the_maximum(slot, width):
    busy, lean = slot
    value = smoothed(busy, lean, width)
    # Shares move by busy over width, so that much of a rounding is left where a width is next to nothing.
    slack = 1e-9 * (busy.max() + width) + 1e-15 * busy.max() ** 2 / width
    assert lean @ busy - slack <= value <= busy.max() + slack
    # No price may leave ``lean`` by more than sqrt(2), so that bounds what smoothing takes off.
    assert value >= busy.max() - width - slack


@given(slots(), st.floats(1e-2, 10))
def test_it_is_the_largest_over_all_prices(slot, width):
    busy, lean = slot

    def less(p):
        return -(p @ busy - width / 2 * ((p - lean) ** 2).sum())

    total = {"type": "eq", "fun": lambda p: p.sum() - 1}
    best = minimize(less, lean, bounds=[(0, 1)] * len(busy), constraints=[total], method="SLSQP", tol=1e-12)
    share = np.empty((1, len(busy)))
    prices_of_channels(busy[None], np.array([width]), lean[None], share)
    assert share.min() >= 0
    assert share.sum() == pytest.approx(1, rel=1e-9)
    assert -less(share[0]) == pytest.approx(smoothed(busy, lean, width), rel=1e-9, abs=1e-12)
    assert smoothed(busy, lean, width) >= -best.fun - 1e-6 * (1 + abs(best.fun))


@given(slots(), st.floats(1e-2, 10), st.integers(0, 4))
def test_its_slope_is_the_price(slot, width, c):
    busy, lean = slot
    c, step = c % len(busy), 1e-5
    more, less = (busy + sign * step * (np.arange(len(busy)) == c) for sign in (1, -1))
    share = np.empty((1, len(busy)))
    prices_of_channels(busy[None], np.array([width]), lean[None], share)
    slope = (smoothed(more, lean, width) - smoothed(less, lean, width)) / (2 * step)
    assert slope == pytest.approx(share[0, c], abs=step / width + 1e-6)


@given(slots(), st.floats(1e-2, 10), seconds, st.integers(0, 4))
def test_what_is_added_to_a_slot_counts_as_if_it_were_there(slot, width, size, c):
    busy, lean = slot
    extra = 1.0 * (np.arange(len(busy)) == c % len(busy))
    added = called_from_python(smooth_time)(busy[None], 0, size, extra, lean, width)
    assert added == pytest.approx(smoothed(busy + size * extra, lean, width), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 4])
def test_equal_channels_do_not_keep_it_for_ever(n):
    rng = np.random.default_rng(0)
    for width in (1e-6, 0.1, 3.0):
        for scale in (1e-7, 1.0) * 20:
            busy = scale * rng.integers(1, 3, n) / 3
            assert smoothed(busy, np.full(n, 1 / n), scale * width) <= busy.max() * (1 + 1e-9)


def relaxed_of(chain, width: float, slope: float, seed: int = 0) -> Relaxed:
    """Any prices: of channels, and of what is held."""
    rng = np.random.default_rng(seed)
    problem = chain.problem
    plain = strict(problem)
    lean = rng.random(plain.lean.shape)
    plain.price[:] = rng.random(plain.price.shape) * unit_per_byte(chain.low) / 50
    room = 0.7 * problem.capacity
    slopes = slope * unit_per_byte(chain.low) / problem.capacity
    return Relaxed(lean / lean.sum(axis=1, keepdims=True), plain.width + width, plain.price, slopes, room, 0.1)


@pytest.mark.parametrize("rules", TWO_STATES, ids=str)
@pytest.mark.parametrize("temperature", [0.02, 1e-4])
def test_loads_and_occupancy_are_kept_exactly_by_prices(rules, temperature):
    instance = drifted(rules, n_lanes=3)
    chain = chain_of(instance)
    problem, low = chain.problem, chain.low
    problem = problem._replace(capacity=np.full_like(problem.capacity, NO_LIMIT))
    relaxed = relaxed_of(chain, 1e-6, 1.0)
    window = one_window(chain, 0, low.n_steps, above_least(problem, np.zeros((low.n_slots, 2))), relaxed)
    tables, scratch = make_tables(problem, window, chain.class_size), make_scratch(problem, low.n_steps)
    unit = unit_per_byte(low) * low.size_bytes.mean()
    order = np.arange(len(window.block))
    temperature, cutting, looks, rng = temperature * unit, cutting_of(problem, 4, 8), (20, 10), stream(0, 1)
    changed = sweep(
        problem, window, chain.class_size, chain.class_of, order, temperature, cutting, tables, looks, scratch, rng
    )
    assert changed > 0
    load, held = chain.load.copy(), window.held.copy()
    piece = large.Piece(*large.scatter(problem, chain.paths, 0, window, low.first_step))
    load_paths(problem, large.joined(low.n_blocks, [piece]), chain.load, chain.either, chain.held)
    np.testing.assert_allclose(load, chain.load, rtol=1e-9, atol=1e-20)
    np.testing.assert_allclose(held, chain.held, rtol=1e-12)


@pytest.mark.parametrize("copies", ["exclusive", "inclusive"])
def test_slots_are_charged_for_how_full_they_are(copies):
    trace = drifted(n_lanes=2).trace
    peak = trace.summary()["peak_live_bytes"]
    platform = kvopt.Platform.preset("gh200-cxl").with_capacity(0.15 * peak).with_capacity(0.3 * peak, tier=1)
    chain = chain_of(kvopt.Instance(trace, platform, kvopt.Rules(copies)))
    problem, low = chain.problem, chain.low
    relaxed = relaxed_of(chain, 0.0, 5.0)
    before = relaxed.price.copy()
    window = one_window(chain, 8, 40, np.zeros((low.n_slots, len(problem.states))), relaxed)
    tables = make_tables(problem, window, chain.class_size)
    tables.dirty[:], tables.dirty_steps[:] = False, 0
    called_from_python(recharge)(problem, window, tables)
    cut = slice(8 * low.n_lanes, 40 * low.n_lanes)
    push = relaxed.slope[:, None] * (chain.held - relaxed.room[:, None])
    prices = np.maximum(before.T + push, 0)[:, cut]
    inside = problem.inside[:, None] >> np.arange(len(problem.states)) & 1
    charge = prices.T @ inside + problem.idle_price
    np.testing.assert_allclose(window.charge, charge - charge.min(axis=1, keepdims=True), rtol=1e-12, atol=1e-30)
    np.testing.assert_allclose(np.diff(window.charged, axis=0), window.charge, rtol=1e-6, atol=1e-24)
    expected = before.copy()
    expected[cut] = np.maximum(before + relaxed.gain * push.T, 0)[cut]
    np.testing.assert_allclose(relaxed.price, expected, rtol=1e-12)
    assert tables.dirty.all()
    assert tables.dirty_steps[0] == len(tables.dirty)


def relaxation_of(instance):
    bound = kvopt.bound(instance)
    chain = chain_of(instance)
    return Relaxation(chain.problem, chain.low, bound.guides, 0.0125, unit_per_byte(chain.low), chain.load), chain


def test_the_rules_are_taken_ever_more_strictly():
    relaxation, chain = relaxation_of(drifted())
    rounds = []
    for done in np.linspace(0, 1, 9):
        relaxed = relaxation.at(done)
        rounds.append(
            (relaxation.temperature(done), relaxed.width.max(), -(relaxed.slope / relaxation.temperature(done)).min())
        )
        np.testing.assert_allclose(relaxed.lean.sum(axis=1), 1)
        assert relaxed.lean.min() >= 0
        assert relaxed.price.min() >= 0
        relaxation.learn(done, relaxed, chain.load, chain.held)
    assert (np.diff(np.array(rounds), axis=0) < 0).all()


def test_room_is_kept_free_for_what_occupancy_exceeds_it_by():
    relaxation, chain = relaxation_of(drifted())
    capacity = chain.problem.capacity
    held = np.repeat(1.1 * capacity[:, None], chain.low.n_slots, axis=1)
    relaxation.learn(0.2, relaxation.at(0.2), chain.load, held)
    np.testing.assert_array_equal(relaxation.room, capacity)
    relaxation.learn(0.8, relaxation.at(0.8), chain.load, held)
    np.testing.assert_allclose(relaxation.room, (1 - 0.1 * 1.1) * capacity)


def test_prices_of_channels_follow_the_loads():
    relaxation, chain = relaxation_of(drifted())
    relaxed = relaxation.at(0.5)
    before = relaxed.lean.copy()
    load = np.zeros_like(chain.load)
    load[:, 0] = 100 * relaxation.slot_s
    relaxation.learn(0.5, relaxed, load, chain.held)
    counts = (relaxation.slot_s > 0) & (before[:, 0] < 0.99)  # In the others nothing is read.
    assert (relaxation.lean[:, 0] > before[:, 0])[counts].all()
    assert counts.mean() > 0.2
    np.testing.assert_allclose(relaxation.lean.sum(axis=1), 1)


def test_where_time_is_short_both_kinds_of_rounds_are_fewer():
    schedule = Schedule(sweeps=10, first=0.02, last=0.01)
    assert large._in_time(16, schedule, 1e9) == (16, schedule)
    rounds, cut = large._in_time(16, schedule, 13)
    assert (rounds, cut.sweeps) == (10, 3)
    assert (cut.first, cut.last) == (schedule.first, schedule.last)
    for affordable, expected in ((0.0, (0, 1)), (1.0, (0, 1)), (3.9, (0, 3)), (4.0, (3, 1))):
        rounds, cut = large._in_time(16, schedule, affordable)
        assert (rounds, cut.sweeps) == expected
    for affordable in np.arange(1.0, 30.0, 0.5):
        rounds, cut = large._in_time(16, schedule, affordable)
        assert rounds <= 16
        assert 1 <= cut.sweeps <= 10
        assert rounds + cut.sweeps == min(int(affordable), 26)
    rounds, cut = large._in_time(0, schedule, 4)
    assert (rounds, cut.sweeps) == (0, 4)


def test_a_balanced_instance_ends_near_its_bound():
    """Without rounds by prices it ends above 0.9 %."""
    instance = kvopt.instances.make("balanced", 100_000)
    bound = kvopt.bound(instance)
    found = kvopt.solve(instance, "anneal", bound=bound, windows=True)
    assert not found.placement.violations(instance)
    assert found.gap < 0.005
    assert found.placement == kvopt.solve(instance, "anneal", bound=bound, windows=True).placement


def test_with_a_schedule_of_ones_own_there_are_no_rounds_by_prices():
    instance = drifted(n_lanes=1)
    bound, said = kvopt.bound(instance), []
    for schedule in (None, Schedule(sweeps=3)):
        said.clear()
        kvopt.solve(
            instance,
            "anneal",
            bound=bound,
            windows=True,
            refine=False,
            schedule=schedule,
            on_progress=lambda e: said.append(e.detail),
        )
        assert any("by prices" in detail for detail in said) == (schedule is None)
