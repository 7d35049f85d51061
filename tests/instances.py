"""Random tiny instances, and the truth about them by brute force, straight from the definition.

Nothing here uses kvopt.lowering or kvopt.evaluate, so that it can judge both.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import strategies as st

from kvopt import Channel, Instance, Placement, Platform, Rules, Tier, Trace

_MOST_COMBINATIONS = 70_000


def tiny_instance(rng: np.random.Generator) -> Instance:
    """2-4 blocks over 2-5 slots in 1-2 lanes: small enough to try every residency."""
    while True:
        n_lanes = int(rng.integers(1, 3))
        n_steps = int(rng.integers(1, 3)) if n_lanes == 2 else int(rng.integers(2, 6))
        n_blocks = int(rng.integers(2, 5))
        trace = _tiny_trace(rng, n_steps, n_lanes, n_blocks)
        instance = _tiny_problem(rng, trace)
        if _combinations(instance) <= _MOST_COMBINATIONS:
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
    fast = int(rng.integers(largest, max(total, largest + 1) + 1))
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
    fast = float(draw(st.integers(largest, total)))
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
    """Any residency inside the blocks' lives, feasible or not."""
    in_fast = rng.random((instance.trace.n_blocks, instance.n_slots)) < rng.choice([0.1, 0.4, 0.7])
    slot = np.arange(instance.n_slots)
    alive = (slot >= instance.birth_slot[:, None]) & (slot < instance.death_slot[:, None])
    return Placement.from_dense(in_fast & alive)


def _combinations(instance: Instance) -> float:
    return 2.0 ** int((instance.death_slot - instance.birth_slot).sum())


def reads(instance: Instance) -> np.ndarray:
    """bool[B, T]: which block is read in which slot."""
    trace = instance.trace
    read = np.zeros((trace.n_blocks, trace.n_slots), bool)
    for i in range(trace.n_blocks):
        for k in range(trace.run_ptr[i], trace.run_ptr[i + 1]):
            for n in range(trace.run_start[k], trace.run_stop[k]):
                read[i, n * trace.n_lanes + trace.lane[i]] = True
    return read


def block_loads(instance: Instance, i: int, path: tuple[bool, ...], read: np.ndarray) -> np.ndarray:
    """float64[T, C]: bytes block i puts on each channel when it is in the fast tier as ``path`` says, slot by slot."""
    platform, rules, size = instance.platform, instance.rules, float(instance.trace.size_bytes[i])
    names = {c.name: k for k, c in enumerate(platform.channels)}
    fast, slow = platform.tiers
    load = np.zeros((instance.n_slots, len(names)))

    def use(t: int, per_byte) -> None:
        for channel, share in per_byte.items():
            load[t, names[channel]] += share * size

    birth = int(instance.birth_slot[i])
    for j, here in enumerate(path):
        t = birth + j
        if j == 0 and instance.trace.write_step[i] >= 0:
            if here:
                use(t, fast.write)
            if rules.inclusive or not here:
                use(t, slow.write)
        if read[i, t]:
            use(t, (fast if here else slow).read)
        if j + 1 == len(path) or path[j + 1] == here:
            continue
        source, target = (slow, fast) if path[j + 1] else (fast, slow)
        if rules.moves.value == "free" or (rules.inclusive and target is slow):
            continue
        use(t, target.write)
        if not (rules.read_through and read[i, t]):
            use(t, source.move_out)
    return load


def slow_latency(instance: Instance, placement: Placement) -> float:
    """Decode time by the definition, block by block and slot by slot."""
    in_fast, read = placement.to_dense(instance.n_slots), reads(instance)
    fast = instance.platform.tiers[0]
    load = np.zeros((instance.n_slots, len(instance.platform.channels)))
    for k, channel in enumerate(instance.platform.channels):
        load[:, k] += instance.weight_bytes_per_slot * fast.read.get(channel.name, 0.0)
    for i in range(instance.trace.n_blocks):
        path = in_fast[i, instance.birth_slot[i] : instance.death_slot[i]]
        load += block_loads(instance, i, tuple(bool(z) for z in path), read)
    rates = np.array([c.bandwidth_bytes_per_s for c in instance.platform.channels])
    return float((load / rates).max(axis=1).sum())


