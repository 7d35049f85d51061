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
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from importlib import metadata
from typing import Any

from kvopt.arguments import as_float, expect, scalar
from kvopt.errors import KvoptError, shown
from kvopt.objective import Objective, ObjectiveError, Tail, WeightedSum
from kvopt.reading import reason

GROUP = "kvopt.objectives"
_MOST_CHARACTERS = 10_000
MOST_TERMS = 200
"""Of a sum. The parser, and whoever walks what it made, go one call deeper for each."""


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
    return _made(name, params, _points())


def _made(name: str, params: dict[str, Any], points: dict[str, metadata.EntryPoint]) -> Objective:
    make = _found(name, points).load()
    field = f"objective {shown(name)}"
    try:
        inspect.signature(make).bind(**params)
    except TypeError as error:
        known = ", ".join(inspect.signature(make).parameters) or "none"
        raise ObjectiveError(field, str(error), f"Its parameters: {known}") from None
    try:
        return make(**params)
    except KvoptError:
        raise
    except Exception as error:  # Another package's class may check its parameters in any way.
        raise ObjectiveError(field, f"does not take its parameters ({reason(error)})", "Correct them") from error


def registered(name: str) -> Callable[..., Objective]:
    """What makes the objective of that name.

    Raises
    ------
    ObjectiveError
        When there is none.
    """
    return _found(name, _points()).load()


def _points() -> dict[str, metadata.EntryPoint]:
    """The registered objectives by plain name. To find them looks at every installed package: once for each line."""
    return {_plain(point.name): point for point in metadata.entry_points(group=GROUP)}


def _found(name: str, points: dict[str, metadata.EntryPoint]) -> metadata.EntryPoint:
    if _plain(name) not in points:
        known = ", ".join(sorted({point.name for point in points.values()}))
        raise ObjectiveError("objective", f"there is no {shown(name)}", f"Choose from: {known}")
    return points[_plain(name)]


def parse(text: str) -> Objective:
    """The objective that a line of text describes; the module's docstring says how.

    Raises
    ------
    ObjectiveError
        When the text is no such line, or names what is not registered.
    """
    expect(str, "objective", text, "Write it like 0.7*latency + 0.3*worst_step", ObjectiveError)
    if len(text) > _MOST_CHARACTERS:
        raise ObjectiveError("objective", f"has {len(text):,} characters", f"Write it in {_MOST_CHARACTERS:,}")
    # Names as they are registered have dashes, which Python would subtract.
    dashed = re.sub(r"(?<=[A-Za-z])-(?=[A-Za-z])", "_", text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of Python's, about what is refused below anyway.
            tree = ast.parse(dashed.strip(), mode="eval").body
    # The last two where brackets or signs nest too deep for the parser.
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _not_a_line(text) from None
    points = _points()
    terms = tuple((weight, _single(node, text, points)) for weight, node in _terms(tree, text))
    if len(terms) == 1 and terms[0][0] == 1.0:
        return terms[0][1]
    return WeightedSum(terms)


def spell(objective: Objective) -> str | None:
    """The line of text that :func:`parse` reads as this objective; None for one that is not registered."""
    return _spelled(objective, _points())


def _spelled(objective: Objective, points: dict[str, metadata.EntryPoint]) -> str | None:
    if isinstance(objective, WeightedSum):
        terms = [(weight, _spelled(term, points)) for weight, term in objective.terms]
        if any(text is None for _, text in terms):
            return None
        return " + ".join(text if weight == 1 else f"{weight!r}*{text}" for weight, text in terms)
    if isinstance(objective, Tail):
        return "worst_step" if objective.share == 0 else f"cvar(alpha={1 - objective.share!r})"
    name = _registered(objective, points)
    if name is None or not is_dataclass(objective):
        return None
    given = [f"{f.name}={_literal(getattr(objective, f.name))}" for f in fields(objective) if _differs(objective, f)]
    return f"{_plain(name)}({', '.join(given)})" if given else _plain(name)


def _registered(objective: Objective, points: dict[str, metadata.EntryPoint]) -> str | None:
    """The name under which an objective's class is registered, or a function in its module that makes it."""
    for point in points.values():
        make = point.load()
        same = inspect.isfunction(make) and make.__annotations__.get("return") == type(objective).__name__
        if make is type(objective) or (same and make.__module__ == type(objective).__module__):
            return point.name
    return None


def _differs(objective: Objective, field) -> bool:
    """Whether a field has another value than its default; name and unit are no parameters."""
    return field.name not in ("name", "unit") and getattr(objective, field.name) != field.default


def _literal(value: Any) -> str:
    # NumPy writes its numbers with their type, which is no literal.
    return repr({name: scalar(v) for name, v in value.items()}) if isinstance(value, Mapping) else repr(scalar(value))


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _terms(tree: ast.expr, text: str) -> list[tuple[float, ast.expr]]:
    """(weight, objective) of every term of a sum, in order."""
    found: list[tuple[float, ast.expr]] = []
    left = [(1.0, tree)]
    while left:
        weight, node = left.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left += [(weight, node.right), (weight, node.left)]
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            factor = _number(node.left)
            rest = node.right
            if factor is None:
                factor, rest = _number(node.right), node.left
            if factor is None:
                raise _not_a_line(text)
            left.append((weight * factor, rest))
        else:
            found.append((weight, node))
        if len(found) + len(left) > MOST_TERMS:
            raise ObjectiveError("objective", f"has more than {MOST_TERMS} terms", "Join equal ones")
    return found


def _number(node: ast.expr) -> float | None:
    """The number that a constant is, with a sign or not; None where it is none."""
    sign = 1.0
    while isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        sign, node = -sign if isinstance(node.op, ast.USub) else sign, node.operand
    value = node.value if isinstance(node, ast.Constant) else None
    return sign * as_float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _single(node: ast.expr, text: str, points: dict[str, metadata.EntryPoint]) -> Objective:
    """One objective: a name, or a call with keyword arguments that are literals."""
    if isinstance(node, ast.Name):
        return _made(node.id, {}, points)
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args):
        raise _not_a_line(text)
    try:
        params = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError):
        raise _not_a_line(text) from None
    if None in params or len(params) < len(node.keywords):
        raise _not_a_line(text)
    return _made(node.func.id, params, points)


def _not_a_line(text: str) -> ObjectiveError:
    return ObjectiveError(
        "objective",
        f"{shown(text)} is not a sum of objectives",
        "Write it like 0.7*latency + 0.3*worst_step, or cvar(alpha=0.95)",
    )
