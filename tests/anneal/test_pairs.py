"""Two blocks' best paths together: against all paths of both, and where one block alone finds none."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

import kvopt
from kvopt import Instance, Placement, Platform, Trace
from kvopt.anneal import solve_anneal, solver
from kvopt.anneal.moves import improve_sweep
from kvopt.anneal.pairs import descend_pairs, improve_pairs, sweep_s
from kvopt.anneal.state import excess_bytes, make_problem, make_state, rebuild, to_placement, total_cost
from kvopt.lowering import lower
from kvopt.trellis.rng import stream
from tests.anneal.cases import SUMS, chain, drawn
from tests.instances import brute_force

_MOST_PATHS = 800


def pair_of(problem) -> tuple[int, int] | None:
    """The two blocks with the most paths that can still be tried one by one."""
    life = problem.death - problem.birth
    ways = {(i, j): len(problem.states) ** int(life[i] + life[j]) for i, j in combinations(range(len(life)), 2)}
    few = {pair: n for pair, n in ways.items() if n <= _MOST_PATHS}
    return max(few, key=few.get) if few else None


def least(instance, problem, state, pair) -> float:
    """Objective of the whole instance with the best of all paths of two blocks, all others as they are."""
    cells = [slice(problem.cell[i] + problem.birth[i], problem.cell[i] + problem.death[i]) for i in pair]
    life = [int(problem.death[i] - problem.birth[i]) for i in pair]
    kept, found = state.z.copy(), np.inf
    for path in product(range(len(problem.states)), repeat=sum(life)):
        kept[cells[0]], kept[cells[1]] = path[: life[0]], path[life[0] :]
        placement = to_placement(problem, kept)
        if not placement.violations(instance):
            found = min(found, kvopt.evaluate(instance, placement).objective)
    return found


@pytest.mark.parametrize("seed", range(70))
def test_two_blocks_get_their_best_paths(seed):
    pair, tried = None, seed
    while pair is None:
        instance = drawn(tried, SUMS)
        problem, state = chain(instance, seed)
        pair, tried = pair_of(problem), tried + 70
    wanted, before = least(instance, problem, state, pair), total_cost(problem, state)
    moved = np.zeros(len(problem.size), bool)
    improve_pairs(problem, state, np.array([pair]), moved)
    assert total_cost(problem, state) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert np.flatnonzero(moved).tolist() == sorted(pair) or wanted == pytest.approx(before, rel=1e-9, abs=1e-12)
    running = {name: getattr(state, name).copy() for name in ("load", "held", "either", "price", "idle")}
    rebuild(problem, state)
    for name, array in running.items():
        tolerance = 1e-9 * max(1, np.abs(array).max(initial=0))
        np.testing.assert_allclose(array, getattr(state, name), atol=tolerance, err_msg=name)
    # Of paths that cost the same, others may be found; nothing is gained by them.
    improve_pairs(problem, state, np.array([pair[::-1]]), moved)
    assert total_cost(problem, state) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("seed", range(40))
def test_sweeps_over_all_pairs_never_rise_nor_pass_the_optimum(seed):
    instance = drawn(300 + seed, SUMS)
    problem, state = chain(instance, seed)
    before = total_cost(problem, state)
    descend_pairs(problem, state, stream(seed, 0), lambda: False)
    after = total_cost(problem, state)
    assert excess_bytes(problem, state) == 0.0
    assert not to_placement(problem, state.z).violations(instance)
    assert brute_force(instance)[0] * (1 - 1e-9) - 1e-12 <= after <= before * (1 + 1e-9)


def in_each_others_way() -> Instance:
    """HBM for one of two blocks, of which the second is read more often."""
    read = np.array([[1, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1]], bool)
    trace = Trace.from_accesses(
        *np.nonzero(read),
        n_steps=6,
        n_lanes=1,
        lane=np.zeros(2),
        size_bytes=np.full(2, 4096),
        write_step=np.full(2, -1),
    )
    return Instance(trace, Platform.preset("gh200")).with_hbm_bytes(4096)


def test_where_one_must_leave_for_the_other_only_both_together_find_it():
    instance = in_each_others_way()
    problem = make_problem(lower(instance))
    state = make_state(problem, Placement.from_states(np.array([[0] * 6, [1] * 6]), 2))
    before = total_cost(problem, state)
    assert improve_sweep(problem, state, np.arange(2), np.zeros((6, 2))) == 0
    descend_pairs(problem, state, stream(0, 0), lambda: False)
    assert total_cost(problem, state) == pytest.approx(brute_force(instance)[0], rel=1e-12, abs=0)
    assert total_cost(problem, state) < before


def test_what_stops_at_once_changes_nothing():
    problem = make_problem(lower(in_each_others_way()))
    state = make_state(problem, Placement.from_states(np.array([[0] * 6, [1] * 6]), 2))
    kept = state.z.copy()
    descend_pairs(problem, state, stream(0, 0), lambda: True)
    np.testing.assert_array_equal(state.z, kept)


def test_a_sweep_takes_longer_the_more_there_is_to_try():
    problem = make_problem(lower(in_each_others_way()))
    assert 0 < sweep_s(problem) < 1e-3
    assert sweep_s(problem._replace(prefilled=np.ones(2, bool), run_ptr=np.zeros(3, np.int64))) == 0
    assert sweep_s(problem._replace(states=(1.0,) * 15)) > 100 * sweep_s(problem)
    assert sweep_s(problem._replace(states=(1.0,) * 31)) == np.inf


def test_annealing_ends_with_pairs_where_they_are_few(monkeypatch):
    instance, events = in_each_others_way(), []
    options = {"restarts": 1, "schedule": kvopt.anneal.Schedule(sweeps=0)}
    start = Placement.from_states(np.array([[0] * 6, [1] * 6]), 2)
    found = solve_anneal(instance, start=start, on_progress=events.append, **options)
    assert found.objective == pytest.approx(brute_force(instance)[0], rel=1e-12, abs=0)
    assert events[-1].detail == "placement 0, pairs of blocks descended"
    monkeypatch.setattr(solver, "_PAIRS_S", 0.0)
    assert solve_anneal(instance, start=start, **options).placement == start


def test_ctrl_c_among_pairs_keeps_the_best():
    def interrupt(event):
        if "pairs" in event.detail:
            raise KeyboardInterrupt

    found = solve_anneal(in_each_others_way(), on_progress=interrupt)
    assert found.termination is kvopt.Termination.INTERRUPTED
    assert not found.placement.violations(in_each_others_way())
