"""Running the checks over many seeds, so that an engine that kills its process is caught and named.

Each worker imports kvopt and then forks a child that goes through its seeds. The child says what it is about to do;
when it dies or hangs, that is a fault of the check it was at, and another child goes on behind it. What libraries print
goes nowhere: events travel through pipes of their own.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
HANGS_S = 600.0
"""How long a check may take; the first to meet a new number of states compiles kernels."""


@dataclass(frozen=True)
class Fault:
    """Something that is not as it should be.

    Parameters
    ----------
    seed : int
    check : str
    kind : str
    words : str
    """

    seed: int
    check: str
    kind: str
    words: str

    @property
    def key(self) -> tuple[int, str, str]:
        """What makes it the same in another run."""
        return self.seed, self.check, self.kind


@dataclass
class Outcome:
    """What a campaign came to.

    Parameters
    ----------
    faults : list of Fault
    counts : Counter
        Comparisons and remarks, by name.
    done : int
        Seeds gone through.
    runs : Counter
        Cases that each check looked at.
    values : dict of int to dict
        What engines said, by seed.
    """

    faults: list[Fault] = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)
    done: int = 0
    runs: Counter = field(default_factory=Counter)
    values: dict[int, dict] = field(default_factory=dict)


def campaign(
    seeds: Iterable[int],
    *,
    processes: int = 2,
    kvopt: Path | None = None,
    most_states: int = 15,
    hangs_s: float = HANGS_S,
    ignore: frozenset[tuple[int, str, str]] = frozenset(),
    stop_at_first: bool = False,
    on_seed: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Run all checks on the cases of some seeds.

    Parameters
    ----------
    seeds : iterable of int
        Ascending.
    processes : int
    kvopt : Path, optional
        Folder of another ``kvopt`` package to judge.
    most_states : int
        See :func:`tests.campaigns.tiny.cases.draw`.
    hangs_s : float
        How long a check may take.
    ignore : frozenset of (seed, check, kind)
        Faults known before.
    stop_at_first : bool
        Stop when every seed below the first with a fault is done.
    on_seed : callable
        Called when a seed is done.
    """
    seeds, outcome = list(seeds), Outcome()
    workers = [_Worker(seeds[n::processes], kvopt, most_states, hangs_s) for n in range(min(processes, len(seeds)))]
    try:
        for worker, event in _events(workers):
            if event["event"] == "fault":
                fault = Fault(event["seed"], event["check"], event["kind"], event["words"])
                if fault.key not in ignore:
                    outcome.faults.append(fault)
            elif event["event"] == "check":
                outcome.runs[event["check"]] += 1
            else:
                worker.last = event["seed"]
                outcome.done += 1
                outcome.counts.update(event["counts"])
                outcome.values[event["seed"]] = event["values"]
                on_seed(outcome)
            if stop_at_first and outcome.faults:
                first = min(fault.seed for fault in outcome.faults)
                if all(worker.last >= first or worker.ended for worker in workers):
                    break
    except KeyboardInterrupt:
        outcome.counts["interrupted"] += 1  # What was found so far still counts.
    finally:
        for worker in workers:
            worker.stop()
    outcome.faults.sort(key=lambda fault: fault.key)
    return outcome


