"""Named families of instances, of any size: what benchmarks and examples are measured on.

An instance is made again from its name, the number of accesses asked for, and the seed. With the size, lanes grow from
1 to the 32 of the published evaluation; ratios stay: the share of tokens read, tokens of the prompt for each decoded
one, how fast the reads drift, and the tiers' capacities and the weights beside what a slot reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from kvopt.arguments import expect
from kvopt.errors import InstanceError, shown
from kvopt.instance import Instance, Rules
from kvopt.platform import Platform
from kvopt.sources.batch import staggered
from kvopt.sources.drift import drifting_lanes
from kvopt.sources.embedded import example_trace
from kvopt.sources.prefix_tree import prefix_tree
from kvopt.sources.published import RecentAndScattered, recent_and_scattered
from kvopt.sources.synthetic import Drift
from kvopt.trace import Trace

LEAST_ACCESSES = 1_000
_PUBLISHED_PROMPT, _PUBLISHED_STEPS, _PUBLISHED_LANES = 31_299, 10_239, 32
_PUBLISHED_HBM_TOKENS = 16_600
"""Of 41,538 in each lane at the end: 23 GiB less 16e9 bytes of weights, in tokens of 16,384 bytes and 32 lanes."""
_PUBLISHED_WEIGHT_BYTES = 162.9e6
"""Read in each layer and step."""
_LANES_FROM = 4e5
"""Accesses up to which there is one lane."""
_PROMPT_PER_STEP = 49
"""Of the drifting traces: 20,000 blocks and 400 steps at 4e5 accesses."""
_COPIES_AT_A_TIME = 8
_EXAMPLE_STEPS = 64
"""Of the embedded trace that are kept before lanes are left out."""
_HBM_SHARE = 0.25
_LOG_HBM_SHARE = 0.05


@dataclass(frozen=True)
class Family:
    """Instances of one kind.

    Parameters
    ----------
    name, description : str
    most_accesses : int
        The largest size, about 2e8 runs.
    make : callable
        (accesses, seed) -> Instance.
    """

    name: str
    description: str
    most_accesses: int
    make: Callable[[int, int], Instance]


def names() -> list[str]:
    """All families."""
    return list(_FAMILIES)


def describe(name: str) -> Family:
    """A family by its name.

    Raises
    ------
    InstanceError
        When there is none.
    """
    fix = f"Choose from: {', '.join(_FAMILIES)}"
    expect(str, "instance", name, fix, InstanceError)
    if name not in _FAMILIES:
        raise InstanceError("instance", f"there is no family {name!r}", fix)
    return _FAMILIES[name]


def make(name: str, accesses: float = 400_000, seed: int = 0) -> Instance:
    """An instance of a family.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    accesses : int or whole float
        Reads of a block in a step, which the instance has about (within a tenth), from 1,000 to what the family allows.
        4e5 will do.
    seed : int
        0 or more. The embedded family draws nothing.

    Returns
    -------
    Instance
        The same for the same arguments; the trace's ``provenance`` holds them.

    Raises
    ------
    InstanceError
        For a name, a size or a seed that there is not.
    """
    family = describe(name)
    if isinstance(accesses, float) and accesses.is_integer():
        accesses = int(accesses)
    for field, value, least, most in (
        ("accesses", accesses, LEAST_ACCESSES, family.most_accesses),
        ("seed", seed, 0, 2**31 - 1),
    ):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not (whole and least <= value <= most):
            fix = f"Give a whole number of {least:,} to {most:,}"
            raise InstanceError(field, f"must lie in {least:,}..{most:,} for {name!r}, got {shown(value)}", fix)
    instance = family.make(int(accesses), int(seed))
    made = {"instance": name, "accesses": int(accesses), "seed": int(seed)}
    provenance = {**made, **{key: value for key, value in instance.trace.provenance.items() if key not in made}}
    return replace(instance, trace=instance.trace._replace(name=f"{name}-{accesses:g}-{seed}", provenance=provenance))


def _lanes(accesses: int) -> int:
    """1 for small instances, 32 at the published size, and in between as a power of the size."""
    exponent = math.log(_PUBLISHED_LANES) / math.log(_published_accesses() / _LANES_FROM)
    return min(max(1, round((accesses / _LANES_FROM) ** exponent)), _PUBLISHED_LANES)


def _steps(accesses: int, reads: Callable[[int], int]) -> int:
    """The number of steps whose reads come nearest; ``reads`` must grow with it."""
    low, high = 1, 2
    while reads(high) < accesses:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if reads(middle) < accesses else (low, middle)
    return min((low, high), key=lambda steps: abs(reads(steps) - accesses))


def _mean_slot_bytes(trace: Trace) -> float:
    return trace.summary()["mean_read_bytes_per_slot"]


def _published_rule(steps: int, floor: float) -> RecentAndScattered:
    return RecentAndScattered(round(steps * _PUBLISHED_PROMPT / _PUBLISHED_STEPS), steps, floor=floor)


def _published_accesses() -> int:
    return _PUBLISHED_LANES * int(_published_rule(_PUBLISHED_STEPS, 0.95).reads.sum())


def _published(floor: float, accesses: int, seed: int) -> Instance:
    lanes = _lanes(accesses)
    steps = _steps(accesses, lambda n: lanes * int(_published_rule(n, floor).reads.sum()))
    # What is asked for as 4.7e9 is meant to be the published size.
    if lanes == _PUBLISHED_LANES and abs(steps / _PUBLISHED_STEPS - 1) < 0.03:
        steps = _PUBLISHED_STEPS
    rule = _published_rule(steps, floor)
    trace = recent_and_scattered(rule.prompt_tokens, steps, n_lanes=lanes, floor=floor, seed=seed)
    size = int(trace.size_bytes[0])
    slot_share = rule.reads.mean() / _published_rule(_PUBLISHED_STEPS, floor).reads.mean()
    tokens = _PUBLISHED_HBM_TOKENS * (rule.prompt_tokens + steps) / (_PUBLISHED_PROMPT + _PUBLISHED_STEPS)
    return Instance(
        trace,
        Platform.preset("fang2025-overlapped").with_capacity(round(tokens) * lanes * size),
        Rules("inclusive", "read-through", "balanced"),
        weight_bytes_per_slot=_PUBLISHED_WEIGHT_BYTES * slot_share,
    )


def _drift_trace(accesses: int, seed: int) -> Trace:
    lanes = _lanes(accesses)

    def reads(steps: int) -> int:
        rule = Drift(_PROMPT_PER_STEP * steps, steps, 1, 0.05, 0.1, 0.8)
        return lanes * sum(map(rule.reads, range(steps)))

    steps = _steps(accesses, reads)
    return drifting_lanes(_PROMPT_PER_STEP * steps, steps, n_lanes=lanes, seed=seed)


def _drift(hbm: float, accesses: int, seed: int, *, weights: float = 0.0) -> Instance:
    """HBM for so many times what a step reads, and weights of so many times what a slot reads of the KV cache."""
    trace = _drift_trace(accesses, seed)
    slot = _mean_slot_bytes(trace)
    instance = Instance(trace, Platform.preset("gh200"), weight_bytes_per_slot=weights * slot)
    return instance.with_hbm_bytes(_whole_blocks(hbm * slot * trace.n_lanes, trace))


def _three_tiers(accesses: int, seed: int) -> Instance:
    trace = _drift_trace(accesses, seed)
    step = _mean_slot_bytes(trace) * trace.n_lanes
    platform = Platform.preset("gh200-cxl").with_capacity(_whole_blocks(step, trace))
    return Instance(trace, platform.with_capacity(_whole_blocks(6 * step, trace), tier=1))


def _request_log(accesses: int, seed: int) -> Instance:
    trace = prefix_tree(accesses, seed=seed)
    live = trace.summary()["peak_live_bytes"]
    platform = Platform.preset("gh200")
    room = max(live, platform.tiers[-1].capacity_bytes)
    return Instance(trace, platform.with_capacity(room, tier=1)).with_hbm_bytes(
        _whole_blocks(_LOG_HBM_SHARE * live, trace)
    )


def _embedded(accesses: int, seed: int) -> Instance:
    example = example_trace()
    copies = -(-accesses // example.n_accesses)
    one = example if copies > 1 else _part_of_example(example, accesses)
    until = np.cumsum(_reads_of_steps(one))
    every = example.n_steps // _COPIES_AT_A_TIME
    starts = every * np.arange(copies)

    def reads(steps: int) -> int:
        """Of the copies that have begun by then."""
        decoded = np.minimum(steps - starts[starts < steps], one.n_steps)
        return int(until[decoded - 1].sum())

    steps = _steps(accesses, reads)
    begun = -(-steps // every) if copies > 1 else 1
    trace = staggered(one, min(copies, begun), every, n_steps=steps)
    decoding = np.clip(steps - starts, 0, one.n_steps).sum() / steps
    instance = Instance(trace, Platform.preset("gh200"), batch=max(1, round(decoding)))
    return instance.with_hbm_bytes(_whole_blocks(_HBM_SHARE * trace.summary()["peak_live_bytes"], trace))


def _part_of_example(trace: Trace, accesses: int) -> Trace:
    """Fewer lanes, and at last every so many tokens of one, so that the accesses asked for still take some steps."""
    of_one_lane = _EXAMPLE_STEPS * trace.n_accesses // (trace.n_steps * trace.n_lanes)
    lanes = min(max(1, accesses // of_one_lane), trace.n_lanes)
    every = max(1, of_one_lane // accesses)
    return trace.window(lanes=range(lanes), blocks=np.arange(trace.n_blocks) % every == 0)


def _reads_of_steps(trace: Trace) -> np.ndarray:
    """int64[N]: blocks that each step reads."""
    change = np.zeros(trace.n_steps + 1, np.int64)
    for _, runs in trace.chunks():
        change += np.bincount(trace.run_start[runs], minlength=len(change))
        change -= np.bincount(trace.run_stop[runs], minlength=len(change))
    return np.cumsum(change)[:-1]


def _whole_blocks(bytes_: float, trace: Trace) -> int:
    """A capacity as a number of blocks, at least one."""
    size = int(trace.size_bytes.max())
    return max(1, round(bytes_ / size)) * size


def _published_family(variation: str, floor: float, scattered: str) -> Family:
    words = f"the published rule at 40 % read, floor {floor}: {scattered} of the tokens read are scattered and drift"
    return Family(f"published-{variation}", words, 4_800_000_000, partial(_published, floor))


def _drift_family(name: str, capacities: str, instance: Callable[[int, int], Instance]) -> Family:
    words = f"reads drift by popularity, a twentieth of the tokens in each step; {capacities}"
    return Family(name, words, 2_000_000_000, instance)


_ALL = (
    _published_family("low", 0.7, "a quarter"),
    _published_family("middle", 0.85, "five eighths"),
    _published_family("high", 0.95, "seven eighths"),
    _drift_family("dram-bound", "HBM holds 0.6 times what a step reads", partial(_drift, 0.6)),
    _drift_family("balanced", "HBM holds 5 times what a step reads", partial(_drift, 5.0)),
    _drift_family("knee", "HBM holds 1.5 times what a step reads", partial(_drift, 1.5)),
    _drift_family(
        "weights-heavy",
        "HBM holds 1.5 times what a step reads, and each slot reads weights of twice its KV bytes",
        partial(_drift, 1.5, weights=2.0),
    ),
    _drift_family("three-tier", "HBM holds what a step reads, LPDDR 6 times that, CXL the rest", _three_tiers),
    Family(
        "request-log",
        "a synthetic log of conversations that share prefixes; HBM holds a twentieth of all blocks",
        200_000_000,
        _request_log,
    ),
    Family(
        "embedded",
        "the embedded trace, a part of it, or copies that start one after the other; HBM holds a quarter of the peak",
        430_000_000,
        _embedded,
    ),
)
_FAMILIES = {family.name: family for family in _ALL}
