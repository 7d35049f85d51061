"""Ctrl-C as a flag that loops look at, so that no kernel and no solver ever sees an exception in its midst.

Python raises KeyboardInterrupt wherever the main thread happens to be. Inside the dispatch of a compiled kernel, a
callback of HiGHS or the import of an extension module that ends in a SystemError, or is lost. So whatever computes runs
:func:`heeding`: a signal then only sets a flag, and :func:`heed` raises KeyboardInterrupt between two kernels, where
engines catch it and return what they have. A signal that nobody heeds is raised at the end.

Where that takes longer than it should, another Ctrl-C is not put off: it is raised where it finds the program.
"""

from __future__ import annotations

import functools
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

PROMISED_S = 3.0
"""By then what was interrupted has ended; a signal that comes later is not put off again."""
PATIENCE_S = 1.5
"""Seconds that threads get to end, once they were told to."""
_POLL_S = 0.05
"""How long Ctrl-C may wait while the main thread waits for others."""
_COMPILERS = ("numba.core.compiler", "numba.core.compiler_machinery")
"""Modules in whose midst an exception does no harm; a compilation may take half a minute."""


class _State:
    """What is known of signals; only the main thread's handler writes it."""

    pending = heeded = False
    first_s: float | None = None
    """When the first signal came that the present computation was sent."""
    held = 0
    at_once = 0
    before: Any = signal.default_int_handler
    """The handler that signals are put off for."""
    own: Any = None
    """A handler of the program's that calls :func:`note`."""


def note(signum: int, frame: FrameType | None) -> None:
    """Take note of a signal: the handler while something is computed."""
    now = time.monotonic()
    again = _State.first_s is not None and now - _State.first_s > PROMISED_S
    if _State.first_s is None:
        _State.first_s = now
    _State.pending = True
    if again or _State.at_once or _compiling(frame):
        _deliver()


def _compiling(frame: FrameType | None) -> bool:
    """Whether the main thread compiles, and not in a destructor, which would swallow an exception."""
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if module == "weakref" or frame.f_code.co_name == "__del__":
            return False
        if module in _COMPILERS:
            return True
        frame = frame.f_back
    return False


def _deliver() -> None:
    """Hand the signal on to the handler it was put off for, which raises KeyboardInterrupt unless it is the program's
    own."""
    _State.pending, _State.heeded = False, True
    _State.before(signal.SIGINT, None)


@contextmanager
def heeding() -> Iterator[None]:
    """Within it Ctrl-C is put off until :func:`heed`, or the end.

    Only in the main thread, which alone receives signals; within another one of these, and where the program ignores
    Ctrl-C or leaves it to the system, it changes nothing.

    Raises
    ------
    KeyboardInterrupt
        At the end, when Ctrl-C came and nobody heeded it.
    """
    before = signal.getsignal(signal.SIGINT)
    if not _main() or not callable(before) or before in (note, _State.own):
        yield
        return
    _State.pending, _State.heeded, _State.first_s, _State.before = False, False, None, before
    _State.held = _State.at_once = 0
    signal.signal(signal.SIGINT, note)
    try:
        yield
    except SystemError as error:
        if _State.first_s is None:
            raise
        # Of a second signal, which was raised wherever it came.
        raise KeyboardInterrupt from error
    finally:
        signal.signal(signal.SIGINT, before)
        if _State.pending and not _State.heeded:  # Else what is returned says that it was interrupted.
            _deliver()


def take_for_own(handler: Callable[[int, FrameType | None], None]) -> None:
    """A handler that calls :func:`note`: where it is installed, Ctrl-C is put off already."""
    _State.own = handler


def interruptible(function: Callable[P, T]) -> Callable[P, T]:
    """A function that runs :func:`heeding`."""

    @functools.wraps(function)
    def heeds(*args: P.args, **kwargs: P.kwargs) -> T:
        with heeding():
            return function(*args, **kwargs)

    return heeds


def heed() -> None:
    """Be interrupted here, if Ctrl-C has come and nobody has heeded it yet. In other threads than the main one, never.

    Raises
    ------
    KeyboardInterrupt
    """
    if asked():
        _deliver()


def asked() -> bool:
    """Whether :func:`heed` would raise: for loops that end by themselves."""
    return _State.pending and not _State.held and _main()


@contextmanager
def held() -> Iterator[None]:
    """Within it nothing is heeded: for what turns work that is done into an answer."""
    if not _main():
        yield
        return
    _State.held += 1
    try:
        yield
    finally:
        _State.held -= 1


@contextmanager
def at_once() -> Iterator[None]:
    """Within it nothing is put off: for long work that is all Python, and may be left anywhere."""
    if not _main():
        yield
        return
    heed()
    _State.at_once += 1
    try:
        yield
    finally:
        _State.at_once -= 1


@interruptible
def side_by_side(
    jobs: Sequence[Callable[[], T]], threads: int, stop: Callable[[], None], patience_s: float = PATIENCE_S
) -> list[T]:
    """Do jobs on threads, and return what they return, in their order.

    Parameters
    ----------
    jobs : sequence of callable
    threads : int
        At most.
    stop : callable
        Called at Ctrl-C; the jobs should then end soon, with what they have.
    patience_s : float
        How long they may take to. After that, or where ``stop`` raises, they are left to themselves.

    Raises
    ------
    KeyboardInterrupt
        When jobs do not end after ``stop``.
    """
    from concurrent.futures import ThreadPoolExecutor, wait

    if not jobs:
        return []
    pool = ThreadPoolExecutor(min(threads, len(jobs)))
    running, until = [pool.submit(job) for job in jobs], float("inf")
    try:
        while True:
            try:
                heed()
                left = wait(running, timeout=_POLL_S).not_done
                if not left:
                    return [job.result() for job in running]
                late = time.monotonic() > until
            except KeyboardInterrupt:
                stop()
                late, until = until < float("inf"), min(until, time.monotonic() + patience_s)
            if late:
                raise KeyboardInterrupt
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def beside(job: Callable[[], T], stop: Callable[[], None]) -> T:
    """Do one job on a thread while this one, the main one, waits for it and for Ctrl-C: as :func:`side_by_side`.

    Where no Ctrl-C can come (another thread than the main one, or one that ignores it) the job is done right here.
    """
    if not _main() or not callable(signal.getsignal(signal.SIGINT)):
        return job()
    return side_by_side([job], 1, stop)[0]


def _main() -> bool:
    return threading.current_thread() is threading.main_thread()
