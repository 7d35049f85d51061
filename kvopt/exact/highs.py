"""HiGHS on a :class:`~kvopt.exact.program.Program`, straight through highspy: warm start, limits, progress, Ctrl-C.

Its ``threads`` option is left alone: HiGHS keeps one pool of threads in a process and fails when the number changes.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

import highspy
import numpy as np

from kvopt import interrupts
from kvopt.exact import child
from kvopt.exact.program import Program
from kvopt.result import Termination

_FEASIBILITY_TOLERANCE = 1e-9
"""Far below what one block does to a slot, where HiGHS's own 1e-6 and 1e-7 could hide a block among many."""

_FEW_COLUMNS = 2_000
"""Programs up to this size ask often enough to be run where Ctrl-C is looked at by HiGHS alone."""

_TERMINATION = {
    highspy.HighsModelStatus.kOptimal: Termination.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: Termination.INFEASIBLE,
    # Times are never negative, so the program is not unbounded.
    highspy.HighsModelStatus.kUnboundedOrInfeasible: Termination.INFEASIBLE,
    highspy.HighsModelStatus.kTimeLimit: Termination.TIME_LIMIT,
    highspy.HighsModelStatus.kInterrupt: Termination.INTERRUPTED,
    highspy.HighsModelStatus.kHighsInterrupt: Termination.INTERRUPTED,
}


class LpSolver(Enum):
    """How HiGHS solves a linear program."""

    SIMPLEX = "simplex"
    IPM = "ipm"
    """Interior point, then crossover to a vertex."""
    # PDLP is left out: its value lies on either side of the optimum by its tolerance, so it bounds nothing.


class Watch(Protocol):
    """What listens to a run.

    Attributes
    ----------
    stop : bool
        Set to True to end the run soon; Ctrl-C sets it.
    """

    stop: bool

    def incumbent(self, values: np.ndarray, nodes: int) -> None:
        """A better solution was found: float64[n]."""

    def bound(self, bound: float, nodes: int) -> None:
        """HiGHS asks whether to go on; its lower bound so far, in the program's time unit."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a run ended.

    Parameters
    ----------
    termination : Termination
        FINISHED when HiGHS gave up for a reason of its own, which ``status`` names.
    values : float64[n] or None
        The best solution.
    bound : float or None
        Lower bound on the objective, in the program's time unit. A linear program has one only when solved to the end.
    nodes : int
    gap : float or None
        As HiGHS reports it.
    status : str
        HiGHS's words.
    """

    termination: Termination
    values: np.ndarray | None
    bound: float | None
    nodes: int
    gap: float | None
    status: str


def minimise(
    program: Program,
    watch: Watch,
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    seed: int = 0,
    start: np.ndarray | None = None,
    node_limit: int | None = None,
    presolve: bool = True,
) -> Outcome:
    """Solve the mixed-integer program; a large one in a process of its own (:mod:`kvopt.exact.child`).

    Parameters
    ----------
    program : Program
    watch : Watch
    time_limit_s : float, optional
    gap : float
        Relative gap at which HiGHS stops and says optimal. 0, unlike HiGHS's own 1e-4, means what it says.
    seed : int
    start : float64[n], optional
        A feasible solution; where it is nan, HiGHS completes it.
    node_limit : int, optional
        Of the tree, at which HiGHS stops with what it has.
    presolve : bool
    """
    options = {"gap": gap, "seed": seed, "start": start, "node_limit": node_limit, "presolve": presolve}
    if child.wanted(program):
        return child.run("minimise", program, watch, time_limit_s, options)
    highs = _highs(program, time_limit_s, seed, integer=True)
    _set(highs, mip_rel_gap=gap, mip_abs_gap=0.0, mip_feasibility_tolerance=_FEASIBILITY_TOLERANCE)
    if not presolve:
        _set(highs, presolve="off")
    if node_limit is not None:
        _set(highs, mip_max_nodes=node_limit)
    if start is not None:
        known = np.flatnonzero(np.isfinite(start)).astype(np.int32)
        highs.setSolution(len(known), known, start[known])
    if not _run(highs, watch):
        return _LEFT
    termination, info = _termination(highs), highs.getInfo()
    bound, gap = info.mip_dual_bound, info.mip_gap
    if not program.integer.any():
        # A linear program to HiGHS, of which it says nothing as of a mixed-integer one.
        solved = termination is Termination.OPTIMAL
        bound, gap = (info.objective_function_value, 0.0) if solved else (-np.inf, np.inf)
    return Outcome(
        termination,
        _values(highs),
        _finite(bound) if termination is not Termination.INFEASIBLE else None,
        nodes=max(int(info.mip_node_count), 0),
        gap=_finite(gap),
        status=highs.modelStatusToString(highs.getModelStatus()),
    )


