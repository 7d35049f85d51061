"""What engines return, and the one event they report progress with.

Every number has a :class:`Role`; tables, plots and JSON say which. An achieved time is an upper bound on the optimum,
only a certified or claimed bound is a lower one, and the two never share a field.
"""

from __future__ import annotations

import math
import os
import platform
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib import metadata
from typing import Any

import numpy as np

from kvopt.errors import KvoptError, MethodError, shown
from kvopt.evaluate import Evaluation, evaluated
from kvopt.instance import Instance
from kvopt.placement import Placement


class Role(Enum):
    """What a number may be called."""

    ACHIEVED = "achieved"
    """The time of a feasible placement, recomputed by the evaluator."""
    CERTIFIED = "certified"
    """A lower bound with multipliers that :func:`kvopt.bounds.verify` re-evaluated."""
    CLAIMED = "claimed"
    """A lower bound that a solver states within its tolerances."""
    REFUTED = "refuted"
    """A claim that an achieved value contradicts: shown beside what refutes it, and no bound."""


class Termination(Enum):
    """Why an engine stopped."""

    OPTIMAL = "optimal"
    FINISHED = "finished"
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    INFEASIBLE = "infeasible"
    REFUTED = "refuted"
    """The solver called it optimal or infeasible, and a placement in hand contradicts that."""
    FAILED = "failed"
    """The method ended in an error, which the result's details name."""


CLAIM_TOLERANCE = 1e-7
"""Relative: how far a solver's claim may lie above what is achieved and still be taken for rounding."""


