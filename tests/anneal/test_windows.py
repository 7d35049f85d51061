"""The annealer of large instances: its paths and windows against the evaluator, the dense annealer and brute force."""

from __future__ import annotations

import itertools
import math
import os
import signal
import threading

import numpy as np
import pytest

import kvopt
from kvopt import Instance, Placement, Platform, Rules
from kvopt.anneal import large, solver
from kvopt.anneal.cuts import cutting_of, make_scratch
from kvopt.anneal.large import Chain
from kvopt.anneal.moves import above_least, improve_sweep
from kvopt.anneal.paths import gather, paths_of, placement_of, scatter
from kvopt.anneal.relaxed import Relaxed
from kvopt.anneal.schedule import Schedule
from kvopt.anneal.solver import solve_anneal
from kvopt.anneal.state import make_problem, make_state, total_cost
from kvopt.anneal.window import NEVER, Window, make_tables, refresh, together, with_room
from kvopt.anneal.window_moves import sweep
from kvopt.errors import MethodError
from kvopt.lowering import lower, unit_per_byte
from kvopt.objective import energy, latency, worst_step
from kvopt.sources.synthetic import drifting
from kvopt.trellis.rng import stream
from tests.instances import RULES, brute_force, general_instance, random_placement
from tests.kernels import called_from_python

TWO_STATES = [
    Rules("exclusive", "explicit"),
    Rules("exclusive", "read-through"),
    Rules("inclusive", "explicit"),
    Rules("inclusive", "read-through", "balanced"),
    Rules("exclusive", "free"),
]
_ENERGY = energy({"hbm": 2e-11, "lpddr": 5e-11}, {"hbm": 3e-11, "lpddr": 6e-11}, power_w=30)


def drifted(rules=None, n_lanes=2, n_steps=64, seed=0, share=0.2, objective=None) -> Instance:
    """A few hundred blocks over some thousands of slots, too many for the fast tier."""
    trace = drifting(60, n_steps, n_lanes=n_lanes, read_share=0.2, drift=0.2, seed=seed)
    peak = trace.summary()["peak_live_bytes"]
    instance = Instance(trace, Platform.preset("gh200"), rules or Rules()).with_hbm_bytes(share * peak)
    return instance.with_objective(objective) if objective else instance


def chain_of(instance: Instance, method: str = "belady", threads: int = 1) -> Chain:
    low = lower(instance)
    problem = make_problem(low)
    return Chain(problem, low, paths_of(problem, kvopt.solve(instance, method).placement), threads)


def objective(instance: Instance, chain: Chain) -> float:
    return kvopt.evaluate(instance, placement_of(chain.problem, chain.paths)).objective


@pytest.mark.parametrize("seed", range(60))
def test_a_chain_costs_what_its_placement_does(seed):
    rng = np.random.default_rng(seed)
    instance = general_instance(rng, rules=RULES[seed % len(RULES)])
    low = lower(instance)
    problem = make_problem(low)
    chain = Chain(problem, low, paths_of(problem, random_placement(instance, rng)), 1)
    placement = placement_of(problem, chain.paths)
    found = kvopt.evaluate(instance, placement)
    assert chain.cost == pytest.approx(found.objective, rel=1e-12)
    limited = [k for k in range(low.n_tiers) if math.isfinite(low.capacity_bytes[k])]
    np.testing.assert_allclose(chain.held, found.held_bytes[limited], rtol=1e-12)


@pytest.mark.parametrize("seed", range(30))
def test_paths_keep_one_change_a_lane_step_and_the_states_of_own_slots(seed):
    rng = np.random.default_rng(seed)
    instance = general_instance(rng)
    problem, n_states = make_problem(lower(instance)), len(instance.states)
    placement = random_placement(instance, rng)
    kept = placement_of(problem, paths_of(problem, placement))
    before = placement.to_states(instance.n_slots, n_states)
    after = kept.to_states(instance.n_slots, n_states)
    lanes, trace = instance.trace.n_lanes, instance.trace
    for i in range(trace.n_blocks):
        own = [n * lanes + trace.lane[i] for n in range(trace.first_step[i], trace.free_step[i])]
        np.testing.assert_array_equal(before[i, own], after[i, own])
        for start, stop in itertools.pairwise(own):
            assert np.count_nonzero(np.diff(after[i, start : stop + 1])) <= 1
    assert paths_of(problem, kept).slot.tolist() == paths_of(problem, placement).slot.tolist()


