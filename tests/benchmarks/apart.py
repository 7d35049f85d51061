"""Figures measured in a process of their own, told one by one over a pipe.

Standard output belongs to tables, and to whatever a library prints. What a process has told is kept when it dies over
the next figure.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

Figures = dict[str, Any]


class Died(Exception):
    """The process ended before it had told all.

    Parameters
    ----------
    told : dict
        The figures that came.
    code : int or None
        How it ended, as :attr:`multiprocessing.Process.exitcode` says.
    """

    def __init__(self, told: Figures, code: int | None) -> None:
        super().__init__(f"exit code {code} after {', '.join(told) or 'nothing'}")
        self.told = told


def measure(work: Callable[..., Iterator[Figures]], *arguments: Any) -> Figures:
    """All figures that ``work(*arguments)`` yields, of a new process.

    Parameters
    ----------
    work : callable
        A function of a module, that yields figures as soon as each is there.

    Raises
    ------
    Died
        With what had come.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_tell, args=(there, work, arguments))
    process.start()
    there.close()
    found: Figures = {}
    done = False
    while not done:
        try:
            told = here.recv()
        except EOFError:
            break
        done = told is None
        found |= told or {}
    process.join()
    if not done:
        raise Died(found, process.exitcode)
    return found


def measure_what_can_be(work: Callable[..., Iterator[Figures]], *arguments: Any) -> Figures:
    """As :func:`measure`, with a line on standard error for what is missing."""
    try:
        return measure(work, *arguments)
    except Died as error:
        print(f"{work.__name__}: {error}", file=sys.stderr, flush=True)
        return error.told


def _tell(line: Connection, work: Callable[..., Iterator[Figures]], arguments: tuple) -> None:
    for figures in work(*arguments):
        line.send(figures)
    line.send(None)
