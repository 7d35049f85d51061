"""The two ways to build the exact model give the same program, and the program is the model of placements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

import kvopt
from kvopt.bounds import verify
from kvopt.exact import arrays, column_count, lp_bound, pyomo_driver
from kvopt.exact.layout import Layout
from kvopt.exact.program import Program
from kvopt.lowering import lower
from kvopt.result import Certificate
from tests.exact import general
from tests.instances import random_placement, tiny_instance

CHUNKS, PER_CHUNK = 12, 25


def seeds(chunk: int) -> range:
    return range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK)


def by_arrays(instance: kvopt.Instance) -> tuple[Layout, Program]:
    low = lower(instance)
    layout = Layout(low)
    return layout, arrays.build(low, layout)


def assert_same(one: Program, other: Program, what: object) -> None:
    assert one.matrix.shape == other.matrix.shape, what
    assert one.matrix.nnz == other.matrix.nnz, what
    np.testing.assert_array_equal(one.matrix.indptr, other.matrix.indptr, err_msg=f"{what}")
    np.testing.assert_array_equal(one.matrix.indices, other.matrix.indices, err_msg=f"{what}")
    np.testing.assert_allclose(one.matrix.data, other.matrix.data, rtol=1e-12, err_msg=f"{what}")
    for field in ("cost", "lower", "upper", "row_lower", "row_upper", "integer", "offset"):
        mine, theirs = getattr(one, field), getattr(other, field)
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-14, err_msg=f"{what}: {field}")
    for field in ("slot_column", "slot_row", "n_slots", "n_channels"):
        assert getattr(one, field) == getattr(other, field), what
    for field in ("unit", "time_unit_s"):
        assert getattr(one, field) == pytest.approx(getattr(other, field), rel=1e-12), what


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_same_program(chunk):
    for seed in seeds(chunk):
        instance = tiny_instance(np.random.default_rng(seed))
        assert_same(by_arrays(instance)[1], pyomo_driver.build(instance), f"seed {seed}")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_same_program_under_every_rule_and_objective(chunk):
    for seed in seeds(chunk):
        instance = general.instance(seed)
        _, program = by_arrays(instance)
        assert_same(program, pyomo_driver.build(instance), f"seed {seed}")
        assert column_count(instance) == len(program.cost), f"seed {seed}"


@pytest.mark.parametrize("copies", ["exclusive", "inclusive"])
@pytest.mark.parametrize("moves", ["explicit", "read-through", "free"])
def test_same_program_when_reads_of_both_tiers_cancel(copies, moves):
    """Reads that load a shared channel alike leave no trace of where they come from."""
    platform = kvopt.Platform(
        "shared",
        (
            kvopt.Tier("fast", 5.0, {"bus": 1.0, "shared": 1.0}, {"bus": 1.0}),
            kvopt.Tier("slow", 100.0, {"dram": 1.0, "shared": 1.0}, {"dram": 1.0, "shared": 2.0}),
        ),
        (kvopt.Channel("bus", 4.0), kvopt.Channel("shared", 2.0), kvopt.Channel("dram", 1.0)),
    )
    for seed in range(10):
        trace = tiny_instance(np.random.default_rng(seed)).trace
        instance = kvopt.Instance(trace, platform, kvopt.Rules(copies, moves), weight_bytes_per_slot=1.0)
        assert_same(by_arrays(instance)[1], pyomo_driver.build(instance), f"seed {seed}")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_columns_of_a_placement(chunk):
    """Its columns cost what the evaluator says, keep all rows but those it violates, and lead back to it."""
    for seed in seeds(chunk):
        rng = np.random.default_rng(seed)
        assert_columns_of(tiny_instance(rng), rng, f"seed {seed}")


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_columns_of_a_placement_under_every_rule_and_objective(chunk):
    for seed in seeds(chunk):
        assert_columns_of(general.instance(seed), np.random.default_rng(seed), f"seed {seed}")


def assert_columns_of(instance: kvopt.Instance, rng: np.random.Generator, what: str) -> None:
    placement = random_placement(instance, rng)
    layout, program = by_arrays(instance)
    evaluation = kvopt.evaluate(instance, placement)
    values = program.complete(layout.decisions(placement, evaluation.read_bytes))
    assert layout.placement(values) == placement, what
    assert program.value(values) == pytest.approx(evaluation.objective, rel=1e-12), what
    activity = program.matrix @ values
    kept = (activity >= program.row_lower - 1e-12) & (activity <= program.row_upper + 1e-12)
    assert kept.all() == (not placement.violations(instance)), what


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_column_count(chunk):
    for seed in seeds(chunk):
        instance = tiny_instance(np.random.default_rng(seed))
        assert column_count(instance) == len(by_arrays(instance)[1].cost), f"seed {seed}"


def test_units_do_not_matter():
    """Sizes in MB and bandwidths in MB/s give the program that bytes give."""
    instance = tiny_instance(np.random.default_rng(0))
    trace = instance.trace._replace(size_bytes=instance.trace.size_bytes * 10**6)
    tiers = tuple(replace(t, capacity_bytes=t.capacity_bytes * 1e6) for t in instance.platform.tiers)
    channels = tuple(
        replace(c, bandwidth_bytes_per_s=c.bandwidth_bytes_per_s * 1e6) for c in instance.platform.channels
    )
    scaled = kvopt.Instance(
        trace,
        replace(instance.platform, tiers=tiers, channels=channels),
        instance.rules,
        weight_bytes_per_slot=instance.weight_bytes_per_slot * 1e6,
    )
    assert_same(by_arrays(instance)[1], by_arrays(scaled)[1], "scaled")


def certificate(instance: kvopt.Instance) -> Certificate:
    """The multipliers that scipy finds as the duals of the program's linear relaxation."""
    low = lower(instance)
    layout, program = by_arrays(instance)
    equal = program.row_lower == program.row_upper
    solution = linprog(
        program.cost,
        A_ub=program.matrix[~equal],
        b_ub=program.row_upper[~equal],
        A_eq=program.matrix[equal] if equal.any() else None,
        b_eq=program.row_upper[equal] if equal.any() else None,
        bounds=np.column_stack([program.lower, program.upper]),
    )
    price = np.maximum(-solution.ineqlin.marginals, 0.0)
    channel_price = price[-program.n_channels * program.n_slots :].reshape(program.n_channels, program.n_slots)
    capacity_price = np.zeros((2, program.n_slots))
    first = 0
    for tier in layout.placed:
        full = np.flatnonzero(low.live_bytes > low.capacity_bytes[tier])
        capacity_price[tier, full] = price[first : first + len(full)] * program.unit / low.size_bytes.mean()
        first += len(full)
    return Certificate(channel_price, capacity_price)


@pytest.mark.parametrize("chunk", range(3))
def test_duals_of_the_relaxation_certify_its_value(chunk):
    """Strong duality, by three parties: HiGHS's value, scipy's duals, and the independent check of certificates."""
    for seed in seeds(chunk):
        instance = tiny_instance(np.random.default_rng(seed))
        value_s, proved_s = lp_bound(instance).value_s, verify(instance, certificate(instance))
        assert proved_s <= value_s * (1 + 1e-9), f"seed {seed}"
        assert proved_s == pytest.approx(value_s, rel=1e-9, abs=0), f"seed {seed}"
