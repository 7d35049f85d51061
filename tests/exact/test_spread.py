"""Sizes up to a billion to one, tiers full to within a byte, every rule and objective: the optimum, or no claim."""

from __future__ import annotations

import pytest

import kvopt
from kvopt.exact import lp_bound, solve_exact
from kvopt.result import Termination
from tests.exact import spread

PER_CHUNK = 10


@pytest.mark.parametrize("chunk", range(6))
def test_finds_the_optimum(chunk):
    for seed in range(chunk * PER_CHUNK, (chunk + 1) * PER_CHUNK):
        instance, best = spread.instance(seed)
        result = solve_exact(instance, backend="arrays" if seed % 3 else "pyomo")
        assert result.termination is Termination.OPTIMAL, f"seed {seed}"
        assert result.objective == pytest.approx(best, rel=1e-9, abs=1e-12), f"seed {seed}"
        assert result.bound.value == pytest.approx(best, rel=1e-7, abs=1e-12), f"seed {seed}"
        assert lp_bound(instance).value <= best * (1 + 1e-7), f"seed {seed}"


def large_and_small(large: int) -> kvopt.Instance:
    """A block that just fits in the fast tier, and others, of a few bytes, that do not fit beside it."""
    tiers = (
        kvopt.Tier("fast", float(large), {}, {"c": 2.0}, {}),
        kvopt.Tier("back", large + 21.0, {"c": 1.0}, {"c": 2.0}, {"c": 1.0}),
    )
    trace = kvopt.Trace(
        5, 1, [0] * 4, [6, 14, large, 1], [3, -1, 2, 4], [5] * 4, [0, 1, 2, 3, 4], [4, 1, 2, 4], [5, 5, 3, 5]
    )
    return kvopt.Instance(trace, kvopt.Platform("p", tiers, (kvopt.Channel("c", 2.0),)), initial=[1, 0, 1, 1])


@pytest.mark.parametrize("backend", ["arrays", "pyomo"])
@pytest.mark.parametrize("power", [2, 4, 7, 9, 12, 15])
def test_one_large_block_among_small_ones(power, backend):
    """By hand: the large block must be written once, at 2/2 s a byte, and is read once from where that is free."""
    large = 10**power
    result = solve_exact(large_and_small(large), backend=backend)
    assert result.termination is Termination.OPTIMAL
    assert result.objective == pytest.approx(large + 45.5, rel=1e-12)
    assert result.bound.value == pytest.approx(large + 45.5, rel=1e-7)
