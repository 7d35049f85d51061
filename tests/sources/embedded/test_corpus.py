"""Tests of kvopt.sources.embedded.corpus and .trigram: numpy only."""

import numpy as np
import pytest

from kvopt.sources.embedded.corpus import HELD_OUT_EVERY, SEPARATOR, join, read_corpus
from kvopt.sources.embedded.trigram import trigram_cross_entropy, trigram_entropy


def test_split_is_by_sorted_path_without_skipped_directories(tmp_path):
    names = [f"part/module_{i:03}.py" for i in range(2 * HELD_OUT_EVERY)]
    for name in [*names, "test/test_it.py", "part/tests/more.py", "part/notes.txt"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    corpus = read_corpus(tmp_path)
    assert list(corpus.held_out) == [names[HELD_OUT_EVERY - 1], names[2 * HELD_OUT_EVERY - 1]]
    assert sorted([*corpus.train, *corpus.held_out]) == names
    assert corpus.train[names[0]] == names[0].encode()


def test_the_separator_ends_each_file():
    assert join({"a": b"xy", "b": b""}).tolist() == [ord("x"), ord("y"), SEPARATOR, SEPARATOR]


def test_trigram_entropy_by_hand():
    # After (a, b) comes c or d equally often, everything else is certain: 2 of 7 triples cost one bit.
    text = np.frombuffer(b"abcabdabcabdabcabdab", np.uint8)
    triples = [bytes(text[i : i + 3]) for i in range(len(text) - 2)]
    share = sum(t.startswith(b"ab") for t in triples) / len(triples)
    assert trigram_entropy(text) == pytest.approx(share, abs=0.02)


def test_trigram_entropy_of_independent_bytes():
    text = np.random.default_rng(0).integers(0, 4, 200_000).astype(np.uint8)
    assert trigram_entropy(text) == pytest.approx(2.0, abs=0.01)


def test_trigram_model_is_a_distribution():
    train = np.frombuffer(b"abracadabra, abracadabra; abra", np.uint8)
    total = 0.0
    for last in range(256):
        total += 2.0 ** -trigram_cross_entropy(train, np.array([ord("a"), ord("b"), last], np.uint8))
    assert total == pytest.approx(1.0)


def test_trigram_model_of_an_unseen_context_falls_back():
    train = np.frombuffer(b"aaaa", np.uint8)
    assert trigram_cross_entropy(train, np.frombuffer(b"xyz", np.uint8)) == pytest.approx(-np.log2((1 / 256) / 5))
