"""Objectives by name: text in, the same text out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvopt import objective, objective_text
from kvopt.objective import ObjectiveError
from kvopt.objective_text import MOST_TERMS, get, names, parse, spell

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


HOSTILE = (
    "9" * 400 + "*latency",
    "1e400*latency",
    "cvar(alpha={})",
    "cvar(alpha='x')",
    "cvar(alpha=None)",
    "cvar(alpha=True)",
    "cvar(alpha=1e400)",
    "cvar(alpha={[]: 1})",
    "cvar(alpha=1" + "+1j" * 3000 + ")",
    "cvar(alpha=1, alpha=1)",
    "late_steps(deadline_s=None)",
    "late_steps(deadline_s=" + "9" * 400 + ")",
    "traffic(channel=[1])",
    "cost(per_hour='x')",
    "cost(per_hour=1, per_byte_written=3)",
    "cost(per_hour=1, currency=3)",
    "energy(read_j_per_byte={'hbm': 'x'}, write_j_per_byte={})",
    "energy(read_j_per_byte={1: 2}, write_j_per_byte={})",
    "energy(read_j_per_byte=1, write_j_per_byte=2)",
    "energy(read_j_per_byte={}, write_j_per_byte={}, power_w='x')",
    "energy(read_j_per_byte={}, write_j_per_byte={}, hold_j_per_byte_slot=[1])",
    "{[]: 1}*latency",
    "True*latency",
    "latency" + "+latency" * MOST_TERMS,
    "latency" + "+latency" * 5000,
    "-" * 100_000 + "1*latency",
    "-" * 9_000 + "1*latency",
    "(" * 4000 + "latency" + ")" * 4000,
    "2*" * 4000 + "latency",
    "a" * 10**6,
    "latency\x00",
    "latency\nlatency",
    "\ud800",
)


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_refused_by_field(text):
    with pytest.raises(ObjectiveError) as error:
        parse(text)
    assert len(str(error.value)) < 1000
    assert error.value.fix


@pytest.mark.parametrize("value", [None, 3, b"latency", ["latency"]])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(ObjectiveError, match="objective: must be a str"):
        parse(value)


def test_as_many_terms_as_may_be_are_read_with_one_look_at_the_registry(monkeypatch):
    looks = []
    real = objective_text.metadata.entry_points
    monkeypatch.setattr(objective_text.metadata, "entry_points", lambda **named: looks.append(1) or real(**named))
    found = parse(" + ".join(["2*latency"] * MOST_TERMS))
    assert [weight for weight, _ in found.terms] == [2.0] * MOST_TERMS
    assert len(looks) == 1
    spell(found)
    assert len(looks) == 2


def test_products_and_signs_of_numbers_are_weights():
    assert parse("2*(3*latency)").terms == ((6.0, objective.latency()),)
    assert parse("+2*(latency + -1*worst_step)*0.5").terms == (
        (1.0, objective.latency()),
        (-1.0, objective.worst_step()),
    )


def test_numbers_of_numpy_are_spelled_as_numbers():
    total = np.float64(0.5) * objective.energy({"hbm": np.float64(2.0)}, {}) + objective.late_steps(np.float64(0.25))
    assert spell(parse(spell(total))) == spell(total)
    assert "float64" not in spell(total)


def test_what_another_packages_class_raises_names_the_objective(monkeypatch):
    def picky(alpha):
        raise RuntimeError("no such alpha")

    point = SimpleNamespace(name="picky", load=lambda: picky)
    monkeypatch.setattr(objective_text.metadata, "entry_points", lambda group: [point])
    with pytest.raises(ObjectiveError, match=r"objective 'picky': does not take its parameters \(no such alpha\)"):
        parse("picky(alpha=1)")
