"""What a captured trace looks like: the numbers that tell a real one from noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvopt.sources.attention import present_tokens

SINK_TOKENS = 4
LOCAL_TOKENS = 64


def describe_reads(scores: np.ndarray, read: np.ndarray) -> dict[str, Any]:
    """Summarise attention and the reads chosen from it.

    Parameters
    ----------
    scores : float[N, L, P + N]
        Attention probabilities; each step's and layer's sum to 1.
    read : bool[N, L, P + N]
        Whether step n reads token i in layer l.

    Returns
    -------
    dict
        ``kept_mass``, ``sink_mass`` and ``local_mass``: mean share of the attention on what is read, on the first
        :data:`SINK_TOKENS` tokens and on the last :data:`LOCAL_TOKENS`; ``jaccard``: mean overlap of consecutive
        steps' reads; ``runs``, ``mean_run_steps``, ``never_read``: number of runs, their mean length in steps, share
        of blocks without a run; ``gap_steps``: quantiles of the gaps between a block's runs. Masses and overlap are
        also given ``by_layer``.
    """
    lengths, gaps = _runs_and_gaps(read)
    mass = {
        "kept_mass": np.where(read, scores, 0).sum(axis=2, dtype=np.float64).mean(axis=0),
        "sink_mass": scores[:, :, :SINK_TOKENS].sum(axis=2, dtype=np.float64).mean(axis=0),
        "local_mass": _local_mass(scores),
        "jaccard": _jaccard(read),
    }
    quantiles = np.quantile(gaps, [0.1, 0.5, 0.9, 0.99, 1.0]) if len(gaps) else np.zeros(5)
    return {
        **{name: round(float(values.mean()), 4) for name, values in mass.items()},
        "by_layer": {name: [round(float(v), 4) for v in values] for name, values in mass.items()},
        "runs": len(lengths),
        "mean_run_steps": round(float(lengths.mean()), 3),
        "never_read": round(float((~read.any(axis=0)).mean()), 4),
        "returns": len(gaps),
        "gap_steps": dict(zip(("p10", "p50", "p90", "p99", "max"), quantiles.round(1).tolist(), strict=True)),
    }


def _local_mass(scores: np.ndarray) -> np.ndarray:
    """Mean attention on the last tokens present, by layer."""
    total = np.zeros(scores.shape[1])
    for step in range(scores.shape[0]):
        present = present_tokens(scores.shape, step)
        total += scores[step, :, max(present - LOCAL_TOKENS, 0) : present].sum(axis=1, dtype=np.float64)
    return total / scores.shape[0]


def _jaccard(read: np.ndarray) -> np.ndarray:
    """Mean overlap of consecutive steps' reads, by layer."""
    both = (read[1:] & read[:-1]).sum(axis=2)
    either = (read[1:] | read[:-1]).sum(axis=2)
    return (both / np.maximum(either, 1)).mean(axis=0)


def _runs_and_gaps(read: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths in steps of all runs, and of the pauses between the runs of one block."""
    by_block = read.reshape(len(read), -1).T
    edges = np.diff(np.pad(by_block, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    owner, start = np.nonzero(edges == 1)
    stop = np.nonzero(edges == -1)[1]
    same = owner[1:] == owner[:-1]
    return stop - start, (start[1:] - stop[:-1])[same]