@pytest.mark.parametrize("rules", TWO_STATES, ids=str)
def test_what_goes_into_windows_comes_out_again(rules):
    instance = drifted(rules)
    chain = chain_of(instance, "lru")
    before = chain.paths
    chain.round(3, 1.0, np.zeros((instance.n_slots, 2)), 0, over=lambda: True)
    for name in ("ptr", "slot", "state"):
        np.testing.assert_array_equal(getattr(chain.paths, name), getattr(before, name))


def one_window(chain: Chain, first: int, stop: int, charge: np.ndarray, relaxed: Relaxed | None = None) -> Window:
    slots = slice(first * chain.low.n_lanes, stop * chain.low.n_lanes)
    either = chain.either[slots] if chain.problem.balanced else chain.either
    paths = gather(chain.problem, chain.paths, first, stop - first, chain.low.last_step, chain.low.first_step)
    charged = np.concatenate([np.zeros((1, charge.shape[1])), np.cumsum(charge[slots], axis=0)])
    relaxed = (relaxed or chain.strict).cut(slots, relaxed.gain if relaxed else 0.0)
    window = Window(
        chain.load[slots], either, chain.held[:, slots].copy(), charge[slots], charged, first, *paths, relaxed
    )
    return with_room(window, np.arange(len(window.block)))


@pytest.mark.parametrize("temperature", [0.05, 0.003, 0.0])
@pytest.mark.parametrize("rules", TWO_STATES, ids=str)
@pytest.mark.parametrize("wanted", [None, latency() + 1e-3 * _ENERGY], ids=["latency", "with energy"])
@pytest.mark.parametrize("strides", [(1, 1), (4, 8)])
def test_loads_and_occupancy_are_kept_exactly(rules, temperature, wanted, strides):
    instance = drifted(rules, n_lanes=3, objective=wanted)
    chain = chain_of(instance)
    problem, low = chain.problem, chain.low
    unit = unit_per_byte(low) * low.size_bytes.mean()
    charge = above_least(problem, np.zeros((low.n_slots, 2)))
    window = one_window(chain, 16, 48, charge)
    tables, scratch = make_tables(problem, window, chain.class_size), make_scratch(problem, 32)
    changed = sweep(
        problem, window, chain.class_size, chain.class_of, np.arange(len(window.block)), temperature * unit,
        cutting_of(problem, *strides), tables, (20, 0), scratch, stream(0, 1),
    )  # fmt: skip
    assert changed > 0
    load, held = chain.load.copy(), chain.held.copy()
    held[:, 16 * low.n_lanes : 48 * low.n_lanes] = window.held
    piece = scatter(problem, chain.paths, 16, window, low.first_step)
    others = [one_piece(chain, 0, 16), one_piece(chain, 48, low.n_steps)]
    chain.paths = large.joined(low.n_blocks, [others[0], large.Piece(*piece), others[1]])
    chain._rebuild()
    np.testing.assert_allclose(load, chain.load, rtol=1e-9, atol=1e-20)
    np.testing.assert_allclose(held, chain.held, rtol=1e-12)
    fresh = make_tables(problem, window, chain.class_size)
    np.testing.assert_array_equal(tables.full, fresh.full)
    np.testing.assert_array_equal(tables.anywhere, fresh.anywhere)
    assert chain.cost == pytest.approx(objective(instance, chain), rel=1e-12)


def one_piece(chain: Chain, first: int, stop: int) -> large.Piece:
    """The events of a stretch of time as they are."""
    window = one_window(chain, first, stop, np.zeros((chain.low.n_slots, len(chain.problem.states))))
    return large.Piece(*scatter(chain.problem, chain.paths, first, window, chain.low.first_step))


