"""Independent pieces of work in processes of their own: events and results come back as they happen.

Processes are spawned, not forked: a fork of a process that runs threads, as the kernels and HiGHS do, may hang.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from kvopt import interrupts
from kvopt.errors import MethodError

if TYPE_CHECKING:
    from concurrent.futures import Future
    from multiprocessing.connection import Connection
    from multiprocessing.queues import SimpleQueue

_POLL_S = 0.1
"""How long an event may wait for its turn."""

Tell = Callable[[Any], None]
Work = Callable[[Any, Any, Tell], Any]


def run_each(
    work: Work, shared: Any, items: Sequence[Any], *, processes: int, on_event: Tell, on_done: Callable[[Any], None]
) -> None:
    """Do ``work(shared, item, tell)`` for every item.

    Parameters
    ----------
    work : callable
        A function of a module, so that it can be found again in another process.
    shared : object
        Sent once to every process.
    items : sequence
    processes : int
        With 1, the work is done right here, one item after the other.
    on_event : callable
        Gets, in this process, what the work tells.
    on_done : callable
        Gets, in this process, what the work returns, in the order in which it is finished.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C, when all processes have ended. What was finished has been handed to ``on_done``.
    MethodError
        When a process dies.
    """
    if processes == 1:
        for item in items:
            interrupts.heed()
            on_done(work(shared, item, on_event))
        return
    _run_spawned(work, shared, items, processes, on_event, on_done)


def _run_spawned(work, shared, items, processes, on_event, on_done) -> None:
    # Imported on use: ``import kvopt`` should not pay for them.
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("spawn")
    line, hold = context.Pipe(duplex=False)
    # Unlike Queue, it is written before put() returns: what a worker tells is here before what it returns.
    events = context.SimpleQueue()
    pool = ProcessPoolExecutor(processes, context, _enter, (shared, line, events))
    try:
        with _children_deaf_to_ctrl_c():
            jobs = [pool.submit(_call, work, item) for item in items]
        _gather(jobs, events, on_event, on_done)
    except BaseException:
        hold.close()  # Nobody waits for what is half done.
        for process in list((pool._processes or {}).values()):  # Those that still import do not listen yet.
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        for end in (hold, line, events):
            end.close()


@contextlib.contextmanager
def _children_deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started meanwhile inherit that SIGINT is blocked: a traceback while they still import helps nobody."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _gather(jobs: list[Future], events: SimpleQueue, on_event: Tell, on_done: Callable[[Any], None]) -> None:
    from concurrent.futures import FIRST_COMPLETED, wait
    from concurrent.futures.process import BrokenProcessPool

    waiting = set(jobs)
    while waiting:
        interrupts.heed()
        done, waiting = wait(waiting, timeout=_POLL_S, return_when=FIRST_COMPLETED)
        while not events.empty():
            on_event(events.get())
        for job in done:
            try:
                found = job.result()
            except BrokenProcessPool:
                raise MethodError(
                    "processes",
                    "a worker process died before it answered",
                    "In a script, call this under if __name__ == '__main__'; or set processes to 1",
                ) from None
            on_done(found)


def is_worker() -> bool:
    """Whether this process was spawned by :func:`run_each`, and has not loaded what the one that did has."""
    return _shared is not None


_shared: Any = None
_tell: Tell
"""What a worker process was given when it began."""


def _enter(shared: Any, line: Connection, events: SimpleQueue) -> None:
    """Begin life as a worker: Ctrl-C is for the parent to act on, which ends this process by closing the line."""
    global _shared, _tell
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, args=(line,), daemon=True).start()
    _shared, _tell = shared, events.put


def _leave_with_parent(line: Connection) -> None:
    """End this process when the other end of the line is closed, as it also is when the parent dies."""
    from multiprocessing.connection import wait

    wait([line])
    os._exit(1)


def _call(work: Work, item: Any) -> Any:
    return work(_shared, item, _tell)
