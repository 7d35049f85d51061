"""SIGKILL at random moments of all commands: files are whole, nothing runs on, and the same command goes on from there.

``python -m tests.campaigns.kills --times 50`` kills fifty runs, of each command in turn, starts each again in the
folder that it left, prints what it found, and exits with 1 if that was a fault. ``--kvopt`` names the executable of
another environment.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.campaigns.commands import Command, Run
from tests.campaigns.table import Tally
from tests.campaigns.turns import in_turns, parser

_RERUN_S = 600.0
"""How long the run after the killed one may take."""
_CHILDREN_S = 20.0


def kill(kvopt: str, command: Command, given: Path, folder: Path, moment_s: float) -> Tally:
    """Run a command, kill it at a moment of it, and run it again where it was.

    Parameters
    ----------
    kvopt : str
        The executable.
    command : Command
    given, folder : Path
        As for :class:`Run`.
    moment_s : float
        Seconds after its start.
    """
    run = Run(kvopt, command, given, folder)
    try:
        run.process.wait(moment_s)
        return Tally(ended_before=1)
    except subprocess.TimeoutExpired:
        run.send(signal.SIGKILL, group=False)
    finally:
        run.process.wait()
        survivors = run.survivors(_CHILDREN_S)
        run.end()
    faults = Counter({"child left": survivors, "broken file": len(run.broken_files())})
    before = _points(folder, command)
    began = time.monotonic()
    again = Run(kvopt, command, given, folder)
    try:
        again.process.wait(_RERUN_S)
    except subprocess.TimeoutExpired:
        faults["run after it hangs"] += 1
    finally:
        again.end()
    if again.process.returncode > 0:
        faults[f"run after it: exit code {again.process.returncode}"] += 1
    after = _points(folder, command)
    faults["work lost"] += sum(after.get(key) != point for key, point in before.items())
    faults["broken file of the run after it"] += len(again.broken_files())
    faults["file missing after it"] += sum(not (folder / name).exists() for name in command.files)
    faults["part file left"] += len(again.parts())
    return Tally(faults=+faults, seconds=[time.monotonic() - began])


def _points(folder: Path, command: Command) -> dict[str, Any]:
    """What of a file is to be taken up by the next run, by its name in there: the points of a sweep, the rows of a
    study. How long each took says that it was not computed again."""
    found = {}
    for name in command.files:
        if command.arguments[0] not in ("sweep", "study") or not name.endswith(".json"):
            continue
        try:
            data = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # Not there, or broken, which is counted elsewhere.
            continue
        found |= {f"{point['value']}": point["elapsed_s"] for point in data.get("points", ())}
        found |= {f"{row['setting']}, {row['policy']}": row["took_s"] for row in data.get("rows", ())}
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; 1 if there was a fault."""
    return in_turns(parser("kills", __doc__.splitlines()[0], "kill").parse_args(arguments), kill)


if __name__ == "__main__":
    sys.exit(main())