@pytest.mark.parametrize("rules", TWO_STATES, ids=str)
@pytest.mark.parametrize("n_lanes", [1, 3])
def test_descents_never_rise_and_stay_feasible(rules, n_lanes):
    instance = drifted(rules, n_lanes=n_lanes)
    chain = chain_of(instance)
    nothing = np.zeros((instance.n_slots, 2))
    cost = chain.cost
    assert chain.feasible
    for number in range(4):
        chain.round(number, 0.0, nothing, 0, over=lambda: False)
        assert chain.cost <= cost * (1 + 1e-12)
        cost = chain.cost
        assert chain.feasible
        assert not placement_of(chain.problem, chain.paths).violations(instance)
    assert cost == pytest.approx(objective(instance, chain), rel=1e-12)


@pytest.mark.parametrize("rules", TWO_STATES, ids=str)
def test_drawn_paths_cost_no_more_than_their_heat_allows(rules):
    """Though tables are looked at once in 48 moves only, and many blocks would go where the first of them has gone."""
    instance = drifted(rules, n_lanes=3)
    chain = chain_of(instance)
    nothing = np.zeros((instance.n_slots, 2))
    unit = unit_per_byte(chain.low) * chain.low.size_bytes.mean()
    for number in range(4):
        before = chain.cost
        changed = chain.round(number, 1e-9 * unit, nothing, 0)
        assert chain.cost <= before + changed * 4e-9 * unit * math.sqrt(instance.trace.n_steps) + 1e-12 * before
        assert chain.feasible


@pytest.mark.parametrize("rules", TWO_STATES[:4], ids=str)
def test_with_one_lane_the_descent_ends_where_the_dense_one_does(rules):
    """Tables are always fresh then, so a block's best path in the one window is its best path."""
    instance = drifted(rules, n_lanes=1, n_steps=40)
    chain = chain_of(instance)
    nothing = np.zeros((instance.n_slots, 2))
    for number in range(40):
        if not chain.round(0, 0.0, nothing, number, over=lambda: False):
            break
    placement = placement_of(chain.problem, chain.paths)
    for i in range(len(chain.problem.size)):
        # From the same state each: one that changes for a gain of nothing but rounding may make way for another.
        state = make_state(chain.problem, placement)
        improve_sweep(chain.problem, state, np.array([i]), nothing)
        assert total_cost(chain.problem, state) >= chain.cost * (1 - 1e-9)


def test_results_do_not_depend_on_the_number_of_threads():
    instance = drifted(n_lanes=2, n_steps=200)
    found = []
    for threads in (1, 3):
        chain = chain_of(instance, threads=threads)
        unit = unit_per_byte(chain.low) * chain.low.size_bytes.mean()
        for number in range(3):
            chain.round(number, 0.02 * unit, np.zeros((instance.n_slots, 2)), 7, over=lambda: False)
        found.append(placement_of(chain.problem, chain.paths))
    assert found[0] == found[1]


@pytest.mark.parametrize("temperature", [0.5, 1e-3])
def test_the_tables_sum_over_all_slots_of_a_change(temperature):
    """A lane step's free energy against the sum over slots, one by one."""
    instance = drifted(n_lanes=4)
    chain = chain_of(instance)
    problem, low = chain.problem, chain.low
    temperature *= unit_per_byte(low) * low.size_bytes.mean()
    rng = np.random.default_rng(0)
    charge = rng.random((low.n_slots, 2)) * temperature / low.size_bytes.mean()
    window = one_window(chain, 8, 40, charge)
    tables = make_tables(problem, window, chain.class_size)
    called_from_python(refresh)(problem, window, chain.class_size, temperature, tables, np.empty(low.n_channels))
    size, lanes = chain.class_size[0], low.n_lanes
    slots = [(n, lane) for n in (0, 7, 30) for lane in range(lanes)]
    for n, lane in slots:
        own = n * lanes + lane
        for y, z in ((0, 1), (1, 0), (0, 0), (1, 1)):
            for first, table in ((0, tables.step), (1, tables.rest)):
                costs = []
                for o in range(first, lanes):
                    t = own + o
                    now = window.load[t].max()
                    longer = (window.load[t] + size * problem.op[0, y, z]).max() - now
                    charged = [window.charge[own + k, y if k <= o else z] for k in range(first, lanes)]
                    costs.append(longer + size * sum(charged))
                costs = costs if y != z else costs[:1]
                free = -temperature * np.logaddexp.reduce(-np.array(costs) / temperature)
                assert table[0, lane, n, 2 * y + z] == pytest.approx(free, rel=1e-9, abs=1e-12 * temperature)


