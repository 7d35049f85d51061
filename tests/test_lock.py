"""The lock file that set-up installs from, and the ranges of pyproject.toml that it was made from (`make lock`)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (ROOT / "requirements" / "lock.txt").read_text(encoding="utf-8")
PYTHONS = ("3.11", "3.12", "3.13")
"""One file serves them all, by markers; more of them than the classifiers say were tested."""
LOCKED_EXTRAS = ("dev", "notebook", "bench")


def pins() -> list[Requirement]:
    """Every line of the lock file."""
    lines = (line.split("#")[0].strip() for line in LOCK.splitlines())
    return [Requirement(line) for line in lines if line]


def wanted() -> list[Requirement]:
    """All that pyproject.toml has set-up install."""
    extras = PROJECT["project"]["optional-dependencies"]
    lists = (PROJECT["project"]["dependencies"], *(extras[name] for name in LOCKED_EXTRAS))
    return [Requirement(text) for texts in (*lists, PROJECT["build-system"]["requires"]) for text in texts]


def test_lines_pin_one_version_and_name_no_index():
    for pin in pins():
        assert [spec.operator for spec in pin.specifier] == ["=="], pin
        assert pin.url is None
        assert "*" not in str(pin.specifier)
    assert not re.search(r"^\s*-|://", LOCK, re.M)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_lock_has_what_pyproject_asks_for(python):
    """A range that has left the pinned version behind fails here: `make lock` makes it anew."""
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    found: dict[str, list[str]] = {}
    for pin in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            found.setdefault(canonicalize_name(pin.name), []).append(next(iter(pin.specifier)).version)
    assert all(len(versions) == 1 for versions in found.values())
    for requirement in wanted():
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (version,) = found[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: locked at {version}"


def test_what_runs_has_a_lower_end_each():
    """The lowest versions are those that `make environments` installs."""
    for requirement in map(Requirement, PROJECT["project"]["dependencies"]):
        assert [spec.operator for spec in requirement.specifier].count(">=") == 1, requirement
