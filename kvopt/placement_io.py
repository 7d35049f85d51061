"""Placements in Parquet files: one row an interval, columns ``block``, ``start_slot``, ``stop_slot`` and ``state``.

Block numbers and slots are those of the trace, states those of :mod:`kvopt.residency`; a file without the column has
all blocks in state 0. No row stands for the last state, in which only the backing tier holds the block. The file's
key-value metadata holds under ``kvopt`` a JSON object with ``n_blocks`` and ``states``, the names of all states, so
that a placement of another trace, of other tiers or of other rules is refused. Rows are written in groups and read in
batches, so that either needs little memory beside the placement.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from kvopt.errors import KvoptError
from kvopt.instance import Instance
from kvopt.output import write_whole
from kvopt.parquet import flat_column, open_table, unreadable
from kvopt.placement import Placement
from kvopt.residency import names
from kvopt.tallies import block_ranges, owners

_COLUMNS = ("block", "start_slot", "stop_slot")
_STATE = "state"
_BATCH_ROWS = 1 << 20


def save_placement(
    placement: Placement, path: str | os.PathLike, instance: Instance | None = None, *, field: str = "path"
) -> None:
    """Write a placement, whole or not at all.

    Parameters
    ----------
    placement : Placement
    path : path of the file
    instance : Instance, optional
        What it is a placement of. The file then says what its states are called, and is refused where they are not.
    field : str
        What names the path in errors.

    Raises
    ------
    KvoptError
        When the place is not writable.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    about = {"n_blocks": len(placement.ptr) - 1}
    if instance is not None:
        about["states"] = names(instance.states, instance.platform)
    types = [*((name, pa.int64()) for name in _COLUMNS), (_STATE, pa.int8())]
    schema = pa.schema(types, metadata={"kvopt": json.dumps(about)})

    def write(part: Path) -> None:
        with pq.ParquetWriter(part, schema, compression="zstd") as writer:
            for lo, hi in block_ranges(placement.ptr):
                here = slice(placement.ptr[lo], placement.ptr[hi])
                columns = [getattr(placement, name)[here] for name in ("start", "stop", "state")]
                group = pa.Table.from_arrays(
                    [pa.array(a) for a in (owners(placement.ptr, lo, hi), *columns)], schema=schema
                )
                writer.write_table(group)

    write_whole(field, Path(path), write)


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
        When the file is missing, is no Parquet, lacks a column, belongs to another trace, to other tiers or other
        rules, or breaks a rule of the instance: block, slot, tier and amount are named.
    """
    import pyarrow as pa

    path = Path(path)
    n_blocks, known = instance.trace.n_blocks, names(instance.states, instance.platform)
    with open_table(path, field, _COLUMNS, "The columns are described in kvopt.placement_io") as file:
        written, states = _about(file.schema_arrow.metadata, path)
        if written not in (None, n_blocks):
            raise KvoptError(
                field, f"{path.name} places {written} blocks, the trace has {n_blocks}", "Use its own trace"
            )
        if states not in (None, known):
            raise KvoptError(
                field,
                f"{path.name} places blocks in {_listed(states)}, here there are {_listed(known)}",
                "Use the tiers and the rules it was made with",
            )
        try:
            columns = _intervals(file, path, n_blocks, len(known))
        except (pa.ArrowInvalid, OSError) as found:
            raise unreadable(path, field, found) from None
    placement = Placement.from_intervals(n_blocks, *columns)
    broken = placement.violations(instance, most=1)
    if broken:
        raise KvoptError(field, f"{path.name} is not feasible here: {broken[0]}", "Solve for this instance")
    return placement


def _intervals(file, path: Path, n_blocks: int, n_states: int) -> list[np.ndarray]:
    """Block, start, stop (int64) and state (int8) of each row, batch by batch."""
    import pyarrow as pa

    rows = file.metadata.num_rows
    columns = [*(np.empty(rows, np.int64) for _ in _COLUMNS), np.zeros(rows, np.int8)]
    named = [*_COLUMNS, *([_STATE] if _STATE in file.schema_arrow.names else [])]
    row = 0
    for batch in file.iter_batches(_BATCH_ROWS, columns=named):
        table = pa.Table.from_batches([batch])
        found = [_whole(table, column) for column in named]
        _check_range(path, row, found[0], n_blocks, found[-1] if len(found) > len(_COLUMNS) else None, n_states)
        for column, values in zip(columns, found, strict=False):
            column[row : row + len(values)] = values
        row += len(batch)
    return columns


def _check_range(path: Path, row: int, block: np.ndarray, n_blocks: int, state: np.ndarray | None, n_states: int):
    """Refuse states and blocks there are none of, in rows from ``row`` on."""
    wrong = [] if state is None else np.flatnonzero((state < 0) | (state >= n_states - 1))
    if len(wrong):
        raise KvoptError(
            _STATE,
            f"row {row + wrong[0]} of {path.name} is in state {state[wrong[0]]}, there are 0 to {n_states - 2}",
            "Give the states of kvopt.residency, without the last",
        )
    wrong = np.flatnonzero((block < 0) | (block >= n_blocks))
    if len(wrong):
        raise KvoptError(
            "block",
            f"row {row + wrong[0]} of {path.name} names block {block[wrong[0]]} of {n_blocks}",
            "Use its own trace",
        )


def _whole(table, column: str) -> np.ndarray:
    values = flat_column(table, column)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise KvoptError(column, "has values that are no whole numbers", "Convert the column to integers")
    return values.astype(np.int64)


def _about(metadata: dict | None, path: Path) -> tuple[int | None, list[str] | None]:
    """(number of blocks, names of states) as the file has them; None where it does not say."""
    raw = (metadata or {}).get(b"kvopt")
    if raw is None:
        return None, None
    try:
        found = json.loads(raw)
        states = found.get("states")
        return int(found["n_blocks"]), None if states is None else [str(name) for name in states]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise KvoptError("metadata 'kvopt'", f"{path.name} holds no n_blocks there", "Save it again") from None


def _listed(states: list[str]) -> str:
    return " | ".join(states)
