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

from kvopt.arguments import MOST_COUNT, expect, writable_path
from kvopt.errors import KvoptError, TraceError, shown
from kvopt.output import write_whole
from kvopt.parquet import Table, flat_column, list_column, native_file
from kvopt.reading import reason
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
_COUNT = (int, f"a whole number of at least 1 and at most {MOST_COUNT}")
_METADATA = {
    "n_steps": _COUNT,
    "n_lanes": _COUNT,
    "tokens_per_page": _COUNT,
    "name": (str, "text"),
    "step_unit": (str, "text"),
    "provenance": (dict, "an object"),
}
_ABSENT = object()
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
    fix = "The schema is described in kvopt.trace_io; names must match"
    with Table(path, "trace", _REQUIRED, fix, TraceError) as file:
        path = file.path
        if file.rows == 0:
            raise TraceError("blocks", f"{path.name} has no rows", "A trace needs at least one block")
        meta = _metadata(file)
        try:
            columns = _columns(file)
            ends = [columns[c].max(initial=1) for c in ("run_stop", "free_step") if c in columns]
            n_steps = meta.get("n_steps") or max(int(columns["write_step"].max()) + 1, *map(int, ends))
            return Trace(
                n_steps=n_steps,
                n_lanes=meta.get("n_lanes") or max(int(columns["lane"].max()) + 1, 1),
                **{"free_step": n_steps, **columns},
                name=meta.get("name", path.stem),
                step_unit=meta.get("step_unit", "token"),
                provenance=meta.get("provenance", {}),
                tokens_per_page=meta.get("tokens_per_page"),
            )
        except TraceError as error:
            raise error.of_file(path.name) from None


def _columns(file: Table) -> dict[str, np.ndarray]:
    """The columns of :class:`Trace`, read-only, batch by batch; no ``free_step`` where the file has none."""
    names = [c for c in BLOCK_COLUMNS if c in file.names]
    # An empty list counts as a value, so that this is enough; memory that stays untouched is none.
    most_runs = file.values("run_start")
    file.check_fits(28 * file.rows + 8 * most_runs, f"{file.rows:,} blocks and {most_runs:,} runs")
    columns = {c: np.empty(file.rows, BLOCK_COLUMNS[c]) for c in names}
    columns["run_ptr"] = np.zeros(file.rows + 1, np.int64)
    columns |= {"run_start": np.empty(most_runs, np.int32), "run_stop": np.empty(most_runs, np.int32)}
    row = 0
    for table in file.batches([*names, "run_start", "run_stop"], BATCH_ROWS):
        _take(file, table, names, columns, row)
        row += table.num_rows
    if row != file.rows:
        raise _contradiction(file)
    n_runs = int(columns["run_ptr"][-1])
    for column in ("run_start", "run_stop"):
        columns[column].resize(n_runs, refcheck=False)
    for array in columns.values():
        array.setflags(write=False)
    return columns


def _take(file: Table, table, names: list[str], columns: dict[str, np.ndarray], row: int) -> None:
    """Copy a batch, whose first row is ``row``, to its place in the columns."""
    for name in names:
        values = flat_column(table, name, TraceError)
        if row + len(values) > file.rows:
            raise _contradiction(file)
        columns[name][row : row + len(values)] = whole_numbers(name, values, BLOCK_COLUMNS[name], row)
    ptr, start = list_column(table, "run_start", TraceError)
    stop_ptr, stop = list_column(table, "run_stop", TraceError)
    if not np.array_equal(ptr, stop_ptr):
        raise TraceError("run_stop", "lists differ in length from run_start's", "Give one stop for each start")
    first = int(columns["run_ptr"][row])
    if first + len(start) > len(columns["run_start"]):
        raise _contradiction(file)
    columns["run_ptr"][row + 1 : row + len(ptr)] = first + ptr[1:]
    for name, values in (("run_start", start), ("run_stop", stop)):
        columns[name][first : first + len(values)] = whole_numbers(name, values, np.int32, first)