def test_ways_together_cost_their_free_energy():
    called = called_from_python(together)
    for a, b in ((1.0, 1.0), (1.0, 1.5), (3.0, 1.0), (1.0, NEVER)):
        assert called(a, b, 0.3) == pytest.approx(-0.3 * np.logaddexp(-a / 0.3, -b / 0.3), rel=1e-12)
        assert called(a, b, 0.0) == min(a, b)


@pytest.mark.parametrize("seed", range(40))
def test_tiny_instances_are_never_below_the_optimum_and_mostly_at_it(seed):
    rng = np.random.default_rng(seed)
    instance = general_instance(rng, n_tiers=2, rules=TWO_STATES[seed % len(TWO_STATES)])
    optimum, _ = brute_force(instance)
    bound = kvopt.bound(instance)
    result = solve_anneal(instance, multipliers=bound.certificate, guides=bound.guides, windows=True)
    if result.placement is None:
        assert Placement.backing(instance).violations(instance)
        return
    assert not result.placement.violations(instance)
    assert result.objective >= optimum * (1 - 1e-9)


def test_a_start_is_never_lost_and_the_bound_is_nearly_met():
    instance = drifted(n_lanes=2, n_steps=120)
    start = kvopt.solve(instance, "belady")
    bound = kvopt.bound(instance)
    result = kvopt.solve(instance, "anneal", windows=True, bound=bound, start=start, seed=1)
    assert result.objective <= start.objective
    assert bound.value <= result.objective < 1.03 * bound.value
    assert result.placement == kvopt.solve(instance, "anneal", windows=True, bound=bound, start=start, seed=1).placement


def test_interrupted_at_once_it_still_returns_a_feasible_placement():
    instance = drifted()

    def interrupt(event):
        raise KeyboardInterrupt

    start = kvopt.solve(instance, "lru")
    bound = kvopt.bound(instance)
    result = kvopt.solve(instance, "anneal", windows=True, bound=bound, start=start, on_progress=interrupt)
    assert result.termination is kvopt.Termination.INTERRUPTED
    assert result.objective <= start.objective


def test_where_there_is_no_time_for_a_sample_the_start_is_gone_on_from(monkeypatch):
    instance = drifted(n_lanes=2, n_steps=60)
    bound, start = kvopt.bound(instance), kvopt.solve(instance, "lru")

    def sampled(*arguments):
        raise AssertionError("a sample is drawn")

    monkeypatch.setattr(solver, "sample_placement", sampled)
    options = {"multipliers": bound.certificate, "guides": bound.guides, "windows": True, "start": start.placement}
    assert solve_anneal(instance, time_limit_s=0.0, **options).objective <= start.objective
    with pytest.raises(AssertionError, match="a sample is drawn"):
        solve_anneal(instance, time_limit_s=60.0, **options)


@pytest.mark.parametrize("at_round", [0, 2])
def test_ctrl_c_in_a_round_keeps_the_best_so_far(monkeypatch, at_round):
    """Raised where the main thread waits for the windows, as a signal is."""
    instance = drifted()
    bound, rounds = kvopt.bound(instance), []
    gather_results = large.joined

    def joined(*args):
        rounds.append(None)
        if len(rounds) == at_round + 1:
            raise KeyboardInterrupt
        return gather_results(*args)

    monkeypatch.setattr(large, "joined", joined)
    start = kvopt.solve(instance, "lru")
    result = kvopt.solve(instance, "anneal", windows=True, bound=bound, start=start)
    assert result.termination is kvopt.Termination.INTERRUPTED
    assert len(rounds) == at_round + 1
    assert not result.placement.violations(instance)
    assert result.objective <= start.objective


