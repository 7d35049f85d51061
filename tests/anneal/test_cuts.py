"""Cuts of a block's life in a window: its path at them is its path, and what is left out is what stays the same."""

from __future__ import annotations

import numpy as np
import pytest

from kvopt import Rules
from kvopt.anneal.cuts import READ, Cutting, cut_up, cutting_of, make_scratch, nothing_to_choose, write_path
from kvopt.anneal.moves import above_least
from kvopt.anneal.paths import placement_of
from kvopt.anneal.window import any_step, make_tables, refresh, reprice_read
from kvopt.anneal.window_moves import _draw_slot
from kvopt.lowering import unit_per_byte
from kvopt.trellis.rng import stream
from tests.anneal.test_windows import TWO_STATES, chain_of, drifted, one_window
from tests.kernels import called_from_python

FIRST, STOP = 16, 48


def windowed(rules: Rules | None = None, n_lanes: int = 3):
    chain = chain_of(drifted(rules, n_lanes=n_lanes), "lru")
    return chain, one_window(chain, FIRST, STOP, above_least(chain.problem, np.zeros((chain.low.n_slots, 2))))


@pytest.mark.parametrize("strides", [(1, 1), (4, 8), (1000, 1000)], ids=str)
def test_the_path_at_cuts_is_the_path(strides):
    chain, window = windowed()
    problem, low = chain.problem, chain.low
    states = placement_of(problem, chain.paths).to_states(low.n_slots, 2)
    scratch, rng = make_scratch(problem, STOP - FIRST), stream(0, 0)
    cuts = 0
    for j, i in enumerate(window.block):
        m = called_from_python(cut_up)(problem, window, j, cutting_of(problem, *strides), scratch, rng)
        cut = scratch.cut[:m].astype(int)
        begin, last = window.begin[j], window.end[j] - 1
        assert (cut[0], cut[-1]) == (begin, last)
        assert (np.diff(cut) > 0).all()
        own = (FIRST + cut) * low.n_lanes + low.lane[i]
        np.testing.assert_array_equal(scratch.z_old[:m], states[i, own])
        for c in range(m - 1):
            slots = states[i, own[c] : own[c + 1] + 1]
            when = int(scratch.when_old[c]) if scratch.z_old[c] != scratch.z_old[c + 1] else low.n_lanes - 1
            assert (slots[: when + 1] == scratch.z_old[c]).all()
            assert (slots[when + 1 :] == scratch.z_old[c + 1]).all()
            between = scratch.kind[cut[c] + 1 : cut[c + 1]]
            assert len(np.unique(between)) <= 1
        read = [n for n in range(begin, last + 1) if scratch.kind[n] == READ]
        runs = slice(low.run_ptr[i], low.run_ptr[i + 1])
        steps = [n for a, b in zip(low.run_start[runs], low.run_stop[runs], strict=True) for n in range(a, b)]
        assert read == [n - FIRST for n in steps if begin <= n - FIRST <= last]
        if strides == (1, 1):
            assert m == last + 1 - begin
        cuts += m
    assert cuts > 0


def test_what_is_written_is_what_was_cut():
    chain, window = windowed()
    scratch, rng = make_scratch(chain.problem, STOP - FIRST), stream(0, 0)
    cutting = cutting_of(chain.problem, 4, 8)
    for j in range(len(window.block)):
        before = window.slot[window.at[j] :][: window.count[j]].copy()
        state = window.state[window.at[j] :][: window.count[j]].copy()
        m = called_from_python(cut_up)(chain.problem, window, j, cutting, scratch, rng)
        called_from_python(write_path)(window, j, m, chain.low.lane[window.block[j]], chain.low.n_lanes, scratch)
        np.testing.assert_array_equal(window.slot[window.at[j] :][: window.count[j]], before)
        np.testing.assert_array_equal(window.state[window.at[j] :][: window.count[j]], state)


@pytest.mark.parametrize("rules", TWO_STATES, ids=str)
def test_lingering_pays_only_where_leaving_costs(rules):
    chain, _ = windowed(rules)
    free = rules.inclusive or rules.moves.value == "free"
    assert cutting_of(chain.problem, 4, 8) == Cutting(4, 8, linger=not free, at_rest=True)


