"""The exact model of an instance as an LP or MPS file, for any solver.

The file states the program that HiGHS gets, and so counts in the model's units: the objective in ``unit``, bytes in
``byte_unit`` (see :mod:`kvopt.models.placement`). In seconds every coefficient of the objective would be a nanosecond
or so, and any solver would stop at once, within its absolute tolerances of 1e-6. Comments at the head of the file give
both units, the tiers and the channels; the optimum times ``unit`` is the decode time in seconds, or what else the
objective counts.

Names are those of the Pyomo page, written as Pyomo writes them: ``z(i_k_t)``, tier k holds block i in slot t (integer);
``m(i_j_k_t)``, block i moves from tier j to k; ``L(t)``, how long slot t lasts; and where rules or objective ask for
them, ``r(i_k_t)``, the share of block i read from tier k; ``eta(v)``, ``excess(v_n)`` and ``late(d_n)`` of step n. Rows
are ``one_tier(i_t)``, ``capacity(k_t)``, ``usable_from_next_slot(i_k_t)``, ``slot_time(c_t)`` and the others that the
page names. Pyomo's writer adds the sense of a row to its name, ``c_u_capacity(0_0)_``. A column that occurs nowhere
(the copy of a block that lives for one slot and is not read) is in no file. For what an objective charges whatever is
decided, a constant, Pyomo's writer has a column ``ONE_VAR_CONSTANT``, and in MPS a row.
"""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from kvopt import interrupts
from kvopt.errors import KvoptError
from kvopt.exact import arrays, writer
from kvopt.exact.layout import Layout, column_count
from kvopt.exact.program import Program
from kvopt.exact.solver import Backend, choose_backend
from kvopt.instance import Instance
from kvopt.lowering import Lowered, lower
from kvopt.output import check_writable, write_whole

MOST_COLUMNS = {Backend.ARRAYS: 5_000_000, Backend.PYOMO: 500_000}
"""Larger models are refused: at these sizes the file takes a minute and some gigabytes of memory to write."""
_KINDS = (".lp", ".mps", ".lp.gz", ".mps.gz")
_WORDS_PER_LINE = 16
"""Of an expression in LP: other readers than HiGHS take no more than 560 characters."""


@dataclass(frozen=True)
class ModelFile:
    """A model that was written.

    Parameters
    ----------
    path : Path
    backend : Backend
        ARRAYS or PYOMO.
    columns, rows, nonzeros : int
    integers : int
        Columns that are integer.
    unit : float
        What a unit of the objective is in ``objective_unit``: seconds, for the decode time.
    objective_unit : str
    byte_unit : float
        Bytes in a unit of the capacities.
    time_unit_s : float
        Seconds in a unit of the times.
    """

    path: Path
    backend: Backend
    columns: int
    rows: int
    nonzeros: int
    integers: int
    unit: float
    objective_unit: str
    byte_unit: float
    time_unit_s: float


@interrupts.interruptible
def export_model(
    instance: Instance, path: str | Path, *, backend: Backend | str | None = None, field: str = "path"
) -> ModelFile:
    """Write the exact model of an instance as the file's ending says; see the module for units and names.

    Parameters
    ----------
    instance : Instance
    path : str or Path
        Ends in .lp, .mps, .lp.gz or .mps.gz. Written whole or not at all.
    backend : Backend or str, optional
        What builds and writes the model: "arrays" (the default; HiGHS writes) or "pyomo" (Pyomo does, ten
        times slower). The program is the same. An objective with an expression of its own takes "pyomo".
    field : str
        What messages call the path.

    Raises
    ------
    KvoptError
        When the ending is another, the file cannot be written, or ``MOST_COLUMNS`` does not allow for the model.
    MethodError
        For an unknown backend, or an objective that it cannot hold.
    """
    path = Path(path)
    kind = _kind(path, field)
    backend = choose_backend(backend, instance)
    _check_size(instance, backend)
    check_writable(field, path)
    low = lower(instance)
    layout = Layout(low)
    interrupts.heed()
    program, used = _without_unused(_program(instance, low, layout))
    made = _described(instance, path, backend, program, low)

    def write_plain(plain: Path) -> None:
        if backend is Backend.PYOMO:
            from kvopt.exact import pyomo_driver  # On use: importing Pyomo takes a second.

            with interrupts.at_once():  # All of it is Python.
                pyomo_driver.write(instance, plain)
        else:
            names = list(compress(_column_names(low, layout, program), used))
            writer.write(program, plain, names, _row_names(low, layout, program))

    write_whole(field, path, lambda part: _write(part, kind, _comments(instance, made), write_plain))
    return made