def minimise_relaxed(
    program: Program, watch: Watch, *, solver: LpSolver, time_limit_s: float | None = None, seed: int = 0
) -> Outcome:
    """Solve the linear relaxation. Parameters as for :func:`minimise`."""
    if child.wanted(program):
        return child.run("minimise_relaxed", program, watch, time_limit_s, {"solver": solver, "seed": seed})
    highs = _highs(program, time_limit_s, seed, integer=False)
    _set(highs, solver=solver.value)
    if not _run(highs, watch):
        return _LEFT
    termination = _termination(highs)
    solved = termination is Termination.OPTIMAL
    return Outcome(
        termination,
        _values(highs),
        highs.getInfo().objective_function_value if solved else None,
        nodes=0,
        gap=None,
        status=highs.modelStatusToString(highs.getModelStatus()),
    )


def write(program: Program, path: Path, column_names: list[str], row_names: list[str]) -> None:
    """Write the mixed-integer program by HiGHS's own writer, as the path's ending says.

    Parameters
    ----------
    program : Program
    path : Path
        Ends in .lp or .mps.
    column_names, row_names : list of str
        Different from each other, and legal in the format.

    Raises
    ------
    OSError
        When the file was not written to its end.
    """
    highs = _highs(program, None, 0, integer=True)
    for number, name in enumerate(column_names):
        highs.passColName(number, name)
    for number, name in enumerate(row_names):
        highs.passRowName(number, name)
    # Of bytes, since the name of a folder need not be text in any encoding.
    done = highs.writeModel(os.fsencode(path))
    # HiGHS does not notice a full disk.
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - 16, 0))
        ended = file.read().strip().lower().endswith((b"end", b"endata"))
    if done != highspy.HighsStatus.kOk or not ended:
        raise OSError(f"HiGHS wrote {path.stat().st_size} bytes and did not come to the end")


class QuietHighs(highspy.Highs):
    """HiGHS that never writes to standard output, where reports and JSON go.

    Switching its output off after construction is too late: from 1.16 on, the first callback that is set in a process
    prints a banner, and the constructor sets one.
    """

    def enableCallbacks(self) -> None:
        """Be silent, then hear callbacks; the constructor calls this."""
        _set(self, output_flag=False)
        super().enableCallbacks()


def _highs(program: Program, time_limit_s: float | None, seed: int, *, integer: bool) -> highspy.Highs:
    """HiGHS with the program in it."""
    highs = QuietHighs()
    _set(
        highs,
        output_flag=False,
        random_seed=seed % 2**31,
        time_limit=math.inf if time_limit_s is None else max(time_limit_s, 0.0),
        primal_feasibility_tolerance=_FEASIBILITY_TOLERANCE,
        dual_feasibility_tolerance=_FEASIBILITY_TOLERANCE,
    )
    n_rows, n_columns = program.matrix.shape
    kind = np.zeros(n_columns, np.int32)
    kind[program.integer & integer] = int(highspy.HighsVarType.kInteger)
    highs.passModel(
        n_columns,
        n_rows,
        program.matrix.nnz,
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMinimize),
        program.offset,
        program.cost,
        program.lower,
        program.upper,
        program.row_lower,
        program.row_upper,
        program.matrix.indptr[:-1].astype(np.int32),
        program.matrix.indices.astype(np.int32),
        program.matrix.data,
        kind,
    )
    return highs


def _set(highs: highspy.Highs, **options: object) -> None:
    for name, value in options.items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise ValueError(f"HiGHS takes no {name} = {value!r}")


def _run(highs: highspy.Highs, watch: Watch) -> bool:
    """Run HiGHS; False when Ctrl-C came and it did not stop soon.

    HiGHS asks whether to go on only now and then: never while it presolves, and in the root of a large tree for half a
    minute. So all but small programs run on a thread of their own, which is left to itself where it does not answer.
    """
    left = False

    def improved(event) -> None:
        if not left:
            out = event.data_out
            watch.incumbent(np.array(out.mip_solution), int(out.mip_node_count))

    def asked_in_tree(event) -> None:
        if not left:
            out = event.data_out
            watch.bound(out.mip_dual_bound, int(out.mip_node_count))
        asked(event)

    def asked(event) -> None:
        if left or watch.stop or interrupts.asked():
            event.interrupt()

    def stop() -> None:
        watch.stop = True

    highs.cbMipImprovingSolution.subscribe(improved)
    highs.cbMipInterrupt.subscribe(asked_in_tree)
    highs.cbSimplexInterrupt.subscribe(asked)
    highs.cbIpmInterrupt.subscribe(asked)
    small = highs.getNumCol() <= _FEW_COLUMNS
    try:
        if small:
            highs.run()
            interrupts.heed()
        else:
            interrupts.beside(highs.run, stop)
    except KeyboardInterrupt:
        stop()
        left = not small
    return not left


_LEFT = Outcome(Termination.INTERRUPTED, None, None, 0, None, "Left to itself after Ctrl-C")
"""Of a run that did not stop: what it found, its watch has been told."""


def _termination(highs: highspy.Highs) -> Termination:
    return _TERMINATION.get(highs.getModelStatus(), Termination.FINISHED)


def _values(highs: highspy.Highs) -> np.ndarray | None:
    feasible = highs.getInfo().primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    return np.array(highs.getSolution().col_value) if feasible else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
