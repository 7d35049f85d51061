"""Decode traces in the manner of the published evaluation: recent tokens, and a share of the older ones that drifts.

References
----------
Fang et al., Accelerating LLM Inference via Dynamic KV Cache Placement in Heterogeneous Memory System, IEEE CAL 2025,
arXiv 2508.13231; the synthetic traces of the first author's simulator,
github.com/fangyunh/Data_Placement_Optimization.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvopt import interrupts
from kvopt.errors import TraceError
from kvopt.sources.lanes import LaneRuns, Recorder, decoded, decoded_tokens, without_repeats
from kvopt.trace import Trace

_ROUNDING = 1e-9
"""0.4 times 35 must be 14, whatever binary fractions make of it."""


@dataclass(frozen=True)
class RecentAndScattered:
    """The rule of :func:`recent_and_scattered`, in numbers.

    Parameters
    ----------
    prompt_tokens, n_steps : int
        At least 1.
    read_share : float
        In (0, 1].
    floor : float
        At least 1 - read_share, at most 1.
    swap_share : float
        In [0, 1].

    Raises
    ------
    TraceError
        When a parameter is out of range.
    """

    prompt_tokens: int
    n_steps: int
    read_share: float = 0.4
    floor: float = 0.95
    swap_share: float = 0.05

    def __post_init__(self) -> None:
        for name in ("prompt_tokens", "n_steps"):
            if getattr(self, name) < 1:
                raise TraceError(name, f"must be at least 1, got {getattr(self, name)!r}", "Give a whole number")
        if not 0 < self.read_share <= 1:
            raise TraceError("read_share", f"must be in (0, 1], got {self.read_share!r}", "Give a share")
        if not 1 - self.read_share - _ROUNDING <= self.floor <= 1:
            raise TraceError(
                "floor",
                f"must be in [1 - read_share, 1] = [{1 - self.read_share:.6g}, 1], got {self.floor!r}",
                "All tokens above the floor are read, and more than read_share of them there cannot be",
            )
        if not 0 <= self.swap_share <= 1:
            raise TraceError("swap_share", f"must be in [0, 1], got {self.swap_share!r}", "Give a share")

    @property
    def present(self) -> np.ndarray:
        """int64[N]: tokens of a lane in each step, the one that the step writes among them."""
        return self.prompt_tokens + 1 + np.arange(self.n_steps)

    @property
    def reads(self) -> np.ndarray:
        """int64[N]: tokens that each step reads, k = ceil(read_share * present)."""
        return np.ceil(self.read_share * self.present - _ROUNDING).astype(np.int64)

    @property
    def first_recent(self) -> np.ndarray:
        """int64[N]: the tokens from this one on are all read: floor * present, rounded down; 1 to k of them."""
        down = np.floor(self.floor * self.present + _ROUNDING).astype(np.int64)
        return np.clip(down, self.present - self.reads, self.present - 1)


def recent_and_scattered(
    prompt_tokens: int,
    n_steps: int,
    *,
    n_lanes: int = 1,
    read_share: float = 0.4,
    floor: float = 0.95,
    swap_share: float = 0.05,
    independent_lanes: bool = True,
    size_bytes: int = 16_384,
    seed: int,
) -> Trace:
    """A decode trace that reads all recent tokens and a drifting choice of the older ones.

    Prefill writes the prompt's P tokens of each lane, and step n writes token P + n. In step n, with len = P + n + 1
    tokens present, ``k = ceil(read_share * len)`` are read: all tokens from number ``floor * len`` on (rounded down;
    at least the newest, at most k), and as many *scattered* ones below that as k leaves. In step 0 these are drawn at
    random. In each later step the oldest ``swap_share`` of them (rounded) leave, first in, first out, and as many
    random others from below the floor enter, as far as there are others; as k and the floor move, more enter, or random
    ones leave. A token that the floor passes is read on only if it is drawn. The higher the floor, the more of what is
    read is scattered, and the more the reads vary.

    The published rule is followed in the share, the floor (0.7 for low variation and 0.95 for high), and the first-in,
    first-out drift. It is ours where the simulator swaps up to a tenth of the set, which we set to a twentieth in every
    step; and the middle floor (0.85) is ours alone, as the published middle case is a recorded trace. Lanes draw for
    themselves.

    Parameters
    ----------
    prompt_tokens, n_steps : int
        P and the number of steps, at least 1.
    n_lanes : int
        Layers, at least 1. Blocks are numbered lane by lane, token by token.
    read_share : float
        In (0, 1].
    floor : float
        In [1 - read_share, 1].
    swap_share : float
        In [0, 1].
    independent_lanes : bool
        Otherwise all lanes read alike.
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
    rule = RecentAndScattered(prompt_tokens, n_steps, read_share, floor, swap_share)
    return decoded(
        rule,
        _lane,
        n_lanes=n_lanes,
        independent_lanes=independent_lanes,
        size_bytes=size_bytes,
        seed=seed,
        name="recent-and-scattered",
        generator="kvopt.sources.published.recent_and_scattered",
    )


