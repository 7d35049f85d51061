"""Request logs of a serving system: which prefix blocks of the KV cache each request finds again.

The format is that of the Mooncake traces (github.com/kvcache-ai/Mooncake): one JSON object per line, plain, gzip or
Zstandard,

================  ==============  ==============================================================
key               JSON type       meaning
================  ==============  ==============================================================
``timestamp``     number or text  arrival in milliseconds, or in seconds with ``time_unit="s"``;
                                  or an ISO 8601 date
``input_length``  whole number    tokens of the prompt
``output_length`` whole number    tokens of the answer
``hash_ids``      list            one id for each block of the prompt's tokens, 512 in the
                                  published traces; equal ids are equal prefixes, whose KV can be
                                  used again. Ids are whole numbers of 64 bits, or hexadecimal
                                  text, in one file the one or the other
================  ==============  ==============================================================

Rows out of order are sorted. A row without ``timestamp`` may have ``session_id`` and ``delay`` (or ``delay_ms``): it
arrives that long after the row of its session before it. ``created_time``, ``input_tokens`` and ``output_tokens`` are
other names of the first three keys. Further keys are named in the trace's provenance and not used.

What is said of a log is checked against it: a number of tokens per id that contradicts the rows' lengths, or a unit
that contradicts their stamps, is refused with the value that fits (:mod:`kvopt.sources.log_checks`).

References
----------
Qin et al., Mooncake: Trading More Storage for Less Computation, FAST 2025.
"""

from __future__ import annotations

import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np

from kvopt.errors import TraceError
from kvopt.model_spec import ModelSpec
from kvopt.sources.log_checks import check_block_tokens, check_time_unit
from kvopt.sources.log_rows import MS_PER_UNIT, Log, read_log
from kvopt.sources.log_text import log_name, log_stem
from kvopt.trace import Trace

LLAMA_3_70B_BYTES_PER_TOKEN = 80 * 2 * 8 * 128 * 2
"""327,680 B: 80 layers, K and V, 8 KV heads of 128 dimensions, 2 bytes each (Grattafiori et al., arXiv 2407.21783)."""
BLOCK_TOKENS = 512
_MOST_BLOCK_TOKENS = 10**9
_MOST_BLOCK_BYTES = 2**62


def import_mooncake(
    path: str | os.PathLike,
    *,
    max_requests: int | None = None,
    bytes_per_token: int | None = None,
    block_tokens: int = BLOCK_TOKENS,
    time_unit: str = "ms",
    model: str | Path | ModelSpec | None = None,
    licence: str | None = None,
    skip_bad: int = 0,
    check: bool = True,
) -> Trace:
    """A trace in which a step is a request and a block is a prefix block of the log.

    A request asks for all its ids: it reads those that earlier requests brought, and writes those that are new. A new
    block is written in that step and not read in it. Blocks are numbered in order of appearance and never freed.
    Decoding is left out, as the log says nothing about its blocks. All blocks have the full size, although a prompt's
    last one may be partly filled.

    Parameters
    ----------
    path : path of the log, or "-" for standard input
    max_requests : int, optional
        Read only the first requests of the file.
    bytes_per_token : int, optional
        K and V of one token over all layers. The log names no model; the default is Llama 3 70B's in 16 bits.
    block_tokens : int
        Tokens of one hash id.
    time_unit : {"ms", "s"}
        Of timestamps and delays.
    model : str, Path or ModelSpec, optional
        In the place of ``bytes_per_token``: a preset of :class:`kvopt.ModelSpec`, or the path of a .toml file.
    licence : str, optional
        Of the log, for the provenance; "unknown" by default.
    skip_bad : int
        Leave out this number of bad lines at most.
    check : bool
        Whether to compare ``block_tokens`` and ``time_unit`` with the log's lengths and stamps.

    Returns
    -------
    Trace
        One lane, ``step_unit`` "request". The provenance says what was assumed, sorted and left out.

    Raises
    ------
    TraceError
        With file, line, key and fix, when the log breaks the format above or holds no block; with the value that fits,
        when the log contradicts ``block_tokens`` or ``time_unit``.
    ModelError
        When there is no such model.
    """
    path = _path(path)
    if not (isinstance(time_unit, str) and time_unit in MS_PER_UNIT):
        raise TraceError("time_unit", f"there is no unit {time_unit!r}", f"Choose one of: {', '.join(MS_PER_UNIT)}")
    if not (licence is None or isinstance(licence, str)):
        raise TraceError("licence", f"is a {type(licence).__name__}", "Give text")
    block_tokens = _whole("block_tokens", block_tokens, most=_MOST_BLOCK_TOKENS)
    most = None if max_requests is None else _whole("max_requests", max_requests)
    token_bytes, token_bytes_from = _bytes_per_token(bytes_per_token, model)
    if block_tokens * token_bytes > _MOST_BLOCK_BYTES:
        raise TraceError("bytes_per_token", f"a block would have {block_tokens * token_bytes} bytes", "Give less")
    log = read_log(path, most=most, time_unit=time_unit, skip_bad=_whole("skip_bad", skip_bad, least=0))
    name = log_name(path)
    if not log.line:
        raise TraceError("requests", f"{name} holds none", "Give a log with at least one request")
    if not log.n_blocks:
        raise TraceError("hash_ids", f"{name} names no block", "Give a log whose requests have hash ids")
    misfit = _checked(log, block_tokens, time_unit, name) if check else None
    stamp_ms = np.array(log.stamp_ms)
    return _trace(
        log,
        np.argsort(stamp_ms, kind="stable"),
        size_bytes=block_tokens * token_bytes,
        name=log_stem(path),
        provenance={
            "format": "Mooncake JSON lines",
            "source": name,
            "file": name,
            "licence": "unknown" if licence is None else licence,
            "requests": len(stamp_ms),
            "first_timestamp_ms": _plain(stamp_ms.min()),
            "last_timestamp_ms": _plain(stamp_ms.max()),
            "time_unit": "ISO 8601 dates" if log.dated else time_unit,
            "block_tokens": block_tokens,
            "bytes_per_token": token_bytes,
            "bytes_per_token_from": token_bytes_from,
            **_remarks(log, stamp_ms, misfit),
        },
    )


