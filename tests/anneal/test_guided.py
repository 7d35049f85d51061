"""The search over a policy's two parameters: the best of what it tried, and how it ends."""

import numpy as np
import pytest

import kvopt
from kvopt import Platform, policies
from kvopt.anneal.guided import _KIND_SHARES, _moved, solve_guided
from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.result import Termination
from kvopt.sources.synthetic import drifting


@pytest.fixture(scope="module")
def instance() -> Instance:
    trace = drifting(60, 30, n_lanes=2, read_share=0.2, drift=0.3, seed=2)
    return Instance(trace, Platform.preset("gh200")).with_hbm_bytes(0.3 * trace.size_bytes.sum())


def look_ahead(instance, window, ratio):
    return policies.simulate(instance, policies.get("look-ahead", window_steps=window, ratio=ratio))


def test_the_result_is_the_best_policy_that_was_tried(instance):
    tried = {}

    def place(window, ratio):
        placement = look_ahead(instance, window, ratio)
        assert (window, ratio) not in tried
        tried[window, ratio] = kvopt.evaluate(instance, placement).objective
        return placement

    result = solve_guided(instance, place, seed=1)
    assert next(iter(tried)) == (5, 0.5)
    assert result.objective == min(tried.values()) <= tried[5, 0.5]
    assert tried[result.details["window_steps"], result.details["ratio"]] == result.objective
    assert result.details["policies_tried"] == len(tried)
    assert result.termination is Termination.FINISHED


def test_solve_takes_it_by_name_and_repeats_it(instance):
    assert "guided" in kvopt.methods()
    events = []
    bound = kvopt.bound(instance, method="aggregate")
    one = kvopt.solve(instance, "guided", seed=3, bound=bound, on_progress=events.append)
    assert one.placement == kvopt.solve(instance, "guided", seed=3).placement
    assert one.bound is bound
    assert events[-1].objective == one.objective
    assert [e.objective for e in events] == sorted((e.objective for e in events), reverse=True)
    settings = {"window_steps": one.details["window_steps"], "ratio": one.details["ratio"]}
    assert kvopt.solve(instance, "look-ahead", **settings).placement == one.placement


def test_one_policy_is_tried_whatever_the_time_limit(instance):
    result = kvopt.solve(instance, "guided", time_limit=1e-9)
    assert result.termination is Termination.TIME_LIMIT
    assert result.details == {"policies_tried": 1, "window_steps": 5, "ratio": 0.5}


def test_an_interruption_returns_the_best_so_far(instance):
    def interrupt(event):
        if "W = 5, R = 0.5" not in event.detail:
            raise KeyboardInterrupt

    result = kvopt.solve(instance, "guided", on_progress=interrupt)
    assert result.termination is Termination.INTERRUPTED
    assert result.details["policies_tried"] == 2
    assert result.placement is not None


def test_moves_are_those_published():
    rng = np.random.default_rng(0)
    seen = [_moved((50, 5), 100, rng) for _ in range(3000)]
    windows, tenths = {w - 50 for w, _ in seen}, {r - 5 for _, r in seen}
    assert windows == {-2, -1, 0, 1, 2}
    assert tenths == {-1, 0, 1}
    shares = [np.mean([(w != 50, r != 5) == kind for w, r in seen]) for kind in ((1, 0), (0, 1), (1, 1))]
    assert shares == pytest.approx(_KIND_SHARES, abs=0.03)
    assert all(1 <= w <= 3 and 1 <= r <= 10 for w, r in (_moved((2, 10), 3, rng) for _ in range(100)))


@pytest.mark.parametrize("option", ["moves_per_level", "patience"])
def test_what_makes_no_search_is_refused(instance, option):
    with pytest.raises(MethodError, match=f"guided {option}: must be at least 1"):
        kvopt.solve(instance, "guided", **{option: 0})
    with pytest.raises(MethodError, match="'guided' takes no start"):
        kvopt.solve(instance, "guided", start="lru")
