"""Certificates in files, so that a proof can be checked again by anyone who has the trace.

A file is a numpy archive (.npz) of the multipliers, named as in :class:`kvopt.Certificate`, those that are not there
left out; and of ``about``, a JSON object with the ``fingerprint`` of the instance they are of, and its ``instance``
summary, which says in what another one differs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kvopt.arguments import expect, path_of
from kvopt.errors import KvoptError, shown
from kvopt.fingerprint import fingerprint
from kvopt.instance import Instance
from kvopt.npz import read_arrays
from kvopt.output import write_whole
from kvopt.reading import parse_json, reason
from kvopt.result import Certificate

_NEEDED = ("channel_price", "capacity_price_s_per_byte")
_OPTIONAL = ("step_price", "late_price")
_ABOUT = "about"
NOW = "now_"
"""Before the names of multipliers that are not those of the best bound, but where an ascent was."""
_MOST_WORDS = 1 << 22
"""Bytes of the words in a file, and of its arrays' headers."""
_FIX = "Name a file that --save-certificate or Certificate.save wrote"


def save_certificate(
    certificate: Certificate, path: str | os.PathLike, instance: Instance, *, field: str = "path"
) -> None:
    """Write a certificate of an instance, whole or not at all.

    Parameters
    ----------
    certificate : Certificate
    path : path of the file
    instance : Instance
        What it proves a bound of.
    field : str
        What names the path in errors.

    Raises
    ------
    KvoptError
        When the place is not writable.
    """
    expect(Certificate, "certificate", certificate, "Give a kvopt.Certificate; of a bound, its certificate")
    expect(Instance, "instance", instance, "Give the instance it proves a bound of")
    write_multipliers(arrays_of(certificate), path, about(instance), field)


def arrays_of(certificate: Certificate) -> dict[str, np.ndarray]:
    """The multipliers there are, by name."""
    arrays = {name: getattr(certificate, name) for name in (*_NEEDED, *_OPTIONAL)}
    return {name: array for name, array in arrays.items() if array is not None}


def about(instance: Instance) -> dict[str, Any]:
    """What says of which instance a file is. To make it reads the whole trace."""
    return {"fingerprint": fingerprint(instance), "instance": instance.summary()}


def write_multipliers(arrays: dict[str, np.ndarray], path: str | os.PathLike, of: dict[str, Any], field: str) -> None:
    """Write arrays of multipliers, and what :func:`about` made and whatever else stands beside it, whole or not at all.

    Raises
    ------
    KvoptError
        When the place is not writable.
    """

    def write(part: Path) -> None:
        # Given a name, numpy would put .npz after it.
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays, **{_ABOUT: np.array(json.dumps(of))})

    write_whole(field, path_of(field, path), write)


def load_certificate(path: str | os.PathLike, instance: Instance, *, field: str = "certificate") -> Certificate:
    """Read a certificate of an instance. It proves nothing before :func:`kvopt.verify` has computed what.

    Parameters
    ----------
    path : path of the file
    instance : Instance
        What it must be of.
    field : str
        What names the path in errors.

    Raises
    ------
    KvoptError
        When the file is missing, is no certificate, or is one of another instance; the message says in what.
    """
    arrays, _ = read_multipliers(path, instance, field)
    return Certificate(**{name: arrays[name] for name in (*_NEEDED, *_OPTIONAL) if name in arrays})


def read_multipliers(
    path: str | os.PathLike, instance: Instance, field: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What :func:`write_multipliers` wrote: the arrays, and what stands beside them.

    Raises
    ------
    KvoptError
        As :func:`load_certificate`.
    """
    expect(Instance, "instance", instance, "Give the instance the multipliers are of")
    path = path_of(field, path)
    found = read_arrays(path, field, "no certificate", _FIX, _most_bytes(instance))
    of = _about_in(found.pop(_ABOUT, None), path, field)
    theirs, mark = of["instance"], of["fingerprint"]
    under_way = any(name.startswith(NOW) for name in found)
    for name in (*_NEEDED, *((NOW + name for name in _NEEDED) if under_way else ())):
        if name not in found:
            raise KvoptError(field, f"{path} has no {name}", _FIX)
    known = [*_NEEDED, *_OPTIONAL]
    for name, array in found.items():
        if name.removeprefix(NOW) not in known:
            raise KvoptError(field, f"{path} holds {shown(name)}, which is no multiplier", _FIX)
        if array.dtype != np.float64:
            raise KvoptError(field, f"{name} in {path} has dtype {array.dtype}, not float64", _FIX)
    _check_same(instance, theirs, mark, field, path)
    return found, of


def _most_bytes(instance: Instance) -> float:
    """Of everything a file can hold: twice all multipliers, one set of which is where an ascent was, and words."""
    channels, tiers = len(instance.platform.channels), len(instance.platform.tiers)
    numbers = (2 * channels + tiers) * instance.n_slots + instance.trace.n_steps
    return 2 * 8 * numbers + _MOST_WORDS


def _about_in(array: np.ndarray | None, path: Path, field: str) -> dict[str, Any]:
    """What a file says it is of."""
    try:
        if array is None or array.shape != () or array.dtype.kind != "U":
            raise ValueError("it does not say of what instance")
        of = parse_json(str(array))
        if not (isinstance(of, dict) and isinstance(of.get("fingerprint"), str) and "instance" in of):
            raise ValueError("it does not say of what instance")
    except ValueError as error:
        raise KvoptError(field, f"{path} is no certificate ({reason(error)})", _FIX) from None
    return of


def _check_same(instance: Instance, theirs: Any, mark: str, field: str, path: Path) -> None:
    """Refuse a certificate of another instance, and name what differs."""
    fix = "Give the trace and the options it was made with"
    if mark == fingerprint(instance):
        return
    # The file's summary has been JSON, where tuples are lists.
    mine, other = (dict(_leaves(s)) for s in (json.loads(json.dumps(instance.summary())), theirs))
    for name in mine | other:
        # Versions differ in what they count of a trace.
        counted = name.startswith("trace.") and not (name in mine and name in other)
        if mine.get(name) != other.get(name) and not counted:
            raise KvoptError(
                field,
                f"{path} is of another instance: its {name} is {shown(other.get(name))}, not {shown(mine.get(name))}",
                fix,
            )
    problem = f"{path} is of another instance: its reads, loads or start differ, or another version made it"
    raise KvoptError(field, problem, fix)


def _leaves(data: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything in nested objects."""
    if isinstance(data, dict):
        for key, item in data.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, data
