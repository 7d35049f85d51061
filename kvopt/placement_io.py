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

from kvopt.arguments import expect, path_of
from kvopt.errors import KvoptError, shown
from kvopt.instance import Instance
from kvopt.output import write_whole
from kvopt.parquet import Table, flat_column, native_file
from kvopt.placement import Placement
from kvopt.residency import names
from kvopt.tallies import block_ranges, owners

_COLUMNS = ("block", "start_slot", "stop_slot")
_STATE = "state"
_BATCH_ROWS = 1 << 20
_MOST = 2**62
"""No slot is larger; beyond, sums might not fit int64."""


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

    expect(Placement, "placement", placement, "Give a kvopt.Placement; of a result, its placement")
    if instance is not None:
        expect(Instance, "instance", instance, "Give the instance it is a placement of")
    about = {"n_blocks": len(placement.ptr) - 1}
    if instance is not None:
        about["states"] = names(instance.states, instance.platform)
    types = [*((name, pa.int64()) for name in _COLUMNS), (_STATE, pa.int8())]
    schema = pa.schema(types, metadata={"kvopt": json.dumps(about)})

    def write(part: Path) -> None:
        with native_file(part, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for lo, hi in block_ranges(placement.ptr):
                here = slice(placement.ptr[lo], placement.ptr[hi])
                columns = [getattr(placement, name)[here] for name in ("start", "stop", "state")]
                group = pa.Table.from_arrays(
                    [pa.array(a) for a in (owners(placement.ptr, lo, hi), *columns)], schema=schema
                )
                writer.write_table(group)

    write_whole(field, path_of(field, path), write)


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
    expect(Instance, "instance", instance, "Give the instance it must be a placement of")
    n_blocks, known = instance.trace.n_blocks, names(instance.states, instance.platform)
    with Table(path, field, _COLUMNS, "The columns are described in kvopt.placement_io") as file:
        path = file.path
        written, states = _about(file)
        if written not in (None, n_blocks):
            raise KvoptError(
                field, f"{path.name} places {shown(written)} blocks, the trace has {n_blocks}", "Use its own trace"
            )
        if states not in (None, known):
            raise KvoptError(
                field,
                f"{path.name} places blocks in {_listed(states)}, here there are {_listed(known)}",
                "Use the tiers and the rules it was made with",
            )
        columns = _intervals(file, n_blocks, len(known))
    placement = Placement.from_intervals(n_blocks, *columns)
    broken = placement.violations(instance, most=1)
    if broken:
        raise KvoptError(field, f"{path.name} is not feasible here: {broken[0]}", "Solve for this instance")
    return placement


def _intervals(file: Table, n_blocks: int, n_states: int) -> list[np.ndarray]:
    """Block, start, stop (int64) and state (int8) of each row, batch by batch."""
    path, rows = file.path, file.rows
    file.check_fits(25 * rows, f"{rows:,} intervals")
    columns = [*(np.empty(rows, np.int64) for _ in _COLUMNS), np.zeros(rows, np.int8)]
    named = [*_COLUMNS, *([_STATE] if _STATE in file.names else [])]
    row = 0
    for table in file.batches(named, _BATCH_ROWS):
        if row + table.num_rows > rows:
            break
        found = [_whole(table, column, path) for column in named]
        _check_range(path, row, found[0], n_blocks, found[-1] if len(found) > len(_COLUMNS) else None, n_states)
        for column, values in zip(columns, found, strict=False):
            column[row : row + len(values)] = values
        row += table.num_rows
    if row != rows:
        raise KvoptError(file.field, f"{path} has another number of rows than it says", "Save it again")
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


def _whole(table, column: str, path: Path) -> np.ndarray:
    try:
        values = flat_column(table, column)
    except KvoptError as error:
        raise error.of_file(path.name) from None
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise KvoptError(column, f"has values that are no whole numbers in {path.name}", "Convert it to integers")
    if len(values) and max(abs(int(values.min())), abs(int(values.max()))) > _MOST:
        raise KvoptError(column, f"has values beyond {_MOST} in {path.name}", "Give slots, blocks and states")
    return values.astype(np.int64)


def _about(file: Table) -> tuple[int | None, list[str] | None]:
    """(number of blocks, names of states) as the file has them; None where it does not say."""
    found = file.metadata
    if found is None:
        return None, None
    n_blocks = found.get("n_blocks") if isinstance(found, dict) else None
    if type(n_blocks) is not int:
        raise KvoptError("metadata 'kvopt'", f"{file.path.name} holds no n_blocks there", "Save it again")
    states = found.get("states")
    if states is not None and not (isinstance(states, list) and all(isinstance(name, str) for name in states)):
        raise KvoptError("metadata 'kvopt'", f"{file.path.name} holds states that are no names", "Save it again")
    return n_blocks, states


def _listed(states: list[str]) -> str:
    return " | ".join(states)
