"""Commands in turn, each ended at a random moment: what the campaigns of kills and of Ctrl-C have in common."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.campaigns.commands import Command, chosen, prepare, slowness
from tests.campaigns.table import Tally


def parser(name: str, summary: str, does: str) -> argparse.ArgumentParser:
    """The options that both campaigns have.

    Parameters
    ----------
    name : str
        Of the module.
    summary : str
        Of the campaign.
    does : str
        What it does to the runs.
    """
    found = argparse.ArgumentParser(prog=f"python -m tests.campaigns.{name}", description=summary)
    found.add_argument("--times", type=int, default=50, help=f"runs to {does}, over all commands")
    found.add_argument("--seed", type=int, default=0)
    found.add_argument("--kvopt", help="executable to run; default: this environment's")
    found.add_argument("--only", action="append", help="commands whose names begin so; again for more")
    return found


def in_turns(options: argparse.Namespace, judge: Callable[[str, Command, Path, Path, float], Tally]) -> int:
    """Judge ``options.times`` runs of the commands in turn, in random order, at random moments; 1 if there was a fault.

    Parameters
    ----------
    options : argparse.Namespace
        Of :func:`parser`.
    judge : callable
        (executable, command, folder of :func:`prepare`, working folder, seconds after its start) -> Tally.
    """
    commands, rng = chosen(options.only), np.random.default_rng(options.seed)
    kvopt = options.kvopt or executable()
    tallies = {command.name: Tally() for command in commands}
    with tempfile.TemporaryDirectory() as place:
        given = Path(place) / "given"
        given.mkdir()
        prepare(given)
        turns: list[Command] = []
        for k in range(options.times):
            turns = turns or [commands[i] for i in rng.permutation(len(commands))]
            command = turns.pop()
            moment_s, folder = rng.random() * command.seconds * slowness(kvopt, k), Path(place) / str(k)
            found = judge(kvopt, command, given, folder, moment_s)
            tallies[command.name] += found
            if found.faults:
                print(f"{command.name} at {moment_s:.2f} s: {found.text()}", flush=True)
                print("    " + _last_words(folder), flush=True)
    return Tally.print_all(tallies)


def executable() -> str:
    """This environment's ``kvopt``."""
    return str(Path(sys.executable).with_name("kvopt"))


def _last_words(folder: Path) -> str:
    said = folder.with_name(folder.name + ".said") / "stderr"
    lines = said.read_text(errors="replace").strip().splitlines() if said.exists() else []
    return lines[-1][:150] if lines else "said nothing"
