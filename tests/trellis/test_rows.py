"""Rows entry by entry, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvopt.trellis import rows
from tests.kernels import called_from_python

values = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


@given(values, st.data())
def test_selecting_splits_as_sorting_does(drawn, data):
    row, at = np.array(drawn, float), data.draw(st.integers(0, len(drawn) - 1))
    called_from_python(rows.select)(row, at)
    expected = np.sort(np.array(drawn, float))
    assert row[at] == expected[at]
    np.testing.assert_array_equal(np.sort(row[:at]), expected[:at])
    np.testing.assert_array_equal(np.sort(row[at:]), expected[at:])


@given(values, st.integers(-7, 7), st.data())
def test_the_first_above_is_where_sorting_would_put_it(drawn, value, data):
    row = np.sort(np.array(drawn))
    start = data.draw(st.integers(0, len(row)))
    stop = data.draw(st.integers(start, len(row)))
    expected = start + np.searchsorted(row[start:stop], value, side="right")
    assert called_from_python(rows.first_above)(row, start, stop, value) == expected


@pytest.mark.parametrize("n", [0, 2, 3, 7])
def test_a_row_is_cut_or_gets_room_behind(n):
    row = np.array([3, 1, 2], np.int32)
    found = called_from_python(rows.resized)(row, n)
    assert found.dtype == row.dtype
    assert len(found) == n
    np.testing.assert_array_equal(found[:3], row[:n])


def test_copies_fills_and_sums():
    row, to = np.arange(6.0), np.zeros(6)
    called_from_python(rows.copy_range)(row, 2, 5, to, 1)
    np.testing.assert_array_equal(to, [0, 2, 3, 4, 0, 0])
    called_from_python(rows.add)(row, to)
    np.testing.assert_array_equal(to, [0, 3, 5, 7, 4, 5])
    called_from_python(rows.fill)(to, 4, 6, -1.0)
    assert called_from_python(rows.total)(to, 1) == 3 + 5 + 7 - 2
    called_from_python(rows.copy)(row, to)
    np.testing.assert_array_equal(to, row)
