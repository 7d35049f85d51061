"""The streaming drift: the rule of the dense one, and the same probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.errors import TraceError
from kvopt.sources import drift as drift_module
from kvopt.sources.drift import drifting_lanes
from kvopt.sources.synthetic import drifting
from tests.sources.test_synthetic import read_sets


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 3),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 2),
    st.integers(0, 999),
)
def test_the_rule(prompt, steps, lanes, share, drift, skew, seed):
    trace = drifting_lanes(prompt, steps, n_lanes=lanes, read_share=share, drift=drift, skew=skew, seed=seed)
    assert trace.lane.tolist() == np.repeat(np.arange(lanes), prompt + steps).tolist()
    assert trace.write_step.tolist() == ([-1] * prompt + list(range(steps))) * lanes
    sets = read_sets(trace)
    for step in range(steps):
        count = max(1, round(share * (prompt + step + 1)))
        for lane in range(lanes):
            now = sets[step][lane]
            assert len(now) == count
            if step:
                last = sets[step - 1][lane]
                swapped = round(drift * len(last))
                others = prompt + step + 1 - len(last)
                drawn = count - len(last) + swapped
                # Dropped tokens come back only when there are too few others.
                assert len(last - now) == swapped - max(drawn - others, 0)


def test_a_draw_has_the_probabilities_of_popularity(monkeypatch):
    """Pairs out of four tokens, one of which is being read: by formula, by guesses and by the race."""
    popularity = np.array([1.0, 2.0, 100.0, 4.0])
    reading = np.array([False, False, True, False])
    exact = {
        (a, b): popularity[a] / 7 * popularity[b] / (7 - popularity[a]) for a in (0, 1, 3) for b in (0, 1, 3) if a != b
    }
    rng, scratch = np.random.default_rng(0), np.empty(4, np.int32)
    for rounds in (0, 1, 100):
        monkeypatch.setattr(drift_module, "_MOST_ROUNDS", rounds)
        n = 8000
        drawn = [
            tuple(drift_module._draw(reading, popularity, np.cumsum(popularity), 2, rng, scratch)) for _ in range(n)
        ]
        for pair, share in exact.items():
            # Four standard deviations.
            assert abs(drawn.count(pair) / n - share) < 4 * np.sqrt(share * (1 - share) / n)


def test_it_looks_like_the_dense_generator():
    def shape(make):
        trace = make(2000, 150, read_share=0.1, drift=0.2, skew=0.8, seed=0)
        reads = np.sort(trace.reads_of_block)
        return trace.n_accesses, trace.n_runs, reads[-200:].sum() / reads.sum()

    assert shape(drifting_lanes) == pytest.approx(shape(drifting), rel=0.1)


def test_equal_seeds_give_equal_traces():
    one, same, other = (drifting_lanes(50, 20, n_lanes=2, seed=s) for s in (4, 4, 5))
    assert one.run_start.tolist() == same.run_start.tolist()
    assert one.run_ptr.tolist() == same.run_ptr.tolist()
    assert one.run_ptr.tolist() != other.run_ptr.tolist()


@pytest.mark.parametrize("changes", [{"n_lanes": 0}, {"drift": -0.1}, {"size_bytes": 0}])
def test_parameters_out_of_range_are_named(changes):
    with pytest.raises(TraceError) as caught:
        drifting_lanes(**{"prompt_tokens": 5, "n_steps": 3, "seed": 0, **changes})
    assert caught.value.field in changes
