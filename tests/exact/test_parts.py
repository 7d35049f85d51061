"""Fix and optimise: parts are programs of their own, and solving them never loses what there was."""

from __future__ import annotations

import time

import numpy as np
import pytest

import kvopt
from kvopt import Instance, Placement, Platform, Rules
from kvopt.errors import MethodError
from kvopt.evaluate import evaluate
from kvopt.exact import arrays, parts, refine
from kvopt.exact.layout import Layout
from kvopt.exact.parts import _completed, _groups, _parts, _stretches, restricted
from kvopt.lowering import lower
from kvopt.result import Termination
from kvopt.sources.synthetic import drifting
from tests.anneal.cases import Uneven
from tests.exact import general
from tests.instances import RULES, brute_force


def drifted(rules: Rules | None = None) -> Instance:
    """Some thousand decisions."""
    trace = drifting(24, 16, n_lanes=2, read_share=0.3, drift=0.3, seed=1)
    peak = trace.summary()["peak_live_bytes"]
    return Instance(trace, Platform.preset("gh200"), rules or Rules()).with_hbm_bytes(0.3 * peak)


def program_of(instance: Instance):
    low = lower(instance)
    layout = Layout(low)
    return low, layout, arrays.build(low, layout)


@pytest.mark.parametrize("chunk", range(6))
def test_tiny_instances_end_at_the_optimum(chunk):
    """They are one part."""
    for seed in range(chunk * 9, (chunk + 1) * 9):
        instance = general.instance(seed)
        optimum, _ = brute_force(instance)
        start = general.random_feasible(instance, np.random.default_rng(seed))
        result = refine(instance, start)
        assert result.objective == pytest.approx(optimum, rel=1e-9, abs=1e-12), f"seed {seed}"
        assert not result.placement.violations(instance)


@pytest.mark.parametrize("rules", RULES[:8], ids=str)
def test_a_part_costs_what_the_whole_does_and_its_solutions_fit_in(rules):
    instance = drifted(rules)
    low, layout, program = program_of(instance)
    start = kvopt.solve(instance, "belady").placement
    best = _completed(instance, layout, program, start)
    whole = program.cost @ best + program.offset
    for free in _parts(layout, low.n_slots, 300, np.random.default_rng(0)):
        keep = np.concatenate([free, np.ones(len(best) - len(free), bool)])
        part = restricted(program, keep, best)
        assert part.cost @ best[keep] + part.offset == pytest.approx(whole, rel=1e-12)
        activity = part.matrix @ best[keep]
        slack = 1e-9 * (1 + np.abs(activity))
        assert (activity <= part.row_upper + slack).all()
        assert (activity >= part.row_lower - slack).all()


def test_parts_cover_everything():
    low, layout, _ = program_of(drifted())
    rng = np.random.default_rng(0)
    stretches = np.sum([free[: layout.n_pairs] for free in _stretches(layout, low.n_slots, 200, rng)], axis=0)
    assert stretches.min() >= 1
    groups = np.sum([free[: layout.n_pairs] for free in _groups(layout, 200, rng)], axis=0)
    assert (groups == 1).all()
    (whole,) = _parts(layout, low.n_slots, layout.n_residency, rng)
    assert whole.all()


@pytest.mark.parametrize("rules", RULES[:8:2], ids=str)
def test_it_improves_and_is_never_below_the_bound(rules):
    instance = drifted(rules)
    start = kvopt.solve(instance, "lru")
    result = refine(instance, start.placement)
    assert kvopt.bound(instance).value * (1 - 1e-9) <= result.objective < start.objective
    assert not result.placement.violations(instance)
    assert result.objective == evaluate(instance, result.placement).objective
    assert result.termination is Termination.FINISHED
    assert result.details["improved"] >= 1


def test_with_a_time_limit_the_whole_is_solved_beside_its_parts(monkeypatch):
    """Parts of nothing improve nothing: what is found is the whole's."""
    monkeypatch.setattr(parts, "_parts", lambda layout, n_slots, size, rng: iter(()))
    for seed in range(12):
        instance = general.instance(seed)
        start = general.random_feasible(instance, np.random.default_rng(seed))
        result = refine(instance, start, time_limit_s=60.0)
        assert result.objective == pytest.approx(brute_force(instance)[0], rel=1e-9, abs=1e-12), f"seed {seed}"
        assert result.termination is Termination.FINISHED
        assert result.details["parts"] == 0


