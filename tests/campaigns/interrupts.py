"""Ctrl-C at random moments of all commands: exit code 130 in time, nothing half written, nothing left running.

``python -m tests.campaigns.interrupts --times 50`` interrupts fifty runs, of each command in turn, prints what it
found for each, and exits with 1 if that was a fault. ``--kvopt`` names the executable of another environment.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

from tests.campaigns.commands import Command, Run, traceback_of_ours
from tests.campaigns.table import Tally
from tests.campaigns.turns import in_turns, parser

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
    asked = parser("interrupts", __doc__.splitlines()[0], "interrupt")
    asked.add_argument("--limit-s", type=float, default=3.0, help="seconds from Ctrl-C to the end")
    options = asked.parse_args(arguments)
    return in_turns(options, partial(interrupt, limit_s=options.limit_s))


if __name__ == "__main__":
    sys.exit(main())
