"""What is refused has no placement, and what has none is refused."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt import feasibility
from kvopt.errors import Infeasible
from kvopt.exact import solve_exact
from tests.instances import brute_force


def platform(fast: float, backing: float) -> kvopt.Platform:
    return kvopt.Platform.preset("gh200").with_capacity(fast).with_capacity(backing, tier=1)


def prefilled(sizes, n_steps: int = 1) -> kvopt.Trace:
    """Blocks that exist from the first slot to the last; the first is read once."""
    return kvopt.Trace.from_accesses(
        [0],
        [0],
        n_steps=n_steps,
        n_lanes=1,
        lane=np.zeros(len(sizes), int),
        size_bytes=sizes,
        write_step=np.full(len(sizes), -1),
    )


def unchecked(trace: kvopt.Trace, fast: float, backing: float, rules: kvopt.Rules) -> kvopt.Instance:
    """An instance that may have no placement."""
    with mock.patch.object(feasibility, "check"):
        return kvopt.Instance(trace, platform(fast, backing), rules)


def has_placement(instance: kvopt.Instance) -> bool:
    if instance.rules.inclusive and instance.live_bytes.max() > instance.capacity_bytes[1]:
        return False  # Brute force does not look at a tier that keeps everything.
    try:
        brute_force(instance)
    except ValueError:
        return False
    return True


def refusal(instance: kvopt.Instance) -> Infeasible | None:
    try:
        feasibility.check(instance)
    except Infeasible as error:
        return error
    return None


@st.composite
def tight_instances(draw) -> kvopt.Instance:
    """Both tiers nearly full; sizes with and without a common divisor, blocks that come and go."""
    n_lanes = draw(st.integers(1, 2))
    n_steps = draw(st.integers(1, 3 if n_lanes == 1 else 2))
    n_blocks = draw(st.integers(2, 5 if n_steps * n_lanes <= 3 else 4))
    unit = draw(st.sampled_from([1, 1, 3]))
    size = [unit * draw(st.integers(1, 9)) for _ in range(n_blocks)]
    write = [draw(st.integers(-1, n_steps - 1)) for _ in range(n_blocks)]
    free = [draw(st.integers(max(w, 0) + 1, n_steps)) for w in write]
    lane = [draw(st.integers(0, n_lanes - 1)) for _ in range(n_blocks)]
    trace = kvopt.Trace.from_accesses(
        [], [], n_steps=n_steps, n_lanes=n_lanes, lane=lane, size_bytes=size, write_step=write, free_step=free
    )
    rules = kvopt.Rules(draw(st.sampled_from(["exclusive", "exclusive", "inclusive"])))
    peak = int(unchecked(trace, 1, 1, rules).live_bytes.max())
    fast = draw(st.integers(max(size), max(peak, max(size))))
    room = peak if rules.inclusive else peak - fast
    return unchecked(trace, fast, max(room + draw(st.integers(-2, 9)), 1), rules)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(tight_instances())
def test_refused_if_and_only_if_there_is_no_placement(instance):
    error = refusal(instance)
    assert (error is None) == has_placement(instance), error


@settings(max_examples=300, deadline=None, derandomize=True)
@given(tight_instances())
def test_the_shortfall_is_missing(instance):
    """With one byte less it is still refused; where no choice of blocks fills the fast tier, with it, it is not."""
    error = refusal(instance)
    if error is None:
        return
    fast, backing = instance.capacity_bytes
    assert error.shortfall_bytes > 0
    short = unchecked(instance.trace, fast, backing + error.shortfall_bytes - 1, instance.rules)
    if short.capacity_bytes != instance.capacity_bytes:
        assert refusal(short) is not None
    enough = unchecked(instance.trace, fast, backing + error.shortfall_bytes, instance.rules)
    if "no choice" in str(error) or instance.rules.inclusive:
        assert refusal(enough) is None


@settings(max_examples=200, deadline=None, derandomize=True)
@given(tight_instances(), st.integers(0, 2000))
def test_with_less_work_it_refuses_less_but_never_wrongly(instance, work):
    with mock.patch.object(feasibility, "MOST_WORK", work):
        assert refusal(instance) is None or not has_placement(instance)


def test_blocks_that_fit_by_their_bytes_but_cannot_be_split():
    with pytest.raises(Infeasible) as caught:
        kvopt.Instance(prefilled([6, 6, 6]), platform(10, 10))
    error = caught.value
    assert (error.tier, error.slot, error.shortfall_bytes) == ("lpddr", 0, 2)
    assert str(error) == (
        "capacity_bytes: 18 bytes are alive in slot 0 (step 0, lane 0), but no choice of them fills more than 6 of the "
        "10 bytes of tier 'hbm' under exclusive copies; tier 'lpddr' is short of 2 bytes. "
        "Give the backing tier more capacity (--backing-bytes) or use smaller blocks"
    )
    assert solve_exact(kvopt.Instance(prefilled([6, 6, 6]), platform(10, 12)), backend="arrays").placement is not None


def test_what_is_short_is_told_in_full():
    trace = kvopt.Trace.from_accesses(
        [], [], n_steps=3, n_lanes=2, lane=[0, 1, 1], size_bytes=[10, 20, 30], write_step=[-1, -1, 1]
    )
    with pytest.raises(Infeasible, match=r"slot 3 \(step 1, lane 1\), .* tier 'lpddr' is short of 1 byte\.") as caught:
        kvopt.Instance(trace, platform(30, 29))
    assert (caught.value.tier, caught.value.slot, caught.value.shortfall_bytes) == ("lpddr", 3, 1)
    with pytest.raises(Infeasible, match=r"hbm_bytes: tier 'hbm' has 25 bytes .* largest block") as caught:
        kvopt.Instance(trace, platform(25, 1000))
    assert (caught.value.tier, caught.value.slot, caught.value.shortfall_bytes) == ("hbm", 3, 5)


def test_greedy_is_not_the_last_word():
    """Largest first fills 7 of 10; 4 + 3 + 3 fills all."""
    assert kvopt.Instance(prefilled([7, 4, 3, 3, 8]), platform(10, 15)).n_slots == 1


def test_large_sizes_without_a_common_divisor_are_left_to_the_engines():
    """Sums up to 10**12 are too many to write down; the exact engine finds that no split fits."""
    sizes = np.array([600_000_000_001, 600_000_000_003, 600_000_000_007])
    instance = kvopt.Instance(prefilled(sizes), platform(1e12, 1e12))
    assert solve_exact(instance, backend="arrays").placement is None


def test_nothing_is_looked_at_where_a_tier_has_room():
    with mock.patch.object(feasibility, "_check_splits") as looked:
        kvopt.Instance(prefilled([6, 6, 6]), platform(10, 18))
        kvopt.Instance(prefilled([6, 6, 6]), platform(18, 1))
        kvopt.Instance(prefilled([6, 6, 6]), platform(6, 18), kvopt.Rules("inclusive"))
    looked.assert_not_called()