class _Worker:
    """A process that goes through some seeds, and the pipe it tells of them by."""

    def __init__(self, seeds: list[int], kvopt: Path | None, most_states: int, hangs_s: float) -> None:
        self.last, self.ended = -1, False
        receiving, sending = os.pipe()
        paths = [str(kvopt)] if kvopt is not None else []
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(ROOT)]), "OMP_NUM_THREADS": "1"}
        order = {"seeds": seeds, "most_states": most_states, "hangs_s": hangs_s, "pipe": sending}
        order["kvopt"] = None if kvopt is None else str(kvopt)
        self.process = subprocess.Popen(
            # -P: the current folder must not come before PYTHONPATH.
            [sys.executable, "-P", "-m", "tests.campaigns.tiny.campaign", json.dumps(order)],
            cwd=ROOT,
            env=env,
            pass_fds=[sending],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(sending)
        self.pipe = os.fdopen(receiving, "rb", buffering=0)
        self.unread = b""

    def events(self) -> list[dict]:
        """What has arrived; marks the end.

        Raises
        ------
        RuntimeError
            When the worker itself failed.
        """
        arrived = self.pipe.read(1 << 16)
        *lines, self.unread = (self.unread + arrived).split(b"\n")
        if not arrived:
            self.ended = True
            if self.process.wait() != 0:
                raise RuntimeError(f"a worker failed:\n{self.process.stderr.read().decode(errors='replace')[-2000:]}")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """End it, its child too."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()
        self.pipe.close()


def _events(workers: list[_Worker]) -> Iterator[tuple[_Worker, dict]]:
    while running := [worker for worker in workers if not worker.ended]:
        ready, _, _ = select.select([worker.pipe for worker in running], [], [])
        for worker in running:
            if worker.pipe in ready:
                for event in worker.events():
                    yield worker, event


def _work(order: dict) -> None:
    """A worker: import everything, then let children do the seeds, one after the other dies."""
    import kvopt
    import tests.campaigns.tiny.checks  # noqa: F401

    if order["kvopt"] is not None and not Path(kvopt.__file__).is_relative_to(Path(order["kvopt"]).resolve()):
        raise SystemExit(f"imported {kvopt.__file__}, not the one of {order['kvopt']}")
    seeds, skip = order["seeds"], []
    while seeds:
        at = _watched(order, seeds, skip)
        if at is None:
            return
        seed, check = at
        skip = [*(skip if seeds[0] == seed else []), check]
        seeds = seeds[seeds.index(seed) :]


def _watched(order: dict, seeds: list[int], skip: list[str]) -> tuple[int, str] | None:
    """Let one child go through seeds; (seed, check) that it died of, or None at the end of them."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receiving)
        _child(order, seeds, skip, sending)
    os.close(sending)
    at, unread, why = None, b"", ""
    while True:
        ready, _, _ = select.select([receiving], [], [], order["hangs_s"])
        if not ready:
            os.kill(child, signal.SIGKILL)
            why = f"takes more than {order['hangs_s']:g} s"
            break
        arrived = os.read(receiving, 1 << 16)
        if not arrived:
            break
        os.write(order["pipe"], arrived)
        *lines, unread = (unread + arrived).split(b"\n")
        for event in map(json.loads, lines):
            if event["event"] == "check":
                at = event["seed"], event["check"]
            elif event["event"] == "done":
                at = None
    os.close(receiving)
    _, status = os.waitpid(child, 0)
    if status == 0:
        return None
    if at is None:
        raise RuntimeError(f"a child ended with status {status} between two seeds")
    code = os.waitstatus_to_exitcode(status)
    kind = "hangs" if why else signal.Signals(-code).name if code < 0 else f"exit status {code}"
    fault = {"event": "fault", "seed": at[0], "check": at[1], "kind": kind, "words": why or "the process died"}
    os.write(order["pipe"], json.dumps(fault).encode() + b"\n")
    return at


def _child(order: dict, seeds: list[int], skip: list[str], sending: int) -> None:
    """Go through seeds, and end the process."""

    def tell(event: str, **rest) -> None:
        os.write(sending, json.dumps({"event": event, **rest}).encode() + b"\n")

    status = 1
    try:
        for seed in seeds:
            one_seed(seed, order["most_states"], skip if seed == seeds[0] else [], tell)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def one_seed(seed: int, most_states: int, skip: list[str], tell: Callable[..., None]) -> None:
    """All checks of one case.

    Parameters
    ----------
    seed, most_states : int
    skip : list of str
        Checks that killed the process before.
    tell : callable
        (event, **rest): "check" before each check, "fault", and "done".
    """
    from tests.campaigns.tiny.cases import draw
    from tests.campaigns.tiny.checks import Trial, built, checks
    from tests.campaigns.tiny.optimum import TooLarge

    trial = Trial(draw(seed, most_states=most_states), most_states)
    for name, check in checks().items():
        if name in skip:
            continue
        tell("check", seed=seed, check=name)
        try:
            for kind, words in check(trial):
                tell("fault", seed=seed, check=name, kind=kind, words=words[:1500])
        except TooLarge:
            trial.counts["optimum too large to know"] += 1
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{error} ({Path(where.filename).name}:{where.lineno})"
            tell("fault", seed=seed, check=name, kind=type(error).__name__, words=words[:1500])
        if name == "refusal" and not built(trial):
            trial.counts["refused or too large"] += 1
            break
    values = {} if "best" not in trial.__dict__ or trial.best is None else {"optimum": float(trial.best.value)}
    tell("done", seed=seed, counts=dict(trial.counts), values={**values, **trial.values})


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
