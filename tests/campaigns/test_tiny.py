"""The campaign of tiny instances on a few seeds, and what it stands on: its own optimum, its own mathematics."""

from fractions import Fraction

import pytest

from tests.campaigns.tiny.__main__ import listed
from tests.campaigns.tiny.campaign import campaign
from tests.campaigns.tiny.cases import draw
from tests.campaigns.tiny.optimum import by_force, optimum
from tests.campaigns.tiny.page import Page, tail_mean

_MOST_PLACEMENTS = 300
_SEEDS = range(10)


def test_no_engine_is_at_fault():
    # Of few states: for each number of them, kernels are compiled and loaded.
    outcome = campaign(_SEEDS, processes=1, most_states=3)
    assert outcome.done == len(_SEEDS)
    assert outcome.counts["certified bounds"] > len(_SEEDS)
    assert outcome.counts["exact runs"] > len(_SEEDS)
    assert listed(outcome.faults, 5) == ""


def test_the_dynamic_program_finds_what_trying_everything_finds():
    tried = 0
    for seed in range(60):
        page = Page(draw(seed))
        lives = sum(death - birth for birth, death in zip(page.birth, page.death, strict=True))
        if len(page.states) ** lives > _MOST_PLACEMENTS:
            continue
        tried += 1
        best = optimum(page)
        assert by_force(page) == (None if best is None else best.value)
        if best is not None:
            assert page.broken(best.paths) == set()
            assert page.evaluated(best.paths).objective == best.value
    assert tried > 10


def test_a_tail_counts_the_last_step_in_part():
    steps = [Fraction(s) for s in (4, 1, 3, 2)]
    assert tail_mean(steps, Fraction(0)) == 4
    assert tail_mean(steps, Fraction(3, 8)) == (4 + Fraction(3, 2)) / Fraction(3, 2)
    assert tail_mean(steps, Fraction(1)) == Fraction(10, 4)


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_draws_the_same_case_again(seed):
    assert draw(seed) == draw(seed)


def test_the_cases_are_awkward():
    kinds = {kind for seed in range(400) for kind in draw(seed).kinds}
    assert {"capacity 0", "under a byte", "a byte short of a block", "block above the fastest tier"} <= kinds
    assert {"sizes to 1e9 apart", "one giant", "sizes huge", "terms far apart", "given start", "no reads"} <= kinds
    assert {"worst_step", "cvar", "late_steps", "energy", "traffic", "cost", "backing tier full"} <= kinds
