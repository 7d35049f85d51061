"""Objectives by name: from a line of text, and back to it.

A line is a sum of registered objectives with their parameters, each times a weight if need be::

    latency
    0.7*latency + 0.3*worst_step
    cvar(alpha=0.95) + 1e-4*late_steps(deadline_s=0.05)
    energy(read_j_per_byte={'hbm': 3e-11, 'lpddr': 6e-11}, write_j_per_byte={'hbm': 3e-11}, power_w=700)

They are found through the entry point group ``kvopt.objectives``, where another package registers its own as kvopt
does: anything that makes an objective from keyword arguments, such as its class::

    [project.entry-points."kvopt.objectives"]
    wear = "my_package.my_module:Wear"
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from importlib import metadata
from typing import Any

from kvopt.objective import Objective, ObjectiveError, Tail, WeightedSum

GROUP = "kvopt.objectives"


def names() -> list[str]:
    """The registered objectives, in alphabetical order."""
    return sorted({point.name for point in metadata.entry_points(group=GROUP)})


def get(name: str, /, **params: Any) -> Objective:
    """A registered objective.

    Parameters
    ----------
    name : str
        One of :func:`names`; "-" and "_" are alike.
    **params
        The objective's own parameters.

    Raises
    ------
    ObjectiveError
        When there is no such objective, or it lacks a parameter or has none of that name.
    """
    make = registered(name)
    try:
        inspect.signature(make).bind(**params)
    except TypeError as error:
        known = ", ".join(inspect.signature(make).parameters) or "none"
        raise ObjectiveError(f"objective {name!r}", str(error), f"Its parameters: {known}") from None
    return make(**params)


def registered(name: str) -> Callable[..., Objective]:
    """What makes the objective of that name.

    Raises
    ------
    ObjectiveError
        When there is none.
    """
    found = {_plain(point.name): point for point in metadata.entry_points(group=GROUP)}
    if _plain(name) not in found:
        raise ObjectiveError("objective", f"there is no {name!r}", f"Choose from: {', '.join(names())}")
    return found[_plain(name)].load()


def parse(text: str) -> Objective:
    """The objective that a line of text describes; the module's docstring says how.

    Raises
    ------
    ObjectiveError
        When the text is no such line, or names what is not registered.
    """
    # Names as they are registered have dashes, which Python would subtract.
    dashed = re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", "_", text)
    try:
        tree = ast.parse(dashed.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise _not_a_line(text) from None
    terms = tuple(_terms(tree, 1.0, text))
    if len(terms) == 1 and terms[0][0] == 1.0:
        return terms[0][1]
    return WeightedSum(terms)


def spell(objective: Objective) -> str | None:
    """The line of text that :func:`parse` reads as this objective; None for one that is not registered."""
    if isinstance(objective, WeightedSum):
        terms = [(weight, spell(term)) for weight, term in objective.terms]
        if any(text is None for _, text in terms):
            return None
        return " + ".join(text if weight == 1 else f"{weight!r}*{text}" for weight, text in terms)
    if isinstance(objective, Tail):
        return "worst_step" if objective.share == 0 else f"cvar(alpha={1 - objective.share!r})"
    name = _registered(objective)
    if name is None or not is_dataclass(objective):
        return None
    given = [f"{f.name}={_literal(getattr(objective, f.name))}" for f in fields(objective) if _differs(objective, f)]
    return f"{_plain(name)}({', '.join(given)})" if given else _plain(name)


def _registered(objective: Objective) -> str | None:
    """The name under which an objective's class is registered, or a function in its module that makes it."""
    for point in metadata.entry_points(group=GROUP):
        make = point.load()
        same = inspect.isfunction(make) and make.__annotations__.get("return") == type(objective).__name__
        if make is type(objective) or (same and make.__module__ == type(objective).__module__):
            return point.name
    return None


def _differs(objective: Objective, field) -> bool:
    """Whether a field has another value than its default; name and unit are no parameters."""
    return field.name not in ("name", "unit") and getattr(objective, field.name) != field.default


def _literal(value: Any) -> str:
    return repr(dict(value)) if isinstance(value, Mapping) else repr(value)


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _terms(node: ast.expr, weight: float, text: str):
    """(weight, objective) of every term of a sum."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _terms(node.left, weight, text)
        yield from _terms(node.right, weight, text)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        factor, rest = (node.left, node.right) if _is_number(node.left) else (node.right, node.left)
        if not _is_number(factor):
            raise _not_a_line(text)
        yield from _terms(rest, weight * float(ast.literal_eval(factor)), text)
    else:
        yield weight, _single(node, text)


def _is_number(node: ast.expr) -> bool:
    try:
        return isinstance(ast.literal_eval(node), int | float)
    except ValueError:
        return False


def _single(node: ast.expr, text: str) -> Objective:
    """One objective: a name, or a call with keyword arguments that are literals."""
    if isinstance(node, ast.Name):
        return get(node.id)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args):
        raise _not_a_line(text)
    try:
        params = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
    except ValueError:
        raise _not_a_line(text) from None
    if None in params:
        raise _not_a_line(text)
    return get(node.func.id, **params)


def _not_a_line(text: str) -> ObjectiveError:
    return ObjectiveError(
        "objective",
        f"{text!r} is not a sum of objectives",
        "Write it like 0.7*latency + 0.3*worst_step, or cvar(alpha=0.95)",
    )