def _path(given: Any) -> Path:
    try:
        return Path(given)
    except TypeError:
        raise TraceError("path", f"is a {type(given).__name__}", "Give the path of a log, or '-'") from None


def _checked(log: Log, block_tokens: int, time_unit: str, name: str) -> str | None:
    """Refuse what the log contradicts; what to tell of rows that do not fit."""
    lengths = (np.array(column) for column in (log.n_ids, log.input_length, log.output_length, log.line))
    misfit = check_block_tokens(block_tokens, *lengths, name)
    if not log.dated:
        check_time_unit(time_unit, np.array(log.stamp_ms), name)
    return misfit


def _trace(log: Log, order: np.ndarray, *, size_bytes: int, **metadata: Any) -> Trace:
    """Requests in the order of their arrival, blocks in that of their appearance."""
    step_of_row = np.empty(len(order), np.int64)
    step_of_row[order] = np.arange(len(order))
    step = np.repeat(step_of_row, np.array(log.n_distinct))
    block = np.array(log.block)
    arrived = np.argsort(step, kind="stable")
    step, block = step[arrived], block[arrived]
    _, first = np.unique(block, return_index=True)
    number = np.empty(log.n_blocks, np.int64)
    number[np.argsort(first)] = np.arange(log.n_blocks)
    read = np.ones(len(block), bool)
    read[first] = False
    return Trace.from_accesses(
        number[block[read]],
        step[read],
        n_steps=len(order),
        n_lanes=1,
        lane=np.zeros(log.n_blocks, np.int32),
        size_bytes=np.full(log.n_blocks, size_bytes),
        write_step=step[np.sort(first)],
        step_unit="request",
        **metadata,
    )


def _remarks(log: Log, stamp_ms: np.ndarray, misfit: str | None) -> dict[str, Any]:
    """What a reader of the trace must know of this log beyond its figures."""
    late = int(np.count_nonzero(stamp_ms < np.maximum.accumulate(stamp_ms)))
    found = {
        "sorted": late and f"{late:,} of {len(stamp_ms):,} requests stood after a later one",
        "delays": log.n_delayed
        and f"{log.n_delayed:,} requests have no timestamp; they arrive their delay after the request of their session "
        "before them, whose answer is taken to need no time",
        "skipped_lines": log.skipped,
        "lengths": misfit,
        "keys_not_used": ", ".join(sorted(log.extra_keys)),
    }
    return {key: remark for key, remark in found.items() if remark}


def _bytes_per_token(given: int | None, model: str | Path | ModelSpec | None) -> tuple[int, str]:
    """(Bytes of one token over all layers, where that comes from)."""
    own = None if given is None else _whole("bytes_per_token", given)
    if model is None:
        return (LLAMA_3_70B_BYTES_PER_TOKEN, "default: Llama 3 70B in 16 bits") if own is None else (own, "given")
    if not isinstance(model, str | Path | ModelSpec):
        raise TraceError("model", f"is a {type(model).__name__}", "Give the name of a model or a kvopt.ModelSpec")
    spec = model if isinstance(model, ModelSpec) else ModelSpec.preset(model)
    found = spec.layers * spec.kv_bytes_per_token_layer()
    if own not in (None, found):
        raise TraceError("bytes_per_token", f"is {own:,}, and {spec.name} has {found:,}", "Give it or the model")
    return found, f"model {spec.name} in {spec.kv_bits} bits"


def _whole(name: str, value: Any, *, least: int = 1, most: int = 2**63 - 1) -> int:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if not (number and least <= value <= most and value == int(value)):
        limit = f" and at most {most:,}" if number and value > most else ""
        raise TraceError(name, f"must be a whole number of at least {least}{limit}, got {value!r}", "Give a count")
    return int(value)


def _plain(stamp: np.floating) -> int | float:
    """A whole number without a decimal point, ready for JSON."""
    return int(stamp) if stamp == int(stamp) else float(stamp)
