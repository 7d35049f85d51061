"""Ctrl-C of the command line: exit code 130 within three seconds, whatever the main thread is doing.

The command's first line starts a thread that reads what the C level of Python writes down of signals
(``signal.set_wakeup_fd``), which it does even while the main thread compiles a kernel, or imports, and so runs no
handler. As long as nothing is in hand, the thread ends the process at once. Once an engine is at work
(:func:`keep_answer`), which heeds Ctrl-C by itself (:mod:`kvopt.interrupts`), the main thread gets two seconds to come
to its end with what it has.

Imports nothing but the standard library's lightest and :mod:`kvopt.interrupts`: importing the rest takes longer than a
user waits before pressing Ctrl-C.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar, NoReturn

from kvopt import interrupts

if TYPE_CHECKING:
    from subprocess import Popen

EXIT = 130
BEGAN_S = time.perf_counter()
"""When this was imported, which is the first that a command does."""
_PATIENCE_S = 2.0
"""From Ctrl-C to the end, less what a loaded machine takes to get there."""
_MANY_RUNS, _RUN_S = 10_000_000, 1e-7
"""Of larger instances the engines heed Ctrl-C between two passes over the runs, each so long."""
_WRITING_S = 0.4
"""How much longer the end waits for a text to be written to standard output."""
_CLEANING_S = 0.3
_SAME_S = 0.5
"""Signals this close are one: a terminal and a wrapper may both pass Ctrl-C on. Another ends the process at once."""
_SHOW_CURSOR = "\r\x1b[?25h\x1b[K"


class _State:
    answering = False
    in_hand = False
    so_far = "nothing was finished"
    patience_s = _PATIENCE_S
    ending = threading.Lock()
    """Taken by the thread that ends the process, and never given back."""
    clean_up: ClassVar[list[Callable[[], None]]] = []
    """Called before a hard end."""
    children: ClassVar[list[Popen]] = []


_output = threading.RLock()


def is_command() -> bool:
    """Whether this process is the command ``kvopt``, or ``python -m kvopt`` (or a module of it that is a command), and
    not a process that one of them spawned."""
    began = sys.orig_argv
    if "--multiprocessing-fork" in began:
        return False
    if sys.argv[:1] == ["-m"]:  # What Python says while it imports the package of the module to run.
        named = next((began[k + 1] for k, text in enumerate(began[:-1]) if text == "-m"), "")
        return named in ("kvopt", "kvopt.warmup")
    return os.path.splitext(os.path.basename(sys.argv[0] if sys.argv else ""))[0] == "kvopt"


def answer() -> None:
    """From now on Ctrl-C ends this process; unless it ignores Ctrl-C, as what a shell starts in the background does."""
    if _State.answering or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    _State.answering = True
    signal.signal(signal.SIGINT, _note)
    interrupts.take_for_own(_note)
    if sys.platform == "win32":  # It takes a socket here; there, the handler is all.
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="kvopt Ctrl-C", daemon=True).start()


def _note(signum, frame) -> None:
    """The main thread's own handler, once it comes to run it."""
    if not _State.in_hand:
        _end(_State.so_far)
    interrupts.note(signum, frame)


def _watch(reading: int) -> None:
    """Wait for Ctrl-C, then for the main thread, no longer than there is patience."""
    until: float | None = None
    while True:
        left = None if until is None else max(until - time.monotonic(), 0.0)
        ready, _, _ = select.select([reading], [], [], left)
        came = bool(ready) and signal.SIGINT in os.read(reading, 256)
        now = time.monotonic()
        if until is None and came:
            first, until = now, now + _State.patience_s
        if until is None:
            continue
        if not _State.in_hand:
            _end(_State.so_far)
        if now >= until or (came and now - first > _SAME_S):
            _end("cut short in its work")


def _end(what: str) -> NoReturn:
    """End the process, whatever its threads are at."""
    if not _State.ending.acquire(blocking=False):
        time.sleep(60)  # The other one is about to.
    _output.acquire(timeout=_WRITING_S)
    with suppress(Exception):  # On a thread, since what the main one holds may stand in its way.
        cleaning = threading.Thread(target=_clean_up, daemon=True)
        cleaning.start()
        cleaning.join(_CLEANING_S)
    with suppress(Exception):
        start = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, f"{start}interrupted: {what}\n".encode())
    os._exit(EXIT)


def _clean_up() -> None:
    """Leave neither processes nor parts of files behind."""
    _end_children()
    for clean in _State.clean_up:
        with suppress(Exception):
            clean()
    _free_semaphores()


def _free_semaphores() -> None:
    """Free what worker processes shared, as Python does when it ends by itself; else it complains of it later."""
    shared = sys.modules.get("multiprocessing.util")
    if shared is not None:
        with suppress(Exception):
            shared._run_finalizers(0)


@contextmanager
def child(process: Popen) -> Iterator[None]:
    """A process that a hard end of this one ends, too."""
    _State.children.append(process)
    try:
        yield
    finally:
        _State.children.remove(process)


def _end_children() -> None:
    """Kill the worker processes, which would end by themselves once they have begun, and others."""
    workers = sys.modules.get("multiprocessing.process")
    for process in (*getattr(workers, "_children", ()), *_State.children):
        with suppress(Exception):
            process.kill()


def keep_answer(n_runs: int = 0) -> None:
    """From an engine's start on, Ctrl-C leaves the main thread the time to come to its end with what it has.

    Parameters
    ----------
    n_runs : int
        Of the instance: large ones need more time.
    """
    _State.patience_s = _PATIENCE_S + (n_runs * _RUN_S if n_runs >= _MANY_RUNS else 0.0)
    _State.in_hand = True


@contextmanager
def one_command() -> Iterator[None]:
    """Within it, at first, nothing is in hand; after it, all is written."""
    _State.in_hand, _State.so_far = False, "nothing was finished"
    try:
        yield
        _State.so_far = "but all was finished by then"
    finally:
        _State.in_hand = False


def before_end(clean: Callable[[], None]) -> None:
    """Have something done before a hard end: no more than to remove what nobody will miss."""
    _State.clean_up.append(clean)


@contextmanager
def whole_output() -> Iterator[None]:
    """Write a text that is not to be cut in two; a hard end waits for it."""
    before, _State.in_hand = _State.in_hand, True
    try:
        with _output:
            yield
    finally:
        _State.in_hand = before


def leave(code: int) -> NoReturn:
    """End a command that Ctrl-C came to: at once where :func:`answer` was called, since threads may be left over that
    nobody should wait for."""
    if _State.answering:
        with suppress(Exception):
            sys.stdout.flush()
        with suppress(Exception):
            sys.stderr.flush()
        _free_semaphores()
        os._exit(code)
    sys.exit(code)
