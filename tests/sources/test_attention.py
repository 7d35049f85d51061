"""Tests of kvopt.sources.attention."""

import math

import numpy as np
import pytest

from kvopt.errors import TraceError
from kvopt.sources.attention import present_tokens, top_share_accesses, trace_from_reads

HUNDREDTHS = {0.1: 10, 0.15: 15, 0.3: 30, 0.7: 70, 1.0: 100}


def random_scores(rng, steps, layers, prompt, levels=None):
    """Normalised scores; with few levels many of them tie."""
    size = (steps, layers, prompt + steps)
    raw = rng.random(size) if levels is None else rng.integers(0, levels, size) / 8
    for step in range(steps):
        raw[step, :, prompt + step + 1 :] = 0
    return raw


def naive(scores, hundredths):
    """The definition, token by token."""
    steps, layers, tokens = scores.shape
    read = np.zeros(scores.shape, bool)
    for step in range(steps):
        present = tokens - steps + step + 1
        count = -(-hundredths * present // 100)
        for layer in range(layers):
            order = sorted(range(present), key=lambda i: (-scores[step, layer, i], i))
            for token in order[:count]:
                read[step, layer, token] = True
    return read


@pytest.mark.parametrize("share", HUNDREDTHS)
@pytest.mark.parametrize("levels", [None, 3])
def test_equals_naive_loop(share, levels):
    scores = random_scores(np.random.default_rng(5), steps=7, layers=3, prompt=33, levels=levels)
    assert np.array_equal(top_share_accesses(scores, share), naive(scores, HUNDREDTHS[share]))


def test_without_a_prompt_the_first_step_reads_its_own_token():
    read = top_share_accesses(random_scores(np.random.default_rng(0), 4, 1, 0), 0.01)
    assert read[0, 0].tolist() == [True, False, False, False]
    assert read.sum() == 4


def test_equal_scores_go_to_the_earlier_tokens():
    read = top_share_accesses(np.full((1, 1, 10), 0.1), 0.3)
    assert np.flatnonzero(read).tolist() == [0, 1, 2]


def test_share_counts_in_decimal():
    # In binary 0.1 * 50 tokens may round to a hair above 5, which would read a sixth.
    for present in range(10, 2000, 10):
        read = top_share_accesses(np.ones((1, 1, present)), 0.1)
        assert read.sum() == present // 10


def test_float16_scores_and_numpy_share_are_accepted():
    scores = random_scores(np.random.default_rng(1), 3, 2, 12)
    assert top_share_accesses(scores.astype(np.float16), np.float64(0.5))[0, 0].sum() == math.ceil(0.5 * 13)


def test_scores_of_tokens_to_come_are_not_looked_at():
    scores = random_scores(np.random.default_rng(2), 3, 2, 5)
    clean = top_share_accesses(scores, 0.4)
    for step in range(3):
        scores[step, :, present_tokens(scores.shape, step) :] = np.nan
    assert np.array_equal(top_share_accesses(scores, 0.4), clean)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, math.nan, math.inf])
def test_share_outside_its_range_is_refused(share):
    with pytest.raises(TraceError, match="share"):
        top_share_accesses(np.ones((1, 1, 3)), share)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 1, 4), (5, 1, 4), (2, 0, 4)])
def test_shapes_that_are_no_decoding_run_are_refused(shape):
    with pytest.raises(TraceError, match="shape"):
        top_share_accesses(np.ones(shape), 0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -0.5])
def test_bad_scores_are_refused_with_their_step(bad):
    scores = np.ones((3, 2, 6))
    scores[1, 1, 2] = bad
    with pytest.raises(TraceError, match="step 1"):
        top_share_accesses(scores, 0.5)


def test_trace_holds_exactly_the_reads():
    scores = random_scores(np.random.default_rng(3), steps=6, layers=2, prompt=9)
    read = top_share_accesses(scores, 0.3)
    trace = trace_from_reads(read, 128, name="small", provenance={"seed": 3})
    back = np.zeros_like(read)
    for block, start, stop in zip(trace.run_block, trace.run_start, trace.run_stop, strict=True):
        lane, token = divmod(block, read.shape[2])
        assert trace.lane[block] == lane
        back[start:stop, lane, token] = True
    assert np.array_equal(back, read)
    assert trace.write_step.tolist() == 2 * ([-1] * 9 + list(range(6)))
    assert set(trace.size_bytes) == {128}
    assert (trace.name, trace.provenance) == ("small", {"seed": 3})


def test_trace_refuses_reads_before_the_write():
    read = np.zeros((3, 1, 5), bool)
    read[0, 0, 4] = True
    with pytest.raises(TraceError, match="before the block is written"):
        trace_from_reads(read, 128)
