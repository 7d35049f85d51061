"""What is refused has no placement, and what has none is refused."""

from __future__ import annotations

from itertools import product
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
    fast = draw(st.integers(0, max(peak, max(size))))
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


@pytest.mark.parametrize("fast", [0.0, 0.4, 5.0, 6.0])
def test_a_tier_may_be_smaller_than_a_block(fast):
    """Then it holds none of such a block, and the others have to."""
    assert kvopt.Instance(prefilled([6, 6, 6]), platform(fast, 18)).capacity_bytes[0] == int(fast)
    if fast < 6:
        with pytest.raises(Infeasible, match="short of"):
            kvopt.Instance(prefilled([6, 6, 6]), platform(fast, 17))
    assert kvopt.Instance(prefilled([6, 6, 6]), platform(18, 0)).capacity_bytes == (18, 0)
    with pytest.raises(Infeasible, match="short of 1 byte"):
        kvopt.Instance(prefilled([6, 6, 6]), platform(17, 0))


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


def tiers(*capacity: float) -> kvopt.Platform:
    names = [f"tier {k}" for k in range(len(capacity))]
    return kvopt.Platform(
        "tiers",
        tuple(kvopt.Tier(n, c, {"bus": 1.0}, {"bus": 1.0}) for n, c in zip(names, capacity, strict=True)),
        (kvopt.Channel("bus", 1.0),),
    )


SHARED = [kvopt.Rules(), kvopt.Rules("inclusive", writes="back")]


@st.composite
def packings(draw) -> tuple[list[int], list[int]]:
    """(sizes, capacities) of a few blocks and three or four tiers that they fill nearly."""
    unit = draw(st.sampled_from([1, 1, 2, 3]))
    size = [unit * draw(st.integers(1, 9)) for _ in range(draw(st.integers(2, 7)))]
    capacity = [draw(st.integers(max(size), max(size) + 6))]
    capacity += [draw(st.integers(0, 9)) for _ in range(draw(st.integers(1, 2)))]
    return size, [*capacity, max(sum(size) - sum(capacity) + draw(st.integers(-2, 4)), 0)]


def packs(size: list[int], capacity: list[int]) -> bool:
    """Whether some split fits, by trying all."""
    return any(
        all(sum(s for s, k in zip(size, split, strict=True) if k == n) <= c for n, c in enumerate(capacity))
        for split in product(range(len(capacity)), repeat=len(size))
    )


def refused(size: list[int], capacity: list[int], rules: kvopt.Rules) -> Infeasible | None:
    with mock.patch.object(feasibility, "check"):
        instance = kvopt.Instance(prefilled(size), tiers(*capacity), rules)
    return refusal(instance)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(packings(), st.sampled_from(SHARED))
def test_over_three_tiers_and_more_it_never_refuses_wrongly(packing, rules):
    size, capacity = packing
    error = refused(size, capacity, rules)
    if error is None:
        return
    assert not packs(size, capacity)
    # What is short is short: with one byte less than that it is still refused, and rightly.
    assert error.shortfall_bytes > 0
    assert not packs(size, [*capacity[:-1], capacity[-1] + error.shortfall_bytes - 1])
    assert (error.tier, error.slot) == (f"tier {len(capacity) - 1}", 0)


def test_over_three_tiers_it_sees_most():
    """Of random packings that do not exist, nine in ten are refused."""
    rng = np.random.default_rng(3)
    found = []
    while len(found) < 200:
        size = rng.integers(1, 10, rng.integers(3, 7)).tolist()
        fast, middle = max(size) + int(rng.integers(0, 4)), int(rng.integers(1, 10))
        capacity = [fast, middle, max(sum(size) - fast - middle + int(rng.integers(0, 3)), 0)]
        if not packs(size, capacity):
            found.append(refused(size, capacity, kvopt.Rules()) is not None)
    assert np.mean(found) > 0.9


@pytest.mark.parametrize(
    ("size", "capacity", "short", "words"),
    [
        ([6] * 4, (10, 10, 10), 2, "the tiers have room for 3 pieces of 6 bytes, and the blocks make 4"),
        ([7, 7, 7, 4, 4], (10, 10, 10), 3, "no choice of them fills more than 24 of the tiers' bytes"),
        ([10] * 3, (10, 10, 9), 1, "the tiers hold 29 under"),
    ],
)
@pytest.mark.parametrize("rules", SHARED)
def test_what_is_short_of_three_tiers_is_told(size, capacity, short, words, rules):
    error = refused(size, capacity, rules)
    assert (error.tier, error.slot, error.shortfall_bytes) == ("tier 2", 0, short)
    assert words in str(error)
    assert "--backing-bytes), or another (--tier-bytes), or use smaller blocks" in str(error)
    assert ("written back" in str(error)) == rules.write_back


def test_two_tiers_written_back_are_split_like_exclusive_ones():
    with pytest.raises(Infeasible, match="no choice of them fills more than 6 of the 10 bytes of tier 'tier 0'"):
        kvopt.Instance(prefilled([6, 6, 6]), tiers(10, 10), kvopt.Rules("inclusive", writes="back"))
