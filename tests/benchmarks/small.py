"""Small instances to prove optimal: parts of the named families, under rules drawn at random.

A part is some steps, the first lanes and every so many-th block of a family's instance; capacities and weights shrink
with what is kept, so that it is as tight as the whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kvopt import Instance, Platform, Rules, Trace, instances
from kvopt.exact import column_count

RULES = (
    Rules("exclusive", "explicit"),
    Rules("exclusive", "read-through"),
    Rules("inclusive", "explicit"),
    Rules("inclusive", "read-through"),
    Rules("inclusive", "explicit", writes="back"),
    Rules("inclusive", "read-through", writes="back"),
    Rules("inclusive", "explicit", "balanced"),
    Rules("inclusive", "read-through", "balanced"),
)
_OVER_TWO_TIERS_ONLY = 2
"""The last so many."""
_ACCESSES_OF_LANES = {1: 300_000, 2: 2_000_000, 3: 6_000_000}
"""A family's instances of that size have at least so many lanes."""
_LOG_ACCESSES = 2_000
"""The request log's steps are many and its lane one; this is what has some hundred steps."""
_COLUMNS = (4_000, 24_000)


@dataclass(frozen=True)
class Small:
    """One of the numbered small instances.

    Parameters
    ----------
    family : str
    rules : Rules
    instance : Instance
    """

    family: str
    rules: Rules
    instance: Instance

    def __str__(self) -> str:
        rules, trace = self.rules, self.instance.trace
        words = [rules.copies.value, rules.moves.value]
        words += [rules.reads.value] if rules.balanced else []
        words += ["back"] if rules.write_back else []
        return f"{self.family}, {len(self.instance.capacity_bytes)} tiers, {trace.n_lanes} lanes, {' '.join(words)}"


def make(number: int) -> Small:
    """The small instance of that number, from 0; families take turns, all else is drawn.

    Parameters
    ----------
    number : int
    """
    rng = np.random.default_rng(number)
    family = instances.names()[number % len(instances.names())]
    n_lanes = int(rng.integers(1, 4))
    whole = instances.make(family, _LOG_ACCESSES if family == "request-log" else _ACCESSES_OF_LANES[n_lanes], number)
    tiers = len(whole.capacity_bytes)
    rules = RULES[rng.integers(len(RULES) - (_OVER_TWO_TIERS_ONLY if tiers > 2 else 0))]
    steps = min(int(rng.integers(8, 25)), whole.trace.n_steps)
    first = int(rng.integers(whole.trace.n_steps - steps + 1))
    columns = round(math.exp(rng.uniform(*np.log(_COLUMNS))))
    return Small(family, rules, part(whole, rules, (first, first + steps), n_lanes, columns))


def part(whole: Instance, rules: Rules, steps: tuple[int, int], n_lanes: int, columns: int) -> Instance:
    """A part whose exact model has about so many columns.

    Parameters
    ----------
    whole : Instance
    rules : Rules
        Of the part.
    steps : (int, int)
        First and one past the last.
    n_lanes : int
        At most; the first ones.
    columns : int
    """
    lanes = range(min(n_lanes, whole.trace.n_lanes))
    least = 4 * len(lanes)
    keep = max(least, 400)
    for _ in range(3):  # Columns are proportional to the blocks, but for those that are not yet, or no longer, there.
        found = _of_blocks(whole, rules, steps, lanes, keep)
        keep = max(least, round(keep * columns / column_count(found)))
    return found


def _of_blocks(whole: Instance, rules: Rules, steps: tuple[int, int], lanes: range, keep: int) -> Instance:
    """About so many blocks, evenly spread."""
    trace = whole.trace
    there = (trace.lane < len(lanes)) & (trace.write_step < steps[1]) & (trace.free_step > steps[0])
    # By lane, so that each keeps its share.
    candidates = np.flatnonzero(there)[np.argsort(trace.lane[there], kind="stable")]
    chosen = np.zeros(trace.n_blocks, bool)
    chosen[candidates[np.linspace(0, len(candidates) - 1, min(keep, len(candidates))).astype(int)]] = True
    kept = trace.window(steps, lanes, chosen)
    live = whole.live_bytes[steps[0] * trace.n_lanes : steps[1] * trace.n_lanes].max()
    share = kept.summary()["peak_live_bytes"] / live
    by_slot = share * trace.n_lanes / kept.n_lanes
    return Instance(
        kept, _shrunk(whole, kept, share), rules, weight_bytes_per_slot=whole.weight_bytes_per_slot * by_slot
    )


def _shrunk(whole: Instance, kept: Trace, share: float) -> Platform:
    """Whole blocks of that share in each tier, and room for all in the last."""
    platform, size, last = whole.platform, float(kept.size_bytes.max()), len(whole.capacity_bytes) - 1
    for tier, capacity in enumerate(whole.capacity_bytes[:-1]):
        platform = platform.with_capacity(max(1, round(capacity * share / size)) * size, tier)
    return platform.with_capacity(float(kept.size_bytes.sum()), last)
