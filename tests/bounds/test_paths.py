"""Cheapest paths by the lane's steps: whatever the tiles, and beside the kernel at more than a handful of steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvopt
from kvopt.bounds import paths, verify
from kvopt.lowering import lower
from kvopt.sources.synthetic import drifting
from kvopt.trellis import Trellis, hard_minimum
from tests.bounds.test_certificate import random_certificate
from tests.instances import RULES, general_instance


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_tiles_change_no_bit(seed, tile):
    rng = np.random.default_rng(seed)
    instance = general_instance(rng)
    certificate = random_certificate(instance, rng)
    whole = verify(instance, certificate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "TILE_BLOCKS", tile)
        assert verify(instance, certificate) == whole


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_hundreds_of_steps_agree_with_the_kernel(rules):
    """Steps by the hundred need more than a byte; blocks are written and freed throughout, in three lanes."""
    rng = np.random.default_rng(0)
    drawn = drifting(60, 300, n_lanes=3, read_share=0.2, seed=1)
    free = np.maximum(rng.integers(1, 600, drawn.n_blocks), drawn.write_step + 1)
    # A block lives on at least to its last read.
    np.maximum.at(free, drawn.run_block, drawn.run_stop)
    trace = drawn._replace(free_step=np.minimum(free, drawn.n_steps))
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200").with_capacity(1e6), rules)
    certificate = random_certificate(instance, rng)
    trellis = Trellis(lower(instance))
    prices = trellis.prices(certificate.channel_price, certificate.capacity_price_s_per_byte)
    cost = hard_minimum(trellis, prices).sum()
    scale = abs(prices.constant) + cost
    assert verify(instance, certificate) == pytest.approx(prices.constant + cost, abs=1e-12 * scale)
