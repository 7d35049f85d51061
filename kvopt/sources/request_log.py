"""Request logs of a serving system: which prefix blocks of the KV cache each request finds again.

The format is that of the Mooncake traces (github.com/kvcache-ai/Mooncake, Apache-2.0): one JSON object a line,

================  =============  ===============================================================
key               JSON type      meaning
================  =============  ===============================================================
``timestamp``     number         arrival in milliseconds, not decreasing from line to line
``input_length``  whole number   tokens of the prompt
``output_length`` whole number   tokens of the answer
``hash_ids``      list of whole  one id for each block of the prompt's tokens, 512 in the published
                  numbers        traces; equal ids are equal prefixes, whose KV can be used again
================  =============  ===============================================================

References
----------
Qin et al., Mooncake: Trading More Storage for Less Computation, FAST 2025.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kvopt.errors import TraceError
from kvopt.trace import Trace

LLAMA_3_70B_BYTES_PER_TOKEN = 80 * 2 * 8 * 128 * 2
"""327,680 B: 80 layers, K and V, 8 KV heads of 128 dimensions, 2 bytes each (Grattafiori et al., arXiv 2407.21783)."""

_KEYS = ("timestamp", "input_length", "output_length", "hash_ids")


def import_mooncake(
    path: str | os.PathLike,
    *,
    max_requests: int | None = None,
    bytes_per_token: int = LLAMA_3_70B_BYTES_PER_TOKEN,
    block_tokens: int = 512,
) -> Trace:
    """A trace in which a step is a request and a block is a prefix block of the log.

    A request reads the ids that earlier requests brought, and writes those that are new: a new block is written in that
    step and not read in it. Blocks are numbered in order of appearance and never freed. Decoding is left out, as the
    log says nothing about its blocks. All blocks have the full size, although a prompt's last one may be partly filled.

    Parameters
    ----------
    path : path of the log
    max_requests : int, optional
        Read only so many requests from the beginning.
    bytes_per_token : int
        K and V of one token over all layers. The log names no model; the default is Llama 3 70B's in 16 bits.
    block_tokens : int
        Tokens of one hash id.

    Returns
    -------
    Trace
        One lane, ``step_unit`` "request".

    Raises
    ------
    TraceError
        With file, line, key and fix, when the log breaks the format above or holds no block.
    """
    path = Path(path)
    counts = {"bytes_per_token": bytes_per_token, "block_tokens": block_tokens}
    if max_requests is not None:
        counts["max_requests"] = max_requests
    for name, value in counts.items():
        if not (_is_whole(value) and value >= 1):
            raise TraceError(name, f"must be a whole number of at least 1, got {value!r}", "Give a count")
    write_step, read_block, read_step, stamps = _written_and_read(_requests(path, max_requests))
    if not stamps:
        raise TraceError("requests", f"{path.name} holds none", "Give a log with at least one request")
    if not write_step:
        raise TraceError("hash_ids", f"{path.name} names no block", "Give a log whose requests have hash ids")
    return Trace.from_accesses(
        np.array(read_block, np.int64),
        np.array(read_step, np.int64),
        n_steps=len(stamps),
        n_lanes=1,
        lane=np.zeros(len(write_step), np.int32),
        size_bytes=np.full(len(write_step), block_tokens * bytes_per_token),
        write_step=np.array(write_step),
        name=path.stem,
        step_unit="request",
        provenance={
            "source": "github.com/kvcache-ai/Mooncake, or a log in its format",
            "licence": "Apache-2.0 for the published Mooncake traces",
            "file": path.name,
            "requests": len(stamps),
            "first_timestamp_ms": stamps[0],
            "last_timestamp_ms": stamps[-1],
            "block_tokens": block_tokens,
            "bytes_per_token": bytes_per_token,
        },
    )


def _written_and_read(requests: Iterator[dict[str, Any]]) -> tuple[list[int], list[int], list[int], list[float]]:
    """(step that writes each block, block and step of each read, timestamp of each request)."""
    number: dict[int, int] = {}
    write_step: list[int] = []
    read_block: list[int] = []
    read_step: list[int] = []
    stamps: list[float] = []
    for step, request in enumerate(requests):
        stamps.append(request["timestamp"])
        for hash_id in dict.fromkeys(request["hash_ids"]):
            if hash_id in number:
                read_block.append(number[hash_id])
                read_step.append(step)
            else:
                number[hash_id] = len(number)
                write_step.append(step)
    return write_step, read_block, read_step, stamps


def _requests(path: Path, most: int | None) -> Iterator[dict[str, Any]]:
    """Checked requests, line by line; blank lines are passed over."""
    if path.is_dir() or not path.exists():
        raise TraceError(
            "path", f"{path} {'is a directory' if path.is_dir() else 'does not exist'}", "Name the log file"
        )
    count, earlier = 0, -math.inf
    try:
        with path.open(encoding="utf-8") as lines:
            for line_number, line in enumerate(lines, 1):
                if count == most:
                    return
                if not line.strip():
                    continue
                request = _request(line, f"{path.name} line {line_number}")
                if request["timestamp"] < earlier:
                    raise TraceError(
                        "timestamp",
                        f"{path.name} line {line_number}: {request['timestamp']} comes after {earlier}",
                        "Sort the requests by time",
                    )
                earlier = request["timestamp"]
                count += 1
                yield request
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(
            "path", f"{path} cannot be read as text ({error})", "Give a UTF-8 file of JSON lines"
        ) from None


def _request(line: str, where: str) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except ValueError as error:
        raise TraceError("line", f"{where}: no JSON ({error})", "Write one JSON object a line") from None
    if not isinstance(request, dict):
        raise TraceError("line", f"{where}: is a {type(request).__name__}", "Write one JSON object a line")
    for key in _KEYS:
        if key not in request:
            raise TraceError(key, f"{where}: is missing", f"Each request needs {', '.join(_KEYS)}")
    stamp = request["timestamp"]
    if isinstance(stamp, bool) or not isinstance(stamp, int | float) or not (math.isfinite(stamp) and stamp >= 0):
        raise TraceError("timestamp", f"{where}: is {stamp!r}", "Give milliseconds, 0 or more")
    for key in ("input_length", "output_length"):
        if not (_is_whole(request[key]) and request[key] >= 0):
            raise TraceError(key, f"{where}: is {request[key]!r}", "Give a whole number of tokens")
    ids = request["hash_ids"]
    if not isinstance(ids, list):
        raise TraceError("hash_ids", f"{where}: is a {type(ids).__name__}", "Give a list of whole numbers")
    for hash_id in ids:
        if not (_is_whole(hash_id) and hash_id >= 0):
            raise TraceError("hash_ids", f"{where}: holds {hash_id!r}", "Ids are whole numbers from 0")
    return request


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
