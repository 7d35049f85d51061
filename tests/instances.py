"""Random tiny instances. What is true about them is in :mod:`tests.truth`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from kvopt import Channel, Instance, Placement, Platform, Rules, Tier, Trace
from kvopt.errors import Infeasible
from tests.truth import brute_force, combinations_of, reads, slow_latency, slow_objective

__all__ = ["brute_force", "reads", "slow_latency", "slow_objective"]

_MOST_COMBINATIONS = 70_000


def tiny_instance(rng: np.random.Generator) -> Instance:
    """2-4 blocks over 2-5 slots in 1-2 lanes: small enough to try every residency."""
    while True:
        n_lanes = int(rng.integers(1, 3))
        n_steps = int(rng.integers(1, 3)) if n_lanes == 2 else int(rng.integers(2, 6))
        n_blocks = int(rng.integers(2, 5))
        trace = _tiny_trace(rng, n_steps, n_lanes, n_blocks)
        instance = _tiny_problem(rng, trace)
        if combinations_of(instance) <= _MOST_COMBINATIONS:
            return instance


def _tiny_trace(rng: np.random.Generator, n_steps: int, n_lanes: int, n_blocks: int) -> Trace:
    write_step = np.where(rng.random(n_blocks) < 0.6, -1, rng.integers(0, n_steps, n_blocks))
    free_step = rng.integers(np.maximum(write_step, 0) + 1, n_steps + 1)
    free_step = np.where(rng.random(n_blocks) < 0.7, n_steps, free_step)
    step = np.arange(n_steps)
    alive = (step >= write_step[:, None]) & (step < free_step[:, None])
    block, step = np.nonzero(alive & (rng.random(alive.shape) < rng.choice([0.4, 0.7])))
    return Trace.from_accesses(
        block,
        step,
        n_steps=n_steps,
        n_lanes=n_lanes,
        lane=rng.integers(0, n_lanes, n_blocks),
        size_bytes=rng.integers(1, 6, n_blocks),
        write_step=write_step,
        free_step=free_step,
    )


def _tiny_problem(rng: np.random.Generator, trace: Trace) -> Instance:
    largest, total = int(trace.size_bytes.max()), int(trace.size_bytes.sum())
    fast = _fast_room(rng, largest, total)
    rules = Rules(
        rng.choice(["exclusive", "inclusive"]),
        rng.choice(["explicit", "read-through", "explicit", "read-through", "free"]),
    )
    # A full backing tier can bind only where copies are exclusive; leave room enough for some placement to exist.
    backing = float("inf")
    if not rules.inclusive and rng.random() < 0.25:
        backing = float(max(total - fast + largest, largest))
    if rng.random() < 0.5:
        platform = Platform.preset(rng.choice(["gh200", "fang2025"])).with_capacity(fast).with_capacity(backing, tier=1)
    else:
        platform = _random_platform(rng, fast, backing)
    weights = float(rng.choice([0.0, 0.0, 2.5]))
    return Instance(trace, platform, rules, weight_bytes_per_slot=weights)


def _fast_room(rng: np.random.Generator, largest: int, total: int) -> int:
    """Mostly room for any block; or for some of them, or for none."""
    share = rng.random()
    if share < 0.1:
        return 0
    if share < 0.3:
        return int(rng.integers(0, largest))
    return int(rng.integers(largest, max(total, largest + 1) + 1))


def _random_platform(rng: np.random.Generator, fast: float, backing: float) -> Platform:
    """Channels of about 1 byte/s, loads per byte that are not all 1, and a source half of moves of its own."""
    rates = [float(b) for b in rng.uniform(0.3, 3.0, 4).round(2)]
    fast_write, backing_move_out = float(rng.choice([1.0, 1.5])), float(rng.choice([1.0, 0.5]))
    return _platform(fast, backing, rates, fast_write=fast_write, backing_move_out=backing_move_out)


def _platform(
    fast: float, backing: float, rates: list[float], *, fast_write: float, backing_move_out: float
) -> Platform:
    hbm, link, out, dram = rates
    return Platform(
        "random",
        (
            Tier("fast", fast, {"bus": 1.0}, {"bus": fast_write}),
            Tier(
                "slow",
                backing,
                {"dram": 1.0, "link": 1.0},
                {"dram": 1.0, "out": 1.0},
                move_out={"dram": backing_move_out, "link": 1.0},
            ),
        ),
        (Channel("bus", 5 * hbm), Channel("link", link), Channel("out", out), Channel("dram", dram)),
    )


@st.composite
def instances(draw) -> Instance:
    """Tiny instances drawn piece by piece, so that Hypothesis shrinks a failing one to its essence."""
    n_lanes = draw(st.integers(1, 2))
    n_steps = draw(st.integers(1, 5 // n_lanes))
    # At most 16 block-slots in all keep the residencies few enough for brute force.
    n_blocks = draw(st.integers(2, min(4, 16 // (n_steps * n_lanes))))
    trace = _drawn_trace(draw, n_steps, n_lanes, n_blocks)
    largest, total = int(trace.size_bytes.max()), int(trace.size_bytes.sum())
    rules = Rules(
        draw(st.sampled_from(["exclusive", "inclusive"])), draw(st.sampled_from(["explicit", "read-through", "free"]))
    )
    fast = float(draw(st.one_of(st.integers(largest, total), st.integers(0, largest))))
    backing = float("inf")
    if not rules.inclusive and draw(st.booleans()):
        backing = max(total - fast + largest, float(largest))
    rates = [draw(st.integers(1, 12)) / 4 for _ in range(4)]
    return Instance(
        trace,
        _platform(fast, backing, rates, fast_write=1.0, backing_move_out=draw(st.sampled_from([1.0, 0.5]))),
        rules,
        weight_bytes_per_slot=draw(st.sampled_from([0.0, 2.5])),
    )


def _drawn_trace(draw, n_steps: int, n_lanes: int, n_blocks: int) -> Trace:
    columns = {"lane": [], "size_bytes": [], "write_step": [], "free_step": []}
    block, step = [], []
    for i in range(n_blocks):
        write = draw(st.integers(-1, n_steps - 1))
        free = draw(st.integers(max(write, 0) + 1, n_steps))
        steps = draw(st.lists(st.integers(max(write, 0), free - 1), max_size=n_steps))
        for column, value in zip(
            columns, (draw(st.integers(0, n_lanes - 1)), draw(st.integers(1, 5)), write, free), strict=True
        ):
            columns[column].append(value)
        block += [i] * len(steps)
        step += steps
    return Trace.from_accesses(
        block, step, n_steps=n_steps, n_lanes=n_lanes, **{name: np.array(values) for name, values in columns.items()}
    )


def random_placement(instance: Instance, rng: np.random.Generator) -> Placement:
    """Any states inside the blocks' lives, feasible or not."""
    shape, n_states = (instance.trace.n_blocks, instance.n_slots), len(instance.states)
    away = rng.random(shape) < rng.choice([0.1, 0.4, 0.7])
    slot = np.arange(instance.n_slots)
    alive = (slot >= instance.birth_slot[:, None]) & (slot < instance.death_slot[:, None])
    state = rng.integers(0, n_states - 1, shape) if n_states > 2 else 0
    return Placement.from_states(np.where(away & alive, state, n_states - 1), n_states)


