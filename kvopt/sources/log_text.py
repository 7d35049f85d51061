"""Lines of a text log: from a file or standard input, plain or compressed, of whatever line ends."""

from __future__ import annotations

import contextlib
import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from kvopt.errors import TraceError

STDIN = Path("-")
LONGEST_LINE = 1 << 26
"""Characters; a prompt of a hundred million tokens in blocks of 16 has a line of this length."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_COMPRESSED = (".gz", ".zst", ".zstd")


def log_name(path: Path) -> str:
    """The file's name, for messages."""
    return "standard input" if path == STDIN else path.name


def log_stem(path: Path) -> str:
    """The file's name without the endings of its format and compression."""
    if path == STDIN:
        return "stdin"
    return Path(path.stem).stem if path.suffix.lower() in _COMPRESSED else path.stem


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number, from 1, and text of each line that is not blank.

    Parameters
    ----------
    path : Path
        ``-`` is standard input. Compression (gzip or Zstandard) is known by the first bytes, not by the name. Lines may
        end in LF, CR LF or CR; a byte order mark before a line is dropped. Bytes that are no UTF-8 stand as lone
        surrogates (:func:`is_utf8`).

    Raises
    ------
    TraceError
        When the file is missing, damaged, begins with a line that is no UTF-8, or has one of more than 2^26 characters.
    """
    with _opened(path) as text:
        number = 0
        while True:
            number += 1
            try:
                line = text.readline(LONGEST_LINE + 1)
            # Damage to a compressed file shows in one of these, by library.
            except (OSError, EOFError, zlib.error, ValueError) as error:
                raise _unreadable(path, f"line {number}: {error}") from None
            if not line:
                return
            if len(line) > LONGEST_LINE:
                raise _unreadable(path, f"line {number} has more than {LONGEST_LINE:,} characters")
            if number == 1 and not is_utf8(line):
                raise _unreadable(path, f"line {number} is no UTF-8")
            line = line.removeprefix("\ufeff").strip()
            if line:
                yield number, line


def is_utf8(line: str) -> bool:
    """Whether all bytes of a line could be decoded."""
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(path: Path, problem: str) -> TraceError:
    return TraceError(
        "path",
        f"{log_name(path)} cannot be read as text ({problem})",
        "Give a UTF-8 file of JSON lines, plain, .gz or .zst",
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[io.TextIOWrapper]:
    """The decompressed text; standard input stays open."""
    with contextlib.ExitStack() as stack:
        try:
            stream = _standard_input(stack) if path == STDIN else stack.enter_context(_existing(path).open("rb"))
            text = io.TextIOWrapper(_decompressed(stream), encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise _unreadable(path, error.strerror or str(error)) from None
        stack.callback(text.detach)
        yield text


def _existing(path: Path) -> Path:
    """The path, unless there is no file."""
    problem = "is a directory" if path.is_dir() else "" if path.exists() else "does not exist"
    if problem:
        raise TraceError("path", f"{path} {problem}", "Name the log file")
    return path


def _standard_input(stack: contextlib.ExitStack) -> IO[bytes]:
    """Standard input's bytes, such that one can look ahead."""
    if sys.stdin is None:
        raise TraceError("path", "there is no standard input", "Name the log file")
    stream = sys.stdin.buffer
    if not hasattr(stream, "peek"):
        stream = io.BufferedReader(stream)
        stack.callback(stream.detach)
    return stream


def _decompressed(stream: IO[bytes]) -> IO[bytes]:
    """What the stream holds, whether compressed or not."""
    head = stream.peek(len(_ZSTD))
    if head.startswith(_GZIP):
        return gzip.GzipFile(fileobj=stream)
    if head.startswith(_ZSTD):
        # Imported on use: slow to import, and rarely needed.
        import pyarrow as pa

        return io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(_KeptOpen(stream), mode="r"), "zstd"))
    return stream


class _KeptOpen:
    """A stream that Arrow may read and not close.

    Parameters
    ----------
    stream : binary file
    """

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        self.read = stream.read

    def close(self) -> None:
        """Leave it to the one that opened it."""
