"""Traces in Parquet files: schema version 1.

One row a block, so that any dataframe library reads it:

==============  ============  =====================================================================
column          Parquet type  meaning
==============  ============  =====================================================================
``lane``        int32         lane (layer) of the block, from 0
``size_bytes``  int64         size, greater than 0
``write_step``  int32         step that writes the block; -1 for prefill
``free_step``   int32         step from which on the block is gone; ``n_steps`` if never
``run_start``   list<int32>   first step of each run of consecutive steps that read the block
``run_stop``    list<int32>   one past the last step of each run
==============  ============  =====================================================================

The file's key-value metadata holds under ``kvopt`` a JSON object with ``schema`` (1), ``n_steps``, ``n_lanes``,
``name``, ``step_unit`` and ``provenance``, and ``tokens_per_page`` where blocks are pages. ``free_step`` may be missing
(nothing is freed), as may the metadata (``n_steps`` and ``n_lanes`` are then the least that hold the data).
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from kvopt.errors import TraceError
from kvopt.parquet import first_line, flat_column, read_table
from kvopt.trace import Trace

SCHEMA_VERSION = 1
_DELTA_CODED = (
    "lane",
    "size_bytes",
    "write_step",
    "free_step",
    "run_start.list.element",
    "run_stop.list.element",
)
_REQUIRED = ("lane", "size_bytes", "write_step", "run_start", "run_stop")


def load_trace(path: str | os.PathLike) -> Trace:
    """Read a trace from Parquet.

    Parameters
    ----------
    path : path of the file

    Raises
    ------
    TraceError
        When the file is missing or no Parquet, lacks a column, has a newer schema, or breaks a rule of
        :class:`kvopt.Trace`.
    """
    path = Path(path)
    fix = "The schema is described in kvopt.trace_io; names must match"
    table = read_table(path, "trace", _REQUIRED, fix, TraceError)
    if table.num_rows == 0:
        raise TraceError("blocks", f"{path.name} has no rows", "A trace needs at least one block")
    return _from_table(table, path)


def _from_table(table, path: Path) -> Trace:
    meta = _metadata(table, path)
    columns = {c: flat_column(table, c, TraceError) for c in ("lane", "size_bytes", "write_step")}
    ptr, start = _lists(table, "run_start")
    stop_ptr, stop = _lists(table, "run_stop")
    if not np.array_equal(ptr, stop_ptr):
        raise TraceError("run_stop", "lists differ in length from run_start's", "Give one stop for each start")
    free = flat_column(table, "free_step", TraceError) if "free_step" in table.column_names else None
    values = [columns["write_step"].astype(float) + 1, stop, *([] if free is None else [free])]
    n_steps = meta.get("n_steps") or _least_holding(values)
    return Trace(
        n_steps=n_steps,
        n_lanes=meta.get("n_lanes") or _least_holding([columns["lane"].astype(float) + 1]),
        **columns,
        free_step=np.full(table.num_rows, n_steps) if free is None else free,
        run_ptr=ptr,
        run_start=start,
        run_stop=stop,
        name=meta.get("name", path.stem),
        step_unit=meta.get("step_unit", "token"),
        provenance=meta.get("provenance", {}),
        tokens_per_page=meta.get("tokens_per_page"),
    )


def _least_holding(values: list[np.ndarray]) -> int:
    """The largest of the values, at least 1. What is not finite is left for :class:`Trace` to name."""
    largest = max((float(v[np.isfinite(v)].max(initial=1.0)) for v in values), default=1.0)
    return max(int(largest), 1)


def _metadata(table, path: Path) -> dict:
    raw = (table.schema.metadata or {}).get(b"kvopt")
    if raw is None:
        return {}
    try:
        meta = json.loads(raw)
        schema = meta["schema"]
    except (ValueError, KeyError, TypeError):
        raise TraceError(
            "metadata 'kvopt'", f"{path.name} holds no valid JSON there", "Write it with Trace.save"
        ) from None
    if schema != SCHEMA_VERSION:
        raise TraceError(
            "metadata 'kvopt'.schema",
            f"{path.name} has schema {schema!r}, this kvopt reads {SCHEMA_VERSION}",
            "Use the kvopt version that wrote it, or a newer one",
        )
    for key in ("n_steps", "n_lanes"):
        if key in meta and not (type(meta[key]) is int and meta[key] > 0):
            raise TraceError(f"metadata 'kvopt'.{key}", f"is {meta[key]!r}", "It must be a whole number of at least 1")
    return meta


def _lists(table, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and values of a list column, without a second copy of the values."""
    import pyarrow as pa

    data = table.column(column).combine_chunks()
    if not (pa.types.is_list(data.type) or pa.types.is_large_list(data.type)):
        raise TraceError(column, f"has type {data.type}", "It must be a list of whole numbers in each row")
    if data.null_count:
        raise TraceError(column, f"has {data.null_count} missing lists", "Use an empty list for a block never read")
    values = data.flatten()
    if values.null_count:
        raise TraceError(column, f"has {values.null_count} missing values in its lists", "Remove them")
    if not (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        raise TraceError(column, f"lists hold {values.type}, not whole numbers", "Convert them to integers")
    offsets = data.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], values.to_numpy(zero_copy_only=False)


def save_trace(trace: Trace, path: str | os.PathLike) -> None:
    """Write a trace as Parquet: to a temporary name first, so that a reader never sees half a file.

    Raises
    ------
    TraceError
        When the directory cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    offsets = pa.array(trace.run_ptr.astype(np.int32 if trace.n_runs < 2**31 else np.int64))
    make_list = pa.ListArray if trace.n_runs < 2**31 else pa.LargeListArray
    table = pa.table(
        {
            "lane": pa.array(trace.lane),
            "size_bytes": pa.array(trace.size_bytes),
            "write_step": pa.array(trace.write_step),
            "free_step": pa.array(trace.free_step),
            "run_start": make_list.from_arrays(offsets, pa.array(trace.run_start)),
            "run_stop": make_list.from_arrays(offsets, pa.array(trace.run_stop)),
        }
    )
    meta = {
        "schema": SCHEMA_VERSION,
        "n_steps": trace.n_steps,
        "n_lanes": trace.n_lanes,
        "name": trace.name,
        "step_unit": trace.step_unit,
        "provenance": dict(trace.provenance),
        **({} if trace.tokens_per_page is None else {"tokens_per_page": trace.tokens_per_page}),
    }
    table = table.replace_schema_metadata({"kvopt": json.dumps(meta)})
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Starts and stops ascend slowly within a block, so deltas pack to a few bits each.
        pq.write_table(
            table,
            temporary,
            compression="zstd",
            compression_level=12,
            use_dictionary=False,
            column_encoding=dict.fromkeys(_DELTA_CODED, "DELTA_BINARY_PACKED"),
        )
        os.replace(temporary, path)
    except OSError as error:
        raise TraceError("path", f"cannot write {path} ({first_line(error)})", "Choose a writable place") from None
    finally:
        temporary.unlink(missing_ok=True)
