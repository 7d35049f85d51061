"""Studies: published evaluations done again, each number beside the published one and a certified bound.

They are found through the entry point group ``kvopt.studies``, where another package registers its own as kvopt does::

    [project.entry-points."kvopt.studies"]
    my-study = "my_package.my_module:STUDY"
"""

from __future__ import annotations

from importlib import metadata

from kvopt.errors import MethodError
from kvopt.studies.engine import FILE, StudyRun, load, run
from kvopt.studies.study import Method, Scale, Setting, Study

__all__ = ["FILE", "GROUP", "Method", "Scale", "Setting", "Study", "StudyRun", "get", "load", "names", "run"]

GROUP = "kvopt.studies"


def names() -> list[str]:
    """The registered studies, in alphabetical order."""
    return sorted({point.name for point in metadata.entry_points(group=GROUP)})


def get(name: str) -> Study:
    """A registered study.

    Raises
    ------
    MethodError
        When there is none of that name.
    """
    found = {point.name: point for point in metadata.entry_points(group=GROUP)}
    if name not in found:
        raise MethodError("study", f"there is no {name!r}", f"Choose one of: {', '.join(sorted(found))}")
    return found[name].load()
