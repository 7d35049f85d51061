"""Objectives other than the decode time: one form, the same answer from every engine, from brute force and by hand."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import objective as objectives
from kvopt.exact import Backend, solve_exact
from kvopt.objective import ObjectiveError, Prices
from tests.instances import brute_force, instances, slow_objective, tiny_instance


def random_objective(rng: np.random.Generator, instance: kvopt.Instance):
    """Energy, traffic, or a weighted sum with the decode time, at prices that matter beside it."""
    tiers = [t.name for t in instance.platform.tiers]
    scale = 1.0 / float(instance.platform.bandwidth_bytes_per_s.min())
    energy = objectives.energy(
        dict(zip(tiers, scale * rng.uniform(0, 2, 2), strict=True)),
        dict(zip(tiers, scale * rng.uniform(0, 2, 2), strict=True)),
        power_w=float(rng.choice([0.0, 1.0])),
        hold_j_per_byte_slot=dict(zip(tiers, scale * rng.uniform(0, 0.3, 2), strict=True)),
    )
    traffic = objectives.traffic(str(rng.choice([c.name for c in instance.platform.channels])))
    kind = int(rng.integers(4))
    return (
        energy,
        traffic,
        0.5 * objectives.latency() + scale * traffic,
        0.3 * objectives.latency() + 0.7 * energy,
    )[kind]


def random_instance(seed: int) -> kvopt.Instance:
    rng = np.random.default_rng(9000 + seed)
    instance = tiny_instance(rng)
    return instance.with_objective(random_objective(rng, instance))


@pytest.mark.parametrize("seed", range(120))
def test_all_engines_agree_with_brute_force(seed):
    instance = random_instance(seed)
    optimum, placement = brute_force(instance)
    tight = {"rel": 1e-9, "abs": 1e-9 * instance.n_slots * float(instance.trace.size_bytes.sum()) * np.finfo(float).eps}
    assert kvopt.evaluate(instance, placement).objective == pytest.approx(optimum, **tight)
    for backend in (Backend.PYOMO, Backend.ARRAYS):
        found = solve_exact(instance, backend=backend)
        assert found.objective == pytest.approx(optimum, rel=1e-7, abs=1e-12 * max(optimum, 1e-300)), backend
    bound = kvopt.bound(instance)
    assert bound.value <= optimum * (1 + 1e-9)
    assert kvopt.verify(instance, bound.certificate) == pytest.approx(bound.value, rel=1e-6)
    assert kvopt.bound(instance, method="aggregate").value <= optimum * (1 + 1e-9)
    annealed = kvopt.solve(instance, "anneal", bound=bound)
    assert annealed.objective >= optimum * (1 - 1e-9)


def test_annealing_reaches_most_optima():
    missed = []
    for seed in range(20):
        instance = random_instance(seed)
        optimum = brute_force(instance)[0]
        if kvopt.solve(instance, "anneal").objective > optimum * (1 + 1e-9):
            missed.append(seed)
    assert len(missed) <= 1, missed


@settings(max_examples=100, deadline=None)
@given(instance=instances(), seed=st.integers(0, 1000))
def test_evaluator_counts_as_the_definition_does(instance, seed):
    rng = np.random.default_rng(seed)
    instance = instance.with_objective(random_objective(rng, instance))
    for method in ("static-oldest", "belady"):
        placement = kvopt.solve(instance, method).placement
        counted = kvopt.evaluate(instance, placement).objective
        assert counted == pytest.approx(slow_objective(instance, placement), rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(instance=instances())
def test_the_decode_time_is_the_objective_unless_told(instance):
    found = kvopt.solve(instance, "lru")
    assert found.objective == found.evaluation.latency_s
    same = kvopt.solve(instance, "lru", objective=2.0 * objectives.latency())
    assert same.objective == pytest.approx(2 * found.objective)


def test_traffic_of_an_idle_link_is_nothing_and_all_engines_know():
    """Where everything fits, nothing need cross the link: the least traffic is 0."""
    instance = tiny_instance(np.random.default_rng(5)).with_hbm_bytes(1e9)
    rules = kvopt.Rules("exclusive", "explicit")
    instance = replace(instance, rules=rules, platform=kvopt.Platform.preset("gh200"))
    found = kvopt.solve(instance, "anneal", objective=objectives.traffic("link_in"))
    assert found.objective == 0.0
    assert kvopt.bound(instance, objective=objectives.traffic("link_in")).value == pytest.approx(0.0, abs=1e-9)


def test_energy_by_hand():
    """One block of 10 bytes, prefilled, read in three steps: it stays in the tier that is cheaper to read."""
    trace = kvopt.Trace.from_accesses(
        [0, 0, 0], [0, 1, 2], n_steps=3, n_lanes=1, lane=[0], size_bytes=[10], write_step=[-1]
    )
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(10))
    prices = {"hbm": 4e-12, "lpddr": 10e-12}
    found = kvopt.solve(instance, "exact", objective=objectives.energy(prices, prices))
    assert found.objective == pytest.approx(3 * 10 * 4e-12)
    held = objectives.energy(prices, prices, hold_j_per_byte_slot={"hbm": 100e-12})
    assert kvopt.solve(instance, "exact", objective=held).objective == pytest.approx(3 * 10 * 10e-12)


@dataclass(frozen=True)
class Wear:
    """Bytes written to the backing tier: a user's own."""

    name: str = "wear"
    unit: str = "B"

    def prices(self, platform):
        prices = Prices.zero(platform)
        prices.write[-1] = 1.0
        return prices