def test_a_signal_while_windows_are_at_work_ends_the_round_early():
    instance = drifted(n_lanes=2, n_steps=200)
    chain = chain_of(instance)
    before, signalled, stopped = chain.paths, threading.Event(), threading.Event()

    def over():
        # Called by the windows' threads; the signal reaches the main one, which waits for them.
        if not signalled.is_set():
            signalled.set()
            os.kill(os.getpid(), signal.SIGINT)
        assert stopped.wait(10)
        return True

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # It may be ignored where tests run.
    try:
        changed = chain.round(0, 0.0, np.zeros((instance.n_slots, 2)), 0, over, stopped.set)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert changed == 0
    np.testing.assert_array_equal(chain.paths.slot, before.slot)


def test_how_far_a_round_is_is_told_and_not_kept(monkeypatch):
    monkeypatch.setattr(solver, "_TELL_EVERY_S", 0.0)
    monkeypatch.setattr(large, "_PART", 8)
    events, instance = [], drifted(n_steps=24)
    result = solve_anneal(instance, windows=True, schedule=Schedule(sweeps=2), on_progress=events.append)
    shares = [
        int(event.detail.split()[-1][:-1])
        for event in events
        if event.detail.startswith("round 2/2, T") and event.detail.endswith("%")
    ]
    assert shares[0] < 30 < 70 < shares[-2]
    assert shares[-1] == 100
    assert [event for event in events if not event.detail.endswith("%")] == list(result.history)


def test_many_sizes_share_a_few_tables():
    rng = np.random.default_rng(0)
    trace = drifting(60, 64, n_lanes=2, read_share=0.2, drift=0.2, seed=0)
    trace = trace._replace(size_bytes=rng.integers(1000, 9000, trace.n_blocks))
    peak = trace.summary()["peak_live_bytes"]
    instance = Instance(trace, Platform.preset("gh200")).with_hbm_bytes(0.2 * peak)
    class_size, class_of = large._classes(trace.size_bytes.astype(float))
    assert len(class_size) == 8
    assert (class_size[class_of] >= trace.size_bytes).all()
    bound, short = kvopt.bound(instance), Schedule(sweeps=4)
    result = kvopt.solve(instance, "anneal", windows=True, bound=bound, schedule=short, restarts=1, refine=False)
    assert not result.placement.violations(instance)
    assert result.objective < kvopt.solve(instance, "belady").objective


def test_three_tiers():
    """Exclusive only: every further number of states takes two minutes of compiling."""
    trace = drifting(60, 64, n_lanes=2, read_share=0.2, drift=0.2, seed=0)
    peak = trace.summary()["peak_live_bytes"]
    platform = Platform.preset("gh200-cxl").with_capacity(0.15 * peak).with_capacity(0.3 * peak, tier=1)
    instance = Instance(trace, platform)
    bound = kvopt.bound(instance)
    result = kvopt.solve(instance, "anneal", windows=True, bound=bound)
    assert not result.placement.violations(instance)
    assert bound.value <= result.objective < kvopt.solve(instance, "belady").objective


def test_windows_are_refused_where_single_steps_count():
    with pytest.raises(MethodError, match="windows: take moves by paths and sums over slots only"):
        kvopt.solve(drifted(objective=worst_step()), "anneal", windows=True)


def test_instances_of_middle_size_get_the_better_of_both():
    instance = drifted(n_lanes=2, n_steps=200)
    low = lower(instance)
    assert 20_000 <= (low.death_slot - low.birth_slot).sum() < 1_000_000
    bound = kvopt.bound(instance)

    def objective_of(windows):
        return kvopt.solve(instance, "anneal", bound=bound, refine=False, windows=windows).objective

    assert objective_of(None) == min(objective_of(False), objective_of(True))
