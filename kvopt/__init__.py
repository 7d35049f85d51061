"""kvopt: where each block of an LLM's KV cache should sit in heterogeneous memory, with proof.

>>> import kvopt
>>> trace = kvopt.example_trace()
>>> instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(3e6)
>>> float(instance.live_bytes.max()) > 3e6  # More is alive at the peak than fits, so that there is a choice.
True
>>> kvopt.solve(instance, "belady").objective < kvopt.solve(instance, "static-oldest").objective
True
>>> comparison = kvopt.compare(instance, methods=["static", "lru", "anneal"])  # doctest: +SKIP
>>> comparison.frame  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvopt import ctrl_c

if ctrl_c.is_command():  # Before the rest is imported, which may take seconds.
    ctrl_c.answer()

# isort: split

from kvopt import instances
from kvopt.arguments import expect, path_of
from kvopt.compare import Comparison, compare, sub_instance
from kvopt.errors import Infeasible, KvoptError
from kvopt.evaluate import Evaluation, evaluate
from kvopt.explain import Explanation, explain
from kvopt.instance import Copies, Instance, Moves, Rules
from kvopt.model_spec import ModelSpec
from kvopt.objective import Objective
from kvopt.objective import accepts as _accepts
from kvopt.placement import Placement, Violation
from kvopt.placement_io import load_placement, save_placement
from kvopt.platform import Channel, Platform, Tier
from kvopt.result import Bound, Certificate, Progress, Refutation, Result, Role, SolutionStatus, Termination
from kvopt.sizing import Sizing, size
from kvopt.solve import bound, methods, solve
from kvopt.sources.embedded import example_trace
from kvopt.sweep import Sweep, SweepPoint, sweep
from kvopt.trace import Trace
from kvopt.trace_io import load_trace

if TYPE_CHECKING:
    from pathlib import Path

    from kvopt.exact.export import ModelFile

__version__ = "0.1.0"

__all__ = [
    "Bound",
    "Certificate",
    "Channel",
    "Comparison",
    "Copies",
    "Evaluation",
    "Explanation",
    "Infeasible",
    "Instance",
    "KvoptError",
    "ModelSpec",
    "Moves",
    "Placement",
    "Platform",
    "Progress",
    "Refutation",
    "Result",
    "Role",
    "Rules",
    "Sizing",
    "SolutionStatus",
    "Sweep",
    "SweepPoint",
    "Termination",
    "Tier",
    "Trace",
    "Violation",
    "accepts",
    "bound",
    "compare",
    "evaluate",
    "example_trace",
    "explain",
    "export_model",
    "instances",
    "load_placement",
    "load_trace",
    "methods",
    "save_placement",
    "size",
    "solve",
    "sub_instance",
    "sweep",
    "verify",
]


def verify(instance: Instance, certificate: Certificate) -> float:
    """The lower bound in seconds that a certificate proves; see :func:`kvopt.bounds.certificate.verify`."""
    # Imported on use: its package brings the compiled kernels along, which ``import kvopt`` should not pay for.
    from kvopt.bounds.certificate import verify as slow_path

    expect(Instance, "instance", instance, "Give a kvopt.Instance(trace, platform)")
    expect(Certificate, "certificate", certificate, "Give a kvopt.Certificate; of a bound, its certificate")
    return slow_path(instance, certificate)


def accepts(instance: Instance, objective: Objective | None = None) -> dict[str, str | None]:
    """Which engines take the instance's objective, or another: None, or the reason why not.

    See :func:`kvopt.objective.accepts`.
    """
    expect(Instance, "instance", instance, "Give a kvopt.Instance(trace, platform)")
    return _accepts(instance.objective if objective is None else objective, instance)


def export_model(instance: Instance, path: str | Path, *, backend: str | None = None, field: str = "path") -> ModelFile:
    """Write the exact model as an LP or MPS file; see :func:`kvopt.exact.export.export_model`."""
    # Imported on use: its package brings HiGHS along.
    from kvopt.exact.export import export_model as write

    expect(Instance, "instance", instance, "Give a kvopt.Instance(trace, platform)")
    return write(instance, path_of(field, path), backend=backend, field=field)
