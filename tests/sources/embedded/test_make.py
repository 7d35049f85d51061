"""Tests of the command that makes the embedded example, on a tiny corpus."""

import json
import subprocess
import sys

import numpy as np
import pytest

from kvopt.sources.attention import top_share_accesses
from kvopt.sources.embedded import make
from kvopt.sources.embedded.corpus import Corpus
from kvopt.trace_io import load_trace

CORPUS = Corpus({"a.py": b"x = 1\n" * 600}, {"b.py": b"y = 2\n" * 400})


def test_a_share_is_chosen_from_saved_scores_without_training(tmp_path):
    scores = np.random.default_rng(0).random((4, 2, 12)).astype(np.float32)
    np.savez(tmp_path / "scores.npz", scores=scores)
    args = make.options().parse_args(["--out", str(tmp_path / "some.parquet"), "--share", "0.25"])
    make.write(args, {"size_bytes": 96, "temperature": 0.5}, tmp_path)
    trace = load_trace(tmp_path / "some.parquet")
    described = json.loads((tmp_path / "some.json").read_text())
    assert trace.n_accesses == top_share_accesses(scores, 0.25).sum()
    assert trace.name == "some"
    assert described["structure"]["runs"] == trace.n_runs
    assert described["temperature"] == trace.provenance["temperature"] == 0.5


def test_the_whole_command(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from kvopt.sources.embedded import train

    monkeypatch.setattr(train, "PHASES", (train.Phase(1.0, 1, 16),))
    monkeypatch.setattr(make, "PROMPT_TOKENS", 20)
    monkeypatch.setattr(make, "DECODED_TOKENS", 6)
    monkeypatch.setattr(make, "read_corpus", lambda: CORPUS)
    out = tmp_path / "tiny.parquet"
    command = ["make", "--out", str(out), "--minutes", "0.005", "--prompt-file", "b.py"]
    monkeypatch.setattr("sys.argv", command)
    make.main()
    trace = load_trace(out)
    described = json.loads(out.with_suffix(".json").read_text())
    assert (trace.n_steps, trace.n_lanes, trace.n_blocks) == (6, 6, 6 * 26)
    assert described["training"]["steps"] > 0
    assert described["corpus"]["train_bytes"] == 3600
    assert described["bits_per_byte"]["held_out"] > described["bits_per_byte"]["held_out_trigram_entropy"]
    assert set(trace.size_bytes) == {described["model"]["width"] * 4}
    monkeypatch.setattr("sys.argv", [*command, "--share", "0.1"])
    make.main()
    again = json.loads(out.with_suffix(".json").read_text())
    assert again["training"] == described["training"]
    assert load_trace(out).n_accesses < trace.n_accesses


def test_reading_the_example_never_imports_torch():
    code = "import sys, kvopt.sources.embedded.make; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
