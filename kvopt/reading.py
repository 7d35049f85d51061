"""Files that come in: looked at before they are opened, and read by decoders whose errors become kvopt's own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvopt.arguments import path_of
from kvopt.errors import KvoptError, shown

MOST_TEXT_BYTES = 64_000_000
"""Of a file of results or settings; the largest there are have a hundredth of it."""
_MOST_DEPTH = 50
"""Of lists and objects within each other in JSON."""


def existing_file(path: str | os.PathLike, field: str, fix: str, error: type[KvoptError] = KvoptError) -> Path:
    """The path of a regular file that can be read: no directory, pipe or device, which may have no end.

    Parameters
    ----------
    path : path of the file
    field : str
        What the file is, for errors.
    fix : str
    error : type
        What to raise.
    """
    path = path_of(field, path, error)
    try:
        if path.is_file():
            if os.access(path, os.R_OK):
                return path
            raise error(field, f"cannot read {path}: permission denied", fix)
        there = os.path.lexists(path)
    except (OSError, ValueError) as found:  # ValueError: a name with a zero byte.
        raise error(field, f"cannot read {shown(str(path))} ({reason(found)})", fix) from None
    raise error(field, f"cannot read {path}: it {_kind(path) if there else 'does not exist'}", fix)


def read_text(path: str | os.PathLike, field: str, fix: str, *, kind: str = "no UTF-8 text") -> str:
    """The text of a UTF-8 file, with a byte order mark or without, of :data:`MOST_TEXT_BYTES` at most."""
    path = existing_file(path, field, fix)
    with decoding(path, field, kind, fix):
        size = path.stat().st_size
        if size > MOST_TEXT_BYTES:
            raise KvoptError(field, f"{path} has {size:,} bytes, more than {MOST_TEXT_BYTES:,}", fix)
        return path.read_text(encoding="utf-8-sig")


def read_json(path: str | os.PathLike, field: str, fix: str, *, kind: str = "no JSON") -> Any:
    """What a JSON file holds; see :func:`parse_json`.

    Parameters
    ----------
    path : path of the file
    field, fix : str
    kind : str
        What to say that it is where it is no JSON.
    """
    text = read_text(path, field, fix, kind=kind)
    with decoding(path, field, kind, fix):
        return parse_json(text)


def parse_json(text: str | bytes) -> Any:
    """What JSON text says.

    Raises
    ------
    ValueError
        When it is none, or nests deeper than any code that works on it could follow.
    """
    try:
        data = json.loads(text)
    except RecursionError:
        raise ValueError("lists or objects nested too deep") from None
    level = [data]
    for _ in range(_MOST_DEPTH):
        for item in level:
            if isinstance(item, str):
                # A ValueError of half a character, which nothing could save; a name's byte that is no text is none.
                item.encode("utf-8", "surrogateescape")
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return data
    raise ValueError(f"lists or objects nested deeper than {_MOST_DEPTH}")


@contextmanager
def decoding(
    path: str | os.PathLike, field: str, kind: str, fix: str, error: type[KvoptError] = KvoptError
) -> Iterator[None]:
    """Turn whatever a decoder raises into an error that names the file.

    What damaged bytes make zipfile, NumPy, Arrow or tomllib raise is no closed list (OSError, KeyError, struct.error,
    NotImplementedError, UnicodeDecodeError, MemoryError ...), so that all of it is caught: only decoders belong in the
    block.

    Parameters
    ----------
    path : path of the file
    field : str
    kind : str
        What to say that it is: "no JSON".
    fix : str
    error : type
        What to raise.
    """
    try:
        yield
    except KvoptError:
        raise
    except MemoryError:
        raise error(field, f"{_named(path, field)}asks for more memory than there is", fix) from None
    except FileNotFoundError:
        raise error(field, f"cannot read {path}: it does not exist", fix) from None
    except Exception as found:
        raise error(field, f"{_named(path, field)}is {kind} ({reason(found)})", fix) from None


def decoded(items: Iterator[Any], block: Callable[[], Any]) -> Iterator[Any]:
    """Items that a decoder yields, each taken within a :func:`decoding` block that ``block`` makes."""
    while True:
        with block():
            item = next(items, None)
        if item is None:
            return
        yield item


def reason(error: BaseException) -> str:
    """What an error says in a line, or its type."""
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0][:300] if text.strip() else type(error).__name__


def _named(path: str | os.PathLike, field: str) -> str:
    """The path, before what is said of it, unless the field is the path."""
    return "" if str(path) == field else f"{path} "


def _inside(item: Any) -> Any:
    if isinstance(item, dict):
        return [*item, *item.values()]
    return item if isinstance(item, list) else ()


def _kind(path: Path) -> str:
    if path.is_dir():
        return "is a directory"
    return "is no regular file" if path.exists() else "is a link to nothing"
