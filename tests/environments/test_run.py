"""Which versions are lowest, which differ, and which package is blamed for what."""

from __future__ import annotations

from packaging.requirements import Requirement

from tests.environments.run import blame, differing, locked, lowest, requirements


def test_the_lowest_are_the_lower_ends():
    assert lowest([Requirement("a>=1.2,<3"), Requirement("b<2,>=1"), Requirement("c>=0.60")]) == [
        "a==1.2",
        "b==1",
        "c==0.60",
    ]
    assert len(lowest(requirements())) == len(requirements())


def test_what_differs_is_what_both_have():
    versions = {"highspy": "1.17.0", "numpy": "2.4.6", "pip": "23.2.1"}
    assert differing(versions, {"highspy": "1.16.0", "numpy": "2.4.6", "scipy": "1"}) == {
        "highspy": ("1.17.0", "1.16.0")
    }


def test_the_lock_file_is_read():
    assert {"highspy", "numba", "pytest"} <= set(locked())


def test_the_package_that_mends_a_test_is_blamed():
    suspects = dict.fromkeys(("click", "highspy", "numpy", "scipy"), ("2", "1"))
    mends = {"highspy": {"test_json", "test_export"}, "numpy": {"test_bound"}}
    tried = []

    def passes_with(package, version):
        tried.append((package, version))
        return mends.get(package, set()) | {"test_that_passed_anyway"}

    found = blame(["test_json", "test_export", "test_bound"], suspects, passes_with)
    assert found == {"test_json": ["highspy"], "test_export": ["highspy"], "test_bound": ["numpy"]}
    assert tried == [("click", "1"), ("highspy", "1"), ("numpy", "1")]
    assert blame(["test_odd"], suspects, passes_with) == {"test_odd": []}
