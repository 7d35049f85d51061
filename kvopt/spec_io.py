"""Specs: TOML files of numbers with their sources, read with errors that name the file and the key."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from kvopt.arguments import as_float, path_of
from kvopt.errors import KvoptError, shown
from kvopt.reading import decoding, existing_file

_SPECS = Path(__file__).parent / "specs"
SUFFIX = ".toml"
_MOST_FILE_BYTES = 256_000
"""The longest that is shipped has a hundredth of it."""
_LONG_KEY = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')\s*+\.\s*+){32}""")
"""A key that tomllib would take minutes for: its time grows with the square of the parts, or faster."""
_LEAST_BYTES = 1e6
"""No memory or link in question is smaller; a smaller number was meant in GB."""
_MOST_BYTES = 1e18
_MOST_WHOLE = 10**9
"""No count in a model is larger, and products of such counts are still floats."""
_MOST_LOAD = 1e3
"""Bytes per byte; a larger number is a rate in the wrong place."""


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
            raise self.wrong(key, f"must be a string, got {shown(value)}", 'Write it in quotes, for example "..."')
        if default is None and not value.strip():
            says = "Say where the numbers come from" if key == "source" else "Say what it is"
            raise self.wrong(key, "is empty", says)
        return value

    def whole(self, key: str, default: int | None = None, *, least: int = 1, most: int = _MOST_WHOLE) -> int:
        """A whole number, at least ``least`` and at most ``most``."""
        fix = f"Give a whole number, {least} or more"
        value = self._take(key, default, fix)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(key, f"must be a whole number, {least} or more, got {shown(value)}", fix)
        if value > most:
            raise self.wrong(key, f"{shown(value)} is too large", f"Give a whole number, {least} to {most}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"must be true or false, got {shown(value)}", "Write true or false, without quotes")
        return value

    def amount(self, key: str, unit: str, *, unlimited: bool = False) -> float:
        """Bytes, or bytes per second: a million or more, since less is a number of GB that was not multiplied out."""
        fix = f"Give {unit}, for example 96e9 for 96 GB{'/s' if 'per' in unit else ''}"
        value = self._take(key, None, fix)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"must be a number, got {shown(value)}", fix)
        if not value > 0 or (value == math.inf and not unlimited):
            least = f"{'' if unlimited else 'finite and '}greater than 0"
            raise self.wrong(key, f"must be {least}, got {shown(value)}", fix)
        if value < _LEAST_BYTES:
            raise self.wrong(key, f"{shown(value)} is too small to be {unit}", fix)
        if _MOST_BYTES < value < math.inf:
            without_end = ", or inf for unlimited" if unlimited else ""
            raise self.wrong(key, f"{shown(value)} is too large to be {unit}", f"{fix}{without_end}")
        return as_float(value)

    def loads(self, key: str, *, costly: bool = True) -> dict[str, float]:
        """A table of channel name to bytes per byte; the platform checks names and signs.

        Parameters
        ----------
        key : str
        costly : bool
            Whether at least one channel must carry something.
        """
        fix = f"Name the channels and bytes per byte, for example {key} = {{ hbm = 1.0 }}"
        value = self._take(key, None, fix)
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table, got {shown(value)}", fix)
        for channel, load in value.items():
            if isinstance(load, bool) or not isinstance(load, int | float):
                raise self.wrong(f"{key}.{channel}", f"must be a number, got {shown(load)}", fix)
            if load > _MOST_LOAD:
                problem = f"{shown(load)} is too large to be bytes per byte"
                raise self.wrong(
                    f"{key}.{channel}", problem, "Give bytes per byte, usually 1; rates go to [[channels]]"
                )
        if costly and all(load == 0 for load in value.values()):
            raise self.wrong(key, "loads no channel, so that it would take no time", fix)
        return {channel: as_float(load) for channel, load in value.items()}

    def table(self, key: str) -> Table:
        """The table below a key."""
        value = self._take(key, None, f"Add a table [{key}]")
        if not isinstance(value, dict):
            raise self.wrong(key, f"must be a table, got {shown(value)}", f"Write it as [{key}]")
        return Table(value, f"{self._where}: {key}", self._error)

    def tables(self, key: str) -> list[Table]:
        """The tables of an array of tables, at least one."""
        fix = f"Write each as [[{key}]]"
        value = self._take(key, None, fix)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, "must be one or more tables", fix)
        return [
            Table(item, f"{self._where}: {key} {shown(item.get('name', number))}", self._error)
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
    path = path_of("path", path, error)
    path = existing_file(path, shown(str(path)), "Give the path of a .toml file", error)
    fix = "Compare it with a file in kvopt/specs"
    with decoding(path, str(path), "not TOML", fix, error):
        if path.stat().st_size > _MOST_FILE_BYTES:
            raise error(str(path), f"has more than {_MOST_FILE_BYTES:,} bytes", fix)
        text = path.read_bytes().decode("utf-8-sig")
        if _LONG_KEY.search(text):
            raise error(str(path), "has a key of dozens of parts joined by dots", fix)
        return Table(tomllib.loads(text), str(path), error)
