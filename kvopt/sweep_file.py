"""Files that :class:`kvopt.Sweep` was written to, so that a sweep goes on where it stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kvopt.errors import KvoptError, shown
from kvopt.fingerprint import fingerprint
from kvopt.instance import Instance
from kvopt.reading import read_json, reason
from kvopt.sweep import SweepPoint
from kvopt.vary import Axis, axis


def load(
    path: str | Path,
    instance: Instance,
    vary: str,
    *,
    seed: int,
    time_limit: float | None,
    field: str = "path",
    fix: str = "Choose another file",
) -> tuple[SweepPoint, ...]:
    """The points of a sweep that was made as this one is to be: what :func:`kvopt.sweep` takes as ``done``.

    Parameters
    ----------
    path : str or Path
        Of a :meth:`kvopt.Sweep.to_json` as text.
    instance, vary, seed, time_limit
        As for :func:`kvopt.sweep`. What the instance has of ``vary`` itself does not matter.
    field, fix : str
        What the error names as wrong, and what it says to do.

    Raises
    ------
    KvoptError
        When the file holds no sweep, or one of another instance, ``vary``, seed or time limit; the message names which.
    """
    along = axis(instance, vary)
    data = read_json(path, field, fix)
    if not (isinstance(data, dict) and isinstance(data.get("points"), list)):
        raise KvoptError(field, f"{path} holds no sweep", fix)
    here = {
        "instance": instance.summary(),
        "vary": along.name,
        "seed": seed,
        "time_limit_s": time_limit,
    }
    for name, mine in _leaves(here):
        theirs = _look_up(data, name)
        if theirs != mine and not _is_varied(along, name) and not _is_later(data, name):
            raise KvoptError(
                field, f"{path} holds another sweep: its {'.'.join(name)} is {shown(theirs)}, not {shown(mine)}", fix
            )
    if data.get("fingerprint") != fingerprint(along.neutral):
        problem = f"{path} holds another sweep: its trace, platform or rules differ, or another version made it"
        raise KvoptError(field, problem, fix)
    try:
        return tuple(SweepPoint.from_json(point) for point in data["points"])
    except (KeyError, TypeError, ValueError) as error:
        raise KvoptError(field, f"{path} has a point that is none ({reason(error)})", fix) from None


def _leaves(data: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(path of keys, value) of all that is no mapping."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _look_up(data: Any, name: tuple[str, ...]) -> Any:
    for key in name:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _is_later(data: Any, name: tuple[str, ...]) -> bool:
    """Whether the file's version did not yet count that of a trace; what is counted is in the fingerprint."""
    counts = _look_up(data, name[:-1])
    return name[:-1] == ("instance", "trace") and isinstance(counts, Mapping) and name[-1] not in counts


def _is_varied(along: Axis, name: tuple[str, ...]) -> bool:
    """Whether that part of a summary is what the sweep sets; other tiers' capacities are in the fingerprint."""
    if along.is_capacity:
        return name == ("instance", "capacity_bytes")
    return name[:2] == ("instance", "channels_bytes_per_s") and name[2] in along.name.split("+")