def _described(instance: Instance, path: Path, backend: Backend, program: Program, low: Lowered) -> ModelFile:
    n_rows, n_columns = program.matrix.shape
    constant = int(backend is Backend.PYOMO and program.offset != 0)
    fixed = constant * _kind(path, "path").startswith(".mps")
    return ModelFile(
        path,
        backend,
        columns=n_columns + constant,
        rows=n_rows + fixed,
        nonzeros=program.matrix.nnz + fixed,
        integers=int(program.integer.sum()),
        unit=program.unit,
        objective_unit=instance.objective.unit,
        byte_unit=float(low.size_bytes.mean()),
        time_unit_s=program.time_unit_s,
    )


def _program(instance: Instance, low: Lowered, layout: Layout) -> Program:
    if not instance.custom:
        return arrays.build(low, layout)
    from kvopt.exact import pyomo_driver  # On use: importing Pyomo takes a second.

    with interrupts.at_once():
        return pyomo_driver.build(instance)


def _kind(path: Path, field: str) -> str:
    for kind in _KINDS:
        if path.name.lower().endswith(kind):
            return kind
    raise KvoptError(field, f"{path} ends like no kind of model file", f"Use one of: {', '.join(_KINDS)}")


def _check_size(instance: Instance, backend: Backend) -> None:
    columns, most = column_count(instance), MOST_COLUMNS[backend]
    if columns > most:
        raise KvoptError(
            "instance",
            f"its exact model has {columns:,} columns, more than the {most:,} that {backend.value} may write",
            "Export a part: kvopt.sub_instance (on the command line --sub), or an instance of Trace.window",
        )


def _without_unused(program: Program) -> tuple[Program, np.ndarray]:
    """The program without the columns that occur nowhere, and bool[n]: which are left."""
    used = (np.diff(program.matrix.indptr) > 0) | (program.cost != 0)
    left = replace(
        program,
        cost=program.cost[used],
        lower=program.lower[used],
        upper=program.upper[used],
        matrix=program.matrix[:, np.flatnonzero(used)],
        # Adding 0 turns -0 into 0.
        row_lower=program.row_lower + 0.0,
        row_upper=program.row_upper + 0.0,
        integer=program.integer[used],
    )
    return left, used


def _write(part: Path, kind: str, comments: list[str], write_plain: Callable[[Path], None]) -> None:
    """The comments, then what the back end's writer writes into a directory that goes away, whatever happens."""
    lp = kind.startswith(".lp")
    mark = "\\" if lp else "*"
    with TemporaryDirectory(dir=part.parent, prefix=f"{part.name}.") as folder:
        plain = Path(folder) / ("model.lp" if lp else "model.mps")
        write_plain(plain)
        with (
            plain.open(encoding="ascii") as text,
            (gzip.open if kind.endswith(".gz") else open)(part, "wt", encoding="ascii", newline="\n") as out,
        ):
            out.writelines(f"{mark} {line}\n" for line in comments)
            if lp:
                out.writelines(_wrapped(text))
            else:
                shutil.copyfileobj(text, out)


def _wrapped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        words = line.split(" ")
        for k in range(0, len(words), _WORDS_PER_LINE):
            yield " ".join(words[k : k + _WORDS_PER_LINE]) + ("\n " if k + _WORDS_PER_LINE < len(words) else "")


def _comments(instance: Instance, made: ModelFile) -> list[str]:
    """What a reader of the file needs to know, in ASCII."""

    def numbered(parts) -> str:
        return ", ".join(f"{k} = {part.name}" for k, part in enumerate(parts))

    trace, platform = instance.trace, instance.platform
    what, times = "times, and so the objective,", ""
    if not instance.timed:
        what, times = f"the objective, {instance.objective.name},", f"; times in units of {made.time_unit_s!r} s"
    lines = [
        f"kvopt: {trace.name} on {platform.name}, {_rules(instance)}",
        f"{what} in units of {made.unit!r} {made.objective_unit}{times}; bytes in units of {made.byte_unit!r}",
        "z(i_k_t): tier k holds block i in slot t; m(i_j_k_t): block i moves from tier j to k; L(t): time of slot t",
        *_more_columns(instance),
        f"tiers k: {numbered(platform.tiers)}; channels c: {numbered(platform.channels)}",
        f"slots t: step {'t' if trace.n_lanes == 1 else f't div {trace.n_lanes}, lane t mod {trace.n_lanes}'}",
    ]
    return [" ".join(line.split()).encode("ascii", "backslashreplace").decode() for line in lines]


