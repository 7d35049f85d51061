"""Lanes as views of the blocks where these follow one another, and as copies where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kvopt.lowering import OF_BLOCKS, Lowered, lower
from kvopt.trellis import Trellis, hard_minimum
from tests.instances import general_instance

_OF_LANES = ("size_bytes", "first_step", "last_step", "prefilled", "initial", "run_ptr", "run_start", "run_stop")


def reordered(low: Lowered, order: np.ndarray) -> Lowered:
    """The same blocks in another order."""
    counts = np.diff(low.run_ptr)[order]
    ptr = np.concatenate([[0], np.cumsum(counts)])
    runs = np.repeat(low.run_ptr[order] - ptr[:-1], counts) + np.arange(ptr[-1])
    blocks = {name: getattr(low, name)[order] for name in ("size_bytes", *OF_BLOCKS)}
    return replace(low, run_ptr=ptr, run_start=low.run_start[runs], run_stop=low.run_stop[runs], **blocks)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_views_equal_copies(seed):
    rng = np.random.default_rng(seed)
    low = lower(general_instance(rng))
    by_lane = np.argsort(low.lane, kind="stable")
    # Lanes in turns: what belongs together lies apart.
    rank = np.concatenate([np.arange(n) for n in np.bincount(low.lane, minlength=low.n_lanes)])
    apart = by_lane[np.argsort(rank, kind="stable")]
    views, copies = Trellis(reordered(low, by_lane)), Trellis(reordered(low, apart))
    for one, other in zip(views.lanes, copies.lanes, strict=True):
        assert one.room == other.room
        for name in (
            "size_bytes",
            "first_step",
            "last_step",
            "prefilled",
            "initial",
            "run_ptr",
            "run_start",
            "run_stop",
        ):
            assert np.array_equal(getattr(one, name), getattr(other, name))
        assert np.array_equal(by_lane[one.block], apart[other.block])
        if len(one.run_start):
            assert np.shares_memory(one.run_start, views.lowered.run_start)
    lam, mu = rng.random((low.n_channels, low.n_slots)), np.zeros((low.n_tiers, low.n_slots))
    found = [hard_minimum(trellis, trellis.prices(lam, mu)) for trellis in (views, copies)]
    assert np.array_equal(found[0][np.argsort(by_lane)], found[1][np.argsort(apart)])