def _lane(rule: RecentAndScattered, rng: np.random.Generator) -> LaneRuns:
    """The runs of one lane. Only changes of the read set are recorded."""
    n_tokens = rule.prompt_tokens + rule.n_steps
    floors = rule.first_recent
    wanted = (rule.reads - (rule.present - floors)).tolist()
    floors = floors.tolist()
    recorder = Recorder(decoded_tokens(rule.prompt_tokens, rule.n_steps).clip(0))
    scattered, scratch = np.zeros(n_tokens, bool), np.empty(n_tokens, np.int32)
    queue = np.empty(0, np.int32)
    previous = floors[0]
    for step, (below, count) in enumerate(zip(floors, wanted, strict=True)):
        interrupts.heed()
        leave, enter, queue = _swap(rule, queue, scattered, below, count, rng, scratch)
        scattered[leave] = False
        scattered[enter] = True
        passed = np.arange(previous, below, dtype=np.int32)
        recorder.end(np.concatenate([leave, passed[~scattered[passed]]]), step)
        # What the floor has passed and was drawn has been read all along.
        recorder.begin(enter[enter < previous], step)
        previous = below
    recorder.end(np.concatenate([queue, np.arange(previous, n_tokens, dtype=np.int32)]), rule.n_steps)
    return recorder.runs()


def _swap(
    rule: RecentAndScattered,
    queue: np.ndarray,
    scattered: np.ndarray,
    below: int,
    count: int,
    rng: np.random.Generator,
    scratch: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens that leave, tokens that enter, the new queue, oldest first) so that ``count`` are scattered."""
    held = len(queue)
    grow, shrink = max(count - held, 0), max(held - count, 0)
    others = below - held
    swapped = min(round(rule.swap_share * held), others - grow, count)
    enter = _draw(scattered, below, others, swapped + grow, rng, scratch)
    leave, queue = queue[:swapped], queue[swapped:]
    if shrink:
        chosen = rng.choice(len(queue), shrink, replace=False)
        leave, queue = np.concatenate([leave, queue[chosen]]), np.delete(queue, chosen)
    return leave, enter, np.concatenate([queue, enter])


def _draw(
    scattered: np.ndarray, below: int, others: int, count: int, rng: np.random.Generator, scratch: np.ndarray
) -> np.ndarray:
    """int32[count]: tokens below the floor that are not scattered, each set and order equally likely."""
    if 2 * count > others:
        return rng.permutation(np.flatnonzero(~scattered[:below]).astype(np.int32))[:count]
    found = np.empty(0, np.int32)
    while len(found) < count:
        # Guesses that hit the set or repeat are passed over, which costs less than looking at all tokens.
        more = 8 + (count - len(found)) * below * 5 // (4 * others)
        guess = rng.integers(0, below, more, dtype=np.int32)
        found = np.concatenate([found, guess[~scattered[guess]]])
        found = without_repeats(found, scratch)
    return found[:count]
