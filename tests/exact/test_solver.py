"""The exact engine: it finds the optimum, and says truly what it has when it was stopped."""

from __future__ import annotations

import math
import signal
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

import kvopt
from kvopt import objective
from kvopt.errors import MethodError
from kvopt.exact import Backend, LpSolver, arrays, highs, lp_bound, solve_exact
from kvopt.exact.layout import Layout
from kvopt.exact.solver import PYOMO_COLUMNS
from kvopt.exact.tracker import Tracker
from kvopt.lowering import lower
from kvopt.result import Role, SolutionStatus, Termination
from tests.exact import general
from tests.instances import brute_force, instances, tiny_instance

CHUNKS, PER_CHUNK = 20, 20


@pytest.mark.parametrize("backend", [Backend.ARRAYS, Backend.PYOMO])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_finds_the_optimum(chunk, backend):
    for seed in range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK):
        instance = tiny_instance(np.random.default_rng(seed))
        best, _ = brute_force(instance)
        result = solve_exact(instance, backend=backend)
        assert result.termination is Termination.OPTIMAL, f"seed {seed}"
        assert result.objective == pytest.approx(best, rel=1e-9, abs=0), f"seed {seed}"
        assert result.bound.value_s == pytest.approx(best, rel=1e-7, abs=0), f"seed {seed}"
        assert kvopt.evaluate(instance, result.placement).latency_s == result.objective, f"seed {seed}"


@pytest.mark.parametrize("chunk", range(15))
def test_finds_the_optimum_under_every_rule_and_objective(chunk):
    """Also when it is given an optimum to start from, which is then what HiGHS has."""
    for seed in range(chunk * 9, (chunk + 1) * 9):
        instance = general.instance(seed)
        best, placement = brute_force(instance)
        result = solve_exact(instance, backend=Backend.ARRAYS, start=placement if seed % 2 else None)
        assert result.termination is Termination.OPTIMAL, f"seed {seed}"
        assert result.objective == pytest.approx(best, rel=1e-9, abs=1e-12), f"seed {seed}"
        assert result.bound.value == pytest.approx(best, rel=1e-7, abs=1e-12), f"seed {seed}"
        assert lp_bound(instance).value <= best * (1 + 1e-9), f"seed {seed}"


@pytest.mark.parametrize("chunk", range(15))
def test_highs_takes_a_start_under_every_rule_and_objective(chunk):
    """Content with any gap, it stops at what it was given: a start is completed without breaking a row."""
    for seed in range(chunk * 9, (chunk + 1) * 9):
        instance = general.instance(seed)
        best, placement = brute_force(instance)
        result = solve_exact(instance, backend=Backend.ARRAYS, start=placement, gap=math.inf)
        assert result.objective == pytest.approx(best, rel=1e-9, abs=1e-12), f"seed {seed}"
        low = lower(instance)
        layout = Layout(low)
        program = arrays.build(low, layout)
        values = program.complete(layout.decisions(placement, kvopt.evaluate(instance, placement).read_bytes))
        outcome = highs.minimise(
            program, Tracker(instance, layout, program.unit, 0.0, None), gap=math.inf, start=values
        )
        assert program.value(outcome.values) == pytest.approx(best, rel=1e-7, abs=1e-12), f"seed {seed}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(instances())
def test_finds_the_optimum_of_drawn_instances(instance):
    result = solve_exact(instance, backend=Backend.ARRAYS)
    assert result.objective == pytest.approx(brute_force(instance)[0], rel=1e-9, abs=0)


@pytest.mark.parametrize("solver", list(LpSolver))
def test_relaxation_bounds_the_optimum(solver):
    for seed in range(50):
        instance = tiny_instance(np.random.default_rng(seed))
        bound = lp_bound(instance, solver=solver)
        assert bound.value_s <= brute_force(instance)[0] * (1 + 1e-9), f"seed {seed}"
        assert bound.role is Role.CLAIMED
        assert bound.source == "HiGHS LP"


def test_relaxation_by_either_solver(hard):
    assert lp_bound(hard, solver="ipm").value_s == pytest.approx(lp_bound(hard, solver="simplex").value_s, rel=1e-9)


def test_relaxation_stopped_early_bounds_nothing(hard):
    assert lp_bound(hard, time_limit_s=1e-9) is None


@pytest.fixture(scope="module")
def hard() -> kvopt.Instance:
    """Channels in balance, so that the relaxation is fractional and HiGHS needs minutes for a proof."""
    rng = np.random.default_rng(0)
    n_blocks, n_steps = 200, 15
    write_step = np.where(rng.random(n_blocks) < 0.5, -1, rng.integers(0, n_steps, n_blocks))
    read = (rng.random((n_blocks, n_steps)) < 0.2) & (np.arange(n_steps) >= write_step[:, None])
    block, step = np.nonzero(read)
    trace = kvopt.Trace.from_accesses(
        block,
        step,
        n_steps=n_steps,
        n_lanes=1,
        lane=np.zeros(n_blocks, int),
        size_bytes=rng.integers(500_000, 1_500_000, n_blocks),
        write_step=write_step,
    )
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200"))
    return instance.with_hbm_bytes(0.6 * instance.live_bytes.max())


