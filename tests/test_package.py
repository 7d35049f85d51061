"""The package's own first example."""

import doctest

import kvopt


def test_the_first_example_runs_and_leaves_something_to_decide():
    found = doctest.testmod(kvopt)
    assert found.failed == 0
    assert found.attempted >= 4
