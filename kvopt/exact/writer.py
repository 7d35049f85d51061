"""HiGHS's writer of models in a process of its own.

HiGHS keeps the interpreter to itself while it writes, a minute for the largest models, and in that time nothing hears
Ctrl-C. A process can be ended.
"""

from __future__ import annotations

import ctypes
import pickle
import signal
import subprocess
import sys
from pathlib import Path

from kvopt import ctrl_c, interrupts
from kvopt.exact import highs
from kvopt.exact.program import Program

_FEW_COLUMNS = 10_000
"""Models up to this size are written right here, in less time than a process takes to begin."""
_CODE = "import sys; sys.path[:] = {path!r}; from kvopt.exact.writer import main; sys.exit(main())"
_PARENT_DEATH_SIGNAL = 1


def write(program: Program, path: Path, column_names: list[str], row_names: list[str]) -> None:
    """Write a program as :func:`kvopt.exact.highs.write` does.

    Parameters
    ----------
    program : Program
    path : Path
    column_names, row_names : list of str

    Raises
    ------
    OSError
        When the file was not written to its end.
    KeyboardInterrupt
        When Ctrl-C came; the file is then of no use.
    """
    if program.matrix.shape[1] <= _FEW_COLUMNS:
        highs.write(program, path, column_names, row_names)
        return
    given = pickle.dumps((program, path.absolute(), column_names, row_names), protocol=pickle.HIGHEST_PROTOCOL)
    command = [sys.executable, "-c", _CODE.format(path=sys.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        stopped: list[bool] = []

        def stop() -> None:
            stopped.append(True)
            process.kill()

        with ctrl_c.child(process):
            _, said = interrupts.beside(lambda: process.communicate(given), stop)
    if stopped:
        raise KeyboardInterrupt
    if process.returncode:
        raise OSError((said.decode(errors="replace").strip().splitlines() or ["its writer ended without a word"])[-1])


def main() -> int:
    """Write what standard input says; the reason on standard error where it cannot be written."""
    _end_with_parent()
    try:
        highs.write(*pickle.load(sys.stdin.buffer))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _end_with_parent() -> None:
    """On Linux, be killed when the parent is; elsewhere the file is written to its end, for nobody."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
