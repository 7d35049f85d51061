"""The evaluator against the definition: block by block and slot by slot, on random instances and placements."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.evaluate import evaluate
from kvopt.instance import Instance, Rules
from kvopt.placement import Placement
from kvopt.platform import Channel, Platform, Tier
from kvopt.trace import Trace
from tests.instances import instances, random_placement, reads, slow_latency


@st.composite
def placed(draw):
    """An instance and a random placement of it, feasible or not."""
    instance = draw(instances())
    return instance, random_placement(instance, np.random.default_rng(draw(st.integers(0, 2**32 - 1))))


@settings(max_examples=300, deadline=None)
@given(placed())
def test_latency_is_that_of_the_definition(drawn):
    instance, placement = drawn
    assert evaluate(instance, placement).latency_s == pytest.approx(slow_latency(instance, placement), rel=1e-12)


@settings(max_examples=300, deadline=None)
@given(placed())
def test_statistics_are_plain_counts(drawn):
    instance, placement = drawn
    in_fast, read = placement.to_dense(instance.n_slots), reads(instance)
    trace, rules = instance.trace, instance.rules
    read_bytes, new_bytes = np.zeros((2, instance.n_slots), int), np.zeros((2, instance.n_slots), int)
    up, down = np.zeros((2, instance.n_slots), int), np.zeros((2, instance.n_slots), int)
    for b in range(trace.n_blocks):
        size, birth, death = int(trace.size_bytes[b]), instance.birth_slot[b], instance.death_slot[b]
        for t in range(birth, death):
            read_bytes[0 if in_fast[b, t] else 1, t] += size * read[b, t]
            if t == birth and trace.write_step[b] >= 0:
                new_bytes[0, t] += size * in_fast[b, t]
                new_bytes[1, t] += size * (rules.inclusive or not in_fast[b, t])
            if t + 1 < death and in_fast[b, t + 1] != in_fast[b, t]:
                through = int(rules.read_through and read[b, t])
                if in_fast[b, t + 1]:
                    up[through, t] += size
                elif not rules.inclusive:
                    down[through, t] += size
    done = evaluate(instance, placement)
    for name, counted in (("read_bytes", read_bytes), ("new_bytes", new_bytes), ("up_bytes", up), ("down_bytes", down)):
        np.testing.assert_array_equal(getattr(done, name), counted, err_msg=name)
    np.testing.assert_array_equal(done.fast_bytes, trace.size_bytes @ in_fast)
    assert done.moved_bytes == up.sum() + down.sum()
    weights = instance.weight_bytes_per_slot * instance.n_slots
    total = read_bytes.sum()
    if total:
        assert done.kv_hit_rate == pytest.approx(read_bytes[0].sum() / total)
        assert done.hit_rate_with_weights == pytest.approx((read_bytes[0].sum() + weights) / (total + weights))
    else:
        assert math.isnan(done.kv_hit_rate)


@settings(deadline=None)
@given(placed())
def test_a_slot_lasts_as_long_as_its_slowest_channel(drawn):
    instance, placement = drawn
    done = evaluate(instance, placement)
    rates = instance.platform.bandwidth_bytes_per_s
    for t in range(instance.n_slots):
        assert done.slot_s[t] == pytest.approx(max(done.load_bytes[c, t] / rates[c] for c in range(len(rates))))
    assert done.latency_s == pytest.approx(done.slot_s.sum())
    if done.latency_s:
        assert done.tokens_per_s == pytest.approx(instance.trace.n_steps / done.latency_s)


def by_hand(copies: str, moves: str) -> Instance:
    """Two steps, one lane: 4 and 8 GB after prefill, 1 GB written at step 1. Block 0 is read twice, 1 at step 1."""
    trace = Trace.from_accesses(
        np.array([0, 0, 1]),
        np.array([0, 1, 1]),
        n_steps=2,
        n_lanes=1,
        lane=np.zeros(3),
        size_bytes=[4 * 10**9, 8 * 10**9, 10**9],
        write_step=[-1, -1, 1],
    )
    return Instance(trace, Platform.preset("fang2025-overlapped"), Rules(copies, moves), weight_bytes_per_slot=1e9)


@pytest.mark.parametrize(
    ("copies", "moves", "slot_0", "slot_1"),
    [
        # GB by channel (hbm, link in, link out, dram). Block 0 moves up in slot 0, block 1 stays, block 2 is born fast.
        ("exclusive", "read-through", (1 + 4, 4, 0, 4), (1 + 4 + 1, 8, 0, 8)),
        ("exclusive", "explicit", (1 + 4, 4 + 4, 0, 4 + 4), (1 + 4 + 1, 8, 0, 8)),
        ("inclusive", "read-through", (1 + 4, 4, 0, 4), (1 + 4 + 1, 8, 1, 8 + 1)),
        ("inclusive", "explicit", (1 + 4, 4 + 4, 0, 4 + 4), (1 + 4 + 1, 8, 1, 8 + 1)),
    ],
)
def test_by_hand(copies, moves, slot_0, slot_1):
    instance = by_hand(copies, moves)
    done = evaluate(instance, Placement.from_intervals(3, [0, 2], [1, 1], [2, 2]))
    np.testing.assert_allclose(done.load_bytes.T, np.array([slot_0, slot_1]) * 1e9)
    rates = np.array([4.9e12, 450e9, 450e9, 500e9])
    assert done.latency_s == pytest.approx(sum(max(np.array(s) * 1e9 / rates) for s in (slot_0, slot_1)))
    assert done.kv_hit_rate == 4 / 16
    assert done.hit_rate_with_weights == (4 + 2) / (16 + 2)


def test_a_block_read_in_touching_runs_is_read_in_both():
    """A run may begin where the one before it ends."""
    trace = Trace(4, 1, [0], [10], [-1], [4], [0, 2], [0, 2], [2, 4])
    instance = Instance(trace, Platform.preset("gh200"), Rules("inclusive", "read-through"))
    done = evaluate(instance, Placement.from_intervals(1, [0], [2], [3]))
    assert done.read_bytes.tolist() == [[0, 0, 10, 0], [10, 10, 0, 10]]
    assert done.up_bytes.tolist() == [[0, 0, 0, 0], [0, 10, 0, 0]]


def test_a_decoder_that_reads_nothing_takes_no_time():
    trace = Trace.from_accesses([], [], n_steps=2, n_lanes=1, lane=[0], size_bytes=[10], write_step=[-1])
    instance = Instance(trace, Platform.preset("gh200"))
    done = evaluate(instance, Placement.backing(instance))
    assert done.latency_s == 0
    assert done.tokens_per_s == math.inf
    assert math.isnan(done.kv_hit_rate)
    assert math.isnan(done.hit_rate_with_weights)


@pytest.mark.parametrize(("moves", "loaded"), [("explicit", [3.0, 0.0]), ("read-through", [0.0, 0.0])])
def test_what_a_move_reads_is_its_source_s_own(moves, loaded):
    """A move of three bytes up loads the engine that moves, which no read does, and in a read of them none."""
    tiers = (
        Tier("fast", 8.0, {"bus": 1.0}, {"bus": 1.0}),
        Tier("slow", 8.0, {"link": 1.0}, {"link": 1.0}, move_out={"mover": 1.0}),
    )
    platform = Platform("moved", tiers, tuple(Channel(name, 1.0) for name in ("bus", "link", "mover")))
    trace = Trace.from_accesses([0], [0], n_steps=2, n_lanes=1, lane=[0], size_bytes=[3], write_step=[-1])
    instance = Instance(trace, platform, Rules("exclusive", moves))
    done = evaluate(instance, Placement.from_states(np.array([[1, 0]]), 2))
    np.testing.assert_array_equal(done.load_bytes, [[3.0, 0.0], [3.0, 0.0], loaded])
