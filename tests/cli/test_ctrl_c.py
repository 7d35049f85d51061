"""Ctrl-C of the command line, whatever the main thread is at; and a few moments of the campaigns."""

import signal
import subprocess
import sys
import time

import pytest

from kvopt import ctrl_c
from tests.campaigns import interrupts, kills
from tests.campaigns.commands import COMMANDS, prepare
from tests.campaigns.turns import executable

GUARD_S = 60.0
"""Against hanging only: this machine may be busy."""
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGINT for one process")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given")
    prepare(folder, requests=200)
    return folder


def started(code: str, **options) -> subprocess.Popen:
    """A process that has answered for Ctrl-C, and then does as it is told."""
    head = "import sys, time; from kvopt import ctrl_c, interrupts; ctrl_c.answer()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def test_with_nothing_in_hand_it_ends_at_once():
    process = started("print('ready', flush=True)\nwhile True: time.sleep(1)")
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=GUARD_S)
    assert (process.returncode, stdout, stderr) == (130, "", "interrupted: nothing was finished\n")


def test_what_does_not_come_to_its_end_is_ended():
    """As while a kernel is compiled: the main thread looks at nothing."""
    process = started(
        "ctrl_c._PATIENCE_S = 0.1; ctrl_c.keep_answer(); print('ready', flush=True)\n"
        "until = time.monotonic() + 600\nwhile time.monotonic() < until: pass"
    )
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=GUARD_S)
    assert (process.returncode, stderr) == (130, "interrupted: cut short in its work\n")


def test_what_comes_to_its_end_writes_what_it_has():
    process = started(
        "ctrl_c._PATIENCE_S = 600.0; ctrl_c.keep_answer(); print('ready', flush=True)\n"
        "while not interrupts.asked(): pass\n"
        "print('what there is'); ctrl_c.leave(130)"
    )
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=GUARD_S)
    assert (process.returncode, stdout, stderr) == (130, "what there is\n", "")


def test_the_second_ends_it_at_once():
    process = started(
        "ctrl_c._PATIENCE_S = 600.0; ctrl_c.keep_answer(); print('ready', flush=True)\nwhile True: time.sleep(0.1)"
    )
    process.send_signal(signal.SIGINT)
    time.sleep(ctrl_c._SAME_S + 0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=GUARD_S)
    assert process.returncode == 130


def test_a_process_that_ignores_it_still_does():
    """As what a shell starts in the background."""
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    code += "from kvopt import ctrl_c; ctrl_c.answer(); signal.raise_signal(signal.SIGINT)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("argv", "began", "is_command"),
    [
        (["/usr/bin/kvopt", "size"], ["python", "/usr/bin/kvopt", "size"], True),
        (["kvopt.exe"], ["python", "kvopt.exe"], True),
        (["-m", "compare"], ["python", "-m", "kvopt", "compare"], True),
        (["-m"], ["python", "-X", "utf8", "-m", "kvopt.warmup"], True),
        (["-m"], ["python", "-m", "pytest", "kvopt"], False),
        (["/usr/bin/kvopt"], ["python", "-c", "from multiprocessing ...", "--multiprocessing-fork"], False),
        (["notebook.py"], ["python", "notebook.py"], False),
        ([""], ["python"], False),
    ],
)
def test_what_is_the_command(monkeypatch, argv, began, is_command):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", began)
    assert ctrl_c.is_command() is is_command


def test_large_instances_get_the_time_of_a_pass_over_their_runs(monkeypatch):
    monkeypatch.setattr(ctrl_c._State, "in_hand", False)
    monkeypatch.setattr(ctrl_c._State, "patience_s", 0.0)
    ctrl_c.keep_answer(1000)
    assert ctrl_c._State.patience_s == ctrl_c._PATIENCE_S < 3.0
    ctrl_c.keep_answer(10**8)
    assert ctrl_c._PATIENCE_S < ctrl_c._State.patience_s < 60.0


SAMPLE = (("trace info", 0.0), ("trace import", 0.4), ("bound, checkpoint", 1.5), ("sweep, 2 processes", 3.0))


@pytest.mark.parametrize(("name", "moment_s"), SAMPLE)
def test_a_few_moments_of_the_campaign_of_interrupts(given, tmp_path, name, moment_s):
    command = next(command for command in COMMANDS if command.name == name)
    found = interrupts.interrupt(executable(), command, given, tmp_path / "run", moment_s, limit_s=GUARD_S)
    assert found.faults.keys() <= {"swallowed"}, found.text()  # That is judged by the time it takes.


def test_a_moment_of_the_campaign_of_kills(given, tmp_path):
    command = next(command for command in COMMANDS if command.name == "bound, checkpoint")
    found = kills.kill(executable(), command, given, tmp_path / "run", 1.5)
    assert not found.faults, found.text()
