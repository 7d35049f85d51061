"""Ctrl-C at random moments of all commands: exit code 130 in time, nothing half written, nothing left running.

``python -m tests.campaigns.interrupts --times 50`` interrupts fifty runs, of each command in turn, prints what it
found for each, and exits with 1 if that was a fault. ``--kvopt`` names the executable of another environment.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from tests.campaigns.commands import Command, Run, chosen, executable, prepare, slowness, traceback_of_ours
from tests.campaigns.table import Tally

_GUARD_S = 30.0
"""How much longer to wait for what does not heed Ctrl-C."""
_ENDING_S = 1.5
"""A command that ends by itself so soon after Ctrl-C was ending when it came."""
_CHILDREN_S = 3.0


def interrupt(kvopt: str, command: Command, given: Path, folder: Path, moment_s: float, limit_s: float) -> Tally:
    """Run a command, and press Ctrl-C at a moment of it.

    Parameters
    ----------
    kvopt : str
        The executable.
    command : Command
    given, folder : Path
        As for :class:`Run`.
    moment_s : float
        Seconds after its start.
    limit_s : float
        It is late if it takes longer to end.
    """
    run = Run(kvopt, command, given, folder)
    try:
        try:
            run.process.wait(moment_s)
            return Tally(ended_before=1)
        except subprocess.TimeoutExpired:
            run.send(signal.SIGINT, group=True)
        began = time.monotonic()
        try:
            run.process.wait(limit_s + _GUARD_S)
        except subprocess.TimeoutExpired:
            return Tally(faults=Counter({"not heeded": 1}), seconds=[limit_s + _GUARD_S])
        took_s = time.monotonic() - began
        return Tally(faults=_faults(run, took_s, limit_s), seconds=[took_s])
    finally:
        run.end()


def _faults(run: Run, took_s: float, limit_s: float) -> Counter[str]:
    found: Counter[str] = Counter()
    code, said = run.process.returncode, run.text("stderr")
    ours = traceback_of_ours(said)
    if took_s > limit_s:
        found[f"later than {limit_s:g} s"] += 1
    if code == 0:
        found["swallowed"] += took_s > _ENDING_S
    elif code != 130 and (ours or not _still_starting(code, said)):
        found[f"exit code {code}"] += 1
    found["SystemError"] += "SystemError" in said
    found["traceback"] += ours and "SystemError" not in said
    if run.command.json_stdout and (text := run.text("stdout")):
        try:
            json.loads(text)
        except ValueError:
            found["no JSON on stdout"] += 1
    found["broken file"] += len(run.broken_files())
    found["part file left"] += len(run.parts())
    found["child left"] += run.survivors(_CHILDREN_S)
    return +found


def _still_starting(code: int, said: str) -> bool:
    """Whether Python itself was ended by the signal, in one of its ways, before it came to the first line of ours."""
    return code == -signal.SIGINT or (code == 1 and "KeyboardInterrupt" in said)


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; 1 if there was a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.interrupts", description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="runs to interrupt, over all commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-s", type=float, default=3.0, help="seconds from Ctrl-C to the end")
    parser.add_argument("--kvopt", help="executable to run; default: this environment's")
    parser.add_argument("--only", action="append", help="commands whose names begin so; again for more")
    options = parser.parse_args(arguments)
    commands, rng = chosen(options.only), np.random.default_rng(options.seed)
    kvopt, tallies = executable(options.kvopt), {command.name: Tally() for command in commands}
    with tempfile.TemporaryDirectory() as place:
        given = Path(place) / "given"
        given.mkdir()
        prepare(given)
        turns: list[Command] = []
        for k in range(options.times):
            turns = turns or [commands[i] for i in rng.permutation(len(commands))]
            command = turns.pop()
            moment_s, folder = rng.random() * command.seconds * slowness(kvopt, k), Path(place) / str(k)
            found = interrupt(kvopt, command, given, folder, moment_s, options.limit_s)
            tallies[command.name] += found
            if found.faults:
                print(f"{command.name} at {moment_s:.2f} s: {found.text()}", flush=True)
                print("    " + _last_words(folder), flush=True)
    return Tally.print_all(tallies)


def _last_words(folder: Path) -> str:
    said = folder.with_name(folder.name + ".said") / "stderr"
    lines = said.read_text(errors="replace").strip().splitlines() if said.exists() else []
    return lines[-1][:150] if lines else "said nothing"


if __name__ == "__main__":
    sys.exit(main())