def test_a_users_own_objective_works_everywhere():
    instance = tiny_instance(np.random.default_rng(11)).with_objective(Wear())
    optimum = brute_force(instance)[0]
    assert kvopt.solve(instance, "exact").objective == pytest.approx(optimum)
    assert kvopt.solve(instance, "anneal").objective >= optimum
    bound = kvopt.bound(instance)
    assert bound.value <= optimum
    assert bound.unit == "B"
    with pytest.raises(ValueError, match="counts B, not seconds"):
        _ = bound.value_s


class TestRefusals:
    instance = tiny_instance(np.random.default_rng(1))

    def refused(self, objective) -> str:
        with pytest.raises(ObjectiveError) as error:
            self.instance.with_objective(objective)
        return str(error.value)

    def test_what_is_no_objective(self):
        assert "has no name, unit and prices" in self.refused(object())

    def test_unknown_tier_and_channel(self):
        assert "has no tier 'tape'" in self.refused(objectives.energy({"tape": 1.0}, {}))
        assert "has no 'smoke'" in self.refused(objectives.traffic("smoke"))

    def test_negative_nan_and_infinite_prices(self):
        tier = self.instance.platform.tiers[0].name
        for value in (-1.0, float("inf")):
            assert "must be finite and 0 or more" in self.refused(objectives.energy({tier: value}, {}))
        assert "not a number" in self.refused(objectives.energy({tier: float("nan")}, {}))
        assert "must be finite" in self.refused(-1.0 * objectives.latency())

    def test_free_lunch(self):
        assert "costs nothing whatever is done" in self.refused(0.0 * objectives.latency())


def test_reports_name_the_objective_and_never_call_it_a_time(capsys):
    from kvopt import report

    instance = random_instance(0)
    instance = instance.with_objective(objectives.energy({instance.platform.tiers[0].name: 1e-12}, {}, power_w=2.0))
    found = kvopt.compare(instance, ["static", "lru", "anneal"])
    text = report.plain(found)
    assert "objective energy [J]" in text
    assert " J" in text
    assert "Where the time goes" not in text
    for row, result in zip(found.rows, found.results.values(), strict=True):
        assert row["objective"] == result.objective
        assert row["latency_s"] == result.evaluation.latency_s
        assert row["gap"] == pytest.approx(result.objective / found.bound.value - 1)
    record = found.to_json()["bound"]
    assert (record["value_s"], record["unit"], record["value"]) == (None, "J", found.bound.value)
    with pytest.raises(kvopt.KvoptError, match="is not the decode time"):
        kvopt.explain(instance)


@settings(max_examples=40, deadline=None)
@given(instance=instances(), seed=st.integers(0, 1000))
def test_the_annealers_running_cost_is_the_evaluators(instance, seed):
    from kvopt.anneal.moves import flip_sweep, improve_sweep, resample_sweep
    from kvopt.anneal.state import make_problem, make_state, to_placement, total_cost
    from kvopt.lowering import lower
    from kvopt.trellis.rng import stream

    rng = np.random.default_rng(seed)
    instance = instance.with_objective(random_objective(rng, instance))
    problem = make_problem(lower(instance))
    state = make_state(problem, kvopt.solve(instance, "static-oldest").placement)
    order, none = np.arange(instance.trace.n_blocks), np.zeros((instance.n_slots, len(problem.states)))
    heat = float(rng.choice([0.01, 0.1, 1.0])) * max(total_cost(problem, state) / instance.n_slots, 1e-15)
    resample_sweep(problem, state, order, heat, none, stream(seed, 1))
    flip_sweep(problem, state, 50, heat, stream(seed, 2))
    before = total_cost(problem, state)
    improve_sweep(problem, state, order, none)
    judged = kvopt.evaluate(instance, to_placement(problem, state.z)).objective
    assert total_cost(problem, state) == pytest.approx(judged, rel=1e-9, abs=1e-9 * max(before, 1e-300))
    assert judged <= before * (1 + 1e-9)


@pytest.mark.parametrize("backend", ["arrays", "pyomo"])
@pytest.mark.parametrize("seed", range(12))
def test_exported_models_state_the_objective(tmp_path, backend, seed):
    import highspy

    instance = random_instance(seed)
    optimum = brute_force(instance)[0]
    made = kvopt.export_model(instance, tmp_path / "model.mps", backend=backend)
    solver = highspy.Highs()
    for option, value in (("output_flag", False), ("mip_rel_gap", 0.0), ("mip_abs_gap", 0.0)):
        solver.setOptionValue(option, value)
    solver.readModel(str(made.path))
    solver.run()
    assert made.objective_unit == instance.objective.unit
    found = solver.getObjectiveValue() * made.unit
    assert found == pytest.approx(optimum, rel=1e-6, abs=1e-6 * made.unit)
