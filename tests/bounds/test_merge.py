"""Blocks alike as one: fewer runs, the same dual and the same slopes at any prices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt import instances
from kvopt.bounds import dual_bound, verify
from kvopt.bounds.merge import merged
from kvopt.lowering import OF_BLOCKS, Lowered, lower, unit_per_byte
from kvopt.trellis import Trellis, hard_minimum, soft_minimum
from tests.instances import general_instance


def with_twins(low: Lowered, copies: np.ndarray, size_bytes: np.ndarray) -> Lowered:
    """Each block so many times in a row, of the sizes given."""
    twins = np.repeat(np.arange(low.n_blocks), copies)
    counts = np.diff(low.run_ptr)[twins]
    ptr = np.concatenate([[0], np.cumsum(counts)])
    runs = np.repeat(low.run_ptr[twins] - ptr[:-1], counts) + np.arange(ptr[-1])
    blocks = {name: getattr(low, name)[twins] for name in OF_BLOCKS}
    return replace(
        low,
        size_bytes=size_bytes,
        run_ptr=ptr,
        run_start=low.run_start[runs],
        run_stop=low.run_stop[runs],
        **blocks,
    )


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_minima_and_slopes_of_twins_are_those_of_one(seed):
    rng = np.random.default_rng(seed)
    low = lower(general_instance(rng))
    copies = rng.integers(1, 5, low.n_blocks)
    many = with_twins(low, copies, rng.integers(1, 9, copies.sum()).astype(float))
    one = merged(many)
    assert one.n_blocks <= many.n_blocks
    assert one.size_bytes.sum() == many.size_bytes.sum()
    if len(low.run_start) <= 0.9 * len(many.run_start):
        assert len(one.run_start) <= len(low.run_start)
    lam, mu = rng.random((low.n_channels, low.n_slots)), np.zeros((low.n_tiers, low.n_slots))
    finite = np.isfinite(low.capacity_bytes)
    mu[finite] = rng.random((finite.sum(), low.n_slots)) * unit_per_byte(low)
    tau = 0.1 * unit_per_byte(low)
    hard, soft = [], []
    for trellis in (Trellis(many), Trellis(one)):
        prices = trellis.prices(lam, mu)
        hard.append(hard_minimum(trellis, prices).sum())
        soft.append(soft_minimum(trellis, prices, tau))
    assert hard[0] == pytest.approx(hard[1], rel=1e-12, abs=1e-12 * tau)
    assert soft[0].value.sum() == pytest.approx(soft[1].value.sum(), rel=1e-12, abs=1e-12 * tau)
    np.testing.assert_allclose(soft[1].slot_bytes, soft[0].slot_bytes, atol=1e-9 * many.size_bytes.sum())
    np.testing.assert_allclose(soft[1].write_bytes, soft[0].write_bytes, atol=1e-9 * many.size_bytes.sum())


def test_where_few_are_alike_nothing_is_copied():
    low = lower(instances.make("published-high", 2_000))
    assert merged(low) is low


def test_one_different_run_keeps_blocks_apart():
    low = lower(instances.make("embedded", 20_000))
    block = int(np.argmax(np.diff(low.run_ptr)))
    twins = with_twins(low, np.full(low.n_blocks, 2), np.ones(2 * low.n_blocks))
    start = twins.run_start.copy()
    start[twins.run_ptr[2 * block] + 1] += 1
    apart = merged(replace(twins, run_start=start))
    assert apart.n_blocks == merged(twins).n_blocks + 1


def test_a_log_of_requests_shrinks_and_its_bound_is_verified():
    instance = instances.make("request-log", 2_000)
    low = lower(instance)
    assert len(merged(low).run_start) < 0.5 * len(low.run_start)
    bound = dual_bound(instance)
    assert verify(instance, bound.certificate) == bound.value_s
