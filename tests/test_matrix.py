"""Every objective under every rule over two and three tiers: all engines, one answer.

A cell of the matrix is a random tiny instance. In it the exact model by both back ends equals brute force, the bounds
are below it, their certificates verify, annealing and policies are above it, and every placement is feasible and
costs what the definition says. Free or given starts, single tokens or pages of two take turns over the cells, so that
each meets each objective and each rule. What no cell can hold is refused, and :func:`test_the_holes_have_names` says
how.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import kvopt
from kvopt import objective
from kvopt.errors import InstanceError
from kvopt.exact import Backend, solve_exact
from tests.instances import RULES, general_instance
from tests.truth import brute_force, slow_objective


def _energy(rng, instance):
    tiers = [t.name for t in instance.platform.tiers]
    read, write, hold = (dict(zip(tiers, rng.uniform(0, 2, len(tiers)), strict=True)) for _ in range(3))
    hold = {tier: 0.2 * price for tier, price in hold.items()}
    return objective.energy(read, write, power_w=float(rng.choice([0.0, 1.0])), hold_j_per_byte_slot=hold)


def _typical_step_s(instance) -> float:
    return float(kvopt.evaluate(instance, kvopt.Placement.backing(instance)).step_s.mean()) or 1.0


def _late(rng, instance):
    return objective.late_steps(_typical_step_s(instance) * float(rng.uniform(0.3, 0.9)))


def _traffic(rng, instance):
    return objective.traffic(str(rng.choice([c.name for c in instance.platform.channels])))


def _cost(rng, instance):
    return objective.cost(3600.0, per_byte_written={instance.platform.tiers[-1].name: 0.5})


OBJECTIVES = {
    "latency": lambda rng, instance: objective.latency(),
    "energy": _energy,
    "traffic": _traffic,
    "cost": _cost,
    "worst-step": lambda rng, instance: objective.worst_step(),
    "cvar": lambda rng, instance: objective.cvar(float(rng.uniform(0.1, 0.9))),
    "late-steps": _late,
    "sum": lambda rng, instance: 0.5 * objective.latency() + 2.0 * objective.worst_step() + _cost(rng, instance),
}
TIERS = (2, 3)


def _refused(name: str, rules: kvopt.Rules, n_tiers: int) -> str | None:
    """The words in which a combination is refused; None where it is not."""
    if rules.balanced and n_tiers > 2:
        return "balanced reads are defined over two tiers"
    return None


CELLS = [cell for cell in product(OBJECTIVES, RULES, TIERS) if _refused(*cell) is None]


def _name(cell) -> str:
    name, rules, n_tiers = cell
    return "-".join([name, rules.copies.value, rules.writes.value, rules.reads.value, rules.moves.value, str(n_tiers)])


def _drawn(number: int) -> kvopt.Instance:
    name, rules, n_tiers = CELLS[number]
    rng = np.random.default_rng(5000 + number)
    # Co-prime to the lengths of the axes, so that both take turns in each row and column.
    pages, given_start = (2 if number % 7 < 2 else 1), number % 5 < 2
    while True:
        instance = general_instance(rng, rules=rules, n_tiers=n_tiers, given_start=given_start and pages == 1)
        try:
            instance = instance if pages == 1 else instance.paged(pages)
            brute_force(instance)
            return instance.with_objective(OBJECTIVES[name](rng, instance))
        except (ValueError, kvopt.KvoptError):
            continue  # Pages may not fit where tokens did.


@pytest.mark.parametrize("number", range(len(CELLS)), ids=[_name(cell) for cell in CELLS])
def test_all_engines_agree(number):
    instance = _drawn(number)
    optimum, best = brute_force(instance)
    tight = {"rel": 1e-6, "abs": 1e-9 * max(optimum, 1e-3)}
    assert kvopt.evaluate(instance, best).objective == pytest.approx(optimum, **tight)
    bound = kvopt.bound(instance)
    placed = [best]
    for backend in (Backend.PYOMO, Backend.ARRAYS):
        exact = solve_exact(instance, backend=backend)
        assert exact.objective == pytest.approx(optimum, **tight), backend
        assert exact.bound.value <= optimum * (1 + 1e-6) + tight["abs"]
        placed.append(exact.placement)
    for below in (bound, kvopt.bound(instance, method="aggregate")):
        assert below.value <= optimum * (1 + 1e-9) + 1e-12
        assert kvopt.verify(instance, below.certificate) <= optimum * (1 + 1e-9) + 1e-12
    placed += [kvopt.solve(instance, method, bound=bound).placement for method in ("anneal", "lru", "belady")]
    for placement in placed:
        assert not placement.violations(instance)
        found = kvopt.evaluate(instance, placement).objective
        assert found == pytest.approx(slow_objective(instance, placement), rel=1e-9, abs=1e-12)
        assert found >= optimum * (1 - 1e-9) - 1e-12


@pytest.mark.parametrize("cell", [c for c in product(["latency"], RULES, TIERS) if _refused(*c)], ids=_name)
def test_the_holes_have_names(cell):
    name, rules, n_tiers = cell
    with pytest.raises(InstanceError, match=_refused(name, rules, n_tiers)):
        general_instance(np.random.default_rng(0), rules=rules, n_tiers=n_tiers)


@pytest.mark.parametrize("rules", [r for r in RULES if r.balanced], ids=lambda r: f"{r.writes.value}-{r.moves.value}")
def test_balanced_reads_beside_prices_of_reads_and_of_steps_are_refused(rules):
    """How a slot's reads are split best would depend on which steps count, and that on the split."""
    instance = general_instance(np.random.default_rng(1), rules=rules, n_tiers=2)
    tiers = [t.name for t in instance.platform.tiers]
    both = objective.energy({tiers[0]: 1.0, tiers[1]: 2.0}, {}) + objective.worst_step()
    with pytest.raises(InstanceError, match="weigh a tier's price against steps"):
        instance.with_objective(both)


@pytest.mark.parametrize("special", [{"reads": "balanced"}, {"writes": "back"}])
def test_rules_for_several_copies_are_refused_for_one(special):
    with pytest.raises(InstanceError, match="asks for copies in several tiers"):
        kvopt.Rules("exclusive", **special)
