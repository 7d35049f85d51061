"""Where an ascent begins: with multipliers from elsewhere, looked at and made fit to go on from."""

from __future__ import annotations

from kvopt.admissible import admissible, admissible_bound
from kvopt.bounds.checkpoint import STAGES, Checkpoint, Reached
from kvopt.bounds.climb import reached_by
from kvopt.errors import MethodError
from kvopt.instance import Instance
from kvopt.lowering import Lowered
from kvopt.result import Bound, Certificate
from kvopt.trellis.multipliers import at_home


def begun(
    instance: Instance, low: Lowered, start: object, file: Checkpoint | None
) -> tuple[Certificate | None, Reached | None]:
    """Multipliers to begin with, and where an earlier ascent was, if there was one.

    Parameters
    ----------
    instance : Instance
    low : Lowered
    start : Certificate, Bound or None
    file : Checkpoint or None
        Counts for more than the start.

    Raises
    ------
    KvoptError
        When either is of another kind, or of another instance.
    """
    reached = None if file is None else file.read()
    if isinstance(start, Bound):
        earlier = admissible_bound(instance, start, "start")
        reached, start = reached or reached_by(earlier), earlier.certificate
    elif start is not None and not isinstance(start, Certificate):
        raise MethodError("start", f"is a {type(start).__name__}", "Give a Certificate or a Bound")
    elif start is not None:
        admissible(instance, start, "start")
    if reached is not None:
        stage = min(max(reached.stage, 0), STAGES)
        reached = Reached(at_home(low, reached.best), at_home(low, reached.now), stage)
    return None if start is None else at_home(low, start), reached
