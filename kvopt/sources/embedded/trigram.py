"""Trigram entropies of a text: the yardstick for what the decoder has learned.

A model whose loss lies far below them uses more context than two bytes, and so has a reason to attend to distant
tokens.
"""

from __future__ import annotations

import numpy as np

BYTES = 256


def trigram_entropy(text: np.ndarray) -> float:
    """Conditional entropy of a byte given the two before it, from the text's own counts.

    Parameters
    ----------
    text : uint8[n]
        At least three bytes.

    Returns
    -------
    float
        H(x3 | x1, x2) in bits per byte; the counts of a finite text make it too low rather than too high.
    """
    triples = _codes(text, 3)
    return _entropy(np.bincount(triples)) - _entropy(np.bincount(triples // BYTES))


def trigram_cross_entropy(train: np.ndarray, held_out: np.ndarray) -> float:
    """Cross-entropy of one text under an interpolated trigram model of another.

    The model is Witten and Bell's: each order's estimate is mixed with the next lower order's, the more of it the
    more different bytes followed the context; the lowest order is uniform.

    Parameters
    ----------
    train, held_out : uint8[n]
        The text that is counted and the one that is predicted, at least three bytes each.

    Returns
    -------
    float
        Bits per byte.
    """
    triples = _codes(held_out, 3)
    probability = np.full(len(triples), 1.0 / BYTES)
    for order in (1, 2, 3):
        counts = np.bincount(_codes(train, order), minlength=BYTES**order).reshape(-1, BYTES)
        code = triples % BYTES**order
        context = code // BYTES
        seen, kinds = counts.sum(axis=1)[context], (counts > 0).sum(axis=1)[context]
        mixed = (counts[context, code % BYTES] + kinds * probability) / np.maximum(seen + kinds, 1)
        probability = np.where(seen > 0, mixed, probability)
    return float(-np.log2(probability).mean())


def _codes(text: np.ndarray, order: int) -> np.ndarray:
    """Each run of `order` bytes as one number, the last byte lowest."""
    text = np.asarray(text, np.int64)
    count = len(text) - order + 1
    code = np.zeros(count, np.int64)
    for offset in range(order):
        code = code * BYTES + text[offset : offset + count]
    return code


def _entropy(counts: np.ndarray) -> float:
    """Entropy in bits of the distribution that the counts estimate."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
