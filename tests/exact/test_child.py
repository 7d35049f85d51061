"""HiGHS in a process of its own: the same answers, and an end when it is wanted."""

from __future__ import annotations

import time

import numpy as np
import pytest

import kvopt
from kvopt.exact import child, lp_bound, solve_exact
from kvopt.result import Termination
from tests.instances import brute_force, tiny_instance


@pytest.fixture
def always(monkeypatch):
    """Every program is large."""
    monkeypatch.setattr(child, "COLUMNS", 0)


def hard(n_blocks: int, n_steps: int) -> kvopt.Instance:
    """Random reads of random sizes, and a fast tier for some of them."""
    rng = np.random.default_rng(0)
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


def test_the_same_answers(always):
    for seed in range(2):
        instance = tiny_instance(np.random.default_rng(seed))
        best = brute_force(instance)[0]
        result = solve_exact(instance, backend="arrays")
        assert result.termination is Termination.OPTIMAL, f"seed {seed}"
        assert result.objective == pytest.approx(best, rel=1e-9), f"seed {seed}"
        assert result.bound.value == pytest.approx(best, rel=1e-7), f"seed {seed}"
        assert lp_bound(instance).value <= best * (1 + 1e-9), f"seed {seed}"


def test_what_is_known_outlives_the_process(always, monkeypatch):
    """An incumbent of HiGHS's own is kept when it is stopped during its work."""
    instance, events = hard(200, 15), []
    begun = kvopt.evaluate(instance, kvopt.Placement.backing(instance)).objective

    def stop_at_the_second(event: kvopt.Progress) -> None:
        events.append(event)
        if event.objective < begun:
            raise KeyboardInterrupt

    result = solve_exact(instance, on_progress=stop_at_the_second, backend="arrays")
    assert result.termination is Termination.INTERRUPTED
    assert result.objective < begun
    assert result.objective == min(event.objective for event in events)


def test_an_end_at_the_limit_in_presolving(monkeypatch):
    """HiGHS takes many times the limit to come up for air; the guard is generous."""
    instance = hard(1000, 30)
    began = time.perf_counter()
    result = solve_exact(instance, time_limit_s=2.0)
    assert result.details["columns"] > child.COLUMNS
    assert result.termination is Termination.TIME_LIMIT
    assert result.placement is not None
    assert time.perf_counter() - began < 15


def test_a_process_that_dies_costs_nothing_that_is_known(always, monkeypatch):
    monkeypatch.setattr(child, "_CODE", "import os; os._exit(3)")
    instance = tiny_instance(np.random.default_rng(0))
    result = solve_exact(instance, backend="arrays")
    assert result.termination is Termination.FINISHED
    assert "ended early" in result.details["highs_status"]
    assert result.placement is not None
    assert result.bound is None


def test_an_error_in_the_process_is_an_error_here(always, monkeypatch):
    monkeypatch.setattr("kvopt.exact.solver.check", lambda *_: None)
    with pytest.raises(ValueError, match="HiGHS takes no mip_rel_gap"):
        solve_exact(tiny_instance(np.random.default_rng(0)), backend="arrays", gap=-1.0)
