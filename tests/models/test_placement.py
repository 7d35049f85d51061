"""The Pyomo model: its text, and that it stands alone as plain Pyomo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyomo.environ as pyo
import pytest
from pyomo.contrib import appsi
from pyomo.repn.plugins.standard_form import LinearStandardFormCompiler

import kvopt
from kvopt.exact import lp_bound
from kvopt.models import placement
from tests.golden import assert_same_text
from tests.instances import RULES, brute_force, general_instance, tiny_instance

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


def three_tiers() -> kvopt.Platform:
    """The platform of :func:`two_blocks` with a disk below it, which loads its own channel and the dram's."""
    below = kvopt.Tier("disk", 100.0, {"dram": 1.0, "disk": 1.0}, {"disk": 2.0})
    upper = two_blocks("exclusive", "explicit").platform.with_capacity(3.0, tier=1)
    return replace(upper, tiers=(*upper.tiers, below), channels=(*upper.channels, kvopt.Channel("disk", 0.5)))


def special(case: str) -> kvopt.Instance:
    """The two blocks under a rule or an objective that brings rows of its own."""
    exclusive, inclusive = (two_blocks(copies, "explicit") for copies in ("exclusive", "inclusive"))
    return {
        "write-back": lambda: replace(inclusive, rules=kvopt.Rules("inclusive", writes="back")),
        "balanced": lambda: replace(inclusive, rules=kvopt.Rules("inclusive", reads="balanced")),
        "three-tiers-exclusive": lambda: replace(exclusive, platform=three_tiers()),
        "three-tiers-inclusive": lambda: replace(inclusive, platform=three_tiers()),
        "initial": lambda: replace(exclusive, initial=np.array([1, 1])),
        "tail": lambda: exclusive.with_objective(kvopt.objective.latency() + 2.0 * kvopt.objective.cvar(0.25)),
        "deadline": lambda: exclusive.with_objective(kvopt.objective.late_steps(3.0)),
    }[case]()


SPECIAL = (
    "write-back",
    "balanced",
    "three-tiers-exclusive",
    "three-tiers-inclusive",
    "initial",
    "tail",
    "deadline",
)


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
    golden = (GOLDEN / f"{copies}_{moves}.txt").read_text("ascii")
    assert_same_text(text(placement.build(two_blocks(copies, moves))), golden)


@pytest.mark.parametrize("case", SPECIAL)
def test_text_of_special_rules_and_objectives(case):
    assert_same_text(text(placement.build(special(case))), (GOLDEN / f"{case}.txt").read_text("ascii"))


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


@pytest.mark.parametrize("seed", range(30))
def test_stands_alone_under_every_rule(seed):
    instance = general_instance(np.random.default_rng(3100 + seed), rules=RULES[seed % len(RULES)])
    assert solved(placement.build(instance)) == pytest.approx(brute_force(instance)[0], rel=1e-7, abs=0)


@pytest.mark.parametrize("seed", range(24))
def test_relaxed(seed):
    instance = tiny_instance(np.random.default_rng(3000 + seed))
    model = placement.build(instance, relax=True)
    assert all(v.is_continuous() for v in model.z.values())
    assert solved(model) == pytest.approx(lp_bound(instance).value_s, rel=1e-7, abs=0)


@pytest.mark.parametrize("seed", range(30))
def test_relaxed_under_every_rule(seed):
    instance = general_instance(np.random.default_rng(3200 + seed), rules=RULES[seed % len(RULES)])
    assert solved(placement.build(instance, relax=True)) == pytest.approx(lp_bound(instance).value_s, rel=1e-7, abs=0)


def test_capacity_is_left_out_where_it_cannot_bind():
    instance = two_blocks("exclusive", "explicit")
    assert list(placement.build(instance).capacity) == [(0, 0), (0, 1)]
    assert not placement.build(instance.with_hbm_bytes(4.0)).capacity
