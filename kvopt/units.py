"""Numbers as a reader wants them: seconds, bytes, rates and shares with fitting units. None is a dash.

And amounts as a user writes them: 24e9, 24GB, 24 GiB.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))

_SCALES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_AMOUNT = re.compile(r"(?P<number>[-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*(?P<scale>[kmgt]?i?)b?", re.IGNORECASE)


def time_unit(times_s: Sequence[float]) -> tuple[float, str]:
    """(seconds, name) of the unit in which the largest time is at least 1; one unit makes a column comparable."""
    largest = max(times_s, default=1.0)
    return next((unit for unit in _TIMES if largest >= unit[0]), _TIMES[-1])


def seconds_text(time_s: float | None, unit: tuple[float, str] | None = None) -> str:
    """A time with four significant digits."""
    if time_s is None:
        return "-"
    size, name = unit or time_unit([time_s])
    return f"{_digits(time_s / size)} {name}"


def amount_text(value: float | None, unit: str) -> str:
    """A value of an objective in its own unit."""
    if unit == "s":
        return seconds_text(value)
    return "-" if value is None else f"{value:.4g} {unit}"


def bytes_text(size_bytes: float | None) -> str:
    """A size with three significant digits."""
    if size_bytes is None:
        return "-"
    if math.isinf(size_bytes):
        return "unlimited"
    size, name = bytes_unit(size_bytes)
    return f"{size_bytes:,.0f} B" if size == 1 else f"{_digits(size_bytes / size, 3)} {name}"


def bytes_unit(size_bytes: float) -> tuple[float, str]:
    """(bytes, name) of the unit in which the size is at least 1."""
    return next((unit for unit in _BYTES if size_bytes >= unit[0]), (1.0, "B"))


def rate_text(per_s: float | None) -> str:
    """A rate: four digits, or whole numbers with separators."""
    if per_s is None:
        return "-"
    return f"{per_s:,.0f}" if per_s >= 1000 else _digits(per_s)


def percent(share: float | None, *, sign: bool = False) -> str:
    """A share with three significant digits; a tiny one is not rounded away to nothing."""
    if share is None:
        return "-"
    if not math.isfinite(share):
        return "unlimited"
    mark = "+" if sign and share > 0 else ""
    if 0 < share < 5e-5:
        return "< 0.01 %"
    return f"{mark}{_digits(100 * share, 3)} %"


def count(number: int, noun: str) -> str:
    """A number and its noun."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def parse_amount(text: str) -> float | None:
    """Read a finite number with k, M, G, T or Ki, Mi, Gi, Ti and B after it; None where it is none."""
    match = _AMOUNT.fullmatch(text.strip())
    try:
        number = float(match["number"]) * _SCALES[match["scale"].lower()] if match else math.nan
    except (ValueError, KeyError):
        return None
    return number if math.isfinite(number) else None


def _digits(value: float, significant: int = 4) -> str:
    if value == 0:
        return "0"
    before = math.floor(math.log10(abs(value))) + 1
    return f"{value:,.{min(max(significant - before, 0), 6)}f}"
