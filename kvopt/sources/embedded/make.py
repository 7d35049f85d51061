"""Train a small decoder, let it decode, and save its attention as a trace.

Run it as ``python -m kvopt.sources.embedded.make --out trace.parquet``. It trains on the standard library of the
interpreter that runs it (:mod:`kvopt.sources.embedded.corpus`), prompts the model with the first 2,048 bytes of a
file it has not seen and decodes 512 more. The working directory keeps the last checkpoint and the captured scores:
a second run with the same directory continues training, or only chooses another share of the scores.

Training follows the clock and arithmetic differs between processors, so a seed fixes the batches and the sampling
but does not repeat a trace bit by bit. Training needs PyTorch: ``pip install kvopt[capture]``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kvopt.sources.attention import top_share_accesses, trace_from_reads
from kvopt.sources.embedded.corpus import Corpus, join, read_corpus
from kvopt.sources.embedded.structure import describe_reads
from kvopt.sources.embedded.trigram import trigram_cross_entropy, trigram_entropy

if TYPE_CHECKING:
    from kvopt.sources.embedded.train import Run

PROMPT_TOKENS = 2048
DECODED_TOKENS = 512
SHOWN_CHARACTERS = 200


def options() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m kvopt.sources.embedded.make", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="Parquet file to write; a .json goes beside it")
    parser.add_argument("--work", type=Path, help="directory of the checkpoint and the scores (default: beside --out)")
    parser.add_argument("--seed", type=int, default=7, help="seed of weights, batches and sampling (default: 7)")
    parser.add_argument("--minutes", type=float, default=60.0, help="training time in minutes (default: 60)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: 1)")
    parser.add_argument("--temperature", type=float, default=0.8, help="of the sampling (default: 0.8)")
    parser.add_argument("--share", type=float, default=0.2, help="share of present tokens that is read (default: 0.2)")
    parser.add_argument("--prompt-file", default="unittest/util.py", help="held-out file whose beginning is the prompt")
    return parser


def capture(args: argparse.Namespace, corpus: Corpus, work: Path) -> dict[str, Any]:
    """Train, decode and measure; write the scores into the working directory.

    Parameters
    ----------
    args : argparse.Namespace
        What :func:`options` parses.
    corpus : Corpus
        The text.
    work : Path
        Directory for ``checkpoint.pt``, ``scores.npz`` and ``capture.json``.

    Returns
    -------
    dict
        Provenance of the scores; also written to ``capture.json``.
    """
    import torch

    from kvopt.sources.embedded.capture import decode
    from kvopt.sources.embedded.decoder import DecoderShape
    from kvopt.sources.embedded.train import start, train

    torch.set_num_threads(args.threads)
    run, checkpoint = start(DecoderShape(positions=PROMPT_TOKENS + DECODED_TOKENS), args.seed), work / "checkpoint.pt"
    if checkpoint.exists():
        run.restore(checkpoint)
    train(run, join(corpus.train), 60.0 * args.minutes, args.seed, checkpoint)
    prompt = corpus.held_out[args.prompt_file][:PROMPT_TOKENS]
    result = decode(run.model, prompt, DECODED_TOKENS, args.temperature, args.seed)
    result.save(work / "scores.npz")
    facts = measure(args, corpus, run)
    facts["generated"] = result.generated[:SHOWN_CHARACTERS].decode("utf-8", "replace")
    (work / "capture.json").write_text(json.dumps(facts, indent=2))
    return facts


def measure(args: argparse.Namespace, corpus: Corpus, run: Run) -> dict[str, Any]:
    """How the model was trained and how well it predicts text it has not seen, next to what trigrams achieve."""
    import torch

    from kvopt.sources.embedded.train import bits_per_byte

    shape, held_out = run.model.shape, join(corpus.held_out)
    prompt_file = join({args.prompt_file: corpus.held_out[args.prompt_file]})
    return {
        "corpus": {
            "text": f"*.py of the standard library of Python {platform.python_version()}, without tests",
            "train_files": len(corpus.train),
            "train_bytes": sum(map(len, corpus.train.values())),
            "held_out_files": len(corpus.held_out),
            "held_out_bytes": sum(map(len, corpus.held_out.values())),
        },
        "torch": torch.__version__,
        "model": {**vars(shape), "parameters": sum(p.numel() for p in run.model.parameters())},
        "size_bytes": shape.kv_bytes,
        "seed": args.seed,
        "training": {"minutes": round(run.seconds / 60, 1), "steps": run.steps, "tokens": run.tokens},
        "bits_per_byte": {
            "held_out": bits_per_byte(run.model, held_out),
            "prompt_file": bits_per_byte(run.model, prompt_file),
            "held_out_trigram_entropy": trigram_entropy(held_out),
            "held_out_trigram_model": trigram_cross_entropy(join(corpus.train), held_out),
        },
        "prompt_file": args.prompt_file,
        "temperature": args.temperature,
    }


def write(args: argparse.Namespace, facts: dict[str, Any], work: Path) -> None:
    """Choose the reads from the scores and write the trace and its description."""
    with np.load(work / "scores.npz") as archive:
        scores = archive["scores"]
    read = top_share_accesses(scores, args.share)
    provenance = {
        "script": "python -m kvopt.sources.embedded.make",
        "date": datetime.date.today().isoformat(),
        **facts,
        "prompt_tokens": PROMPT_TOKENS,
        "decoded_tokens": DECODED_TOKENS,
        "selection": "per step and layer the tokens with the highest attention, averaged over heads",
        "share": args.share,
    }
    trace = trace_from_reads(read, facts["size_bytes"], name=args.out.stem, provenance=provenance)
    trace.save(args.out)
    described = {**provenance, "structure": describe_reads(scores, read)}
    args.out.with_suffix(".json").write_text(json.dumps(described, indent=2) + "\n")
    print(f"{args.out}: {trace.n_runs} runs, {args.out.stat().st_size} bytes")


def main() -> None:
    """Make the trace that the command line asks for."""
    args = options().parse_args()
    work = args.work or args.out.with_suffix(".work")
    work.mkdir(parents=True, exist_ok=True)
    described = work / "capture.json"
    finished = described.exists() and (work / "scores.npz").exists()
    write(args, json.loads(described.read_text()) if finished else capture(args, read_corpus(), work), work)


if __name__ == "__main__":
    main()