RULES = tuple(
    Rules(copies, moves, reads_, writes)
    for copies, reads_, writes in (
        ("exclusive", "nearest", "through"),
        ("inclusive", "nearest", "through"),
        ("inclusive", "balanced", "through"),
        ("inclusive", "nearest", "back"),
        ("inclusive", "balanced", "back"),
    )
    for moves in ("explicit", "read-through", "free")
)
"""All there are."""


def general_instance(
    rng: np.random.Generator,
    *,
    rules: Rules | None = None,
    n_tiers: int | None = None,
    given_start: bool | None = None,
    objective=None,
) -> Instance:
    """A tiny instance under any rules, over two or three tiers; what is not given is drawn.

    Parameters
    ----------
    rng : numpy.random.Generator
    rules, n_tiers : optional
    given_start : bool, optional
        Whether the placement in slot 0 is given.
    objective : callable, optional
        (rng, instance) -> Objective; the decode time unless given.
    """
    rules = RULES[rng.integers(len(RULES))] if rules is None else rules
    n_tiers = (2 if rules.balanced else int(rng.integers(2, 4))) if n_tiers is None else n_tiers
    given_start = rng.random() < 0.3 if given_start is None else given_start
    while True:
        n_lanes = int(rng.integers(1, 3))
        n_steps = int(rng.integers(1, 3)) if n_lanes == 2 else int(rng.integers(2, 5))
        trace = _tiny_trace(rng, n_steps, n_lanes, int(rng.integers(2, 4)))
        try:
            instance = Instance(
                trace,
                _random_tiers(rng, trace, n_tiers, rules),
                rules,
                weight_bytes_per_slot=float(rng.choice([0.0, 0.0, 2.5])),
            )
        except Infeasible:
            continue
        if combinations_of(instance) > _MOST_COMBINATIONS:
            continue
        try:
            begun = _begun(instance, rng) if given_start else instance
            brute_force(begun)
        except ValueError:
            continue  # The tiers hold the sum of the blocks, but no split of them.
        return begun if objective is None else begun.with_objective(objective(rng, begun))


