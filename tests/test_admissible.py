"""What no kernel could be given is refused by name, wherever it enters."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import kvopt
from kvopt import Certificate, KvoptError, Placement
from kvopt.admissible import admissible
from kvopt.anneal import Schedule, solve_anneal
from kvopt.bounds import aggregate_bound, dual_bound, verify
from kvopt.bounds.checkpoint import Checkpoint, Reached
from kvopt.errors import InstanceError, MethodError, PlacementError
from kvopt.lowering import lower
from kvopt.objective import cost, cvar, worst_step
from kvopt.result import Bound, Guide
from kvopt.trellis.multipliers import at_home
from tests.bounds.test_certificate import random_certificate
from tests.instances import brute_force, general_instance, tiny_instance

SPOILT = {
    "NaN": lambda a: _with(a, np.nan),
    "inf": lambda a: _with(a, np.inf),
    "negative": lambda a: _with(a, -1e-300),
    "huge": lambda a: _with(a, 1e308),
    "short": lambda a: a[..., :-1],
    "long": lambda a: np.concatenate([a, a], axis=-1),
    "flat": lambda a: a.ravel()[None, None],
    "a number": lambda a: np.array(1.0),
    "empty": lambda a: a[:0],
    "words": lambda a: a.astype(str),
    "objects": lambda a: a.astype(object),
    "truths": lambda a: a > 0,
    "complex": lambda a: a + 0j,
    "ragged": lambda a: [[1.0], [1.0, 2.0]],
    "nothing": lambda a: None,
    "text": lambda a: "prices",
}


def _with(array: np.ndarray, value: float) -> np.ndarray:
    spoilt = array.copy()
    spoilt.flat[0] = value
    return spoilt


@pytest.fixture(scope="module")
def instance():
    return tiny_instance(np.random.default_rng(7))


@pytest.fixture(scope="module")
def good(instance):
    return aggregate_bound(instance).certificate


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("name", ["channel_price", "capacity_price_s_per_byte", "step_price", "late_price"])
def test_what_is_no_certificate_is_refused_everywhere(instance, good, name, spoil):
    stepwise = instance.with_objective(worst_step())
    price = aggregate_bound(stepwise).certificate
    price = replace(price, late_price=price.channel_price)
    if spoil(price.channel_price) is None and name.endswith(("step_price", "late_price")):
        return  # These may be left out.
    for take in (
        lambda bad: verify(stepwise, bad),
        lambda bad: dual_bound(stepwise, start=bad),
        lambda bad: dual_bound(stepwise, start=Bound(1.0, "dual", kvopt.result.Role.CLAIMED, certificate=bad)),
        lambda bad: solve_anneal(stepwise, multipliers=bad),
        lambda bad: solve_anneal(stepwise, guides=(Guide(0.01, bad),)),
    ):
        with pytest.raises(KvoptError, match=name):
            take(replace(price, **{name: spoil(getattr(price, name))}))


@pytest.mark.parametrize("wrong", ["a bound", 1.0, np.ones(3), (), {}], ids=str)
def test_what_is_of_another_kind_is_refused(instance, wrong):
    for take in (
        lambda: verify(instance, wrong),
        lambda: dual_bound(instance, start=wrong),
        lambda: solve_anneal(instance, multipliers=wrong),
        lambda: solve_anneal(instance, guides=(wrong,)),
        lambda: solve_anneal(instance, start=wrong),
        lambda: solve_anneal(instance, schedule=wrong),
        lambda: kvopt.solve(instance, "lru", bound=wrong),
        lambda: kvopt.evaluate(instance, wrong),
    ):
        with pytest.raises(KvoptError):
            take()


def test_numbers_of_other_types_are_taken(instance, good):
    whole = Certificate(np.eye(*good.channel_price.shape, dtype=int).tolist(), (good.channel_price[:2] * 0).astype(int))
    assert whole.channel_price.dtype == whole.capacity_price_s_per_byte.dtype == np.float64
    assert verify(instance, whole) <= brute_force(instance)[0] * (1 + 1e-12)


@pytest.mark.parametrize("tau", [0.0, -1.0, np.nan, np.inf, True, "hot", None], ids=str)
def test_a_bound_from_no_temperature_is_refused(instance, good, tau):
    bound = Bound(1.0, "dual", kvopt.result.Role.CERTIFIED, certificate=good, reached=Guide(tau, good))
    with pytest.raises(KvoptError, match="tau"):
        dual_bound(instance, start=bound)
    with pytest.raises(KvoptError, match="tau"):
        solve_anneal(instance, guides=(Guide(tau, good),))


@pytest.mark.parametrize("seed", range(40))
def test_any_admissible_start_ends_in_a_bound(seed):
    """Whatever prices are, also none at all, and far too high ones: the ascent goes on from them."""
    rng = np.random.default_rng(seed)
    instance = general_instance(rng)
    start = random_certificate(instance, rng)
    bounded = np.isfinite(np.array(instance.capacity_bytes, float))[:, None]
    lam = start.channel_price * rng.choice([0.0, 1e-200, 0.3, 1.0], instance.n_slots)
    mu = (
        bounded
        * start.capacity_price_s_per_byte
        * rng.choice([1.0, 1e10, 1e100], start.capacity_price_s_per_byte.shape)
    )
    start = Certificate(lam, mu)
    low = lower(instance)
    home = at_home(low, admissible(instance, start))
    assert np.allclose(home.channel_price.sum(axis=0), 1.0)
    assert verify(instance, home) >= verify(instance, start) - 1e-9 * abs(verify(instance, start))
    found = dual_bound(instance, start=start)
    assert verify(instance, home) - 1e-12 <= found.value <= brute_force(instance)[0] * (1 + 1e-9) + 1e-12


CHANGES = {
    "a stage below all": (lambda d: _staged(d, -1), "stage -1"),
    "a stage above all": (lambda d: _staged(d, 10**6), "stage 1000000"),
    "half a stage": (lambda d: _staged(d, 1.5), r"stage 1\.5"),
    "a float": (lambda d: _staged(d, 2.0), r"stage 2\.0"),
    "a truth": (lambda d: _staged(d, True), "stage True"),
    "a word": (lambda d: _staged(d, "two"), "stage 'two'"),
    "no stage": (lambda d: _staged(d, None, drop=True), "no checkpoint"),
    "no place": (lambda d: d.pop("now_channel_price"), "has no now_channel_price"),
    "no best": (lambda d: d.pop("channel_price"), "has no channel_price"),
    "one too many": (lambda d: d.update(now_zz=np.zeros(3)), "now_zz.*, which is no multiplier"),
    "another one": (lambda d: d.update(zz=np.zeros(3)), "zz.*, which is no multiplier"),
    "NaN": (lambda d: d["now_channel_price"].fill(np.nan), "now_ channel_price: .*non-finite"),
    "inf": (lambda d: d["capacity_price_s_per_byte"].fill(np.inf), "best capacity_price_s_per_byte: .*non-finite"),
    "shape": (lambda d: d.update(now_channel_price=d["now_channel_price"][:, :1]), "now_ channel_price: has shape"),
}


def _staged(data: dict, stage, drop: bool = False) -> None:
    about = json.loads(str(data["about"]))
    about.pop("stage") if drop else about.update(stage=stage)
    data["about"] = np.array(json.dumps(about))


@pytest.mark.parametrize(("change", "message"), CHANGES.values(), ids=CHANGES)
def test_spoilt_checkpoints_are_refused(tmp_path, instance, good, change, message):
    path = tmp_path / "reached.npz"
    Checkpoint(path, instance).write(Reached(good, good, 3))
    with np.load(path) as file:
        data = dict(file)
    change(data)
    np.savez(path, **data)
    with pytest.raises(KvoptError, match=message):
        kvopt.bound(instance, checkpoint=path)


def test_a_checkpoint_of_any_stage_is_gone_on_from(tmp_path, instance, good):
    for stage in (0, 5, 16):
        path = tmp_path / f"{stage}.npz"
        Checkpoint(path, instance).write(Reached(good, good, stage))
        assert kvopt.bound(instance, checkpoint=path).value <= brute_force(instance)[0] * (1 + 1e-9)


@pytest.mark.parametrize(
    "given",
    [
        lambda n: np.full(n, 0.5),
        lambda n: np.full(n, np.nan),
        lambda n: np.full(n, np.inf),
        lambda n: np.zeros(n, bool),
        lambda n: np.zeros(n, object),
        lambda n: np.full(n, 1000),
        lambda n: np.full(n, 2**63, np.uint64),
        lambda n: np.full(n, -1),
        lambda n: np.zeros(n + 1, int),
        lambda n: 0,
        lambda n: ["hbm"] * n,
    ],
)
def test_what_no_placement_begins_with_is_refused(instance, given):
    with pytest.raises(InstanceError, match="initial"):
        replace(instance, initial=given(instance.trace.n_blocks))


def test_a_placement_of_another_instance_is_refused(instance):
    n_blocks, n_slots = instance.trace.n_blocks, instance.n_slots
    one = np.arange(n_blocks + 1)
    for other in (
        Placement(np.zeros(n_blocks + 2), [], []),
        Placement(one, np.zeros(n_blocks), np.full(n_blocks, n_slots + 1)),
        Placement(one, np.full(n_blocks, -1), np.full(n_blocks, 1)),
        Placement(one, instance.birth_slot, instance.death_slot, np.full(n_blocks, 5)),
        Placement(one, instance.death_slot, instance.birth_slot),
    ):
        for take in (
            lambda start: kvopt.solve(instance, "anneal", start=start),
            lambda start: kvopt.solve(instance, "exact", start=start),
            lambda start: solve_anneal(instance, start=start),
            lambda start: kvopt.evaluate(instance, start),
        ):
            with pytest.raises(PlacementError):
                take(other)


@pytest.mark.parametrize(
    ("columns", "field"),
    [
        (([3], [0], [1]), "block"),
        (([-1], [0], [1]), "block"),
        (([0.5], [0], [1]), "block"),
        (([0], [-1], [1]), "start, stop"),
        (([0], [2], [1]), "start, stop"),
        (([0], [np.nan], [1]), "start"),
        (([0], [0], ["a"]), "stop"),
        (([0], [0], [1], [-1]), "state"),
        (([0], [0], [1], [300]), "state"),
        (([0], [0], [1], [0.5]), "state"),
        (([0, 1], [0], [1]), "length"),
    ],
)
def test_intervals_that_are_none_are_refused(columns, field):
    with pytest.raises(PlacementError, match=field):
        Placement.from_intervals(3, *columns)


@pytest.mark.parametrize(
    "columns",
    [
        ([0, 1], [0], []),
        ([0, 2], [0], [1]),
        ([1, 1], [0], [1]),
        ([0, 2, 1], [0], [1]),
        ([0, 1], [0.5], [1]),
        ([0, 1], [0], [1], [1000]),
        ([0, 1], [[0]], [1]),
        ([], [], []),
    ],
)
def test_columns_that_make_no_placement_are_refused(columns):
    with pytest.raises(PlacementError):
        Placement(*columns)


@pytest.mark.parametrize(
    "states", [np.full((2, 3), 2), np.full((2, 3), -1), np.zeros(3, int), np.zeros((2, 3)), [["a"]]], ids=range(5)
)
def test_tables_that_are_none_are_refused(states):
    with pytest.raises(PlacementError, match="states"):
        Placement.from_states(states, 2)


@pytest.mark.parametrize("value", [-1, 0.5, "1", None, True, 2**70], ids=str)
def test_seeds_that_are_none_are_refused(instance, value):
    for method in ("anneal", "exact", "guided", "lru"):
        with pytest.raises(MethodError, match="seed"):
            kvopt.solve(instance, method, seed=value)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"threads": 0}, "threads"),
        ({"threads": 1.5}, "threads"),
        ({"tolerance": np.nan}, "tolerance"),
        ({"tolerance": -1.0}, "tolerance"),
        ({"target_s": np.nan}, "target_s"),
        ({"target_s": 1.0, "gap": np.nan}, "gap"),
        ({"target_s": 1.0, "gap": -0.1}, "gap"),
        ({"time_limit": np.nan}, "time_limit"),
        ({"time_limit": "soon"}, "time_limit"),
    ],
)
def test_numbers_that_mean_nothing_to_a_bound_are_refused(instance, options, field):
    with pytest.raises(MethodError, match=field):
        kvopt.bound(instance, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"sweeps": -1},
        {"sweeps": 2.5},
        {"first": np.nan},
        {"first": np.inf},
        {"last": 0.0},
        {"last": 1.0},
        {"rent_until": np.nan},
        {"rent_until": -0.1},
        {"rent_until": 1.1},
        {"sample_tau": 0.0},
        {"sample_tau": np.nan},
    ],
    ids=str,
)
def test_schedules_that_are_none_are_refused(options):
    with pytest.raises(MethodError):
        Schedule(**options)


@pytest.mark.parametrize("rate", [1e-40, 1e40, 1e308, 5e-324])
def test_rates_of_no_machine_are_refused(instance, rate):
    channels = (replace(instance.platform.channels[0], bandwidth_bytes_per_s=rate), *instance.platform.channels[1:])
    with pytest.raises(InstanceError, match="s a byte"):
        replace(instance, platform=replace(instance.platform, channels=channels))


@pytest.mark.parametrize("weight", [1e-7, 1e-12])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_tail_of_next_to_no_weight_is_bounded(weight, alpha):
    """Its step prices lie outside what it counts by what the price of every second is rounded by."""
    for seed in range(5):
        instance = tiny_instance(np.random.default_rng(seed))
        instance = instance.with_objective(cost(7200.0) + weight * cvar(alpha))
        found = kvopt.bound(instance)
        assert found.verified
        assert found.value <= brute_force(instance)[0] * (1 + 1e-9)
