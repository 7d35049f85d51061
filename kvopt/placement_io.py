"""Placements in Parquet files: one row an interval, columns ``block``, ``start_slot``, ``stop_slot`` and ``state``.

Block numbers and slots are those of the trace, states those of :mod:`kvopt.residency`; a file without the column has
all blocks in state 0. No row stands for the last state, in which only the backing tier holds the block. The file's
key-value metadata holds under ``kvopt`` a JSON object with ``n_blocks`` and ``states``, the names of all states, so
that a placement of another trace, of other tiers or of other rules is refused.
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
from kvopt.residency import names

_COLUMNS = ("block", "start_slot", "stop_slot")
_STATE = "state"


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

    columns = (placement.block, placement.start, placement.stop, placement.state)
    table = pa.table(dict(zip((*_COLUMNS, _STATE), columns, strict=True)))
    about = {"n_blocks": len(placement.ptr) - 1}
    if instance is not None:
        about["states"] = names(instance.states, instance.platform)
    table = table.replace_schema_metadata({"kvopt": json.dumps(about)})
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
        When the file is missing, is no Parquet, lacks a column, belongs to another trace, to other tiers or other
        rules, or breaks a rule of the instance: block, slot, tier and amount are named.
    """
    path = Path(path)
    table = read_table(path, field, _COLUMNS, "The columns are described in kvopt.placement_io")
    n_blocks = instance.trace.n_blocks
    written, states = _about(table, path)
    if written not in (None, n_blocks):
        raise KvoptError(field, f"{path.name} places {written} blocks, the trace has {n_blocks}", "Use its own trace")
    known = names(instance.states, instance.platform)
    if states not in (None, known):
        raise KvoptError(
            field,
            f"{path.name} places blocks in {_listed(states)}, here there are {_listed(known)}",
            "Use the tiers and the rules it was made with",
        )
    block, start, stop = (_whole(table, column) for column in _COLUMNS)
    state = _whole(table, _STATE) if _STATE in table.column_names else np.zeros(len(block), np.int64)
    wrong = np.flatnonzero((state < 0) | (state >= len(known) - 1))
    if len(wrong):
        raise KvoptError(
            _STATE,
            f"row {wrong[0]} of {path.name} is in state {state[wrong[0]]}, there are 0 to {len(known) - 2}",
            "Give the states of kvopt.residency, without the last",
        )
    wrong = np.flatnonzero((block < 0) | (block >= n_blocks))
    if len(wrong):
        raise KvoptError(
            "block", f"row {wrong[0]} of {path.name} names block {block[wrong[0]]} of {n_blocks}", "Use its own trace"
        )
    placement = Placement.from_intervals(n_blocks, block, start, stop, state)
    broken = placement.violations(instance, most=1)
    if broken:
        raise KvoptError(field, f"{path.name} is not feasible here: {broken[0]}", "Solve for this instance")
    return placement


def _whole(table, column: str) -> np.ndarray:
    values = flat_column(table, column)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise KvoptError(column, "has values that are no whole numbers", "Convert the column to integers")
    return values.astype(np.int64)


def _about(table, path: Path) -> tuple[int | None, list[str] | None]:
    """(number of blocks, names of states) as the file has them; None where it does not say."""
    raw = (table.schema.metadata or {}).get(b"kvopt")
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
