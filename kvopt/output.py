"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kvopt.errors import KvoptError


def check_writable(field: str, path: Path) -> None:
    """Refuse a path that cannot be written, before work is spent on what would go there. Leaves no trace.

    Parameters
    ----------
    field : str
        The option that names the path.
    path : Path

    Raises
    ------
    KvoptError
        When the path is a directory, or a file cannot be made beside it.
    """
    if path.is_dir():
        raise KvoptError(field, f"{path} is a directory", "Name a file in it")
    write_whole(field, path, lambda part: part.touch(), keep=False)


def write_whole(field: str, path: Path, write: Callable[[Path], Any], *, keep: bool = True) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it.

    Parameters
    ----------
    field : str
    path : Path
    write : callable
        Gets the temporary path, which ends like ``path``.
    keep : bool
        Whether to rename at all.

    Raises
    ------
    KvoptError
        When the directory is missing or not writable.
    """
    part = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        write(part)
        if keep:
            os.replace(part, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise KvoptError(field, f"cannot write {path} ({reason})", "Choose a writable place") from None
    finally:
        # What could not be made cannot be removed either; the error above says why.
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def to_json(data: Any) -> str:
    """Plain data as JSON text; not-a-number is refused, since JSON has none."""
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def whole(field: str, number: float) -> int:
    """A number that must be whole, as an int.

    Raises
    ------
    KvoptError
        When it has a fraction.
    """
    if number != int(number):
        raise KvoptError(field, f"must be a whole number, got {number:g}", "Give one without a fraction")
    return int(number)
