"""Synthetic decode traces: attention sets that drift slowly, reproducible from a seed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kvopt import interrupts
from kvopt.errors import TraceError
from kvopt.trace import PREFILL, Trace


@dataclass(frozen=True)
class Drift:
    """The parameters of :func:`drifting`, checked.

    Raises
    ------
    TraceError
        When one is out of range.
    """

    prompt_tokens: int
    n_steps: int
    n_lanes: int
    read_share: float
    drift: float
    skew: float

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "n_steps", "n_lanes"):
            if getattr(self, name) < 1:
                raise TraceError(name, f"must be at least 1, got {getattr(self, name)!r}", "Give a whole number")
        for name in ("read_share", "drift"):
            if not 0 <= getattr(self, name) <= 1:
                raise TraceError(name, f"must be in [0, 1], got {getattr(self, name)!r}", "Give a share")
        if not (math.isfinite(self.skew) and self.skew >= 0):
            raise TraceError(
                "skew", f"must be 0 or more, got {self.skew!r}", "Use 0 for tokens equally likely to be read"
            )

    def reads(self, step: int) -> int:
        """How many tokens of a lane are read in a step."""
        return max(1, round(self.read_share * (self.prompt_tokens + step + 1)))


def drifting(
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
    """A decode trace whose read set drifts: each step swaps a share of it for other tokens.

    Every lane draws for itself. Before step 0 a lane holds the prompt's P tokens; step n writes token P + n and may
    read tokens 0..P + n. Token i has a popularity ``u_i ** -skew`` with u_i uniform in (0, 1], drawn once. Step n reads
    ``k_n = max(1, round(read_share * (P + n + 1)))`` tokens. Step 0 draws them without replacement with probabilities
    in proportion to popularity. Step n > 0 drops ``round(drift * k_{n-1})`` tokens of the last read set, all equally
    likely to go, and draws as many others as it lacks, likewise by popularity, from the tokens that were not in the
    last read set; should those be too few, dropped tokens are read again. A token is read for about 1 / drift steps on
    end.

    Parameters
    ----------
    prompt_tokens : int
        P, at least 1.
    n_steps : int
        Decoded tokens, at least 1.
    n_lanes : int
        Layers, at least 1. Blocks are numbered lane by lane, token by token.
    read_share : float
        Share of the present tokens that a step reads, in [0, 1].
    drift : float
        Share of the read set that each step swaps, in [0, 1].
    skew : float
        0 makes all tokens equally popular; above it popularity falls with rank about as ``rank ** -skew`` (Zipf's law).
    size_bytes : int
        Of every block.
    seed : int

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
    n_tokens = prompt_tokens + n_steps
    token, lane = np.tile(np.arange(n_tokens), n_lanes), np.repeat(np.arange(n_lanes), n_tokens)
    block, start, stop = _runs(rule, np.random.default_rng(seed))
    return Trace(
        n_steps=n_steps,
        n_lanes=n_lanes,
        lane=lane,
        size_bytes=np.full(len(lane), size_bytes),
        write_step=np.where(token < prompt_tokens, PREFILL, token - prompt_tokens),
        free_step=np.full(len(lane), n_steps),
        run_ptr=np.concatenate([[0], np.cumsum(np.bincount(block, minlength=len(lane)))]),
        run_start=start,
        run_stop=stop,
        name=f"drifting-{seed}",
        provenance={
            "generator": "kvopt.sources.synthetic.drifting",
            "seed": seed,
            "size_bytes": size_bytes,
            **vars(rule),
        },
    )


def _runs(rule: Drift, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(block, start, stop) of all runs, ascending by block and start. Only changes of the read set are recorded."""
    shape = (rule.n_lanes, rule.prompt_tokens + rule.n_steps)
    popularity = (1.0 - rng.random(shape)) ** -rule.skew
    reading, began = np.zeros(shape, bool), np.zeros(shape, np.int64)
    runs = []
    for step in range(rule.n_steps):
        interrupts.heed()
        now = np.zeros(shape, bool)
        present = rule.prompt_tokens + step + 1
        now[:, :present] = _next_set(rule, step, reading[:, :present], popularity[:, :present], rng)
        ended = np.flatnonzero(reading & ~now)
        runs.append((ended, began.ravel()[ended], np.full(len(ended), step)))
        began[now & ~reading] = step
        reading = now
    last = np.flatnonzero(reading)
    runs.append((last, began.ravel()[last], np.full(len(last), rule.n_steps)))
    block, start, stop = (np.concatenate(column) for column in zip(*runs, strict=True))
    order = np.lexsort((start, block))
    return block[order], start[order], stop[order]


def _next_set(rule: Drift, step: int, last: np.ndarray, popularity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool[L, tokens]: the read set of a step, from that of the step before."""
    held = rule.reads(step - 1) if step else 0
    swapped = round(rule.drift * held)
    stay = last & ~_smallest(np.where(last, rng.random(last.shape), np.inf), swapped)
    # Exponential times over their rates, in order, are a weighted draw without replacement; r / (1 + r) keeps the order
    # and leaves [1, 2) for the dropped tokens.
    race = rng.standard_exponential(last.shape) / popularity
    race /= 1 + race
    race[last] += 1
    race[stay] = np.inf
    return stay | _smallest(race, rule.reads(step) - held + swapped)


def _smallest(key: np.ndarray, count: int) -> np.ndarray:
    """bool[L, tokens]: the ``count`` smallest keys of each row."""
    chosen = np.zeros(key.shape, bool)
    if count:
        np.put_along_axis(chosen, np.argpartition(key, count - 1, axis=1)[:, :count], True, axis=1)
    return chosen
