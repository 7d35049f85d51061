"""Inputs tried in processes of their own, which may die, hang or run out of memory without anybody else noticing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from random import Random
from typing import Any

CHUNK = 200
"""Inputs that a process is given at a time."""
MEMORY_BYTES = 4 << 30
SLOW_S = 1.0
"""Of processor time: what an answer may take."""
HANGS_S = 20.0
"""Of the clock, so that waiting counts, on a machine that others use as well."""


@dataclass(frozen=True)
class Fault:
    """An input that ended as none may."""

    reader: str
    index: int
    kind: str
    words: str


@dataclass
class Tally:
    """What came of one reader's inputs."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    faults: list[Fault] = field(default_factory=list)

    def of(self, kind: str) -> int:
        """Number of faults of a kind: "bare", "slow" or "crash"."""
        return sum(fault.kind == kind for fault in self.faults)


def run(
    inputs: dict[str, int],
    seed: int,
    processes: int,
    saved: Path,
    *,
    kvopt: str | None = None,
    readers: str = "tests.campaigns.fuzz.calls",
) -> dict[str, Tally]:
    """Try a number of inputs of each reader.

    Parameters
    ----------
    inputs : dict of reader to int
    seed : int
    processes : int
    saved : Path
        Folder for inputs that failed.
    kvopt : str, optional
        Path of another checkout.
    readers : str
        Module whose ``ALL`` holds the readers.

    Returns
    -------
    dict of reader to Tally
    """
    saved = saved.resolve()
    saved.mkdir(parents=True, exist_ok=True)
    kvopt = None if kvopt is None else str(Path(kvopt).resolve())
    left = [(name, at, min(at + CHUNK, n)) for name, n in inputs.items() for at in range(0, n, CHUNK)]
    tallies = {name: Tally() for name in inputs}
    workers = [_Worker(seed, saved, kvopt, readers) for _ in range(processes)]
    try:
        while left or any(worker.job for worker in workers):
            for worker in workers:
                if left and worker.job is None:
                    worker.give(left.pop(0))
            wait([worker.pipe for worker in workers if worker.job], timeout=1.0)
            for worker in workers:
                left[:0] = worker.collect(tallies)
    finally:
        for worker in workers:
            worker.stop()
    return tallies


class _Worker:
    """A process and what it is at."""

    def __init__(self, seed: int, saved: Path, kvopt: str | None, readers: str) -> None:
        self.arguments = seed, saved, kvopt, readers
        self.start()

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.at = context.RawValue("q", -1)
        self.job: tuple[str, int, int] | None = None
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, self.at, *self.arguments), daemon=True)
        self.process.start()
        theirs.close()
        self.seen, self.since = -1, time.monotonic()

    def give(self, job: tuple[str, int, int]) -> None:
        self.job, self.seen, self.since = job, -1, time.monotonic()
        self.at.value = -1
        self.pipe.send(job)

    def collect(self, tallies: dict[str, Tally]) -> list[tuple[str, int, int]]:
        """Take what has come, and notice death and standstill; the jobs that are to be given to another."""
        if self.job is None:
            return []
        name, first, last = self.job
        try:
            if self.pipe.poll():
                found: Tally = self.pipe.recv()
                _add(tallies[name], found)
                self.job = None
                return []
            dead = not self.process.is_alive()
        except (EOFError, OSError):
            dead = True
        if self.at.value != self.seen:
            self.seen, self.since = self.at.value, time.monotonic()
        # The first input waits for imports.
        stands = time.monotonic() - self.since > (2 * HANGS_S if self.seen >= 0 else 20 * HANGS_S)
        if not (dead or stands):
            return []
        self.process.kill()
        self.process.join()
        words = "does not end" if stands else f"ended with exit code {self.process.exitcode}"
        at = max(self.at.value, first)
        tallies[name].faults.append(Fault(name, at, "crash", words))
        tallies[name].inputs += 1
        self.start()
        # What came of those before it died with the process; they are tried again.
        return [(name, a, b) for a, b in ((first, at), (at + 1, last)) if a < b]

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def _add(total: Tally, part: Tally) -> None:
    total.inputs += part.inputs
    total.accepted += part.accepted
    total.refused += part.refused
    total.faults += part.faults


def _work(pipe: Connection, at: Any, seed: int, saved: Path, kvopt: str | None, readers: str) -> None:
    """Try chunks of inputs as they come."""
    import resource

    if kvopt is not None:
        sys.path.insert(0, kvopt)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _too_long)
    sys.stderr = sys.stdout = open("/dev/null", "w")  # noqa: SIM115
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # What is saved under a name that nobody means goes there.
        attempts = Attempts(Path(folder), seed, saved, readers)
        while True:
            name, first, last = pipe.recv()
            tally = Tally()
            for index in range(first, last):
                at.value = index
                attempts.one(name, index, tally)
            pipe.send(tally)


class _TooLong(BaseException):
    """An input took longer than any may."""


def _too_long(*_: object) -> None:
    raise _TooLong


class Attempts:
    """Inputs tried in this process, one by one.

    Parameters
    ----------
    folder : Path
        For files that are made on the way.
    seed : int
    saved : Path
        Folder for inputs that failed.
    module : str
        Whose ``ALL`` holds the readers.
    """

    def __init__(self, folder: Path, seed: int, saved: Path, module: str) -> None:
        from tests.campaigns.fuzz import readers

        self.folder, self.seed, self.saved = folder, seed, saved
        self.readers: dict[str, readers.Reader] = {}
        (folder / "odd").mkdir()
        self.odd = readers.odd_paths(folder / "odd")
        self.makers, self.attacked, self.refused = import_module(module).ALL, readers.attacked, readers.Refused

    def reader(self, name: str):
        """The reader of that name, made once."""
        if name not in self.readers:
            (self.folder / name).mkdir()
            self.readers[name] = self.makers[name](self.folder / name)
        return self.readers[name]

    def one(self, name: str, index: int, tally: Tally) -> None:
        """Try one input, and count what comes of it."""
        from kvopt.errors import KvoptError

        reader = self.reader(name)
        given = self.attacked(reader, Random(f"{self.seed}:{name}:{index}"), self.odd)
        path = self.folder / f"input{reader.suffix}"
        if isinstance(given, bytes) and reader.suffix:
            path.write_bytes(given)
        tally.inputs += 1
        began = time.process_time()
        fault = None
        signal.setitimer(signal.ITIMER_REAL, HANGS_S)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.run(path if isinstance(given, bytes) and reader.suffix else given)
            signal.setitimer(signal.ITIMER_REAL, 0)
            tally.accepted += 1
        except (KvoptError, self.refused):
            tally.refused += 1
        except _TooLong:
            fault = "slow", f"more than {HANGS_S:g} s"
        except BaseException as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [frame for frame in frames if "kvopt" in Path(frame.filename).parts and "tests" not in frame.filename]
            where = (own or frames)[-1]
            fault = (
                "bare",
                f"{type(error).__name__}: {str(error)[:100]!r} at {Path(where.filename).name}:{where.lineno}",
            )
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        took = time.process_time() - began
        if fault is None and took > SLOW_S:
            fault = "slow", f"{took:.1f} s"
        if fault is not None:
            tally.faults.append(Fault(name, index, *fault))
            self._save(name, index, reader.suffix, given)

    def _save(self, name: str, index: int, suffix: str, given: Any) -> None:
        data = given if isinstance(given, bytes) else repr(given).encode("utf-8", "backslashreplace")
        (self.saved / f"{name}-{self.seed}-{index}{suffix or '.txt'}").write_bytes(data)
