"""The annealer's state against the evaluator, which shares no code with it."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt.anneal.state import (
    add_block,
    excess_bytes,
    make_problem,
    make_state,
    refresh,
    slot_time,
    to_placement,
    total_time,
)
from kvopt.evaluate import evaluate
from kvopt.lowering import lower
from kvopt.placement import Placement
from tests.instances import random_placement, tiny_instance


@pytest.mark.parametrize("seed", range(80))
def test_loads_time_and_occupancy_equal_the_evaluators(seed):
    rng = np.random.default_rng(seed)
    instance = tiny_instance(rng)
    placement = random_placement(instance, rng)
    problem = make_problem(lower(instance))
    state = make_state(problem, placement)
    judged = evaluate(instance, placement)
    rates = instance.platform.bandwidth_bytes_per_s[:, None]
    np.testing.assert_allclose(state.load.T, judged.load_bytes / rates, rtol=1e-12, atol=1e-25)
    assert total_time(problem, state) == pytest.approx(judged.latency_s, rel=1e-12)
    np.testing.assert_allclose(state.held, judged.fast_bytes)
    assert (excess_bytes(problem, state) == 0) == (not placement.violations(instance))
    assert to_placement(problem, state.z) == placement


@pytest.mark.parametrize("seed", range(20))
def test_taking_a_block_out_and_putting_it_back_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    instance = tiny_instance(rng)
    problem = make_problem(lower(instance))
    state = make_state(problem, random_placement(instance, rng))
    load, held = state.load.copy(), state.held.copy()
    for i in range(instance.trace.n_blocks):
        add_block(problem, state, i, -1.0)
        add_block(problem, state, i, 1.0)
    np.testing.assert_allclose(state.load, load, atol=1e-12 * load.max())
    np.testing.assert_allclose(state.held, held, atol=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_caches_hold_the_exact_change_of_the_maximum(seed):
    rng = np.random.default_rng(seed)
    low = lower(tiny_instance(rng))
    problem = make_problem(low)

    state = make_state(problem, Placement(np.zeros(low.n_blocks + 1), [], []))
    for t in range(low.n_slots):
        refresh(problem, state, t)
        for k, size in enumerate(problem.class_size):
            for cache, (z, after) in ((state.up, (1, 0)), (state.down, (0, 1))):
                moved = state.load[t] + size * low.op_s_per_byte[0, z, after]
                assert cache[k, t] == pytest.approx(moved.max() - slot_time(state.load, t), rel=1e-12, abs=1e-30)
