"""Synthetic decode traces of any size, whose attention sets drift: the rule of :mod:`kvopt.sources.synthetic`.

There each step draws a key for every token. Here a step costs by the tokens that it swaps, and lanes are made one
after the other, so that 2e8 runs are a matter of minutes and need little memory beside the trace.
"""

from __future__ import annotations

import numpy as np

from kvopt import interrupts
from kvopt.sources.lanes import LaneRuns, Recorder, TraceBuilder, decoded_tokens, without_repeats
from kvopt.sources.synthetic import Drift
from kvopt.trace import Trace

_MOST_ROUNDS = 6
"""Rounds of guesses, before all tokens are looked at: where those read already have nearly all of the popularity."""


def drifting_lanes(
    prompt_tokens: int,
    n_steps: int,
    *,
    n_lanes: int = 1,
    read_share: float = 0.05,
    drift: float = 0.1,
    skew: float = 0.8,
    size_bytes: int = 4096,
    seed: int,
) -> Trace:
    """A trace by the rule of :func:`kvopt.sources.synthetic.drifting`, with the same probabilities but other draws.

    Tokens are drawn in proportion to popularity, and those in the last read set or drawn already are passed over: which
    is drawing without replacement from the others. Where those are too few, which of the dropped tokens are read again
    does not depend on popularity.

    Parameters
    ----------
    prompt_tokens, n_steps, n_lanes, read_share, drift, skew, size_bytes, seed
        As there.

    Returns
    -------
    Trace
        Of ``n_lanes * (prompt_tokens + n_steps)`` blocks; the same for the same arguments.

    Raises
    ------
    TraceError
        When a parameter is out of range.
    """
    rule = Drift(prompt_tokens, n_steps, n_lanes, read_share, drift, skew)
    builder, written = TraceBuilder(n_steps, n_lanes), decoded_tokens(prompt_tokens, n_steps)
    for lane in range(n_lanes):
        runs = _lane(rule, np.random.default_rng([seed, lane]))
        builder.add(lane, runs, size_bytes=size_bytes, write_step=written)
    return builder.finish(
        name=f"drifting-lanes-{seed}",
        provenance={
            "generator": "kvopt.sources.drift.drifting_lanes",
            "seed": seed,
            "size_bytes": size_bytes,
            **vars(rule),
        },
    )


def _lane(rule: Drift, rng: np.random.Generator) -> LaneRuns:
    """The runs of one lane. Only changes of the read set are recorded."""
    n_tokens = rule.prompt_tokens + rule.n_steps
    popularity = (1.0 - rng.random(n_tokens)) ** -rule.skew
    ends = np.cumsum(popularity)
    recorder = Recorder(np.zeros(n_tokens, np.int32))
    reading, scratch = np.zeros(n_tokens, bool), np.empty(n_tokens, np.int32)
    members = np.empty(0, np.int32)
    for step in range(rule.n_steps):
        interrupts.heed()
        held, present = len(members), rule.prompt_tokens + step + 1
        swapped = round(rule.drift * held)
        drawn = rule.reads(step) - held + swapped
        leaving = rng.choice(held, swapped, replace=False, shuffle=False) if swapped else np.empty(0, np.int64)
        dropped = members[leaving]
        enter = _draw(reading, popularity, ends[:present], min(drawn, present - held), rng, scratch)
        # Should the others be too few, dropped tokens are read again.
        again, dropped = np.split(dropped, [drawn - len(enter)]) if drawn > len(enter) else (dropped[:0], dropped)
        recorder.end(dropped, step)
        recorder.begin(enter, step)
        reading[dropped] = False
        reading[enter] = True
        members = np.concatenate([np.delete(members, leaving), again, enter])
    recorder.end(members, rule.n_steps)
    return recorder.runs()


def _draw(
    reading: np.ndarray,
    popularity: np.ndarray,
    ends: np.ndarray,
    count: int,
    rng: np.random.Generator,
    scratch: np.ndarray,
) -> np.ndarray:
    """int32[count]: present tokens that are not being read, drawn without replacement by popularity.

    Parameters
    ----------
    reading : bool[n_tokens]
    popularity : float64[n_tokens]
    ends : float64[present]
        Where each token's popularity ends when those present are laid end to end.
    count : int
        At most as many as there are.
    rng : numpy.random.Generator
    scratch : int32[n_tokens]
        Modified in place.
    """
    found = np.empty(0, np.int32)
    for _ in range(_MOST_ROUNDS):
        if len(found) == count:
            return found
        # Sorted places are found several times faster; the guesses are put back in random order.
        place = np.sort(ends[-1] * rng.random(8 + 2 * (count - len(found))))
        # A product that rounds up to the last end still belongs to the last token.
        guess = np.minimum(np.searchsorted(ends, place, side="right"), len(ends) - 1).astype(np.int32)
        found = np.concatenate([found, rng.permutation(guess[~reading[guess]])])
        found = without_repeats(found, scratch)[:count]
    others = ~reading[: len(ends)]
    others[found] = False
    rest = np.flatnonzero(others).astype(np.int32)
    # Exponential times over their rates, in order, are the same draw.
    race = rng.standard_exponential(len(rest)) / popularity[rest]
    return np.concatenate([found, rest[np.argsort(race)[: count - len(found)]]])