def test_only_blocks_without_reads_at_rest_have_nothing_to_choose():
    chain, window = windowed()
    cutting, scratch, rng = cutting_of(chain.problem, 1, 1), make_scratch(chain.problem, STOP - FIRST), stream(0, 0)
    idle = 0
    for j in range(len(window.block)):
        m = called_from_python(cut_up)(chain.problem, window, j, cutting, scratch, rng)
        kinds = scratch.kind[window.begin[j] : window.end[j]]
        at_rest = (kinds != READ).all() and (scratch.z_old[: m + 1] == 1).all()
        expected = not window.loose_begin[j] and (m < 2 or at_rest)
        assert called_from_python(nothing_to_choose)(chain.problem, window, j, cutting) == expected
        idle += expected
    assert 0 < idle < len(window.block)


def test_bits_of_steps_in_a_range():
    found = called_from_python(any_step)
    rng = np.random.default_rng(0)
    for _ in range(50):
        marked = rng.random(200) < rng.choice([0.0, 0.01, 0.2])
        bits = np.zeros(200 // 63 + 1, np.int64)
        for n in np.flatnonzero(marked):
            bits[n // 63] |= np.int64(1) << np.int64(n % 63)
        for _ in range(40):
            first, stop = np.sort(rng.integers(0, 201, 2))
            assert found(bits, first, stop) == marked[first:stop].any()


@pytest.mark.parametrize("rules", TWO_STATES, ids=str)
def test_reads_are_priced_by_what_the_slot_takes_longer(rules):
    chain, window = windowed(rules)
    problem, size = chain.problem, chain.class_size[0]
    load, either, out = np.empty((1, chain.low.n_channels)), np.zeros(len(window.either[:1])), np.empty(4)

    def slot_s(t, state):
        """With a read of one block more in a state, or none."""
        more = 0.0 if state is None else size * problem.op[1, state, state]
        busy = window.load[t] + more
        if not problem.balanced:
            return busy.max()
        most = window.either[t] + (size if state is not None and problem.swappable[state] else 0.0)
        return min((busy + y * problem.swap).max() for y in np.linspace(0, most, 20_001))

    strictly = window.relaxed.lean, window.relaxed.width
    for t in range(0, len(window.load), 37):
        called_from_python(reprice_read)(
            problem, window.load, window.either, t, 0.0, load, either, np.empty(chain.low.n_channels), *strictly, out
        )
        np.testing.assert_allclose(out, 0.0, atol=1e-20)
        # Of a block that is not in the loads yet: taken out of them by adding it first.
        for now in range(2):
            window.load[t] += size * problem.op[1, now, now]
            if problem.balanced:
                window.either[t] += size * problem.swappable[now]
            extra = np.empty(chain.low.n_channels)
            called_from_python(reprice_read)(
                problem, window.load, window.either, t, size, load, either, extra, *strictly, out
            )
            window.load[t] -= size * problem.op[1, now, now]
            if problem.balanced:
                window.either[t] -= size * problem.swappable[now]
            expected = [problem.second * (slot_s(t, z) - slot_s(t, None)) for z in range(2)]
            np.testing.assert_allclose(out[2 * now : 2 * now + 2], expected, rtol=1e-3, atol=1e-13)


def test_slots_are_drawn_by_their_weights():
    chain, window = windowed(n_lanes=4)
    problem, low = chain.problem, chain.low
    temperature = 0.3 * unit_per_byte(low) * low.size_bytes.mean()
    tables = make_tables(problem, window, chain.class_size)
    called_from_python(refresh)(problem, window, chain.class_size, temperature, tables, np.empty(low.n_channels))
    rng, n, lane, draws = stream(0, 3), 5, 2, 40_000
    draw = called_from_python(_draw_slot)
    for first, p in ((0, 1), (1, 2)):
        weight = np.zeros(4)
        y, z = divmod(p, 2)
        for o in range(first, 4):
            t = n * 4 + lane + o
            longer = (window.load[t] + chain.class_size[0] * problem.op[0, y, z]).max() - window.load[t].max()
            charged = chain.class_size[0] * (window.charged[t + 1, y] - window.charged[t + 1, z])
            weight[o] = np.exp(-(longer + charged) / temperature)
        count = np.zeros(4)
        for _ in range(draws):
            drawn = draw(tables.after, tables.before, 0, n, lane, first, p, temperature, rng)
            count[drawn] += 1
        expected = draws * weight / weight.sum()
        possible = expected > 0
        assert count[~possible].sum() == 0
        assert ((count - expected)[possible] ** 2 / expected[possible]).sum() < 20
