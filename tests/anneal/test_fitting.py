"""Paths made to fit: feasible, and as they were where there was room."""

from __future__ import annotations

import numpy as np
import pytest

import kvopt
from kvopt import Instance, Placement, Platform
from kvopt.anneal import large, solver
from kvopt.anneal.fitting import fitted
from kvopt.anneal.large import Chain
from kvopt.anneal.paths import paths_of, placement_of
from kvopt.anneal.solver import solve_anneal
from kvopt.anneal.state import make_problem, make_state, to_placement
from kvopt.lowering import lower
from kvopt.sources.synthetic import drifting
from tests.anneal.cases import SUMS, drawn
from tests.instances import random_placement


def begun(seed: int):
    """An instance, its problem, and any paths that begin as they must."""
    instance = drawn(700 + seed, SUMS)
    problem = make_problem(lower(instance))
    start = make_state(problem, random_placement(instance, np.random.default_rng(seed)))
    return instance, problem, paths_of(problem, to_placement(problem, start.z))


@pytest.mark.parametrize("seed", range(120))
def test_what_finds_no_room_goes_to_the_backing_tier(seed):
    instance, problem, before = begun(seed)
    after = fitted(problem, before)
    np.testing.assert_array_equal(after.slot, before.slot)
    assert ((after.state == before.state) | (after.state == len(problem.states) - 1)).all()
    violations = placement_of(problem, after).violations(instance)
    if np.isinf(instance.capacity_bytes[-1]):
        assert not violations
    if not placement_of(problem, before).violations(instance):
        np.testing.assert_array_equal(after.state, before.state)
    np.testing.assert_array_equal(fitted(problem, after).state, after.state)


def crowded(n_steps: int = 60) -> Instance:
    """HBM for a third of the prompt."""
    trace = drifting(60, n_steps, n_lanes=2, read_share=0.2, drift=0.2, seed=3)
    return Instance(trace, Platform.preset("gh200")).with_hbm_bytes(40.5 * trace.size_bytes.max())


def with_all_in_hbm(instance: Instance, when: np.ndarray) -> Placement:
    """Every block there, in some slots of its life."""
    slot = np.arange(instance.n_slots)
    alive = (slot >= instance.birth_slot[:, None]) & (slot < instance.death_slot[:, None])
    return Placement.from_states(np.where(alive & when, np.int8(0), np.int8(1)), 2)


def test_slots_are_put_in_order_some_thousands_at_a_time():
    instance = crowded(2100)  # 4,200 slots.
    problem = make_problem(lower(instance))
    before = with_all_in_hbm(instance, np.arange(instance.n_slots) % 90 < 60)
    after = placement_of(problem, fitted(problem, paths_of(problem, before)))
    assert not after.violations(instance)
    held, room = kvopt.evaluate(instance, after).held_bytes[0], instance.capacity_bytes[0]
    # All come at once, and as many as there is room for are let in.
    assert (held[::90] > room - instance.trace.size_bytes.max()).all()


def test_a_sample_is_an_answer_before_any_round_has_ended(monkeypatch):
    instance, events = crowded(), []
    bound = kvopt.bound(instance)
    monkeypatch.setattr(Chain, "round", lambda self, *arguments: 0)
    monkeypatch.setattr(solver, "_PAIRS_S", 0.0)
    options = {"multipliers": bound.certificate, "guides": bound.guides, "windows": True}
    found = solve_anneal(instance, on_progress=events.append, **options)
    assert events[0].detail == "start made to fit"
    assert found.objective == pytest.approx(events[0].objective, rel=1e-12, abs=0)
    assert not found.placement.violations(instance)
    assert found.objective < 0.5 * kvopt.evaluate(instance, Placement.backing(instance)).objective


def test_where_the_backing_tier_would_overflow_there_is_none(monkeypatch):
    monkeypatch.setattr(large, "fitted", lambda problem, paths: paths)
    instance = crowded()
    low = lower(instance)
    problem = make_problem(low)
    full = with_all_in_hbm(instance, np.ones(instance.n_slots, bool))
    chain = Chain(problem, low, paths_of(problem, full), 1)
    assert not chain.feasible
    assert chain.fitted() is None
    empty = Chain(problem, low, paths_of(problem, Placement.backing(instance)), 1)
    assert empty.fitted() == (empty.cost, empty.paths)
