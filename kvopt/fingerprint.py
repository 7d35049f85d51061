"""A digest of an instance: what its summary leaves out, such as the reads themselves and the loads of each tier."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from kvopt.instance import Instance

_WORDS = ("source", "description", "provenance")
"""Fields that say where numbers come from, and change none."""


def fingerprint(instance: Instance) -> str:
    """The same text for instances that are the same problem, another for others.

    Parameters
    ----------
    instance : Instance

    Returns
    -------
    str
        64 hexadecimal digits. They may change from one version of kvopt to the next.
    """
    return hashlib.sha256(json.dumps(_plain(instance)).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """Nested lists that are equal when the values are."""
    if is_dataclass(value):
        kept = [f.name for f in fields(value) if f.name not in _WORDS]
        return [type(value).__name__, *([name, _plain(getattr(value, name))] for name in kept)]
    if isinstance(value, np.ndarray):
        # Hashed where it lies: the reads of a trace may be gigabytes.
        flat = np.ascontiguousarray(value).reshape(-1)
        return [str(value.dtype), list(value.shape), hashlib.sha256(flat).hexdigest()]
    if isinstance(value, Mapping):
        return sorted([str(key), _plain(item)] for key, item in value.items())
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)  # 3 and 3.0 are the same number of bytes.
    return value.value if isinstance(value, Enum) else repr(value)
