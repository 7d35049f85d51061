"""Capacity rows to the byte: they hold exactly when the blocks fit, and relax to what they were."""

from __future__ import annotations

import numpy as np
import pytest

import kvopt
from kvopt.exact import LpSolver, arrays, highs, solve_exact
from kvopt.exact.capacity import with_exact_rows
from kvopt.exact.layout import Layout
from kvopt.exact.program import Program
from kvopt.exact.tracker import Tracker
from kvopt.lowering import lower
from tests.exact import spread
from tests.instances import random_placement


def programs(instance: kvopt.Instance) -> tuple[Layout, Program, Program]:
    """The program as it is built, and with rows of digits throughout."""
    low = lower(instance)
    layout = Layout(low)
    built = arrays.build(low, layout)
    return layout, built, with_exact_rows(built, instance, low, layout, always=True)


@pytest.mark.parametrize("chunk", range(4))
def test_rows_hold_exactly_when_the_bytes_fit(chunk):
    """And no row is broken by less than half a unit: what a tolerance of 1e-9 makes of it does not matter."""
    kept_and_broken = [0, 0]
    for seed in range(chunk * 6, chunk * 6 + 6):
        instance, _ = spread.instance(seed)
        layout, _, program = programs(instance)
        rng = np.random.default_rng(seed)
        rows = slice(layout.capacity_row, layout.capacity_row + _n_capacity_rows(instance, layout))
        for _ in range(30):
            placement = random_placement(instance, rng)
            evaluation = kvopt.evaluate(instance, placement)
            values = program.complete(layout.decisions(placement, evaluation.read_bytes))
            over = (program.matrix @ values - program.row_upper)[rows]
            larger = (values > program.upper + 0.5).any()
            fits = bool((over <= 0.25).all() and not larger)
            assert fits == (not placement.violations(instance)), f"seed {seed}"
            # A block in a tier that is smaller is told by its column's upper bound, by one.
            assert larger or not ((over > 1e-6) & (over < 0.5)).any(), f"seed {seed}"
            kept_and_broken[not fits] += 1
    assert min(kept_and_broken) > 20


def _n_capacity_rows(instance: kvopt.Instance, layout: Layout) -> int:
    low = lower(instance)
    return sum(int((low.live_bytes > low.capacity_bytes[k]).sum()) for k in layout.placed)


def test_entries_stay_small():
    """A billion to one in bytes is no more than a digit to one in the rows."""
    seen = 0
    for seed in range(24):
        instance, _ = spread.instance(seed)
        layout, _, program = programs(instance)
        rows = program.matrix.tocsr()
        first = layout.capacity_row
        for row in range(first, first + _n_capacity_rows(instance, layout)):
            entries = np.abs(rows[[row]].data)
            if len(entries):
                assert entries.min() >= 1 or program.upper[rows[[row]].indices].max() == 0, f"seed {seed}"
                assert entries.max() <= 2**14, f"seed {seed}"
                seen += len(program.carries) > 0
    assert seen > 5


def test_relaxation_is_no_weaker_and_bounds_the_optimum():
    """Carries that need not be whole leave the row as it was, but for capacity that no sum of the blocks can use."""
    for seed in range(24):
        instance, best = spread.instance(seed)
        layout, built, program = programs(instance)
        if instance.trace.size_bytes.max() > 10**5 * instance.trace.size_bytes.min():
            continue  # Too far apart for the rows as they were.
        before, after = (
            highs.minimise_relaxed(p, Tracker(instance, layout, 1.0, 0.0, None), solver=LpSolver.SIMPLEX).bound
            for p in (built, program)
        )
        assert before * (1 - 1e-7) - 1e-9 <= after <= best / program.unit * (1 + 1e-7) + 1e-9, f"seed {seed}"


def test_ordinary_sizes_leave_the_program_alone():
    """Pages of one size, and such as share a large divisor."""
    trace = kvopt.Trace.from_accesses(
        [0, 1, 2],
        [0, 1, 1],
        n_steps=2,
        n_lanes=1,
        lane=[0, 0, 0],
        size_bytes=[2**21, 2**22, 3 * 2**21],
        write_step=[-1, -1, -1],
    )
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(3 * 2**21)
    low = lower(instance)
    layout = Layout(low)
    built = arrays.build(low, layout)
    made = with_exact_rows(built, instance, low, layout)
    assert made.matrix is built.matrix
    assert made.carries == ()


@pytest.mark.parametrize("over", [-1, 0, 1])
@pytest.mark.parametrize("backend", ["arrays", "pyomo"])
def test_a_block_as_large_as_the_tier_to_the_byte(over, backend):
    """The large block fits alone; one byte beside it, or a tier a byte smaller, and it does not."""
    large = 10**11
    trace = kvopt.Trace.from_accesses(
        [0, 0, 1, 1], [0, 1, 0, 1], n_steps=2, n_lanes=1, lane=[0, 0], size_bytes=[large, 1], write_step=[-1, -1]
    )
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(float(large + 1 + over)))
    result = solve_exact(instance, backend=backend)
    assert result.termination.value == "optimal"
    fast, slow = (kvopt.evaluate(instance, _placed(instance, blocks)).objective for blocks in ([0, 1], [0]))
    assert fast < slow * (1 + 1e-9)
    held = result.placement.held_bytes(instance)[0]
    assert (held <= large + 1 + over).all()
    assert (held >= large).all()


def _placed(instance: kvopt.Instance, blocks: list[int]) -> kvopt.Placement:
    return kvopt.Placement.from_intervals(
        instance.trace.n_blocks, blocks, instance.birth_slot[blocks], instance.death_slot[blocks]
    )
