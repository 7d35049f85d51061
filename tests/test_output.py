"""Files written whole or not at all, and what processes that were killed have left of them."""

import os
import signal
import subprocess
import sys

import pytest

from kvopt import output
from kvopt.errors import KvoptError

GONE = 2**22 + 1
"""No process has this number: Linux counts to 2^22."""


@pytest.fixture(autouse=True)
def _not_swept_before(monkeypatch):
    monkeypatch.setattr(output, "_swept", set())


def write(path) -> None:
    output.write_whole("--json", path, lambda part: part.write_text("new"))


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_whole_and_nothing_beside_it(tmp_path):
    write(tmp_path / "o.json")
    assert names(tmp_path) == ["o.json"]
    assert (tmp_path / "o.json").read_text() == "new"


def test_a_failure_leaves_what_was_there(tmp_path):
    path = tmp_path / "o.json"
    path.write_text("old")

    def fail(part):
        part.write_text("half")
        raise OSError("disk full")

    with pytest.raises(KvoptError, match="disk full"):
        output.write_whole("--json", path, fail)
    assert names(tmp_path) == ["o.json"]
    assert path.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="there, nobody can ask whether a process is alive")
def test_parts_of_killed_processes_are_removed_and_no_others(tmp_path):
    left = [f".{GONE}.o.json", f".o.json.{GONE}.part"]
    others = [
        f".{os.getppid()}.o.json",
        f".{GONE}.o.json.gz",
        f".{GONE}.p.json",
        ".o.json",
        "3.o.json",
        f".{GONE}.ojson",
    ]
    for name in (*left, *others):
        (tmp_path / name).touch()
    (tmp_path / f".{GONE}.o.json.a1b2c3d4").mkdir()
    (tmp_path / f".{GONE}.o.json.a1b2c3d4" / "model.lp").touch()
    write(tmp_path / "o.json")
    assert names(tmp_path) == sorted([*others, "o.json"])


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_part_that_is_being_written_stays_whatever_its_process_is_called_here(tmp_path):
    import fcntl

    theirs = tmp_path / f".{GONE}.o.json"
    with theirs.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write(tmp_path / "o.json")
        assert theirs.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_the_next_run_sweeps_up_after_a_killed_one(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from kvopt import output\n"
        "def die(part): part.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "output.write_whole('--json', Path(sys.argv[1]), die)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "o.json")])
    assert done.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 1
    write(tmp_path / "o.json")
    assert names(tmp_path) == ["o.json"]


def test_checking_leaves_no_trace(tmp_path):
    output.check_writable("--json", tmp_path / "o.json")
    assert names(tmp_path) == []
    with pytest.raises(KvoptError, match="--json"):
        output.check_writable("--json", tmp_path / "absent" / "o.json")
