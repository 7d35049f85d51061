"""Tests of the trace that is shipped with the package."""

import json
import math
from importlib import resources

import numpy as np
import pytest

from kvopt.trace_io import load_trace

FILES = resources.files("kvopt.sources.embedded")
PROMPT, STEPS, LAYERS = 2048, 512, 6


@pytest.fixture(scope="module")
def trace():
    with resources.as_file(FILES / "python_decoder.parquet") as path:
        assert path.stat().st_size <= 3_000_000
        return load_trace(path)


@pytest.fixture(scope="module")
def described():
    return json.loads((FILES / "python_decoder.json").read_text())


def test_blocks_are_the_tokens_of_each_layer(trace):
    assert (trace.n_steps, trace.n_lanes) == (STEPS, LAYERS)
    written = [-1] * PROMPT + list(range(STEPS))
    assert np.array_equal(trace.lane, np.repeat(np.arange(LAYERS), PROMPT + STEPS))
    assert np.array_equal(trace.write_step, np.tile(written, LAYERS))
    assert np.all(trace.free_step == STEPS)


def test_each_step_reads_the_share_in_each_layer(trace, described):
    change = np.zeros((LAYERS, STEPS + 1), np.int64)
    lane = trace.lane[trace.run_block]
    np.add.at(change, (lane, trace.run_start), 1)
    np.subtract.at(change, (lane, trace.run_stop), 1)
    hundredths = round(100 * described["share"])
    expected = [math.ceil(hundredths * (PROMPT + step + 1) / 100) for step in range(STEPS)]
    assert np.array_equal(np.cumsum(change, axis=1)[:, :-1], np.tile(expected, (LAYERS, 1)))


def test_description_agrees_with_the_trace(trace, described):
    structure = described.pop("structure")
    assert dict(trace.provenance) == described
    assert structure["runs"] == trace.n_runs
    assert set(trace.size_bytes) == {2 * 2 * described["model"]["width"]}


def test_the_model_has_learned_more_than_trigrams(described):
    bits = described["bits_per_byte"]
    assert max(bits["held_out"], bits["prompt_file"]) < 0.6 * bits["held_out_trigram_entropy"]
