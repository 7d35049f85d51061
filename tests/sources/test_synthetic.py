"""The synthetic trace: its documented rule, checked on the read sets it made."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.errors import TraceError
from kvopt.sources.synthetic import drifting


def read_sets(trace) -> list[list[set[int]]]:
    """The tokens read, by step and lane."""
    tokens = trace.n_blocks // trace.n_lanes
    sets = [[set() for _ in range(trace.n_lanes)] for _ in range(trace.n_steps)]
    for block, start, stop in zip(trace.run_block, trace.run_start, trace.run_stop, strict=True):
        for step in range(start, stop):
            sets[step][block // tokens].add(int(block % tokens))
    return sets


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
    trace = drifting(prompt, steps, n_lanes=lanes, read_share=share, drift=drift, skew=skew, seed=seed)
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


def test_equal_seeds_give_equal_traces():
    one, same, other = (drifting(50, 20, n_lanes=2, seed=s) for s in (4, 4, 5))
    assert one.run_start.tolist() == same.run_start.tolist()
    assert one.run_ptr.tolist() == same.run_ptr.tolist()
    assert one.run_ptr.tolist() != other.run_ptr.tolist()
    assert one.provenance["seed"] == 4


def test_without_drift_the_prompt_set_stays():
    sets = read_sets(drifting(100, 10, read_share=0.2, drift=0.0, seed=1))
    assert all(sets[n][0] >= sets[n - 1][0] for n in range(1, 10))


def test_mean_run_is_about_one_over_drift():
    trace = drifting(2000, 200, read_share=0.1, drift=0.2, seed=0)
    assert trace.n_accesses / trace.n_runs == pytest.approx(5.0, rel=0.1)


def test_skew_concentrates_reads():
    def top_tenth(skew):
        trace = drifting(1000, 100, read_share=0.05, drift=0.5, skew=skew, seed=2)
        reads = np.bincount(trace.run_block, trace.run_stop - trace.run_start, minlength=trace.n_blocks)
        return np.sort(reads)[-110:].sum() / reads.sum()

    assert top_tenth(0.0) < top_tenth(0.5) < top_tenth(1.5)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens"),
        ({"n_steps": 0}, "n_steps"),
        ({"n_lanes": 0}, "n_lanes"),
        ({"read_share": -0.1}, "read_share"),
        ({"read_share": 1.1}, "read_share"),
        ({"drift": float("nan")}, "drift"),
        ({"skew": -1.0}, "skew"),
        ({"size_bytes": 0}, "size_bytes"),
    ],
)
def test_parameters_out_of_range_are_named(changes, field):
    with pytest.raises(TraceError) as caught:
        drifting(**{"prompt_tokens": 5, "n_steps": 3, "seed": 0, **changes})
    assert caught.value.field == field
