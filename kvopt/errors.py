"""The errors kvopt raises on purpose: each names the field that is wrong and how to put it right."""

from __future__ import annotations

from typing import Any

_MOST_SHOWN = 60
_MOST_TEXT = 2_000
"""Characters of a field or a problem: names in files may be of any length."""


def shown(value: Any) -> str:
    """A value for a message, cut short where it is long."""
    try:
        text = repr(value)
    except Exception:  # Of a user's class; and Python writes no integer of more than 4,300 digits.
        long = isinstance(value, int)
        return "a number of thousands of digits" if long else f"a {type(value).__name__} that cannot be written"
    text = " ".join(text.split())
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 20]}..."


class KvoptError(ValueError):
    """Input that kvopt cannot accept.

    Parameters
    ----------
    field : str
        What is wrong: a column, an option or an attribute, as the user spelled it.
    problem : str
        What is wrong with it, with the offending value.
    fix : str
        What to do about it.
    """

    def __init__(self, field: str, problem: str, fix: str) -> None:
        self.field = _cut(field)
        self.problem = _cut(problem)
        self.fix = fix
        super().__init__(f"{self.field}: {self.problem}. {fix}")

    def of_file(self, name: str) -> KvoptError:
        """The same error, with the file it was found in."""
        if name in self.problem or name in self.field:
            return self
        return type(self)(self.field, f"{self.problem}, in {name}", self.fix)

    def __reduce__(self):
        # Pickle would call the class with the message alone, and an error in a worker process would not come back.
        return _restored, (type(self), self.args, self.__dict__)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."


def _restored(kind: type[KvoptError], args: tuple, attributes: dict) -> KvoptError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


class TraceError(KvoptError):
    """A trace that breaks the schema or the rules of :class:`kvopt.Trace`."""


class PlatformError(KvoptError):
    """A platform description that contradicts itself."""


class PlatformWarning(UserWarning):
    """A platform description that may be meant but is more often a mistake."""


class KernelCacheWarning(UserWarning):
    """Compiled kernels cannot be kept on disk."""


class ModelError(KvoptError):
    """A model description that is incomplete or contradicts itself."""


class InstanceError(KvoptError):
    """A trace, platform and rules that do not fit together, or admit no placement."""


class Infeasible(InstanceError):
    """Tiers too small for the blocks they must hold; found before any solver runs.

    Parameters
    ----------
    field, problem, fix : str
    tier : str
        The tier that is too small.
    slot : int
        Where; of several slots, the one in which most is missing.
    shortfall_bytes : int
        What the tier needs more, at least.
    """

    def __init__(self, field: str, problem: str, fix: str, *, tier: str, slot: int, shortfall_bytes: int) -> None:
        super().__init__(field, problem, fix)
        self.tier = tier
        self.slot = slot
        self.shortfall_bytes = shortfall_bytes


class PlacementError(KvoptError):
    """Intervals that are no placement, or none of this instance."""


class MethodError(KvoptError):
    """An unknown method, or a method asked for something it does not do."""
