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

Rows are written in groups and read in batches, so that beside the trace itself either needs memory for one of them
only, whatever the size of the file.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from kvopt.errors import TraceError
from kvopt.output import part_of
from kvopt.parquet import first_line, flat_column, open_table, unreadable
from kvopt.trace import Trace
from kvopt.trace_checks import BLOCK_COLUMNS, whole_numbers

SCHEMA_VERSION = 1
GROUP_RUNS = 1 << 22
"""Runs of a row group, at most, unless a single block has more."""
BATCH_ROWS = 1 << 12
"""Rows read at a time: with 200 runs each, some megabytes."""
_LARGE_RUNS = 10_000_000
"""From here on the time to write counts more than the last few per cent of the file's size."""
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
    import pyarrow as pa

    path = Path(path)
    fix = "The schema is described in kvopt.trace_io; names must match"
    with open_table(path, "trace", _REQUIRED, fix, TraceError) as file:
        if file.metadata.num_rows == 0:
            raise TraceError("blocks", f"{path.name} has no rows", "A trace needs at least one block")
        meta = _metadata(file.schema_arrow, path)
        try:
            columns = _columns(file)
        except (pa.ArrowInvalid, OSError) as found:
            raise unreadable(path, "trace", found, TraceError) from None
    ends = [columns[c].max(initial=1) for c in ("run_stop", "free_step") if c in columns]
    n_steps = meta.get("n_steps") or max(int(columns["write_step"].max()) + 1, *map(int, ends))
    return Trace(
        n_steps=n_steps,
        n_lanes=meta.get("n_lanes") or max(int(columns["lane"].max()) + 1, 1),
        **{"free_step": np.full(file.metadata.num_rows, n_steps), **columns},
        name=meta.get("name", path.stem),
        step_unit=meta.get("step_unit", "token"),
        provenance=meta.get("provenance", {}),
        tokens_per_page=meta.get("tokens_per_page"),
    )


def _columns(file) -> dict[str, np.ndarray]:
    """The columns of :class:`Trace`, read-only, batch by batch; no ``free_step`` where the file has none."""
    names = [c for c in BLOCK_COLUMNS if c in file.schema_arrow.names]
    columns = {c: np.empty(file.metadata.num_rows, BLOCK_COLUMNS[c]) for c in names}
    columns["run_ptr"] = np.zeros(file.metadata.num_rows + 1, np.int64)
    # An empty list counts as a value, so that this is enough; memory that stays untouched is none.
    most_runs = _values(file, "run_start")
    columns |= {"run_start": np.empty(most_runs, np.int32), "run_stop": np.empty(most_runs, np.int32)}
    row = 0
    for group in range(file.num_row_groups):
        # One reader over all groups would keep memory for each that it has read.
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[group], columns=[*names, "run_start", "run_stop"]):
            _take(batch, names, columns, row)
            row += batch.num_rows
    n_runs = int(columns["run_ptr"][-1])
    for column in ("run_start", "run_stop"):
        columns[column].resize(n_runs, refcheck=False)
    for array in columns.values():
        array.setflags(write=False)
    return columns


def _values(file, column: str) -> int:
    """Number of values of a list column by the file's metadata; each empty list counts as one."""
    total = 0
    for k in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(k)
        chunks = (group.column(c) for c in range(group.num_columns))
        total += sum(chunk.num_values for chunk in chunks if chunk.path_in_schema.split(".")[0] == column)
    return total


def _take(batch, names: list[str], columns: dict[str, np.ndarray], row: int) -> None:
    """Copy a batch, whose first row is ``row``, to its place in the columns."""
    import pyarrow as pa

    table = pa.Table.from_batches([batch])
    for name in names:
        values = flat_column(table, name, TraceError)
        columns[name][row : row + len(values)] = whole_numbers(name, values, BLOCK_COLUMNS[name], row)
    ptr, start = _lists(table, "run_start")
    stop_ptr, stop = _lists(table, "run_stop")
    if not np.array_equal(ptr, stop_ptr):
        raise TraceError("run_stop", "lists differ in length from run_start's", "Give one stop for each start")
    first = int(columns["run_ptr"][row])
    columns["run_ptr"][row + 1 : row + len(ptr)] = first + ptr[1:]
    for name, values in (("run_start", start), ("run_stop", stop)):
        columns[name][first : first + len(values)] = whole_numbers(name, values, np.int32, first)


def _metadata(schema, path: Path) -> dict:
    raw = (schema.metadata or {}).get(b"kvopt")
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
    meta = {
        "schema": SCHEMA_VERSION,
        "n_steps": trace.n_steps,
        "n_lanes": trace.n_lanes,
        "name": trace.name,
        "step_unit": trace.step_unit,
        "provenance": dict(trace.provenance),
        **({} if trace.tokens_per_page is None else {"tokens_per_page": trace.tokens_per_page}),
    }
    path = Path(path)
    try:
        with part_of(path) as part:
            _write(trace, part, {"kvopt": json.dumps(meta)})
            os.replace(part, path)
    except OSError as error:
        raise TraceError("path", f"cannot write {path} ({first_line(error)})", "Choose a writable place") from None


def _write(trace: Trace, path: Path, metadata: dict[str, str]) -> None:
    """The trace in row groups, whose columns are views of its arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = [("lane", pa.int32()), ("size_bytes", pa.int64()), ("write_step", pa.int32()), ("free_step", pa.int32())]
    types += [(name, pa.list_(pa.int32())) for name in ("run_start", "run_stop")]
    # Starts and stops ascend slowly within a block, so deltas pack to a few bits each.
    writer = pq.ParquetWriter(
        path,
        pa.schema(types, metadata=metadata),
        compression="zstd",
        compression_level=12 if trace.n_runs < _LARGE_RUNS else 1,
        use_dictionary=False,
        column_encoding=dict.fromkeys(_DELTA_CODED, "DELTA_BINARY_PACKED"),
    )
    with writer:
        for blocks, runs in trace.chunks(GROUP_RUNS):
            flat = [pa.array(getattr(trace, column)[blocks]) for column in BLOCK_COLUMNS]
            offsets = pa.array((trace.run_ptr[blocks.start : blocks.stop + 1] - runs.start).astype(np.int32))
            lists = [
                pa.ListArray.from_arrays(offsets, pa.array(ends[runs])) for ends in (trace.run_start, trace.run_stop)
            ]
            group = pa.Table.from_arrays([*flat, *lists], schema=writer.schema)
            writer.write_table(group, row_group_size=len(flat[0]))