def _rules(instance: Instance) -> str:
    """Copies and moves, and what is not the default of the rest."""
    rules = instance.rules
    more = [f"{rules.reads.value} reads"] * rules.balanced + ["written back"] * rules.write_back
    return ", ".join([f"{rules.copies.value} copies", f"{rules.moves.value} moves", *more])


def _more_columns(instance: Instance) -> list[str]:
    """What the columns are that only some rules and objectives need."""
    rules, found = instance.rules, []
    if rules.balanced or (rules.inclusive and len(instance.platform.tiers) > 2):
        found.append("r(i_k_t): share of block i read from tier k in slot t")
    if any(weight > 0 for weight, _ in instance.prices.tails):
        found.append("eta(v): threshold of tail v; excess(v_n): what step n takes beyond it")
    if any(weight > 0 for weight, _ in instance.prices.deadlines):
        found.append("late(d_n): step n misses deadline d")
    return ["; ".join(found)] if found else []


def _column_names(low: Lowered, layout: Layout, program: Program) -> list[str]:
    """Names in the order of the columns."""
    pairs = list(zip(layout.pair_block.tolist(), layout.pair_slot.tolist(), strict=True))
    stays = [pairs[p] for p in layout.stay_pair.tolist()]
    reads = [pairs[p] for p in layout.read_pair.tolist()] if layout.shared else []
    tails, deadlines, steps = range(len(program.steps.tails)), range(len(program.steps.deadlines)), range(low.n_steps)
    return [
        *(f"z({i}_{k}_{t})" for k in layout.placed for i, t in pairs),
        *(f"m({i}_{j}_{k}_{t})" for j, k in layout.moves for i, t in stays),
        *(f"r({i}_{k}_{t})" for k in range(layout.n_tiers) for i, t in reads),
        *(f"L({t})" for t in range(layout.n_slots)),
        *(f"eta({v})" for v in tails),
        *(f"excess({v}_{n})" for v in tails for n in steps),
        *(f"late({d}_{n})" for d in deadlines for n in steps),
    ]


def _row_names(low: Lowered, layout: Layout, program: Program) -> list[str]:
    """Names in the order of the rows of :func:`kvopt.exact.arrays.build`."""
    pairs = list(zip(layout.pair_block.tolist(), layout.pair_slot.tolist(), strict=True))
    stays = [pairs[p] for p in layout.stay_pair.tolist()]
    reads = [pairs[p] for p in layout.read_pair.tolist()] if layout.shared else []
    upper = range(layout.n_tiers - 1) if not layout.balanced else ()
    full = {k: np.flatnonzero(low.live_bytes > low.capacity_bytes[k]).tolist() for k in layout.placed}
    held = [(j, k) for j, k in layout.moves if j in layout.placed and layout.n_tiers > 2]
    nearest = [(*layout.moves[v], h) for v, h in arrays.faster_sources(layout)]
    tails, deadlines, steps = range(len(program.steps.tails)), range(len(program.steps.deadlines)), range(low.n_steps)
    return [
        *(f"one_tier({i}_{t})" for i, t in pairs if layout.exclusive),
        *(f"some_tier({i}_{t})" for i, t in pairs if layout.write_back),
        *(f"given_start({i}_{k})" for k in layout.placed for i in np.flatnonzero(low.initial >= 0).tolist()),
        *(f"capacity({k}_{t})" for k in layout.placed for t in full[k]),
        *(f"usable_from_next_slot({i}_{k}_{t})" for k in layout.placed for i, t in stays),
        *(f"source_holds({i}_{j}_{k}_{t})" for j, k in held for i, t in stays),
        *(f"source_is_nearest({i}_{j}_{k}_{h}_{t})" for j, k, h in nearest for i, t in stays),
        *(f"read_once({i}_{t})" for i, t in reads),
        *(f"read_where_held({i}_{k}_{t})" for k in layout.placed for i, t in reads),
        *(f"read_nearest({i}_{k}_{t})" for k in upper for i, t in reads),
        *(f"slot_time({c}_{t})" for c in range(low.n_channels) for t in range(low.n_slots)),
        *(f"tail({v}_{n})" for v in tails for n in steps),
        *(f"on_time({d}_{n})" for d in deadlines for n in steps),
    ]
