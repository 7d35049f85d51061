"""Policies: rules that decide slot by slot, online or clairvoyant, what the fastest tier holds.

They are found through the entry point group ``kvopt.policies``, where another package registers its own as kvopt does::

    [project.entry-points."kvopt.policies"]
    my-policy = "my_package.my_module:MyPolicy"
"""

from __future__ import annotations

import inspect
from importlib import metadata
from typing import Any

from kvopt.errors import MethodError, shown
from kvopt.policies.hits import hits
from kvopt.policies.protocol import Decision, Policy, View
from kvopt.policies.simulate import simulate

__all__ = ["GROUP", "Decision", "Policy", "View", "get", "hits", "names", "shipped", "simulate"]

GROUP = "kvopt.policies"


def names() -> list[str]:
    """The registered policies, in alphabetical order."""
    return sorted({point.name for point in metadata.entry_points(group=GROUP)})


def shipped() -> list[str]:
    """Those of :func:`names` that are kvopt's own."""
    own = {point.name for point in metadata.entry_points(group=GROUP) if point.value.startswith("kvopt.")}
    return sorted(own)


def get(name: str, /, **params: Any) -> Policy:
    """A registered policy.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    **params
        The policy's own parameters.

    Raises
    ------
    MethodError
        When there is no such policy, or it has no such parameter.
    """
    found = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in found:
        raise MethodError("policy", f"there is no {shown(name)}", f"Choose one of: {', '.join(sorted(found))}")
    make = found[name].load()
    signature = inspect.signature(make)
    unknown = [p for p in params if p not in signature.parameters]
    if unknown:
        known = ", ".join(signature.parameters) or "none"
        raise MethodError(f"policy {shown(name)}", f"has no parameter {unknown[0]!r}", f"It has: {known}")
    return make(**params)