def _begun(instance: Instance, rng: np.random.Generator) -> Instance:
    for _ in range(50):
        placement = random_placement(instance, rng)
        if not placement.violations(instance):
            return instance.with_initial(placement)
    return instance.with_initial(Placement.backing(instance))


def _random_tiers(rng: np.random.Generator, trace: Trace, n_tiers: int, rules: Rules) -> Platform:
    """A fast bus, links of each direction or of both, and a bus for each slower tier; all rates near 1 byte/s."""
    largest, total = int(trace.size_bytes.max()), int(trace.size_bytes.sum())
    capacity = [float(_fast_room(rng, largest, total))]
    if n_tiers == 3:
        capacity.append(float(rng.integers(0, total + 1)) if rng.random() < 0.8 else 0.0)
    shared = not (rules.inclusive and not rules.write_back)
    tight = shared and rng.random() < 0.3
    if tight and sum(capacity) >= total:
        # All may be above the backing tier, and some have to be.
        capacity.append(float(rng.integers(0, largest + 1)))
    else:
        capacity.append(float(max(total - sum(capacity) + largest, largest)) if tight else float("inf"))
    out = "link" if rng.random() < 0.3 else "out"  # Half-duplex, or a channel a direction.
    rates = {name: float(rng.uniform(0.3, 3.0)) for name in ("link", "dram", "disk")}
    tiers = [Tier("fast", capacity[0], {"bus": 1.0}, {"bus": float(rng.choice([1.0, 1.5]))})]
    for name, room in zip(("dram", "disk")[: n_tiers - 1] if n_tiers == 3 else ("dram",), capacity[1:], strict=True):
        outward = {name: float(rng.choice([1.0, 0.5])), "link": 1.0}
        tiers.append(Tier(name, room, {name: 1.0, "link": 1.0}, {name: 1.0, out: 1.0}, move_out=outward))
    used = ["link", *(["out"] if out == "out" else []), *(t.name for t in tiers[1:])]
    rates["out"] = float(rng.uniform(0.3, 3.0))
    channels = (Channel("bus", float(rng.uniform(1.5, 15.0))), *(Channel(name, rates[name]) for name in used))
    return Platform("random", tuple(tiers), channels)
