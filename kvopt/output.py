"""Files written whole or not at all."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kvopt import ctrl_c
from kvopt.arguments import writable_path
from kvopt.errors import KvoptError, shown

PLAIN = "kvopt.plain"
"""Name of the way (``errors`` of a stream, or of ``str.encode``) to write in ASCII what an encoding lacks."""
_IN_ASCII = {"µ": "u", "…": "...", "–": "-", "—": "-", "×": "x", "≥": ">=", "≤": "<="}


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
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError) as found:  # A name that is too long, or has a zero byte.
        why = getattr(found, "strerror", None) or found
        raise KvoptError(field, f"cannot write {shown(str(path))} ({why})", "Choose another name") from None
    if is_folder:
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
    path = writable_path(field, path)
    if not _replaceable(path):
        _write_through(field, path, write, keep)
        return
    # What a link points at is written, and the link stays.
    whole_path = path.resolve() if path.is_symlink() else path
    try:
        with part_of(whole_path) as part:
            write(part)
            if keep:
                os.replace(part, whole_path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise KvoptError(field, f"cannot write {path} ({reason})", "Choose a writable place") from None


_parts: set[Path] = set()
"""What this process is writing."""
_swept: set[Path] = set()
"""Paths beside which nothing is left of other processes."""


@contextlib.contextmanager
def part_of(path: Path) -> Iterator[Path]:
    """A file beside a path, to be written and then renamed to it; removed at the end if it is still there.

    What processes that were killed have left of the same path is removed, too. A part is locked while it is written,
    so that one of a live process in another container is let be.

    Raises
    ------
    OSError
        When it cannot be made.
    """
    part = path.with_name(f".{os.getpid()}.{path.name}")
    if path not in _swept:
        _swept.add(path)
        _sweep(path)
    _parts.add(part)
    try:
        with _locked(part):
            yield part
    finally:
        # What could not be made cannot be removed either.
        _remove(part)
        _parts.discard(part)


@contextlib.contextmanager
def _locked(part: Path) -> Iterator[None]:
    """Make an empty file and lock it, where the system has locks that do not stand in the way of renaming."""
    file = os.open(part, os.O_CREAT | os.O_WRONLY, 0o666)
    try:
        if sys.platform == "win32":
            os.close(file)
        else:
            _lock(file)
        yield
    finally:
        if sys.platform != "win32":
            os.close(file)


def _lock(file: int) -> bool:
    """Whether nobody else has a lock on it."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # No locks on this file system.
        return True
    return True


def _sweep(path: Path) -> None:
    """Remove what processes that are gone have left of their parts of a path."""
    if sys.platform == "win32":  # Where asking for a process by its number ends it.
        return
    name = re.escape(path.name)
    # The second form is that of traces until version 0.1.0; a folder is where an exported model is made.
    left = re.compile(rf"\.(?P<pid>\d+)\.{name}(?P<folder>\.\w{{8}})?|\.{name}\.(?P<old_pid>\d+)\.part")
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = left.fullmatch(entry.name)
            if match is None or entry.is_dir(follow_symlinks=False) != bool(match["folder"]):
                continue
            if _gone(int(match["pid"] or match["old_pid"])):
                _remove_unlocked(Path(entry.path))


def _gone(pid: int) -> bool:
    """Whether there is no process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _remove_unlocked(left: Path) -> None:
    with contextlib.suppress(OSError):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
            return
        file = os.open(left, os.O_RDONLY)
        try:
            if _lock(file):
                left.unlink()
        finally:
            os.close(file)


def _remove(part: Path) -> None:
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)


def _remove_parts() -> None:
    """At a hard end: the parts and folders of this process."""
    for part in list(_parts):
        _remove(part)
        for folder in part.parent.glob(f"{part.name}.????????"):
            shutil.rmtree(folder, ignore_errors=True)


ctrl_c.before_end(_remove_parts)


def _replaceable(path: Path) -> bool:
    """Whether a path is free or a file: a device or a pipe is written to, never put away."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def _write_through(field: str, path: Path, write: Callable[[Path], Any], keep: bool) -> None:
    """Write a file elsewhere, since what writes it may go back and forth in it, then all of it to the path."""
    if not keep:
        return
    try:
        with tempfile.TemporaryDirectory() as folder:
            part = Path(folder) / (path.name if path.suffix else "part")
            write(part)
            with part.open("rb") as made, path.open("wb") as out:
                shutil.copyfileobj(made, out)
    except OSError as error:
        reason = error.strerror or str(error)
        raise KvoptError(field, f"cannot write {path} ({reason})", "Choose a writable place") from None


def to_json(data: Any, encoding: str = "utf-8") -> str:
    """Plain data as JSON text; not-a-number is refused, since JSON has none.

    Parameters
    ----------
    data : object
    encoding : str
        What the text will be written in. Except in UTF-8, and where UTF-8 lacks a character, as it does for a path that
        is no text, JSON's own escapes stand for all that is not ASCII.
    """
    if codecs.lookup(encoding).name == "utf-8":
        text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        if encodable(text, "utf-8") == text:
            return text
    return json.dumps(data, indent=2, allow_nan=False) + "\n"


def encodable(text: str, encoding: str) -> str:
    """A text with ASCII in the place of the characters that an encoding lacks."""
    return text.encode(encoding, PLAIN).decode(encoding)


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error(PLAIN, _in_ascii)


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
