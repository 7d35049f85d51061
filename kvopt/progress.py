"""Live progress of a comparison on standard error: a table in a terminal, now and then a plain line elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from contextlib import AbstractContextManager
from typing import Protocol, TextIO

from kvopt.output import encodable
from kvopt.result import Progress
from kvopt.units import amount_text, percent

_PLAIN_EVERY_S = 5.0
_DRAWN_EVERY_S = 0.1


class Display(AbstractContextManager, Protocol):
    """What draws progress while it is entered."""

    def __call__(self, method: str, event: Progress) -> None:
        """Take an event of a method; any thread may call."""
        ...


def display(first: str, stream: TextIO | None = None) -> Display:
    """The display that suits a stream: standard error unless told.

    Parameters
    ----------
    first : str
        What begins at once: a terminal shows it, since it may be long before it reports by itself.
    stream : text stream, optional
    """
    stream = stream or sys.stderr
    if not stream.isatty():
        return PlainLines(stream)
    table = LiveTable(stream)
    table(first, Progress(0.0, detail="starting"))
    return table


class PlainLines(AbstractContextManager):
    """A line when a method begins to report, at most one every five seconds, and one when it has ended."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, method: str, event: Progress) -> None:
        with self._lock:
            now = time.perf_counter()
            if not event.last and now - self._last.get(method, -_PLAIN_EVERY_S) < _PLAIN_EVERY_S:
                return
            self._last[method] = now
            elapsed, best, bound, gap, detail = _cells(event)
            line = f"{method}: {elapsed}, best {best}, bound {bound}, gap {gap}, {detail}"
            # Progress that cannot be shown is no reason to end what makes it.
            with contextlib.suppress(OSError):
                print(
                    encodable(line, getattr(self._stream, "encoding", None) or "utf-8"), file=self._stream, flush=True
                )

    def __exit__(self, *_exception) -> None:
        return None


class LiveTable(AbstractContextManager):
    """One row a method, redrawn in place; gone when the work is done."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.live import Live

        self._events: dict[str, tuple[Progress, float]] = {}
        self._lock = threading.Lock()
        console = Console(file=stream)
        self._encoding = console.encoding
        self._live = Live(
            console=console,
            get_renderable=self._draw,
            refresh_per_second=1 / _DRAWN_EVERY_S,
            transient=True,
            redirect_stdout=False,
        )

    def __call__(self, method: str, event: Progress) -> None:
        with self._lock:
            self._events[method] = (event, time.perf_counter())

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *exception) -> None:
        self._live.__exit__(*exception)

    def _draw(self):
        from rich.table import Table

        drawn = Table(box=None, pad_edge=False)
        for name in ("method", "elapsed", "best", "bound", "gap", ""):
            drawn.add_column(
                name, justify="left" if name in ("method", "") else "right", header_style="dim", no_wrap=True
            )
        with self._lock:
            # Methods run one after the other: the clock of the last one to report is still running.
            running = next(reversed(self._events), None)
            for method, (event, seen) in self._events.items():
                elapsed, *rest = _cells(event)
                if method == running:
                    elapsed = f"{event.elapsed_s + time.perf_counter() - seen:.1f} s"
                drawn.add_row(*(encodable(cell, self._encoding) for cell in (method, elapsed, *rest)))
        return drawn


def _cells(event: Progress) -> tuple[str, ...]:
    return (
        f"{event.elapsed_s:.1f} s",
        amount_text(event.objective, event.unit),
        amount_text(event.bound, event.unit),
        percent(event.gap),
        event.detail,
    )
