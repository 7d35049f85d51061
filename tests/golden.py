"""Texts that are compared with files: numbers as numbers, all else to the letter.

Libraries that write a file for us print as many digits of a number as their version likes.
"""

from __future__ import annotations

import math
import re

_NUMBER = re.compile(r"(?<!\S)([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=[,;:]?(?:\s|$))")
"""Standing alone: digits in a name are part of it."""
_REL = 1e-12


def assert_same_text(found: str, golden: str) -> None:
    """Fail, naming the first line that differs, unless two texts say the same.

    Parameters
    ----------
    found, golden : str
        Compared line by line, and word by word; numbers that stand alone to 1e-12 of their size.
    """
    one, other = found.splitlines(), golden.splitlines()
    for number, lines in enumerate(zip(one, other, strict=False), start=1):
        assert _same_line(*lines), f"line {number}: {lines[0]!r} is not {lines[1]!r}"
    assert len(one) == len(other), f"{len(one)} lines, not {len(other)}"


def _same_line(found: str, golden: str) -> bool:
    # Every other piece is a number, since the pattern has one group.
    one, other = (_NUMBER.split(" ".join(line.split())) for line in (found, golden))
    if one[::2] != other[::2]:
        return False
    numbers = zip(one[1::2], other[1::2], strict=True)
    return all(math.isclose(float(a), float(b), rel_tol=_REL, abs_tol=0.0) for a, b in numbers)
