"""Objectives by name: text in, the same text out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvopt import objective
from kvopt.objective import ObjectiveError
from kvopt.objective_text import get, names, parse, spell

weights = st.floats(1e-6, 1e6)
singles = st.one_of(
    st.just(objective.latency()),
    st.just(objective.worst_step()),
    st.builds(lambda t: objective.cvar(1.0 - t), st.floats(0.0, 1.0)),
    st.builds(objective.late_steps, st.floats(1e-6, 10)),
    st.builds(objective.cost, st.floats(0.1, 100)),
    st.builds(objective.traffic, st.sampled_from(["hbm", "link"])),
    st.builds(
        objective.energy,
        st.dictionaries(st.sampled_from(["hbm", "lpddr"]), st.floats(0, 1)),
        st.dictionaries(st.sampled_from(["hbm", "lpddr"]), st.floats(0, 1)),
        power_w=st.floats(0, 1000),
    ),
)


@given(terms=st.lists(st.tuples(weights, singles), min_size=2, max_size=4))
def test_what_is_spelled_is_read_again(terms):
    total = terms[0][0] * terms[0][1]
    for weight, term in terms[1:]:
        total = total + weight * term
    again = parse(spell(total))
    assert [w for w, _ in again.terms] == [w for w, _ in total.terms]
    assert [spell(t) for _, t in again.terms] == [spell(t) for _, t in total.terms]


@given(term=singles)
def test_single_ones_too(term):
    assert spell(parse(spell(term))) == spell(term)


def test_dashes_and_underscores_are_alike():
    assert parse("worst-step") == parse("worst_step") == get("worst-step") == objective.worst_step()
    assert parse("1e-4*late-steps(deadline_s=1e-3)") == 1e-4 * objective.late_steps(1e-3)


def test_the_shipped_ones_are_registered():
    assert {"cost", "cvar", "energy", "late-steps", "latency", "traffic", "worst-step"} <= set(names())


def test_an_objective_of_ones_own_is_not_spelled():
    class Mine:
        name, unit = "mine", "x"

    assert spell(Mine()) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("speed", "there is no 'speed'. Choose from: cost, cvar"),
        ("latency +", "is not a sum of objectives"),
        ("latency - worst_step", "is not a sum of objectives"),
        ("latency * worst_step", "is not a sum of objectives"),
        ("cvar", "missing a required argument: 'alpha'"),
        ("cvar(0.95)", "is not a sum of objectives"),
        ("cvar(beta=1)", "Its parameters: alpha"),
        ("cvar(alpha=open('x'))", "is not a sum of objectives"),
        ("cvar(**{'alpha': 1})", "is not a sum of objectives"),
        ("__import__('os').getcwd()", "is not a sum of objectives"),
        ("", "is not a sum of objectives"),
        ("3", "is not a sum of objectives"),
    ],
)
def test_other_text_is_refused(text, words):
    with pytest.raises(ObjectiveError) as error:
        parse(text)
    assert words in str(error.value)
