"""Arguments checked where they come in: each function returns the value, or names field, problem and fix."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from decimal import Decimal
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from kvopt.errors import KvoptError, MethodError, shown
from kvopt.units import parse_amount

MOST_COUNT = 2**31 - 1
"""Largest count of steps, lanes, sequences or tokens: what int32 columns hold."""
MOST_SEED = 2**62
"""Chains and rounds add to it."""


def expect(
    kind: type | tuple[type, ...], field: str, value: Any, fix: str, error: type[KvoptError] = KvoptError
) -> Any:
    """Return a value of the right class.

    Parameters
    ----------
    kind : type or tuple of type
    field : str
    value : object
    fix : str
    error : type
        What to raise.
    """
    if isinstance(value, kind):
        return value
    kinds = kind if isinstance(kind, tuple) else (kind,)
    wanted = " or ".join(k.__name__ for k in kinds if k is not type(None))
    got = "None" if value is None else f"{_of_class(value)} {shown(value)}"
    raise error(field, f"must be {_a(wanted)}, got {got}", fix)


def real(
    field: str,
    value: Any,
    fix: str,
    error: type[KvoptError] = KvoptError,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    unlimited: bool = False,
) -> Any:
    """Return a number that is in a range and not NaN, as it was given.

    Parameters
    ----------
    least, above, most : float
        It must be ``least`` or more, more than ``above``, and ``most`` or less.
    unlimited : bool
        Whether it may be infinite.
    """
    value = scalar(value)
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        raise error(field, f"must be a number, got {shown(value)}", fix)
    number = as_float(value)
    # A whole number beyond all floats is not what is meant by unlimited.
    finite = math.isfinite(number) or (unlimited and value == math.inf)
    if finite and least <= number <= most and (number > above or above == -math.inf):
        return value
    raise error(field, f"must be {_range(number, least, above, most)}, got {shown(value)}", fix)


def whole(
    field: str, value: Any, fix: str, error: type[KvoptError] = KvoptError, *, least: int = 1, most: int = MOST_COUNT
) -> int:
    """Return a whole number in a range, as an int; 3.0 is one."""
    value = scalar(value)
    number = isinstance(value, Real | Decimal) and not isinstance(value, bool)
    if not number or (not isinstance(value, Integral) and as_float(value) % 1 != 0):
        raise error(field, f"must be a whole number, got {shown(value)}", fix)
    if not least <= value <= most:
        limits = f"at least {least}" if value < least else f"at most {most}"
        raise error(field, f"must be {limits}, got {shown(value)}", fix)
    return int(value)


def amount(
    field: str,
    value: Any,
    fix: str = "Give bytes, as in 24e9 or '24GB'",
    error: type[KvoptError] = KvoptError,
    **limits: Any,
) -> Any:
    """Return a number, which may be written with a unit as in "24GB"; limits are those of :func:`real`."""
    if isinstance(value, str):
        number = parse_amount(value)
        if number is None:
            raise error(field, f"{shown(value)} is not a number of bytes", fix)
        value = number
    return real(field, value, fix, error, **limits)


def path_of(field: str, value: Any, error: type[KvoptError] = KvoptError) -> Path:
    """Return a path of a str or path-like."""
    fix = "Give the path of a file"
    try:
        return Path(expect((str, os.PathLike), field, value, fix, error))
    except TypeError:  # Of a path-like object that stands for bytes.
        raise error(field, f"must be a path in text, got {shown(value)}", fix) from None


def writable_path(field: str, value: Any, error: type[KvoptError] = KvoptError) -> Path:
    """Return the path of a file to write: it needs a name, and no character that no name has."""
    path = path_of(field, value, error)
    if not path.name or "\0" in str(path):
        raise error(field, f"cannot write {shown(str(path))} (it names no file)", "Choose a writable place")
    return path


def items(values: Any) -> list | None:
    """List the values given; None for a text, and for what cannot be gone through, a 0-d array too."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        return None
    try:
        return list(values)
    except TypeError:
        return None


def scalar(value: Any) -> Any:
    """Return what a NumPy scalar or an array without dimensions holds; anything else as it is."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def as_float(value: Any) -> float:
    """Return a number as a float, infinite where floats end."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _range(number: float, least: float, above: float, most: float) -> str:
    """The limits in words; the upper one only where it is what is broken."""
    words = []
    if above > -math.inf:
        words.append(f"greater than {above:g}")
    if least > -math.inf:
        words.append(f"{least:g} or more")
    if number > most:
        words.append(f"{most:g} or less")
    if math.isinf(number) or not words:
        words.append("finite")
    return " and ".join(words)


def _of_class(value: Any) -> str:
    return _a(type(value).__name__)


def _a(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def flag(field: str, value: Any) -> bool:
    """Return a truth value; a number or an array says neither yes nor no."""
    fix = "Give True or False"
    return bool(expect((bool, np.bool_), field, value, fix, MethodError))


def check_progress(on_progress: Any) -> None:
    """Refuse what cannot be called with events.

    Raises
    ------
    MethodError
    """
    if on_progress is not None and not callable(on_progress):
        raise MethodError("on_progress", f"is {_of_class(on_progress)}", "Give a function of a kvopt.Progress")


def check_seed(seed: Any) -> int:
    """Return the seed as an int, after refusing what seeds no generator.

    Raises
    ------
    MethodError
    """
    return whole("seed", seed, "Give a whole number from 0", MethodError, least=0, most=MOST_SEED)


def check_threads(threads: Any) -> None:
    """Refuse a number of threads that cannot be had; None is for the default.

    Raises
    ------
    MethodError
    """
    if threads is not None:
        whole("threads", threads, "Give a number, or None for as many as there are cores", MethodError)
