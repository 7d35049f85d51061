"""Placements in Parquet files: one row an interval in the fast tier, columns ``block``, ``start_slot``, ``stop_slot``.

Block numbers and slots are those of the trace. The file's key-value metadata holds under ``kvopt`` a JSON object with
``n_blocks``, so that a placement of another trace is refused.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from kvopt.errors import KvoptError
from kvopt.instance import Instance
from kvopt.output import write_whole
from kvopt.parquet import flat_column, read_table
from kvopt.placement import Placement

_COLUMNS = ("block", "start_slot", "stop_slot")


def save_placement(placement: Placement, path: str | os.PathLike, *, field: str = "path") -> None:
    """Write a placement, whole or not at all.

    Parameters
    ----------
    placement : Placement
    path : path of the file
    field : str
        What names the path in errors.

    Raises
    ------
    KvoptError
        When the place is not writable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(dict(zip(_COLUMNS, (placement.block, placement.start, placement.stop), strict=True)))
    table = table.replace_schema_metadata({"kvopt": json.dumps({"n_blocks": len(placement.ptr) - 1})})
    write_whole(field, Path(path), lambda part: pq.write_table(table, part, compression="zstd"))


def load_placement(path: str | os.PathLike, instance: Instance, *, field: str = "placement") -> Placement:
    """Read a placement of an instance; intervals may come in any order.

    Parameters
    ----------
    path : path of the file
    instance : Instance
        What it must be a feasible placement of.
    field : str
        What names the path in errors.

    Raises
    ------
    KvoptError
        When the file is missing, is no Parquet, lacks a column, belongs to another trace, or breaks a rule of the
        instance: block, slot, tier and amount are named.
    """
    path = Path(path)
    table = read_table(path, field, _COLUMNS, "The columns are described in kvopt.placement_io")
    n_blocks = instance.trace.n_blocks
    written = _n_blocks(table, path)
    if written not in (None, n_blocks):
        raise KvoptError(field, f"{path.name} places {written} blocks, the trace has {n_blocks}", "Use its own trace")
    block, start, stop = (_whole(table, column) for column in _COLUMNS)
    wrong = np.flatnonzero((block < 0) | (block >= n_blocks))
    if len(wrong):
        raise KvoptError(
            "block", f"row {wrong[0]} of {path.name} names block {block[wrong[0]]} of {n_blocks}", "Use its own trace"
        )
    placement = Placement.from_intervals(n_blocks, block, start, stop)
    broken = placement.violations(instance, most=1)
    if broken:
        raise KvoptError(field, f"{path.name} is not feasible here: {broken[0]}", "Solve for this instance")
    return placement


def _whole(table, column: str) -> np.ndarray:
    values = flat_column(table, column)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise KvoptError(column, "has values that are no whole numbers", "Convert the column to integers")
    return values.astype(np.int64)


def _n_blocks(table, path: Path) -> int | None:
    raw = (table.schema.metadata or {}).get(b"kvopt")
    try:
        return None if raw is None else int(json.loads(raw)["n_blocks"])
    except (ValueError, KeyError, TypeError):
        raise KvoptError("metadata 'kvopt'", f"{path.name} holds no n_blocks there", "Save it again") from None
