"""Decode traces by what is *not* read: a set of skipped tokens below a ceiling, whose newest members change.

References
----------
Fang et al., Accelerating LLM Inference via Dynamic KV Cache Placement in Heterogeneous Memory System, IEEE CAL 2025,
arXiv 2508.13231; the trace generator of the first author's simulator,
github.com/fangyunh/Data_Placement_Optimization.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvopt import interrupts
from kvopt.errors import TraceError
from kvopt.sources.lanes import LaneRuns, Recorder, decoded, decoded_tokens
from kvopt.trace import Trace

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Skipping:
    """The rule of :func:`skipping`, in numbers.

    Parameters
    ----------
    prompt_tokens, n_steps : int
        At least 1.
    sparsity : float
        In [0, 1).
    ceiling : float
        At least ``sparsity``, at most 1.
    swap_share : float
        In [0, 1].

    Raises
    ------
    TraceError
        When a parameter is out of range.
    """

    prompt_tokens: int
    n_steps: int
    sparsity: float = 0.6
    ceiling: float = 0.7
    swap_share: float = 0.03

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "n_steps"):
            if getattr(self, name) < 1:
                raise TraceError(name, f"must be at least 1, got {getattr(self, name)!r}", "Give a whole number")
        if not 0 <= self.sparsity < 1:
            raise TraceError("sparsity", f"must be in [0, 1), got {self.sparsity!r}", "Give the share that is not read")
        if not self.sparsity - _ROUNDING <= self.ceiling <= 1:
            raise TraceError(
                "ceiling",
                f"must be in [sparsity, 1] = [{self.sparsity:.6g}, 1], got {self.ceiling!r}",
                "All skipped tokens lie below it, and there must be room for them",
            )
        if not 0 <= self.swap_share <= 1:
            raise TraceError("swap_share", f"must be in [0, 1], got {self.swap_share!r}", "Give a share")

    @property
    def present(self) -> np.ndarray:
        """int64[N]: tokens of a lane in each step, the one that the step writes among them."""
        return self.prompt_tokens + 1 + np.arange(self.n_steps)

    @property
    def reads(self) -> np.ndarray:
        """int64[N]: tokens that each step reads, ceil((1 - sparsity) * present)."""
        return np.ceil((1 - self.sparsity) * self.present - _ROUNDING).astype(np.int64)

    @property
    def candidates(self) -> np.ndarray:
        """int64[N]: so many of the oldest tokens may be skipped: ceiling * present, rounded down, and room enough."""
        down = np.floor(self.ceiling * self.present + _ROUNDING).astype(np.int64)
        return np.clip(down, self.present - self.reads, self.present - 1)


def skipping(
    prompt_tokens: int,
    n_steps: int,
    *,
    n_lanes: int = 1,
    sparsity: float = 0.6,
    ceiling: float = 0.7,
    swap_share: float = 0.03,
    independent_lanes: bool = False,
    size_bytes: int = 16_384,
    seed: int,
) -> Trace:
    """A decode trace that skips a share of the tokens below a ceiling and reads all others.

    In step n, with len = P + n + 1 tokens present, ``ceil((1 - sparsity) * len)`` are read and the others skipped. In
    step 0 the skipped ones are drawn at random from the oldest ``ceiling * len``. In each later step more are drawn
    from there as their number grows, and then ``swap_share`` of them (rounded down), *those with the highest numbers*,
    are read again in exchange for as many random others below the ceiling. So what is skipped settles among the oldest
    tokens, and reads vary where the newest of the skipped lie: the higher the ceiling, the more tokens take turns
    there.

    This is the published generator's rule as its code has it, which draws one set for all layers. That code has both
    numbers as constants to be edited; which values made the published tables it does not say.

    Parameters
    ----------
    prompt_tokens, n_steps : int
        P and the number of steps, at least 1.
    n_lanes : int
        Layers, at least 1. Blocks are numbered lane by lane, token by token.
    sparsity : float
        In [0, 1).
    ceiling : float
        In [sparsity, 1].
    swap_share : float
        In [0, 1].
    independent_lanes : bool
        Otherwise all lanes read alike, as published.
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
    rule = Skipping(prompt_tokens, n_steps, sparsity, ceiling, swap_share)
    return decoded(
        rule,
        _lane,
        n_lanes=n_lanes,
        independent_lanes=independent_lanes,
        size_bytes=size_bytes,
        seed=seed,
        name="skipping",
        generator="kvopt.sources.skipping.skipping",
    )


def _lane(rule: Skipping, rng: np.random.Generator) -> LaneRuns:
    """The runs of one lane. Only changes of the skipped set are recorded."""
    n_tokens = rule.prompt_tokens + rule.n_steps
    recorder = Recorder(decoded_tokens(rule.prompt_tokens, rule.n_steps).clip(0))
    skipped = np.zeros(n_tokens, bool)
    wanted = (rule.present - rule.reads).tolist()
    for step, (below, count) in enumerate(zip(rule.candidates.tolist(), wanted, strict=True)):
        interrupts.heed()
        before = np.flatnonzero(skipped)
        skipped[_draw(skipped, below, count - len(before), rng)] = True
        swapped = min(int(rule.swap_share * len(before)), below - count)
        if swapped:
            newest = np.flatnonzero(skipped)[-swapped:]
            # Drawn while those are still skipped: none of them comes back at once.
            others = _draw(skipped, below, swapped, rng)
            skipped[newest] = False
            skipped[others] = True
        now = np.flatnonzero(skipped)
        if step:  # What is skipped from the first step on has not begun to be read.
            recorder.end(_without(now, before), step)
        recorder.begin(_without(before, now), step)
    present = np.flatnonzero(~skipped)
    recorder.end(present, rule.n_steps)
    return recorder.runs()


def _draw(skipped: np.ndarray, below: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """int[count]: tokens below a number that are read, each set equally likely."""
    if count <= 0:
        return np.empty(0, np.int64)
    return rng.choice(np.flatnonzero(~skipped[:below]), count, replace=False, shuffle=False)


def _without(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of ascending numbers those that are not among others."""
    return np.setdiff1d(some, others, assume_unique=True)
