"""Rows of a request log in Mooncake's form, checked line by line and gathered in columns."""

from __future__ import annotations

import json
import math
import re
import reprlib
from array import array
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kvopt import interrupts
from kvopt.errors import TraceError
from kvopt.sources.log_text import is_utf8, log_name, numbered_lines

MS_PER_UNIT = {"ms": 1, "s": 1000}
_KEYS = ("timestamp", "input_length", "output_length", "hash_ids")
_OTHER_NAMES = {
    "timestamp": "created_time",
    "input_length": "input_tokens",
    "output_length": "output_tokens",
}
"""Names of the same keys in logs of NVIDIA Dynamo."""
_MOST_TOKENS = 10**12
_MOST_STAMP = 2**53
"""From here on a float does not hold every whole number."""
_MOST_EXTRA_KEYS = 100
_LONGEST_ID = 128
"""Hexadecimal digits: 64 bytes, the longest digest in common use."""
_HEX = re.compile(rf"(?:0[xX])?[0-9a-fA-F]{{1,{_LONGEST_ID}}}")
_NUMBER = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")
_SHOWN = reprlib.Repr()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class Log:
    """A log's rows in the file's order.

    Parameters
    ----------
    line : int64[Q]
        Where in the file each row stands, from 1.
    stamp_ms : float64[Q]
        Arrival; of texts with a date, since 1970.
    n_ids, n_distinct : int64[Q]
        Ids of each row, and the different ones among them.
    input_length, output_length : int64[Q]
        Tokens.
    block : int64[A]
        Row after row, the different ids of each by number, in the order in which the row lists them. Numbers count from
        0 in the order of the file.
    n_blocks : int
        Different ids in the whole log.
    dated : bool, optional
        Whether timestamps are texts with a date; None before the first one.
    n_delayed : int
        Rows with a delay in the place of a timestamp.
    skipped : list of int
        Lines that were bad and left out.
    extra_keys : set of str
        Keys of the log that mean nothing here.
    """

    line: array = field(default_factory=lambda: array("q"))
    stamp_ms: array = field(default_factory=lambda: array("d"))
    n_ids: array = field(default_factory=lambda: array("q"))
    n_distinct: array = field(default_factory=lambda: array("q"))
    input_length: array = field(default_factory=lambda: array("q"))
    output_length: array = field(default_factory=lambda: array("q"))
    block: array = field(default_factory=lambda: array("q"))
    n_blocks: int = 0
    dated: bool | None = None
    n_delayed: int = 0
    skipped: list[int] = field(default_factory=list)
    extra_keys: set[str] = field(default_factory=set)


def read_log(path: Path, *, most: int | None, time_unit: str, skip_bad: int) -> Log:
    """Read a log of JSON lines.

    Parameters
    ----------
    path : Path
        As for :func:`kvopt.sources.log_text.numbered_lines`.
    most : int, optional
        Stop after this number of rows.
    time_unit : {"ms", "s"}
        Of timestamps and delays.
    skip_bad : int
        Leave out this number of bad lines at most.

    Raises
    ------
    TraceError
        With file, line, key and fix, for one bad line more.
    """
    rows = _Rows(MS_PER_UNIT[time_unit])
    log = rows.log
    for number, text in numbered_lines(path):
        interrupts.heed()
        try:
            rows.add(number, text, f"{log_name(path)} line {number}")
        except TraceError:
            if len(log.skipped) == skip_bad:
                raise
            log.skipped.append(number)
        if len(log.line) == most:
            break
    return log