def test_a_solved_whole_ends_the_parts(monkeypatch):
    solve_part, begun = parts._solved, []

    def slow(program, free, best, watch, *args):
        begun.append(None)
        for _ in range(6_000):  # Long enough for anything but a whole that never ends.
            if watch.enough:
                break
            time.sleep(0.01)
        return solve_part(program, free, best, watch, *args)

    instance = general.instance(3)
    monkeypatch.setattr(parts, "_solved", slow)
    monkeypatch.setattr(parts, "_FIRST", 1)
    result = refine(instance, general.random_feasible(instance, np.random.default_rng(3)), time_limit_s=60.0)
    assert result.termination is Termination.FINISHED
    assert result.objective == pytest.approx(brute_force(instance)[0], rel=1e-9, abs=1e-12)
    assert len(begun) <= 1


def test_what_goes_wrong_beside_is_told(monkeypatch):
    def broken(*args, **kwargs):
        raise OSError("out of luck")

    instance = general.instance(3)
    start = general.random_feasible(instance, np.random.default_rng(3))
    monkeypatch.setattr(parts, "_solved", lambda *args: None)
    monkeypatch.setattr("kvopt.exact.highs.minimise", broken)
    with pytest.raises(OSError, match="out of luck"):
        refine(instance, start, time_limit_s=5.0)


def test_what_meets_the_bound_is_left_alone():
    instance = drifted()
    start = kvopt.solve(instance, "lru")
    result = refine(instance, start.placement, bound=start.objective)
    assert result.details["parts"] == 0
    assert result.placement == start.placement


def test_without_time_and_at_ctrl_c_the_start_is_returned():
    instance = drifted()
    start = kvopt.solve(instance, "lru")

    def interrupt(event):
        raise KeyboardInterrupt

    for options, why in (
        ({"time_limit_s": 0.0}, Termination.TIME_LIMIT),
        ({"on_progress": interrupt}, Termination.INTERRUPTED),
    ):
        result = refine(instance, start.placement, **options)
        assert result.termination is why
        assert result.objective <= start.objective


def test_annealing_ends_with_it_where_the_model_is_small():
    instance = drifted()
    bound = kvopt.bound(instance)
    plain = kvopt.solve(instance, "anneal", bound=bound, refine=False)
    refined = kvopt.solve(instance, "anneal", bound=bound)
    assert refined.objective <= plain.objective
    assert "parts" in refined.details
    assert "parts" not in plain.details
    assert refined.method == "anneal"
    times = [event.elapsed_s for event in refined.history]
    assert times == sorted(times)


def test_ctrl_c_between_two_parts_keeps_the_best_so_far(monkeypatch):
    instance = drifted()
    start, solved = kvopt.solve(instance, "lru"), []
    solve_part = parts._solved

    def interrupted(*args):
        solved.append(None)
        if len(solved) == 3:
            raise KeyboardInterrupt
        return solve_part(*args)

    monkeypatch.setattr(parts, "_solved", interrupted)
    result = refine(instance, start.placement)
    assert result.termination is Termination.INTERRUPTED
    assert result.details["parts"] == 2
    assert result.objective <= start.objective


def test_an_infeasible_start_is_refused():
    instance = drifted()
    n = instance.trace.n_blocks
    everything = Placement.from_intervals(n, np.arange(n), instance.birth_slot, instance.death_slot, np.zeros(n, int))
    with pytest.raises(MethodError, match="start: is infeasible"):
        refine(instance, everything)


def test_functions_of_the_loads_are_refused():
    own = drifted().with_objective(Uneven())
    with pytest.raises(MethodError, match="exact of objective"):
        refine(own, Placement.backing(own))
    with pytest.raises(MethodError, match="refine: takes no function of the loads"):
        kvopt.solve(drifted().with_objective(Uneven()), "anneal", refine=True)
