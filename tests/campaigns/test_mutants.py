"""The mutants of :mod:`tests.campaigns.mutants` still fit the code that they change."""

import ast

import pytest

from tests.campaigns.mutants import MUTANTS
from tests.checkouts import ROOT


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_one_place_and_is_a_program(mutant):
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    changed = mutant.mutated(text)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))


def test_there_are_ten_mutants_at_least_and_each_has_a_name_of_its_own():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 10
