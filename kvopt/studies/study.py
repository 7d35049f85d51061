"""What a study is: settings, each an instance and the methods that it compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kvopt.instance import Instance

Row = dict[str, Any]
"""One method on one setting; see :func:`kvopt.studies.engine.run`."""


@dataclass(frozen=True)
class Scale:
    """How large a study is run.

    Parameters
    ----------
    name : str
    share : float
        Of the published steps, tokens, weights and capacity, in (0, 1]. Slots are that much shorter and steps that much
        fewer, so decode times are divided by its square to be compared with published ones.
    bound_s, anneal_s, search_s : float
        Time limits, in seconds, of each bound, each annealing and each search for parameters.
    side_by_side : bool
        Whether settings are worked on side by side, one to a core; otherwise one after the other, on all cores.
    """

    name: str
    share: float
    bound_s: float
    anneal_s: float
    search_s: float
    side_by_side: bool = True


@dataclass(frozen=True)
class Method:
    """A row of a setting.

    Parameters
    ----------
    policy : str
        What the row calls it.
    method : str
        What :func:`kvopt.solve` calls it.
    options : mapping
        Its own, as :func:`kvopt.solve` takes them.
    published_s : float or None
        The published decode time.
    remark : str
        What the reader should know of the published number, or of this one.
    slices : int
        With more than 1 the steps are cut into so many parts, and each begins with whatever the method likes in the
        fast tier, at no cost: what comes of it is the time of no placement, and the row says so.
    searched_by : str
        An earlier row of the setting, whose search found the parameters of this one's look-ahead policy.
    one_lane : bool
        Run on one lane with its share of the fast tier, and take the time as often as there are lanes. That is the
        time of all where they are read alike and none looks at another's share; else it is refused.
    """

    policy: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    published_s: float | None = None
    remark: str = ""
    slices: int = 1
    searched_by: str = ""
    one_lane: bool = False


@dataclass(frozen=True)
class Setting:
    """One instance, and what runs on it.

    Parameters
    ----------
    key : str
        Its name in the study, which no other has.
    labels : mapping
        Go into each of its rows.
    methods : tuple of Method
        Besides the aggregate bound, the dual bound and the annealer, which every setting gets.
    ideal_published_s : float or None
        The published decode time at ideal bandwidth.
    """

    key: str
    labels: Mapping[str, Any]
    methods: tuple[Method, ...]
    ideal_published_s: float | None = None


class Study(Protocol):
    """A published evaluation that can be run again.

    Attributes
    ----------
    name, title : str
    reference : str
        The paper, with its identifier.
    scales : mapping of name to Scale
    """

    name: str
    title: str
    reference: str
    scales: Mapping[str, Scale]

    def settings(self, scale: Scale) -> Sequence[Setting]:
        """All settings, the most important first."""
        ...

    def instance(self, setting: Setting, scale: Scale, seed: int) -> Instance:
        """The instance of a setting."""
        ...

    def publish(self, rows: Sequence[Row], scale: Scale, out: Path) -> list[Path]:
        """Write tables, figures and the page; the files written."""
        ...
