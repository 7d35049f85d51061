"""The errors kvopt raises on purpose: each names the field that is wrong and how to put it right."""

from __future__ import annotations


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
        self.field = field
        self.problem = problem
        self.fix = fix
        self.problem = problem
        self.fix = fix
        super().__init__(f"{field}: {problem}. {fix}")


class TraceError(KvoptError):
    """A trace that breaks the schema or the rules of :class:`kvopt.Trace`."""


class PlatformError(KvoptError):
    """A platform description that contradicts itself."""


class ModelError(KvoptError):
    """A model description that is incomplete or contradicts itself."""


class InstanceError(KvoptError):
    """A trace, platform and rules that do not fit together, or admit no placement."""


class MethodError(KvoptError):
    """An unknown method, or a method asked for something it does not do."""
