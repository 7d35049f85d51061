"""The search over a policy's two parameters: the best of what it tried, and how it ends."""

import numpy as np
import pytest

import kvopt
from kvopt import Platform, policies
from kvopt.anneal.guided import _KIND_SHARES, _moved, solve_guided
from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.result import Termination
from kvopt.sources.published import recent_and_scattered
from kvopt.sources.synthetic import drifting


@pytest.fixture(scope="module")
def instance() -> Instance:
    trace = drifting(60, 30, n_lanes=2, read_share=0.2, drift=0.3, seed=2)
    return Instance(trace, Platform.preset("gh200")).with_hbm_bytes(0.3 * trace.size_bytes.sum())


def look_ahead(instance, window, ratio):
    return policies.simulate(instance, policies.get("look-ahead", window_steps=window, ratio=ratio))


def test_the_result_is_the_best_policy_that_was_tried(instance):
    tried = {}

    def place(searched, window, ratio):
        assert searched is instance
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


def test_lanes_that_are_read_alike_are_searched_by_one_of_them(instance):
    """The parameters are those of the search on all; what they achieve is of all lanes, however few were searched."""
    alike = published_like(n_lanes=4)
    events = []
    one = kvopt.solve(alike, "guided", search_lanes=1, on_progress=events.append)
    every = kvopt.solve(alike, "guided")
    assert one.details == every.details
    assert one.placement == every.placement
    assert {e.detail.split(", on ")[1] for e in events} == {"1 of 4 lanes"}
    some = kvopt.solve(instance, "guided", search_lanes=1)
    found = look_ahead(instance, some.details["window_steps"], some.details["ratio"])
    assert some.objective == kvopt.evaluate(instance, found).objective


def test_a_search_on_some_lanes_has_their_share_of_the_room():
    whole = published_like(n_lanes=4)
    seen = []

    def place(searched, window, ratio):
        seen.append(searched)
        return look_ahead(searched, window, ratio)

    solve_guided(whole, place, search_lanes=2, time_limit_s=1e-9)
    part, last = seen
    assert last is whole
    assert part.trace.n_lanes == 2
    assert part.capacity_bytes[0] == pytest.approx(whole.capacity_bytes[0] / 2, abs=1)
    assert part.capacity_bytes[1] == whole.capacity_bytes[1]
    assert part.weight_bytes_per_slot == whole.weight_bytes_per_slot


def published_like(n_lanes: int) -> Instance:
    """Lanes that are all read alike, and room for as many blocks of each."""
    trace = recent_and_scattered(prompt_tokens=40, n_steps=20, n_lanes=n_lanes, read_share=0.3, floor=0.8, seed=1)
    room = 15 * n_lanes * int(trace.size_bytes[0])
    return Instance(trace, Platform.preset("gh200"), weight_bytes_per_slot=1e4).with_hbm_bytes(room)


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


@pytest.mark.parametrize("lanes", [0, 3])
def test_lanes_there_are_not_cannot_be_searched(instance, lanes):
    with pytest.raises(MethodError, match=f"guided search_lanes: must be at .*, got {lanes}"):
        kvopt.solve(instance, "guided", search_lanes=lanes)


@pytest.mark.parametrize("option", ["moves_per_level", "patience"])
def test_what_makes_no_search_is_refused(instance, option):
    with pytest.raises(MethodError, match=f"guided {option}: must be at least 1"):
        kvopt.solve(instance, "guided", **{option: 0})
    with pytest.raises(MethodError, match="'guided' takes no start"):
        kvopt.solve(instance, "guided", start="lru")


def test_the_search_ends_where_nothing_costs_anything():
    channels = (kvopt.Channel("bus", 1.0),)
    tiers = (kvopt.Tier("fast", 100.0, {}, {}), kvopt.Tier("slow", 100.0, {"bus": 1.0}, {}))
    trace = drifting(1, 4, n_lanes=1, read_share=1.0, drift=0.0, seed=1).with_size_bytes(1)
    result = kvopt.solve(Instance(trace, Platform("free", tiers, channels)), "guided")
    assert result.objective == 0.0
    assert result.termination is Termination.FINISHED