def slow_objective(instance: Instance, placement: Placement) -> float:
    """The objective by the definition, block by block and slot by slot."""
    in_fast, read, prices = placement.to_dense(instance.n_slots), reads(instance), instance.prices
    total = prices.per_second * slow_latency(instance, placement)
    total += prices.read[0] * instance.weight_bytes_per_slot * instance.n_slots
    for i in range(instance.trace.n_blocks):
        path = tuple(bool(z) for z in in_fast[i, instance.birth_slot[i] : instance.death_slot[i]])
        total += block_price(instance, i, path, read)
    return float(total)


def block_price(instance: Instance, i: int, path: tuple[bool, ...], read: np.ndarray) -> float:
    """What the objective charges block i by the byte when it is in the fast tier as ``path`` says."""
    prices, rules, total = instance.prices, instance.rules, 0.0
    for j, here in enumerate(path):
        t = int(instance.birth_slot[i]) + j
        tier = 0 if here else 1
        both = rules.inclusive and here
        total += prices.hold[tier] + (prices.hold[1] if both else 0.0)
        if j == 0 and instance.trace.write_step[i] >= 0:
            total += prices.write[tier] + (prices.write[1] if both else 0.0)
        if read[i, t]:
            total += prices.read[tier]
        if j + 1 == len(path) or path[j + 1] == here or rules.free_moves:
            continue
        if rules.inclusive and here:
            continue
        total += prices.write[1 - tier]
        if not (rules.read_through and read[i, t]):
            total += prices.move_out[tier]
    return total * float(instance.trace.size_bytes[i])


def brute_force(instance: Instance) -> tuple[float, Placement]:
    """The optimum and a placement that attains it, by trying every residency of every block.

    Raises
    ------
    ValueError
        When no residency is feasible.
    """
    trace, read = instance.trace, reads(instance)
    rates = np.array([c.bandwidth_bytes_per_s for c in instance.platform.channels])
    base = np.array([instance.platform.tiers[0].read.get(c.name, 0.0) for c in instance.platform.channels])
    # Every combination so far: its loads in seconds, bytes in the fast tier, and the paths chosen.
    loads = np.tile(instance.weight_bytes_per_slot * base / rates, (1, instance.n_slots, 1))
    price = np.array([instance.prices.read[0] * instance.weight_bytes_per_slot * instance.n_slots])
    held = np.zeros((1, instance.n_slots))
    chosen: np.ndarray = np.zeros((1, 0), int)
    for i in range(trace.n_blocks):
        birth, death = int(instance.birth_slot[i]), int(instance.death_slot[i])
        paths = list(product((False, True), repeat=death - birth))
        own = np.array([block_loads(instance, i, path, read) / rates for path in paths])
        own_held = np.zeros((len(paths), instance.n_slots))
        own_held[:, birth:death] = np.array(paths) * float(trace.size_bytes[i])
        loads = (loads[:, None] + own[None]).reshape(-1, *loads.shape[1:])
        held = (held[:, None] + own_held[None]).reshape(-1, instance.n_slots)
        own_price = np.array([block_price(instance, i, path, read) for path in paths])
        price = (price[:, None] + own_price[None]).ravel()
        pick = np.tile(np.arange(len(paths)), len(chosen))[:, None]
        chosen = np.hstack([np.repeat(chosen, len(paths), axis=0), pick])
        fits = (held <= instance.capacity_bytes[0]).all(axis=1)
        loads, held, chosen, price = loads[fits], held[fits], chosen[fits], price[fits]
    if not instance.rules.inclusive:
        fits = (instance.live_bytes - held <= instance.capacity_bytes[1]).all(axis=1)
        loads, chosen, price = loads[fits], chosen[fits], price[fits]
    if not len(loads):
        raise ValueError("no residency is feasible")
    total = instance.prices.per_second * loads.max(axis=2).sum(axis=1) + price
    best = int(np.argmin(total))
    in_fast = np.zeros((trace.n_blocks, instance.n_slots), bool)
    for i, number in enumerate(chosen[best]):
        birth, death = int(instance.birth_slot[i]), int(instance.death_slot[i])
        in_fast[i, birth:death] = list(product((False, True), repeat=death - birth))[number]
    return float(total[best]), Placement.from_dense(in_fast)
