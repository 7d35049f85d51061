"""From attention scores to access traces.

A decoder that attends sparsely reads, in each step and layer, only the tokens that matter most to the query. Given
the scores of one decoding run these functions choose those tokens and turn them into a :class:`kvopt.trace.Trace`
whose block is one token's keys and values in one layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np

from kvopt.arguments import scalar
from kvopt.errors import TraceError, shown
from kvopt.trace import PREFILL, Trace


def top_share_accesses(scores: np.ndarray, share: float) -> np.ndarray:
    """Choose, in each step and layer, the share of the present tokens with the highest scores.

    Parameters
    ----------
    scores : float[N, L, P + N]
        ``scores[n, l, i]`` is the attention that step n pays to token i in layer l. The prompt has P tokens and each
        step adds one, so that step n sees the tokens 0..P + n; entries past them are not looked at.
    share : float
        Share of the present tokens that is read, in (0, 1]. Of p tokens ceil(share * p) are read.

    Returns
    -------
    bool[N, L, P + N]
        Whether the token is read. Of tokens with equal scores the earlier one is preferred.

    Raises
    ------
    TraceError
        If `share` is outside (0, 1], `scores` is not a three-dimensional array with at least as many tokens as steps,
        or a score of a present token is negative or not finite.
    """
    share = scalar(share)
    if isinstance(share, bool) or not isinstance(share, Real | Decimal) or not 0 < share <= 1:
        raise TraceError("share", f"must be in (0, 1], got {shown(share)}", "Give the share of present tokens to read")
    scores = _array("scores", scores, "fiu", "Give attention probabilities")
    if scores.ndim != 3 or not 0 < scores.shape[0] <= scores.shape[2] or scores.shape[1] == 0:
        raise TraceError("scores", f"have shape {scores.shape}", "Give (steps, layers, prompt tokens + steps)")
    # The decimal that was written, not its binary neighbour: 0.1 of 50 tokens is 5, not a rounding error more.
    exact_share = Fraction(share) if isinstance(share, Fraction) else Fraction(str(share))
    read = np.zeros(scores.shape, bool)
    for step in range(scores.shape[0]):
        present = present_tokens(scores.shape, step)
        visible = scores[step, :, :present]
        if not (np.isfinite(visible) & (visible >= 0)).all():
            raise TraceError("scores", f"of step {step} are negative or not finite", "Give attention probabilities")
        # A stable sort of the negated scores leaves equal ones in the order of the tokens.
        best = np.argsort(-visible, axis=1, kind="stable")[:, : math.ceil(exact_share * present)]
        np.put_along_axis(read[step], best, True, axis=1)
    return read


def present_tokens(shape: tuple[int, int, int], step: int) -> int:
    """Tokens that a step sees, its own included.

    Parameters
    ----------
    shape : (int, int, int)
        Shape of the scores: (N, L, P + N).
    step : int
        Step n in 0..N - 1.

    Returns
    -------
    int
        P + n + 1.
    """
    return shape[2] - shape[0] + step + 1


def trace_from_reads(
    read: np.ndarray, size_bytes: int, *, name: str = "attention", provenance: Mapping[str, Any] | None = None
) -> Trace:
    """Make the trace of a decoding run from the tokens it reads.

    Parameters
    ----------
    read : bool[N, L, P + N]
        Whether step n reads token i in layer l, as :func:`top_share_accesses` returns it.
    size_bytes : int
        Bytes of K and V of one token in one layer.
    name, provenance
        Kept in the trace.

    Returns
    -------
    Trace
        Block ``l * (P + N) + i`` is token i in layer l. The prompt is written by prefill; step n writes token P + n.

    Raises
    ------
    TraceError
        If a token is read before it is written, or `size_bytes` is not greater than 0.
    """
    read = _array("read", read, "b", "Give what top_share_accesses returns")
    if read.ndim != 3 or not 0 < read.shape[0] <= read.shape[2] or read.shape[1] == 0:
        raise TraceError("read", f"has shape {read.shape}", "Give (steps, layers, prompt tokens + steps)")
    n_steps, n_lanes, n_tokens = read.shape
    step, lane, token = np.nonzero(read)
    written = np.maximum(np.arange(n_tokens) - (n_tokens - n_steps), PREFILL)
    return Trace.from_accesses(
        lane * n_tokens + token,
        step,
        n_steps=n_steps,
        n_lanes=n_lanes,
        lane=np.repeat(np.arange(n_lanes), n_tokens),
        size_bytes=size_bytes,
        write_step=np.tile(written, n_lanes),
        name=name,
        provenance={} if provenance is None else provenance,
    )


def _array(field: str, values: Any, kinds: str, fix: str) -> np.ndarray:
    """The values as an array whose dtype is of one of the kinds."""
    try:
        array = np.asarray(values)
    except (ValueError, TypeError):
        raise TraceError(field, "is no array: its rows differ in length", fix) from None
    if array.dtype.kind not in kinds:
        raise TraceError(field, f"has dtype {array.dtype}", fix)
    return array
