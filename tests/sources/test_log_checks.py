"""What a log says against what is said of it: tokens per id by the rows' lengths, the unit of time by the stamps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.errors import TraceError
from kvopt.sources.log_checks import check_block_tokens, check_time_unit

READINGS = {
    "up": lambda prompt, answer, size: -(-prompt // size),
    "down": lambda prompt, answer, size: prompt // size,
    "with the answer": lambda prompt, answer, size: -(-(prompt + answer) // size),
    "with all but the last token": lambda prompt, answer, size: -(-(prompt + np.maximum(answer - 1, 0)) // size),
    "with the answer, down": lambda prompt, answer, size: (prompt + answer) // size,
}


def checked(size, n, prompt, answer=None):
    n, prompt = np.array(n), np.array(prompt)
    answer = np.zeros_like(prompt) if answer is None else np.array(answer)
    return check_block_tokens(size, n, prompt, answer, np.arange(len(n)) + 1, "log")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(list(READINGS)),
    st.sampled_from([1, 7, 16, 64, 512]),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 3_000)), min_size=1, max_size=30),
)
def test_the_size_that_made_a_log_is_never_refused(reading, size, lengths):
    prompt, answer = np.array(lengths).T
    assert checked(size, READINGS[reading](prompt, answer, size), prompt, answer) is None


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["up", "down"]),
    st.sampled_from([16, 64, 128, 256, 512]),
    st.sampled_from([1, 2, 3, 5, 32]),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_another_size_is_refused_and_the_true_one_named(reading, size, factor, smaller, seed):
    said = max(size // factor, 1) if smaller else size * factor
    rng = np.random.default_rng(seed)
    prompt, answer = rng.integers(size * 20, size * 100, 40), rng.integers(1, size, 40)
    n = READINGS[reading](prompt, answer, size)
    if said == size:
        assert checked(said, n, prompt, answer) is None
        return
    with pytest.raises(TraceError, match=rf"rows fit {size} tokens per id: .*--block-tokens {size}\)") as caught:
        checked(said, n, prompt, answer)
    assert caught.value.field == "block_tokens"


@pytest.mark.parametrize(
    ("said", "n", "prompt", "fits"),
    [
        (512, [2, 3], [512, 700], 256),  # Twice too large, on short rows.
        (256, [1], [1000], 1024),  # One id says how few tokens it can have at least.
        (512, [8, 3, 11, 5, 14], [126, 40, 170, 75, 222], 16),
        (16, [14, 15], [6758, 7322], 512),
        (64, [3, 21], [288, 2016], 96),  # No power of two fits: 96 is the roundest of 96 to 100.
    ],
)
def test_sizes_by_hand(said, n, prompt, fits):
    with pytest.raises(TraceError, match=f"All rows fit {fits} tokens per id"):
        checked(said, n, prompt)
    assert checked(fits, n, prompt) is None


def test_a_few_rows_that_fit_no_size_are_told_of():
    prompt = np.random.default_rng(0).integers(1_000, 9_000, 200)
    n = -(-prompt // 512)
    n[7] += 3
    told = checked(512, n, prompt)
    assert told == (
        f"1 of 200 requests of log do not fit 512 tokens per id; the first of them, on line 8, has {n[7]} ids for "
        f"{prompt[7]:,} tokens"
    )
    with pytest.raises(TraceError, match="199 rows fit 512 tokens per id"):
        checked(256, n, prompt)


def test_lengths_without_rhyme_or_reason_are_refused():
    with pytest.raises(TraceError, match=r"3 of 3 requests .* No size fits most rows; check=False \(--no-check\)"):
        checked(512, [9, 5, 50], [10, 5_000, 7])


def test_rows_without_ids_say_nothing():
    assert checked(512, [0, 2], [100_000, 1024]) is None
    assert checked(512, [0], [100_000]) is None


def unit(name, stamps):
    scale = {"ms": 1.0, "s": 1e3}[name]
    check_time_unit(name, np.array(stamps, float) * scale, "log")


RNG = np.random.default_rng(0)
SECONDS = np.sort(np.round(RNG.uniform(0, 7200, 20_000), 3))
HOUR_MS = np.sort(RNG.integers(0, 1200, 12_000)) * 3000


@pytest.mark.parametrize(
    ("name", "stamps"),
    [
        ("ms", [0]),
        ("ms", [0.25]),
        ("ms", [0, 1, 2]),
        ("ms", np.arange(12)),
        ("ms", [0, 0, 0]),
        ("ms", np.arange(5000)),  # A load test, one request per millisecond.
        ("ms", [0, 5, 5, 8.5]),
        ("ms", HOUR_MS),
        ("ms", HOUR_MS + 1.77e12),  # Milliseconds since 1970.
        ("ms", SECONDS * 1e3),
        ("ms", np.sort(RNG.uniform(0, 3.6e6, 10_000))),  # Milliseconds with fractions.
        ("s", SECONDS),
        ("s", SECONDS + 1.77e9),
        ("s", np.floor(SECONDS)),
        ("s", [0, 1, 2]),
        ("s", [0, 600, 4000]),
        ("s", [0, 86_400]),
    ],
)
def test_units_that_can_be_right_are_taken(name, stamps):
    unit(name, stamps)


@pytest.mark.parametrize(
    ("name", "stamps", "fits"),
    [
        ("ms", [0.114, 0.451, 3.2, 4.75, 9.0], "s"),
        ("ms", SECONDS, "s"),
        ("ms", np.floor(SECONDS), "s"),
        ("ms", SECONDS + 1.77e9, "s"),
        ("s", HOUR_MS, "ms"),
        ("s", HOUR_MS + 1.77e12, "ms"),
    ],
)
def test_units_that_cannot_be_right_are_refused(name, stamps, fits):
    with pytest.raises(TraceError, match=rf"They fit time_unit='{fits}' \(--time-unit {fits}\)") as caught:
        unit(name, stamps)
    assert caught.value.field == "time_unit"


def test_microseconds_are_told_apart():
    with pytest.raises(TraceError, match="Convert microseconds"):
        unit("ms", SECONDS * 1e6 + 1.77e15)
