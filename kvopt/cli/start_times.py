"""Times of a command's start: ``kvopt --start-times COMMAND``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

from kvopt import ctrl_c, progress
from kvopt.result import Progress


class _State:
    wanted = False
    parts: tuple[tuple[str, float], ...] = ()
    """Parts of the start that are over, and when each ended."""


def measure(wanted: bool) -> None:
    """Have the times of this command told, or not."""
    _State.wanted, _State.parts = wanted, ()


def ended(part: str) -> None:
    """Note that a part of the start is over."""
    _State.parts = (*_State.parts, (part, time.perf_counter()))


@contextmanager
def display(first: str) -> Iterator[progress.Display]:
    """:func:`kvopt.progress.display`, whose first event ends the start."""
    with progress.display(first) as show:

        def heard(method: str, event: Progress) -> None:
            if _State.wanted:
                _State.wanted = False
                ended("until the first event")
                _tell()
            show(method, event)

        yield heard


def _tell() -> None:
    told, last_s = [], ctrl_c.BEGAN_S
    for part, at_s in _State.parts:
        told.append(f"{at_s - last_s:.2f} s {part}")
        last_s = at_s
    click.echo(f"start: {', '.join(told)}", err=True)