@pytest.fixture(scope="module")
def start(hard) -> kvopt.Placement:
    return kvopt.solve(hard, "static-oldest").placement


@pytest.mark.parametrize("backend", [Backend.ARRAYS, Backend.PYOMO])
def test_no_time_leaves_the_start(hard, start, backend):
    result = solve_exact(hard, time_limit_s=1e-9, start=start, backend=backend)
    assert result.termination is Termination.TIME_LIMIT
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert result.objective <= kvopt.evaluate(hard, start).latency_s
    assert result.history[0].objective == kvopt.evaluate(hard, start).latency_s


def test_a_relaxation_far_below_its_unit_is_no_higher_than_the_optimum():
    """Traffic is counted in bytes, and nothing of it need be paid: what is left are nanoseconds."""
    rates = {"bus": 3e9, "link": 1.5e9, "out": 1e9, "bus 1": 1.25e9, "bus 2": 1.5e9}
    tiers = (
        kvopt.Tier("near", 12.0, {"bus": 1.0}, {"bus": 1.0}, {}),
        kvopt.Tier("middle", 8.0, {"bus 1": 1.0, "link": 1.0}, {"bus 1": 2.0, "out": 1.0}),
        kvopt.Tier("far", np.inf, {"bus 2": 1.0, "link": 1.0}, {"bus 2": 2.0, "out": 1.0}),
    )
    platform = kvopt.Platform("apart", tiers, tuple(kvopt.Channel(*rate) for rate in rates.items()))
    trace = kvopt.Trace(6, 1, [0, 0, 0], [4, 6, 2], [-1, 0, 5], [6, 6, 6], [0, 1, 3, 3], [0, 0, 1], [4, 1, 5])
    aim = 0.25 * objective.traffic("out") + 0.5 * objective.worst_step()
    instance = kvopt.Instance(trace, platform, {"moves": "read-through"}, objective=aim)
    optimum = kvopt.solve(instance, "exact")
    assert optimum.termination is kvopt.Termination.OPTIMAL
    assert lp_bound(instance).value <= optimum.objective * (1 + 1e-6)


def test_highs_itself_takes_the_start(hard):
    """Content with any gap, HiGHS stops at its first incumbent: a good start where it is given one."""
    good = solve_exact(hard, gap=0.02)
    own = solve_exact(hard, gap=math.inf)
    assert own.termination is Termination.FINISHED
    assert own.objective > good.objective
    layout = Layout(lower(hard))
    program = arrays.build(lower(hard), layout)
    tracker = Tracker(hard, layout, program.unit, 0.0, None)
    values = program.complete(layout.decisions(good.placement))
    outcome = highs.minimise(program, tracker, gap=math.inf, start=values)
    assert program.cost @ outcome.values <= program.cost @ values * (1 + 1e-9)
    warm = solve_exact(hard, gap=math.inf, start=good.placement)
    assert warm.details["gap"] < own.details["gap"]


def test_the_optimum_as_start_is_kept():
    for seed in range(20):
        instance = tiny_instance(np.random.default_rng(seed))
        best, placement = brute_force(instance)
        result = solve_exact(instance, start=placement, backend=Backend.ARRAYS)
        assert result.termination is Termination.OPTIMAL
        assert result.objective == pytest.approx(best, rel=1e-12), f"seed {seed}"


@pytest.mark.parametrize("backend", [Backend.ARRAYS, Backend.PYOMO])
def test_no_time_and_no_start_leave_what_needs_no_search(hard, backend):
    result = solve_exact(hard, time_limit_s=1e-9, backend=backend)
    assert result.termination is Termination.TIME_LIMIT
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert result.placement == kvopt.Placement.backing(hard)
    assert result.history[0].objective == result.objective
    assert (result.bound, result.gap) == (None, None)


def test_time_limit_says_what_is_in_hand(hard, start):
    result = solve_exact(hard, time_limit_s=2.0, start=start)
    assert result.termination is Termination.TIME_LIMIT
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert not result.placement.violations(hard)
    assert result.bound.role is Role.CLAIMED
    assert result.bound.value_s < result.objective
    assert result.bound.value_s >= lp_bound(hard).value_s * (1 - 1e-9)


def test_progress_is_monotone(hard, start):
    events = []
    result = solve_exact(hard, time_limit_s=2.0, start=start, on_progress=events.append)
    assert tuple(events) == result.history
    objectives = [e.objective for e in events]
    bounds = [e.bound for e in events if e.bound is not None]
    assert objectives == sorted(objectives, reverse=True)
    assert bounds == sorted(bounds)
    assert bounds
    assert [e.elapsed_s for e in events] == sorted(e.elapsed_s for e in events)
    assert (events[-1].objective, events[-1].bound) == (result.objective, result.bound.value_s)


def raise_interrupt(_) -> None:
    raise KeyboardInterrupt


def send_interrupt():
    """A listener that presses Ctrl-C at the first event; a second time, long after, is another matter."""
    events = []

    def listen(event) -> None:
        events.append(event)
        if len(events) == 1:
            signal.raise_signal(signal.SIGINT)

    return listen