class SolutionStatus(Enum):
    """What is in hand."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    NONE = "none"


@dataclass(frozen=True)
class Progress:
    """One event of a running engine.

    Parameters
    ----------
    elapsed_s : float
    objective : float or None
        Best achieved so far, in the objective's unit (seconds, for the decode time).
    bound : float or None
        Best lower bound so far, in the same unit.
    gap : float or None
        ``objective / bound - 1``.
    detail : str
        The engine's own words: temperature, nodes.
    unit : str
        Of ``objective`` and ``bound``.
    last : bool
        Whether the method has ended: this is what it is worth.
    """

    elapsed_s: float
    objective: float | None = None
    bound: float | None = None
    detail: str = ""
    unit: str = "s"
    last: bool = False

    @property
    def gap(self) -> float | None:
        return relative_gap(self.objective, self.bound)


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, eq=False)
class Certificate:
    """Multipliers that prove a lower bound; see :mod:`kvopt.bounds.certificate`.

    Parameters
    ----------
    channel_price : float64[C, T]
        lambda: weight of each channel in the maximum of each slot; 0 or more, at most 1 in sum over the channels.
    capacity_price_s_per_byte : float64[K, T]
        mu: what a byte of each tier costs in each slot, in the objective's unit; 0 or more.
    step_price : float64[N], optional
        omega: units a second of each step, for objectives in which single steps count; else all are the objective's
        ``per_second``.
    late_price : float64[C, T], optional
        Channel prices like lambda, at which reading from the cheapest tier shows which steps must miss a deadline.

    Raises
    ------
    MethodError
        When multipliers are no arrays of numbers. What they prove of an instance, if anything, :func:`kvopt.verify`
        says.
    """

    channel_price: np.ndarray
    capacity_price_s_per_byte: np.ndarray
    step_price: np.ndarray | None = None
    late_price: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("channel_price", "capacity_price_s_per_byte", "step_price", "late_price"):
            given = getattr(self, name)
            if given is not None or name in ("channel_price", "capacity_price_s_per_byte"):
                object.__setattr__(self, name, _multipliers(name, given))

    def second_price(self, per_second: float) -> np.ndarray:
        """float64[C, T]: units a second of each channel in each slot, lambda times omega.

        Parameters
        ----------
        per_second : float
            Of the objective.
        """
        if self.step_price is None:
            return per_second * self.channel_price
        return self.channel_price * np.repeat(self.step_price, self.channel_price.shape[1] // len(self.step_price))

    def save(self, path: str | os.PathLike, instance: Instance) -> None:
        """Write it to a file (see :mod:`kvopt.certificate_io`) that names the instance it is of, whole or not at all.

        Parameters
        ----------
        path : path of the file
        instance : Instance
        """
        from kvopt.certificate_io import save_certificate

        save_certificate(self, path, instance)

    @classmethod
    def load(cls, path: str | os.PathLike, instance: Instance) -> Certificate:
        """Read one back; :func:`kvopt.verify` says what it proves.

        Parameters
        ----------
        path : path of the file
        instance : Instance
            What it must be of.

        Raises
        ------
        KvoptError
            When the file holds none, or one of another instance.
        """
        from kvopt.certificate_io import load_certificate

        return load_certificate(path, instance)


def _multipliers(name: str, given: object) -> np.ndarray:
    """The same array where it is one of float64, else one made of it."""
    if isinstance(given, np.ndarray) and given.dtype == np.float64:
        return given
    try:
        array = np.asarray(given)
    except ValueError:  # Rows of several lengths.
        array = np.array(None)
    if array.dtype.kind not in "iuf":
        raise MethodError(f"certificate {name}", f"is no array of numbers, but {shown(given)}", "Give float64")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, float) if array.ndim else array.astype(float)


@dataclass(frozen=True, eq=False)
class Guide:
    """Multipliers at which the dual, smoothed at a temperature, is about as high as it gets.

    There the expected loads and occupancy of the smoothed paths are those of a nearly feasible fractional placement; at
    another temperature they are not. So this is what an annealer starts from, rather than from the multipliers that
    prove most.

    Parameters
    ----------
    tau : float
        In units of what a byte read from the backing tier costs (:func:`kvopt.lowering.unit_per_byte`).
    certificate : Certificate
    """

    tau: float
    certificate: Certificate


@dataclass(frozen=True)
class Refutation:
    """An achieved value below a claimed bound.

    Parameters
    ----------
    value : float
        Of a feasible placement, in the objective's unit, recomputed by the evaluator.
    source : str
        The method that achieved it.
    """

    value: float
    source: str


@dataclass(frozen=True, eq=False)
class Bound:
    """A value of the objective that no placement can beat.

    Parameters
    ----------
    value : float
        In the objective's unit: seconds, for the decode time.
    source : str
        "dual", "aggregate bandwidth", "HiGHS MIP", "HiGHS LP".
    role : Role
        CERTIFIED or CLAIMED; REFUTED for a claim that was contradicted, which bounds nothing.
    verified : bool
        Whether the certificate was re-evaluated by the independent slow path.
    certificate : Certificate or None
    guides : tuple of Guide
        Multipliers of the warmer stages of the ascent, the hottest first: lower bounds from smoother prices.
    reached : Guide or None
        Where the ascent ended, for it to go on from.
    termination : Termination
    elapsed_s : float
    history : tuple of Progress
    unit : str
        Of ``value``.
    refuted_by : Refutation or None
        What contradicts a claim; its value is infinite where the claim was that there is no placement.
    """

    value: float
    source: str
    role: Role
    verified: bool = False
    certificate: Certificate | None = None
    guides: tuple[Guide, ...] = ()
    reached: Guide | None = None
    termination: Termination = Termination.FINISHED
    elapsed_s: float = 0.0
    history: tuple[Progress, ...] = ()
    unit: str = "s"
    refuted_by: Refutation | None = None

    def against(self, objective: float, source: str) -> Bound:
        """The same bound, or where it is a claim above what was achieved by more than rounding, the claim refuted.

        Parameters
        ----------
        objective : float
            Of a feasible placement of the same instance.
        source : str
            The method that achieved it.
        """
        if self.role is not Role.CLAIMED or not lies_above(self.value, objective):
            return self
        return replace(self, role=Role.REFUTED, refuted_by=Refutation(objective, source))

    def guide(self, tau: float) -> Guide | None:
        """The guide of the temperature nearest to ``tau``; None without any."""
        return min(self.guides, key=lambda guide: abs(math.log(guide.tau / tau)), default=None)

    @property
    def value_s(self) -> float:
        """The bound in seconds.

        Raises
        ------
        ValueError
            When the objective does not count seconds.
        """
        if self.unit != "s":
            raise ValueError(f"this bound counts {self.unit}, not seconds: use value")
        return self.value


@dataclass(frozen=True, eq=False)
class Result:
    """What a method achieved.

    Parameters
    ----------
    method : str
    placement : Placement or None
        None when nothing feasible is in hand.
    evaluation : Evaluation or None
    bound : Bound or None
        The engine's own lower bound, if it has one; never a refuted one.
    termination : Termination
        Why it stopped.
    solution_status : SolutionStatus
        What is in hand.
    seed : int or None
    elapsed_s : float
    history : tuple of Progress
    details : mapping
        The engine's own figures; of a method that failed, ``error`` in one line and its ``traceback``.
    versions : mapping of package to version
    refuted : Bound or None
        What the engine's solver claimed, where a placement contradicts it.
    """

    method: str
    placement: Placement | None
    evaluation: Evaluation | None
    termination: Termination
    solution_status: SolutionStatus
    elapsed_s: float
    bound: Bound | None = None
    seed: int | None = None
    history: tuple[Progress, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: versions())
    refuted: Bound | None = None

    @property
    def objective(self) -> float | None:
        """What was achieved, recomputed by the evaluator: the decode time in seconds, unless the instance has another
        objective."""
        return None if self.evaluation is None else self.evaluation.objective

    @property
    def gap(self) -> float | None:
        """``objective / bound - 1`` with the engine's own bound."""
        return relative_gap(self.objective, self.bound.value if self.bound else None)

    @property
    def error(self) -> str | None:
        """Why the method failed, in one line; None where it did not."""
        return self.details.get("error") if self.termination is Termination.FAILED else None

    def against(self, objective: float, source: str, instead: Bound | None = None) -> Result:
        """The same result, less what a feasible placement shows to be wrong about its claims.

        Parameters
        ----------
        objective : float
            Of a feasible placement of the same instance.
        source : str
            The method that achieved it.
        instead : Bound, optional
            The bound to have in place of a refuted one.

        Returns
        -------
        Result
            Unchanged where nothing is contradicted. Else the claim is in ``refuted``, and neither the termination nor
            the status says optimal or infeasible.
        """
        claim = self.bound
        if self.termination is Termination.INFEASIBLE:
            unit = instead.unit if instead else self.history[-1].unit if self.history else "s"
            claim = Bound(math.inf, self.method, Role.CLAIMED, unit=unit)
        refuted = None if claim is None else claim.against(objective, source)
        if refuted is None or refuted.role is not Role.REFUTED:
            return self
        ended = self.termination in (Termination.OPTIMAL, Termination.INFEASIBLE)
        return replace(
            self,
            bound=instead,
            refuted=refuted,
            termination=Termination.REFUTED if ended else self.termination,
            solution_status=SolutionStatus.NONE if self.placement is None else SolutionStatus.FEASIBLE,
        )

    @classmethod
    def failed(cls, method: str, error: Exception, elapsed_s: float = 0.0, **rest: Any) -> Result:
        """What is left of a method that raised an error: a row that says so, with the traceback in its details."""
        details = {"error": one_line(error), "traceback": "".join(traceback.format_exception(error))}
        return cls(method, None, None, Termination.FAILED, SolutionStatus.NONE, elapsed_s, details=details, **rest)

    @classmethod
    def judge(
        cls,
        method: str,
        instance: Instance,
        placement: Placement | None,
        *,
        termination: Termination,
        elapsed_s: float,
        **rest: Any,
    ) -> Result:
        """Check a placement, recompute its time, and wrap both. Every engine returns through here.

        Raises
        ------
        AssertionError
            When the placement breaks a rule: an engine's fault, never the user's.
        """
        if placement is None:
            return cls(method, None, None, termination, SolutionStatus.NONE, elapsed_s, **rest)
        wrong = placement.violations(instance, most=1)
        if wrong:
            raise AssertionError(f"{method} returned an infeasible placement: {wrong[0]}")
        optimal = termination is Termination.OPTIMAL
        status = SolutionStatus.OPTIMAL if optimal else SolutionStatus.FEASIBLE
        return cls(method, placement, evaluated(instance, placement), termination, status, elapsed_s, **rest)


def one_line(error: Exception) -> str:
    """An error in one line: its text, after its type where the text alone would not say what kind of error it is."""
    text = " ".join(str(error).split())
    if isinstance(error, KvoptError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def lies_above(bound: float, objective: float) -> bool:
    """Whether a claimed bound exceeds an achieved value by more than rounding (:data:`CLAIM_TOLERANCE`)."""
    if not math.isfinite(bound):
        return bound > objective
    return bound - objective > CLAIM_TOLERANCE * max(abs(bound), abs(objective))


def relative_gap(objective: float | None, bound: float | None) -> float | None:
    """How far an achieved time lies above a lower bound, as a share of the bound; None when unknown."""
    if objective is None or bound is None or bound <= 0:
        return None
    return objective / bound - 1.0


def versions() -> dict[str, str]:
    """The versions that a number depends on."""
    found = {"python": platform.python_version()}
    for package in ("kvopt", "numpy", "numba", "scipy", "highspy", "pyomo"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