def _contradiction(file: Table) -> TraceError:
    return TraceError("trace", f"{file.path} has another number of rows or runs than it says", "Write it again")


def _metadata(file: Table) -> dict:
    meta, name = file.metadata, file.path.name
    if meta is None:
        return {}
    if not (isinstance(meta, dict) and "schema" in meta):
        raise TraceError(
            "metadata 'kvopt'", f"{name} holds no valid JSON object with a schema there", "Write it with Trace.save"
        )
    if meta["schema"] != SCHEMA_VERSION:
        raise TraceError(
            "metadata 'kvopt'.schema",
            f"{name} has schema {shown(meta['schema'])}, this kvopt reads {SCHEMA_VERSION}",
            "Use the kvopt version that wrote it, or a newer one",
        )
    for key, (kind, words) in _METADATA.items():
        value = meta.get(key, _ABSENT)
        if value is _ABSENT or (value is None and key == "tokens_per_page"):
            continue
        right = isinstance(value, kind) and not isinstance(value, bool)
        if not right or (kind is int and not 1 <= value <= MOST_COUNT):
            raise TraceError(f"metadata 'kvopt'.{key}", f"is {shown(value)} in {name}", f"It must be {words}")
    return meta


def save_trace(trace: Trace, path: str | os.PathLike) -> None:
    """Write a trace as Parquet: to a temporary name first, so that a reader never sees half a file.

    Raises
    ------
    TraceError
        When the directory cannot be written, or the provenance is no JSON.
    """
    expect(Trace, "trace", trace, "Give a kvopt.Trace", TraceError)
    meta = {
        "schema": SCHEMA_VERSION,
        "n_steps": trace.n_steps,
        "n_lanes": trace.n_lanes,
        "name": trace.name,
        "step_unit": trace.step_unit,
        "provenance": dict(trace.provenance),
        **({} if trace.tokens_per_page is None else {"tokens_per_page": trace.tokens_per_page}),
    }
    path = writable_path("path", path, TraceError)
    try:
        text = json.dumps(meta)
    except (TypeError, ValueError, RecursionError) as error:
        raise TraceError("provenance", f"is no JSON ({reason(error)})", "Keep texts, numbers and lists there") from None
    try:
        write_whole("path", path, lambda part: _write(trace, part, {"kvopt": text}))
    except KvoptError as error:
        raise TraceError(error.field, error.problem, error.fix) from None


def _write(trace: Trace, path: Path, metadata: dict[str, str]) -> None:
    """The trace in row groups, whose columns are views of its arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = [("lane", pa.int32()), ("size_bytes", pa.int64()), ("write_step", pa.int32()), ("free_step", pa.int32())]
    types += [(name, pa.list_(pa.int32())) for name in ("run_start", "run_stop")]
    # Starts and stops ascend slowly within a block, so deltas pack to a few bits each.
    file = native_file(path, "wb")
    writer = pq.ParquetWriter(
        file,
        pa.schema(types, metadata=metadata),
        compression="zstd",
        compression_level=12 if trace.n_runs < _LARGE_RUNS else 1,
        use_dictionary=False,
        column_encoding=dict.fromkeys(_DELTA_CODED, "DELTA_BINARY_PACKED"),
    )
    with file, writer:
        for blocks, runs in trace.chunks(GROUP_RUNS):
            flat = [pa.array(getattr(trace, column)[blocks]) for column in BLOCK_COLUMNS]
            offsets = pa.array((trace.run_ptr[blocks.start : blocks.stop + 1] - runs.start).astype(np.int32))
            lists = [
                pa.ListArray.from_arrays(offsets, pa.array(ends[runs])) for ends in (trace.run_start, trace.run_stop)
            ]
            group = pa.Table.from_arrays([*flat, *lists], schema=writer.schema)
            writer.write_table(group, row_group_size=len(flat[0]))