@pytest.mark.parametrize("listener", [lambda: raise_interrupt, send_interrupt])
@pytest.mark.parametrize("with_start", [True, False])
def test_interrupt_returns_the_best_so_far(hard, start, listener, with_start):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # It may be ignored where tests run.
    try:
        result = solve_exact(hard, start=start if with_start else None, on_progress=listener(), time_limit_s=120)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert result.termination is Termination.INTERRUPTED
    assert result.solution_status is SolutionStatus.FEASIBLE


def test_an_error_of_the_listener_surfaces(hard):
    def fail(_):
        raise LookupError("no such widget")

    with pytest.raises(LookupError, match="no such widget"):
        solve_exact(hard, on_progress=fail)


def test_a_gap_is_no_proof(hard, start):
    result = solve_exact(hard, gap=0.05, start=start)
    assert result.termination is Termination.FINISHED
    assert result.solution_status is SolutionStatus.FEASIBLE
    assert 0 < result.gap <= 0.05 / (1 - 0.05)  # HiGHS's gap is a share of the objective, kvopt's of the bound.


def no_placement() -> kvopt.Instance:
    """Three blocks of 2 TB in two tiers of 3: enough bytes, but one block too many.

    Without a common divisor the sizes are too much for :mod:`kvopt.feasibility`, which refuses smaller ones.
    """
    size = 2 * 10**12 + np.array([1, 3, 7])
    trace = kvopt.Trace.from_accesses(
        [0], [0], n_steps=2, n_lanes=1, lane=[0, 0, 0], size_bytes=size, write_step=[-1, -1, -1]
    )
    return kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(3.1e12).with_capacity(3.1e12, tier=1))


@pytest.mark.parametrize("backend", [Backend.ARRAYS, Backend.PYOMO])
def test_infeasible(backend):
    result = solve_exact(no_placement(), backend=backend)
    assert result.termination is Termination.INFEASIBLE
    assert result.solution_status is SolutionStatus.NONE
    assert result.bound is None


@pytest.mark.parametrize("backend", [Backend.ARRAYS, Backend.PYOMO])
def test_nothing_read_takes_no_time(backend):
    trace = kvopt.Trace.from_accesses([], [], n_steps=2, n_lanes=1, lane=[0], size_bytes=[8], write_step=[-1])
    result = solve_exact(kvopt.Instance(trace, kvopt.Platform.preset("gh200")), backend=backend)
    assert result.termination is Termination.OPTIMAL
    assert result.objective == 0.0
    assert result.bound.value_s == 0.0


def test_equal_seeds_give_equal_placements():
    instance = tiny_instance(np.random.default_rng(7))
    assert solve_exact(instance, seed=3).placement == solve_exact(instance, seed=3).placement


def test_auto_takes_pyomo_for_small_models_only(hard):
    assert solve_exact(tiny_instance(np.random.default_rng(0))).details["backend"] == "pyomo"
    large = solve_exact(hard, time_limit_s=1e-9).details
    assert large["columns"] > PYOMO_COLUMNS
    assert large["backend"] == "arrays"


@pytest.mark.parametrize(
    ("options", "field"),
    [({"backend": "gurobi"}, "backend"), ({"gap": -0.1}, "gap"), ({"gap": math.nan}, "gap")],
)
def test_refuses(options, field):
    with pytest.raises(MethodError, match=field):
        solve_exact(tiny_instance(np.random.default_rng(0)), **options)


def test_refuses_an_infeasible_start(hard):
    life = np.arange(hard.trace.n_blocks)
    everything = kvopt.Placement.from_intervals(len(life), life, hard.birth_slot, hard.death_slot)
    with pytest.raises(MethodError, match="start: is infeasible"):
        solve_exact(hard, start=everything)


def test_refuses_a_start_that_is_not_where_the_blocks_are_given_to_begin(hard):
    backing = kvopt.Placement.backing(hard)
    begun = hard.with_initial(kvopt.solve(hard, "static-oldest").placement)
    with pytest.raises(MethodError, match="start: is infeasible: slot 0: tier 'lpddr' is not where block"):
        solve_exact(begun, start=backing)


@pytest.mark.parametrize("backend", [Backend.ARRAYS, Backend.PYOMO])
def test_a_given_start_that_leaves_no_room_for_a_new_block_is_infeasible(backend):
    trace = kvopt.Trace.from_accesses(
        [0, 1], [0, 1], n_steps=2, n_lanes=1, lane=[0, 0, 0], size_bytes=[3, 4, 5], write_step=[-1, -1, 0]
    )
    free = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(7.0).with_capacity(6.0, tier=1))
    begun = replace(free, initial=np.array([0, 1, 0]))
    assert solve_exact(free, backend=backend).termination is Termination.OPTIMAL
    assert solve_exact(begun, backend=backend).termination is Termination.INFEASIBLE


def test_relaxation_refuses_an_unknown_solver(hard):
    with pytest.raises(MethodError, match="simplex, ipm"):
        lp_bound(hard, solver="barrier")
