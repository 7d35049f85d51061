"""Decode with a trained model and record where it attends."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kvopt.sources.embedded.decoder import Decoder, KVCache


@dataclass(frozen=True)
class Capture:
    """What one decoding run produced.

    Parameters
    ----------
    scores : numpy.ndarray
        float32, shape (N, L, P + N): the attention of step n to each token in each layer, averaged over heads; 0 for
        tokens that do not exist yet.
    generated : bytes
        The N decoded bytes.
    """

    scores: np.ndarray
    generated: bytes

    def save(self, path: Path) -> None:
        """Write the arrays ``scores`` and ``generated`` as a compressed NumPy archive."""
        np.savez_compressed(path, scores=self.scores, generated=np.frombuffer(self.generated, np.uint8))


def decode(model: Decoder, prompt: bytes, steps: int, temperature: float, seed: int) -> Capture:
    """Continue a prompt token by token, keeping each step's attention.

    Step n samples token P + n from what the tokens before it predict, writes its keys and values, and attends with
    its query to the tokens 0..P + n.

    Parameters
    ----------
    model : Decoder
        The trained decoder.
    prompt : bytes
        P bytes.
    steps : int
        Number N of bytes to decode.
    temperature : float
        Divides the logits before sampling; greater than 0.
    seed : int
        Seed of the sampling.

    Raises
    ------
    ValueError
        If prompt and steps exceed the model's positions.
    """
    generator = torch.Generator().manual_seed(seed)
    cache = KVCache.empty(model.shape)
    scores = np.zeros((steps, model.shape.layers, len(prompt) + steps), np.float32)
    generated = bytearray()
    with torch.inference_mode():
        logits, _ = model.step(torch.tensor([list(prompt)]), cache)
        for step in range(steps):
            probability = (logits / temperature).softmax(dim=-1)
            token = torch.multinomial(probability, 1, generator=generator)
            logits, attention = model.step(token[None], cache)
            scores[step, :, : cache.length] = attention.numpy()
            generated.append(int(token))
    return Capture(scores, bytes(generated))
