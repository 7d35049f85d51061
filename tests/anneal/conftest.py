"""Fixtures of the annealer's tests."""

from __future__ import annotations

import pytest

from kvopt.anneal import solver


@pytest.fixture(autouse=True)
def pairs_of_few_blocks(monkeypatch):
    """Pairs of blocks are descended where that takes a moment: of hundreds of blocks it takes a minute."""
    monkeypatch.setattr(solver, "_PAIRS_S", 0.02)
