"""The annealer as a whole: feasible, never below the optimum, nearly always at it, reproducible."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import kvopt
from kvopt import objective
from kvopt.anneal import Schedule, solve_anneal, solver
from kvopt.bounds import dual_bound
from kvopt.errors import MethodError
from kvopt.result import SolutionStatus, Termination
from kvopt.sources.synthetic import drifting
from tests.anneal.cases import OBJECTIVES, drawn
from tests.instances import brute_force, tiny_instance

_SEEDS = 80


def test_reaches_the_optimum_of_nearly_all_tiny_instances_and_never_goes_below():
    reached = 0
    for seed in range(_SEEDS):
        instance = tiny_instance(np.random.default_rng(seed))
        optimum, _ = brute_force(instance)
        bound = dual_bound(instance, tolerance=1e-3)
        assert bound.value_s <= optimum * (1 + 1e-12), f"seed {seed}"
        result = solve_anneal(instance, seed=seed, multipliers=bound.certificate)
        assert result.objective >= optimum * (1 - 1e-12), f"seed {seed}"
        reached += result.objective <= optimum * (1 + 1e-9)
    assert reached >= 0.95 * _SEEDS


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "function"])
def test_reaches_the_optimum_of_nearly_all_tiny_instances_under_any_rules(name):
    """From nothing: without multipliers. All of each objective, when this was written."""
    reached, seeds = 0, 10
    for seed in range(seeds):
        instance = drawn(seed, (name,))
        optimum, _ = brute_force(instance)
        result = solve_anneal(instance, seed=seed)
        assert result.objective >= optimum * (1 - 1e-9) - 1e-12, f"seed {seed}"
        reached += result.objective <= optimum * (1 + 1e-9) + 1e-12
    assert reached >= 0.95 * seeds


@pytest.mark.parametrize("seed", range(7))
def test_a_function_of_the_loads_is_annealed_and_ends_no_worse_than_its_start(seed):
    instance = drawn(seed, ("function",))
    start = solve_anneal(instance.with_objective(objective.latency())).placement
    found = solve_anneal(instance, seed=seed, start=start, restarts=2, schedule=Schedule(sweeps=10))
    assert found.objective <= kvopt.evaluate(instance, start).objective
    assert not found.placement.violations(instance)
    again = solve_anneal(instance, seed=seed, start=start, restarts=2, schedule=Schedule(sweeps=10))
    assert found.placement == again.placement


def test_flips_of_a_function_of_the_loads_are_refused():
    with pytest.raises(MethodError, match="'flip' does not take a function"):
        solve_anneal(drawn(0, ("function",)), move="flip")


@pytest.fixture(scope="module")
def drifted() -> kvopt.Instance:
    trace = drifting(150, 40, n_lanes=2, read_share=0.3, drift=0.3, seed=3)
    share = 0.25 * trace.summary()["peak_live_bytes"]
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(share)


def test_equal_seeds_give_equal_placements_on_any_number_of_threads(drifted):
    found = [solve_anneal(drifted, seed=4, schedule=Schedule(sweeps=5), threads=n).placement for n in (1, 2)]
    assert found[0] == found[1]


@pytest.mark.parametrize("make", [objective.worst_step, lambda: objective.cvar(0.9)])
def test_the_longest_steps_get_shorter_than_the_least_decode_time_leaves_them(drifted, make):
    """A second of all other steps costs nothing, and chains find their way all the same."""
    fastest = solve_anneal(drifted, seed=1, schedule=Schedule(sweeps=10)).placement
    instance = drifted.with_objective(make())
    bound = kvopt.bound(instance)
    found = solve_anneal(instance, seed=1, multipliers=bound.certificate, restarts=1)
    assert bound.value <= found.objective < kvopt.evaluate(instance, fastest).objective
    again = solve_anneal(instance, seed=1, start=fastest, schedule=Schedule(sweeps=2))
    assert again.objective <= kvopt.evaluate(instance, fastest).objective


def test_fewer_steps_are_late_than_the_least_decode_time_leaves(drifted):
    fastest = solve_anneal(drifted, seed=1, schedule=Schedule(sweeps=10))
    deadline_s = float(np.quantile(fastest.evaluation.step_s, 0.3))
    found = kvopt.solve(drifted, "anneal", objective=objective.late_steps(deadline_s))
    assert found.objective < 0.9 * np.count_nonzero(fastest.evaluation.step_s > deadline_s)


def test_never_worse_than_a_feasible_start(drifted):
    good = solve_anneal(drifted, seed=1, schedule=Schedule(sweeps=10))
    hot = Schedule(sweeps=1, first=10.0, last=10.0)
    again = solve_anneal(drifted, seed=2, start=good.placement, schedule=hot)
    assert again.objective <= good.objective * (1 + 1e-12)


def test_samples_of_the_dual_beat_a_start_from_nothing(drifted):
    bound = dual_bound(drifted)
    sampled = solve_anneal(drifted, multipliers=bound.certificate, bound_s=bound.value_s, restarts=1)
    assert bound.value_s <= sampled.objective <= 1.05 * bound.value_s
    assert sampled.objective <= solve_anneal(drifted, restarts=1).objective * 1.01


def test_single_flips_improve_but_find_less_than_whole_paths_from_the_dual(drifted):
    flips = solve_anneal(drifted, move="flip", schedule=Schedule(sweeps=20))
    assert flips.objective < kvopt.evaluate(drifted, kvopt.Placement.backing(drifted)).latency_s
    paths = solve_anneal(drifted, multipliers=dual_bound(drifted).certificate, schedule=Schedule(sweeps=20))
    assert paths.objective < flips.objective


def test_a_time_limit_leaves_a_feasible_answer(drifted):
    result = solve_anneal(drifted, time_limit_s=1e-6)
    assert result.termination is Termination.TIME_LIMIT
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert not result.placement.violations(drifted)


def test_what_annealing_leaves_of_the_time_goes_to_a_bound_that_was_cut(drifted, monkeypatch):
    monkeypatch.setattr(sys.modules["kvopt.solve"], "_BOUND_SHARE", 1e-6)  # kvopt.solve is the function
    events = []
    found = kvopt.solve(drifted, "anneal", time_limit=60.0, restarts=1, refine=False, on_progress=events.append)
    cut = kvopt.bound(drifted, time_limit=60e-6)
    assert cut.termination is Termination.TIME_LIMIT
    assert found.bound.value > cut.value
    assert found.bound.value == pytest.approx(kvopt.bound(drifted).value, rel=1e-3)
    assert found.gap >= 0
    assert [event.elapsed_s for event in events] == sorted(event.elapsed_s for event in events)


def test_progress_never_rises(drifted):
    events = []
    result = solve_anneal(drifted, restarts=1, on_progress=events.append)
    best = [event.objective for event in events if event.objective is not None]
    assert best == sorted(best, reverse=True)
    assert best[-1] == pytest.approx(result.objective, rel=1e-9)


def test_it_is_told_that_pairs_of_blocks_are_descended(monkeypatch):
    monkeypatch.setattr(solver, "_TELL_EVERY_S", 0.0)
    events = []
    result = solve_anneal(tiny_instance(np.random.default_rng(1)), on_progress=events.append)
    told = [event for event in events if event.detail.endswith("descending pairs of blocks")]
    assert told
    assert not set(told) & set(result.history)


def test_bad_schedules_are_refused():
    with pytest.raises(MethodError, match="temperature"):
        Schedule(first=0.1, last=0.2)
    with pytest.raises(MethodError, match="sweeps"):
        Schedule(sweeps=-1)


def test_unknown_moves_are_refused(drifted):
    with pytest.raises(MethodError, match="move: 'jump' is not known"):
        solve_anneal(drifted, move="jump")


def test_an_interrupt_out_of_the_callback_ends_all_chains():
    """The callback runs in the chains' threads, where Python would not deliver a Ctrl-C."""
    instance = tiny_instance(np.random.default_rng(3))

    def interrupt(_event):
        raise KeyboardInterrupt

    result = solve_anneal(instance, on_progress=interrupt)
    assert result.termination is Termination.INTERRUPTED
    assert result.placement is not None
