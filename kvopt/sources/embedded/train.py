"""Train the embedded example's decoder within a budget of wall time.

The schedule follows the clock, not a number of steps: the same command gives
a usable model on a slow and on a fast machine. Two runs with one seed see the
same batches in the same order but may stop at different steps.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from kvopt.sources.embedded.decoder import Decoder, DecoderShape


@dataclass(frozen=True)
class Phase:
    """One stretch of training with its own sequence length.

    Parameters
    ----------
    until : float
        Fraction of the budget at which the phase ends, in (0, 1].
    batch : int
        Sequences per step.
    length : int
        Tokens per sequence.
    """

    until: float
    batch: int
    length: int


PHASES = (Phase(0.35, 16, 256), Phase(0.58, 8, 512), Phase(1.0, 2, 2560))
"""Short sequences are cheap and teach most; the last phase reaches all positions."""

PEAK_RATE = 2e-3
WARMUP_STEPS = 150
DECAY_FROM = 0.6
FINAL_RATE_SHARE = 0.03
CHECKPOINT_SECONDS = 180.0


@dataclass
class Run:
    """The state of a training run, as a checkpoint holds it.

    Parameters
    ----------
    model : Decoder
        The decoder.
    optimiser : torch.optim.Optimizer
        Its AdamW state.
    steps, tokens : int
        Optimiser steps taken and tokens predicted so far.
    seconds : float
        Wall time spent training so far.
    """

    model: Decoder
    optimiser: torch.optim.Optimizer
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write a checkpoint, replacing an older one in one move."""
        partial = path.with_suffix(".partial")
        torch.save(
            {
                "model": self.model.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "progress": (self.steps, self.tokens, self.seconds),
            },
            partial,
        )
        partial.replace(path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint."""
        saved = torch.load(path)
        self.model.load_state_dict(saved["model"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.steps, self.tokens, self.seconds = saved["progress"]


def start(shape: DecoderShape, seed: int) -> Run:
    """A freshly initialised run.

    Parameters
    ----------
    shape : DecoderShape
        Sizes of the decoder.
    seed : int
        Seed of the initial weights.

    Returns
    -------
    Run
        Before its first step.
    """
    torch.manual_seed(seed)
    model = Decoder(shape)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    gains = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": gains, "weight_decay": 0.0}]
    return Run(model, torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95), fused=True))


def learning_rate(steps: int, progress: float) -> float:
    """Warm up by steps, stay, then decay along a cosine by the clock.

    Parameters
    ----------
    steps : int
        Steps taken.
    progress : float
        Fraction of the budget spent, in [0, 1].

    Returns
    -------
    float
        The rate for the next step.
    """
    warm = min(1.0, (steps + 1) / WARMUP_STEPS)
    decayed = max(0.0, progress - DECAY_FROM) / (1.0 - DECAY_FROM)
    falling = 0.5 * (1.0 + math.cos(math.pi * min(1.0, decayed)))
    return PEAK_RATE * warm * (FINAL_RATE_SHARE + (1.0 - FINAL_RATE_SHARE) * falling)


def draw(text: np.ndarray, phase: Phase, seed: int, step: int) -> torch.Tensor:
    """The batch of one step, a function of the seed and the step alone.

    Parameters
    ----------
    text : numpy.ndarray
        uint8, the training bytes.
    phase : Phase
        Gives the batch size and the length.
    seed, step : int
        Select the windows.

    Returns
    -------
    torch.Tensor
        int64, shape (batch, length + 1): inputs and, shifted by one, targets.
    """
    generator = np.random.default_rng([seed, step])
    starts = generator.integers(0, len(text) - phase.length, size=phase.batch)
    windows = text[starts[:, None] + np.arange(phase.length + 1)]
    return torch.from_numpy(windows.astype(np.int64))


def learn(run: Run, batch: torch.Tensor) -> float:
    """Take one optimiser step and return the batch's loss in bits per byte."""
    # Products in bfloat16 are a third faster than in float32 where the
    # processor has instructions for them; weights and sums stay in float32.
    with torch.autocast("cpu", torch.bfloat16):
        logits = run.model(batch[:, :-1])
    loss = functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimiser.step()
    run.optimiser.zero_grad()
    run.steps += 1
    run.tokens += batch[:, 1:].numel()
    return loss.item() / math.log(2.0)


def train(run: Run, text: np.ndarray, seconds: float, seed: int, checkpoint: Path) -> None:
    """Train until the budget is spent, with checkpoints on the way.

    Parameters
    ----------
    run : Run
        Advanced in place; a restored run continues where it stopped.
    text : numpy.ndarray
        uint8, the training bytes.
    seconds : float
        Wall-time budget of the whole run, in seconds.
    seed : int
        Selects the batches.
    checkpoint : Path
        File that holds the latest checkpoint.
    """
    before, saved, recent = time.monotonic() - run.seconds, run.seconds, []
    while run.seconds < seconds:
        progress = run.seconds / seconds
        phase = next(phase for phase in PHASES if progress < phase.until)
        for group in run.optimiser.param_groups:
            group["lr"] = learning_rate(run.steps, progress)
        recent.append(learn(run, draw(text, phase, seed, run.steps)))
        run.seconds = time.monotonic() - before
        if run.steps % 100 == 0:
            mean, recent = sum(recent) / len(recent), []
            print(f"{run.seconds:6.0f} s  step {run.steps}  {mean:.3f} bits/byte", flush=True)
        if run.seconds - saved > CHECKPOINT_SECONDS:
            saved = run.seconds
            run.save(checkpoint)
    run.save(checkpoint)


def bits_per_byte(model: Decoder, text: np.ndarray) -> float:
    """Cross-entropy of a text under the model.

    Parameters
    ----------
    model : Decoder
        The decoder.
    text : numpy.ndarray
        uint8, the text, read in adjacent windows of ``shape.positions`` bytes;
        a rest shorter than a window is left out unless it is all there is.

    Returns
    -------
    float
        Mean over the predicted bytes, in bits per byte.
    """
    length = min(model.shape.positions, len(text) - 1)
    windows = (len(text) - 1) // length
    total = 0.0
    with torch.inference_mode():
        for start_at in range(0, windows * length, length):
            window = torch.from_numpy(text[start_at : start_at + length + 1].astype(np.int64))
            logits = model(window[None, :-1])[0]
            total += functional.cross_entropy(logits, window[1:], reduction="sum").item()
    return total / (windows * length) / math.log(2.0)
