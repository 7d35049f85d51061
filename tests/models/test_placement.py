"""The Pyomo model: its text, and that it stands alone as plain Pyomo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib import appsi
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

import kvopt
from kvopt.exact import lp_bound
from kvopt.models import placement
from tests.instances import brute_force, tiny_instance

GOLDEN = Path(__file__).parent / "golden"


def two_blocks(copies: str, moves: str) -> kvopt.Instance:
    """Two blocks in two slots, with sizes and bandwidths that make every coefficient a short number.

    Block 0 (1 byte) is read in both slots; block 1 (3 bytes) is written in slot 0 and read in slot 1.
    """
    trace = kvopt.Trace.from_accesses(
        [0, 0, 1], [0, 1, 1], n_steps=2, n_lanes=1, lane=[0, 0], size_bytes=[1, 3], write_step=[-1, 0]
    )
    platform = kvopt.Platform(
        "golden",
        (
            kvopt.Tier("fast", 3.0, {"bus": 1.0}, {"bus": 1.0}),
            kvopt.Tier("slow", 100.0, {"dram": 1.0, "in": 1.0}, {"dram": 1.0, "out": 1.0}),
        ),
        tuple(kvopt.Channel(*c) for c in (("bus", 8.0), ("in", 2.0), ("out", 4.0), ("dram", 1.0))),
    )
    return kvopt.Instance(trace, platform, kvopt.Rules(copies, moves), weight_bytes_per_slot=4.0)


def text(model: pyo.ConcreteModel) -> str:
    """The compiled model, a row a line, in the order of declaration."""
    form = LinearStandardFormCompiler().write(model, mixed_form=True)
    names = [v.name for v in form.columns]

    def linear(row) -> str:
        order = np.argsort([names[k] for k in row.indices])
        return " ".join(f"{row.data[k]:+g} {names[row.indices[k]]}" for k in order)

    sense = {-1: ">=", 0: "=", 1: "<="}
    lines = [f"unit: {model.time_unit_s:g} s, {model.byte_unit:g} bytes", f"minimise {linear(form.c.tocsr())}"]
    for (row, bound_type), entries, rhs in zip(form.rows, form.A.tocsr(), form.rhs, strict=True):
        lines.append(f"{row.name}: {linear(entries.tocsr())} {sense[bound_type]} {rhs + 0.0:g}")
    binary = [v.name for v in form.columns if v.is_binary()]
    return "\n".join([*lines, f"binary {' '.join(sorted(binary))}", ""])


@pytest.mark.parametrize("copies", ["exclusive", "inclusive"])
@pytest.mark.parametrize("moves", ["explicit", "read-through", "free"])
def test_text(copies, moves):
    assert text(placement.build(two_blocks(copies, moves))) == (GOLDEN / f"{copies}_{moves}.txt").read_text()


def solved(model: pyo.ConcreteModel) -> float:
    """The optimum in seconds, by Pyomo's own interface to HiGHS."""
    solver = appsi.solvers.Highs()
    solver.highs_options = {"mip_rel_gap": 0.0, "mip_abs_gap": 0.0, "mip_feasibility_tolerance": 1e-9}
    solver.solve(model)
    return pyo.value(model.latency_s)


@pytest.mark.parametrize("seed", range(24))
def test_stands_alone(seed):
    instance = tiny_instance(np.random.default_rng(3000 + seed))
    assert solved(placement.build(instance)) == pytest.approx(brute_force(instance)[0], rel=1e-7, abs=0)


@pytest.mark.parametrize("seed", range(24))
def test_relaxed(seed):
    instance = tiny_instance(np.random.default_rng(3000 + seed))
    model = placement.build(instance, relax=True)
    assert all(v.is_continuous() for v in model.z.values())
    assert solved(model) == pytest.approx(lp_bound(instance).value_s, rel=1e-7, abs=0)


def test_capacity_is_left_out_where_it_cannot_bind():
    instance = two_blocks("exclusive", "explicit")
    assert list(placement.build(instance).capacity) == [(0, 0), (0, 1)]
    assert not placement.build(instance.with_hbm_bytes(4.0)).capacity
