"""The rule of skipped sets, checked on dense read sets."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.errors import TraceError
from kvopt.sources.skipping import Skipping, skipping
from tests.sources.test_synthetic import read_sets

SPARSITIES = (Fraction(4, 10), Fraction(6, 10), Fraction(9, 10))


def skipped_sets(trace) -> list[set[int]]:
    """Of the first lane, in each step."""
    prompt = int((trace.write_step == -1).sum()) // trace.n_lanes
    return [set(range(prompt + step + 1)) - sets[0] for step, sets in enumerate(read_sets(trace))]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 120),
    st.integers(1, 40),
    st.sampled_from(SPARSITIES),
    st.fractions(0, 1, max_denominator=20),
    st.integers(0, 99),
)
def test_so_many_are_read_and_all_above_the_ceiling(prompt, steps, sparsity, room, seed):
    ceiling = sparsity + room * (1 - sparsity)
    trace = skipping(prompt, steps, sparsity=float(sparsity), ceiling=float(ceiling), seed=seed)
    assert trace.write_step.tolist() == [-1] * prompt + list(range(steps))
    for step, (now,) in enumerate(read_sets(trace)):
        present = prompt + step + 1
        # Exact fractions: the rule must not depend on how 0.6 is rounded.
        assert len(now) == math.ceil((1 - sparsity) * present)
        first = min(max(math.floor(ceiling * present), present - len(now)), present - 1)
        assert now >= set(range(first, present))


@settings(max_examples=25, deadline=None)
@given(st.integers(60, 200), st.integers(2, 40), st.sampled_from([0.0, 0.03, 0.2]), st.integers(0, 99))
def test_the_newest_of_the_skipped_are_read_again(prompt, steps, swap, seed):
    sets = skipped_sets(skipping(prompt, steps, ceiling=0.9, swap_share=swap, seed=seed))
    for before, now in pairwise(sets):
        left, entered = before - now, now - before
        grown = len(now) - len(before)
        assert len(entered) == len(left) + grown
        # No more than the share, and none that is older than one that stays, but for what grew in between.
        assert len(left) <= int(swap * len(before))
        if not grown:
            assert len(left) == int(swap * len(before))
            assert not left or min(left) > max(before - left, default=-1)


def test_what_is_skipped_settles_among_the_oldest():
    sets = skipped_sets(skipping(2000, 300, ceiling=0.95, swap_share=0.03, seed=1))
    first, last = np.array(sorted(sets[0])), np.array(sorted(sets[-1]))
    assert np.mean(first < 1200) == pytest.approx(1200 / 1900, abs=0.05)
    assert np.mean(last < 0.6 * 2300) > 0.95


def test_lanes_read_alike_unless_told():
    one, other = (skipping(90, 40, n_lanes=2, ceiling=0.9, seed=s) for s in (4, 5))
    assert one.run_ptr.tolist() != other.run_ptr.tolist()
    assert one.window(lanes=[0]).run_start.tolist() == one.window(lanes=[1]).run_start.tolist()
    own = skipping(90, 40, n_lanes=2, ceiling=0.9, independent_lanes=True, seed=4)
    halves = np.split(np.diff(own.run_ptr), 2)
    assert halves[0].tolist() != halves[1].tolist()
    assert own.window(lanes=[0]).run_start.tolist() == one.window(lanes=[0]).run_start.tolist()


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"n_steps": 0}, "n_steps"),
        ({"n_lanes": 0}, "n_lanes"),
        ({"sparsity": 1.0}, "sparsity"),
        ({"ceiling": 0.5}, "ceiling"),
        ({"swap_share": -0.1}, "swap_share"),
    ],
)
def test_bad_parameters_are_refused_by_name(bad, field):
    with pytest.raises(TraceError, match=field):
        skipping(**{"prompt_tokens": 9, "n_steps": 5, "seed": 0, **bad})


def test_the_rule_counts_what_the_trace_reads():
    rule = Skipping(50, 20, ceiling=0.9)
    trace = skipping(50, 20, ceiling=0.9, n_lanes=3, seed=2)
    assert trace.n_accesses == 3 * rule.reads.sum()
