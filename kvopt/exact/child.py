"""HiGHS in a process of its own, which can be ended at any moment.

HiGHS asks whether to go on, and looks at its clock, only here and there: presolving, setting up and the first linear
program of a large model take seconds to minutes without either. A process of its own is ended when time is up or
somebody wants it to stop, and what it has told by then is the answer.

The two talk over the child's standard input and output, in pickles: a job goes in; incumbents, bounds and at last the
outcome come out. Whatever a library prints in the child goes nowhere. When the parent ends, however it does, the
child's input is closed, and the child ends too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from kvopt import interrupts
from kvopt.result import Termination

if TYPE_CHECKING:
    from kvopt.exact.highs import Outcome, Watch
    from kvopt.exact.program import Program

COLUMNS = 10_000
"""From this size on HiGHS may go a second without asking; a process takes half a second to start."""
_POLL_S = 0.05
_GRACE_S = 0.3
"""How much longer than its limit HiGHS may take to come to an end by itself."""
_TOLD_EVERY_S = 0.1
_READY = b"HiGHS at work\n"
"""The line after which the child's output is pickles; an interpreter may print things of its own before."""
_CODE = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from kvopt.exact.child import serve; serve()"

_serving = False


def wanted(program: Program) -> bool:
    """Whether a program is large enough for a process of its own, and one can be had."""
    return len(program.cost) >= COLUMNS and not _serving and bool(sys.executable)


def run(function: str, program: Program, watch: Watch, time_limit_s: float | None, options: dict[str, Any]) -> Outcome:
    """Call a function of :mod:`kvopt.exact.highs` in another process.

    Parameters
    ----------
    function : str
        "minimise" or "minimise_relaxed".
    program : Program
    watch : Watch
        Told of what is found, in this thread; it is asked twenty times a second whether to stop.
    time_limit_s : float, optional
    options : dict
        The function's others.

    Returns
    -------
    Outcome
        The function's own, or what was known when the process was ended.

    Raises
    ------
    OSError
        When no process can be started.
    """
    deadline = float("inf") if time_limit_s is None else time.perf_counter() + time_limit_s
    command = [sys.executable, "-c", _CODE, json.dumps([p for p in sys.path if isinstance(p, str)])]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    told: queue.SimpleQueue = queue.SimpleQueue()
    job = (function, program, options)
    threads = [
        threading.Thread(target=_send, args=(process.stdin, job, deadline), daemon=True),
        threading.Thread(target=_receive, args=(process.stdout, told), daemon=True),
    ]
    try:
        for thread in threads:
            thread.start()
        return _heard(told, watch, deadline + _GRACE_S)
    finally:
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()


def _send(pipe: BinaryIO, job: tuple, deadline: float) -> None:
    # A process that is gone is noticed by who listens to it.
    with contextlib.suppress(OSError):
        # The clock goes on while the child starts and the job is on its way.
        pickle.dump((*job, time.time() + (deadline - time.perf_counter())), pipe, pickle.HIGHEST_PROTOCOL)
        pipe.flush()


def _receive(pipe: BinaryIO, told: queue.SimpleQueue) -> None:
    """Pass on what the child tells; None at its end."""
    with contextlib.suppress(Exception):  # Cut off anywhere, a pickle ends in all kinds of errors.
        for line in iter(pipe.readline, b""):
            if line == _READY:
                break
        while True:
            told.put(pickle.load(pipe))
    told.put(None)


def _heard(told: queue.SimpleQueue, watch: Watch, deadline: float) -> Outcome:
    """Pass on to the watch what comes, until the outcome is there, time is up or the watch says stop."""
    known = _Known(watch)
    while True:
        if interrupts.asked():
            _stop(watch)
        stopped = watch.stop or time.perf_counter() >= deadline
        try:
            # What has arrived counts also when there is no time to wait for more.
            event = told.get_nowait() if stopped else told.get(timeout=_POLL_S)
        except queue.Empty:
            if watch.stop:
                return known.outcome(Termination.INTERRUPTED, "ended: interrupted")
            if stopped:
                return known.outcome(Termination.TIME_LIMIT, "ended: time limit")
            continue
        if event is None:
            return known.outcome(Termination.FINISHED, "the process of HiGHS ended early")
        if event[0] == "error":
            raise event[1]
        if event[0] == "outcome":
            return event[1]
        known.take(*event)


def _stop(watch: Watch) -> None:
    """Heed Ctrl-C by having the watch say stop."""
    try:
        interrupts.heed()
    except KeyboardInterrupt:
        watch.stop = True


class _Known:
    """What the child has told so far."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._values: np.ndarray | None = None
        self._bound: float | None = None
        self._nodes = 0

    def take(self, kind: str, found: np.ndarray | float, nodes: int) -> None:
        """An incumbent or a bound."""
        self._nodes = nodes
        if kind == "incumbent":
            self._values = found
            self._watch.incumbent(found, nodes)
        elif np.isfinite(found):
            self._bound = found if self._bound is None else max(self._bound, found)
            self._watch.bound(found, nodes)

    def outcome(self, termination: Termination, status: str) -> Outcome:
        """What there is when the child has no outcome to tell of."""
        from kvopt.exact.highs import Outcome

        return Outcome(termination, self._values, self._bound, self._nodes, None, status)


class _Relay:
    """Tells the parent what HiGHS finds, a rising bound ten times a second at most."""

    def __init__(self, tell: Callable[[tuple], None]) -> None:
        self.stop = False
        self._tell = tell
        self._told = -1.0

    def incumbent(self, values: np.ndarray, nodes: int) -> None:
        self._tell(("incumbent", values, nodes))

    def bound(self, bound: float, nodes: int) -> None:
        now = time.perf_counter()
        if now - self._told > _TOLD_EVERY_S:
            self._told = now
            self._tell(("bound", bound, nodes))


def serve() -> None:
    """Do the one job that comes in, and tell of it."""
    global _serving
    _serving = True
    jobs, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    out.write(_READY)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)

    def tell(event: tuple) -> None:
        pickle.dump(event, out, pickle.HIGHEST_PROTOCOL)
        out.flush()

    function, program, options, ends = pickle.load(jobs)
    threading.Thread(target=_end_with_the_parent, args=(jobs,), daemon=True).start()
    try:
        from kvopt.exact import highs

        limit = None if ends == float("inf") else max(ends - time.time(), 0.0)
        tell(("outcome", getattr(highs, function)(program, _Relay(tell), time_limit_s=limit, **options)))
    except Exception as error:
        tell(("error", error))
    os._exit(0)


def _end_with_the_parent(jobs: BinaryIO) -> None:
    jobs.read()
    os._exit(1)