class _Rows:
    """A log under way: what must be remembered from row to row.

    Parameters
    ----------
    ms_per_unit : int
    """

    def __init__(self, ms_per_unit: int) -> None:
        self.log = Log()
        self._scale = ms_per_unit
        self._number: dict[int, int] = {}
        self._id_type: type | None = None
        self._last_ms: dict[str | int, float] = {}

    def add(self, number: int, text: str, where: str) -> None:
        """Take a row in, or raise and leave everything as it was."""
        row = _fields(text, where)
        lengths = [_tokens(row[key], key, where) for key in ("input_length", "output_length")]
        ids = self._ids(row["hash_ids"], where)
        session = _session(row.get("session_id"), where)
        dated, stamp_ms = self._arrival(row, session, where)
        log = self.log
        known = self._number
        blocks = [known.setdefault(one, len(known)) for one in dict.fromkeys(ids)]
        if ids:
            self._id_type = type(row["hash_ids"][0])
        log.line.append(number)
        log.stamp_ms.append(stamp_ms)
        log.input_length.append(lengths[0])
        log.output_length.append(lengths[1])
        log.n_ids.append(len(ids))
        log.n_distinct.append(len(blocks))
        log.block.extend(blocks)
        log.n_blocks = len(known)
        log.dated = dated
        log.n_delayed += row["timestamp"] is None
        if session is not None:
            self._last_ms[session] = stamp_ms
        if len(log.extra_keys) < _MOST_EXTRA_KEYS:
            used = {"session_id", "delay", "delay_ms"} if row["timestamp"] is None else set()
            log.extra_keys |= {_SHOWN.repr(key)[1:-1] for key in row.keys() - set(_KEYS) - used}

    def _ids(self, given: Any, where: str) -> list[int]:
        """The ids as numbers, unless one is wrong."""
        if not isinstance(given, list):
            raise TraceError("hash_ids", f"{where}: is a {type(given).__name__}", "Give a list of ids")
        for one in given:
            if not _is_id(one):
                fix = f"Ids are whole numbers of 64 bits, or hexadecimal text of at most {_LONGEST_ID} digits"
                raise TraceError("hash_ids", f"{where}: holds {_SHOWN.repr(one)}", fix)
        kinds = set(map(type, given)) | ({self._id_type} if self._id_type else set())
        if len(kinds) == 2:
            raise TraceError("hash_ids", f"{where}: text and numbers in one log", "Write all ids in one form")
        return [int(one, 16) for one in given] if str in kinds else given

    def _arrival(self, row: dict[str, Any], session: str | int | None, where: str) -> tuple[bool | None, float]:
        """(Whether timestamps are dated, milliseconds) of a row."""
        stamp = row["timestamp"]
        if stamp is None:
            delay, in_ms = row.get("delay"), row.get("delay_ms")
            if session is None or (delay is None and in_ms is None):
                raise _missing("timestamp", row, where)
            if session not in self._last_ms:
                fix = "The first row of a session needs a timestamp"
                raise TraceError("timestamp", f"{where}: is missing, and its session has no earlier row", fix)
            waited = _ms(in_ms, 1, "delay_ms", where) if delay is None else _ms(delay, self._scale, "delay", where)
            return self.log.dated, self._last_ms[session] + waited
        dated = isinstance(stamp, str) and not _NUMBER.fullmatch(stamp.strip())
        stamp_ms = _dated_ms(stamp, where) if dated else _ms(stamp, self._scale, "timestamp", where)
        if self.log.dated is not None and dated != self.log.dated:
            fix = "Write all timestamps in one form"
            raise TraceError("timestamp", f"{where}: is {_SHOWN.repr(stamp)}, and others of the log are not", fix)
        return dated, stamp_ms


def _ms(value: Any, scale: int, key: str, where: str) -> float:
    """Milliseconds of a time in a unit of ``scale`` milliseconds."""
    number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value.strip()) else value
    if type(number) not in (int, float) or not 0 <= number * scale < _MOST_STAMP:
        unit = "milliseconds" if scale == 1 else "seconds"
        raise TraceError(key, f"{where}: is {_SHOWN.repr(value)}", f"Give {unit}, 0 or more")
    # Seconds with decimals become whole milliseconds where they are: 0.114 s is 114 ms.
    return float(number) if scale == 1 else round(number * scale, 6)


def _fields(text: str, where: str) -> dict[str, Any]:
    """The row as a dictionary by Mooncake's names; a timestamp may be None, the other keys are there."""
    fix = "Write one JSON object per line, or leave bad lines out (skip_bad=N, --skip-bad N)"
    if not is_utf8(text):
        raise TraceError("line", f"{where}: is no UTF-8 text", fix)
    try:
        row = json.loads(text)
    except RecursionError:
        raise TraceError("line", f"{where}: is nested too deep", fix) from None
    except ValueError as error:
        raise TraceError("line", f"{where}: no JSON ({error})", fix) from None
    if not isinstance(row, dict):
        raise TraceError("line", f"{where}: is a {type(row).__name__}", fix)
    for name, other in _OTHER_NAMES.items():
        if row.get(name) is None and other in row:
            row[name] = row.pop(other)
    if row.get("hash_ids") is None and "text_input" in row:
        fix = "Hash the prompt's blocks of tokens, and give their ids as hash_ids"
        raise TraceError("hash_ids", f"{where}: is missing; text_input does not say which blocks are shared", fix)
    for key in ("hash_ids", "input_length", "output_length"):
        if row.get(key) is None:
            raise _missing(key, row, where)
    row.setdefault("timestamp", None)
    return row


def _missing(key: str, row: dict[str, Any], where: str) -> TraceError:
    why = "; without ids the log does not say which blocks are shared" if key == "hash_ids" else ""
    return TraceError(key, f"{where}: is missing{why}", f"Each request needs {', '.join(_KEYS)}")


def _tokens(value: Any, key: str, where: str) -> int:
    whole = type(value) is int or (type(value) is float and value.is_integer())
    if not (whole and 0 <= value <= _MOST_TOKENS):
        raise TraceError(key, f"{where}: is {_SHOWN.repr(value)}", "Give a whole number of tokens")
    return int(value)


def _session(value: Any, where: str) -> str | int | None:
    if value is None or type(value) in (str, int):
        return value
    raise TraceError("session_id", f"{where}: is a {type(value).__name__}", "Give text or a whole number")


def _is_id(value: Any) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**64
    return type(value) is str and _HEX.fullmatch(value) is not None


def _dated_ms(text: str, where: str) -> float:
    """Milliseconds since 1970 of an ISO 8601 date and time; without a zone it is UTC."""
    try:
        date = datetime.fromisoformat(text.strip())
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        since = (date - _EPOCH) / timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        since = math.nan
    if not since >= 0:
        fix = "Give a number, or an ISO 8601 date from 1970 on, as in 2026-03-02T10:00:00Z"
        raise TraceError("timestamp", f"{where}: is {_SHOWN.repr(text)}", fix)
    return since
