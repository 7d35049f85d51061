"""Specs: TOML files of numbers with their sources, read with errors that name the file and the key."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kvopt.errors import KvoptError

_SPECS = Path(__file__).parent / "specs"
SUFFIX = ".toml"
_LEAST_BYTES = 1e6
"""No memory or link in question is smaller; a smaller number was meant in GB."""


def shipped(kind: str) -> dict[str, Path]:
    """The spec files that come with kvopt, by name.

    Parameters
    ----------
    kind : {"platforms", "models"}
    """
    return {path.stem: path for path in sorted((_SPECS / kind).glob("*" + SUFFIX), key=lambda path: path.stem)}


def is_path(name: str | Path) -> bool:
    """Whether this means a spec file rather than the name of a shipped one."""
    return isinstance(name, Path) or str(name).lower().endswith(SUFFIX)


class Table:
    """One table of a spec file, whose values are checked as they are taken.

    Parameters
    ----------
    data : dict
        The table as TOML gave it.
    where : str
        The file, and the table's place in it, for messages.
    error : type
        The class of every error raised.
    """

    def __init__(self, data: dict[str, Any], where: str, error: type[KvoptError]) -> None:
        self._data = data
        self._where = where
        self._error = error

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def wrong(self, key: str, problem: str, fix: str) -> KvoptError:
        """The error to raise about a key of this table."""
        return self._error(f"{self._where}: {key}", problem, fix)

    def allow(self, keys: Collection[str]) -> None:
        """Refuse any key but these: a misspelled one would otherwise be ignored."""
        for key in self._data:
            if key not in keys:
                raise self.wrong(key, "no such key", f"Known keys: {', '.join(keys)}")

    def text(self, key: str, default: str | None = None) -> str:
        """A string that is not empty, unless there is a default."""
        value = self._take(key, default, 'Write it as a string, for example "..."')
        if not isinstance(value, str):
            raise self.wrong(key, f"must be a string, got {value!r}", 'Write it in quotes, for example "..."')
        if default is None and not value.strip():
            raise self.wrong(key, "is empty", "Say what it is; every number needs a source")
        return value

    def whole(self, key: str, default: int | None = None, *, least: int = 1) -> int:
        """A whole number, at least ``least``."""
        fix = f"Give a whole number, {least} or more"
        value = self._take(key, default, fix)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(key, f"must be a whole number, {least} or more, got {value!r}", fix)
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, got {value!r}", "Write true or false, without quotes")
        return value

    def amount(self, key: str, unit: str, *, unlimited: bool = False) -> float:
        """Bytes, or bytes per second: at least a million, since less is a number of GB that was not multiplied out."""
        fix = f"Give {unit}, for example 96e9 for 96 GB{'/s' if 'per' in unit else ''}"
        value = self._take(key, None, fix)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"must be a number, got {value!r}", fix)
        if not value > 0 or (math.isinf(value) and not unlimited):
            raise self.wrong(key, f"must be {'' if unlimited else 'finite and '}greater than 0, got {value!r}", fix)
        if value < _LEAST_BYTES:
            raise self.wrong(key, f"{value!r} is too small to be {unit}", fix)
        return float(value)

    def loads(self, key: str) -> dict[str, float]:
        """A table of channel name to bytes per byte; the platform checks names and signs."""
        fix = f"Name the channels and bytes per byte, for example {key} = {{ hbm = 1.0 }}"
        value = self._take(key, None, fix)
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table, got {value!r}", fix)
        for channel, load in value.items():
            if isinstance(load, bool) or not isinstance(load, int | float):
                raise self.wrong(f"{key}.{channel}", f"must be a number, got {load!r}", fix)
        return {channel: float(load) for channel, load in value.items()}

    def table(self, key: str) -> Table:
        """The table below a key."""
        value = self._take(key, None, f"Add a table [{key}]")
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table, got {value!r}", f"Write it as [{key}]")
        return Table(value, f"{self._where}: {key}", self._error)

    def tables(self, key: str) -> list[Table]:
        """The tables of an array of tables, at least one."""
        fix = f"Write each as [[{key}]]"
        value = self._take(key, None, fix)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "must be one or more tables", fix)
        return [
            Table(item, f"{self._where}: {key} {item.get('name', number)!r}", self._error)
            for number, item in enumerate(value)
        ]

    def _take(self, key: str, default: Any, fix: str) -> Any:
        value = self._data.get(key, default)
        if value is None:
            raise self.wrong(key, "is missing", fix)
        return value


def read(path: str | Path, error: type[KvoptError]) -> Table:
    """A spec file as a checked table.

    Parameters
    ----------
    path : str or Path
    error : type
        The class of the errors raised, a :class:`~kvopt.errors.KvoptError`.

    Raises
    ------
    KvoptError
        Of class ``error``, when the file cannot be read or is no TOML.
    """
    try:
        with open(path, "rb") as file:
            return Table(tomllib.load(file), str(path), error)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise error(str(path), f"is not TOML: {wrong}", "Compare it with a file in kvopt/specs") from None
    except OSError as wrong:
        raise error(str(path), f"cannot be read: {wrong.strerror}", "Give the path of a .toml file") from None
