"""Standard output: what a command says, in any encoding, and nothing else; outputs that cannot be written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import kvopt
from kvopt.cli import main, streams
from kvopt.sources.synthetic import drifting

TIGHT = ("--hbm-bytes", "6k")
LIMIT = ("--time-limit", "1")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="devices and pipes of Unix")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a trace, and a certificate of it."""
    found = tmp_path_factory.mktemp("streams")
    trace = drifting(12, 4, n_lanes=2, read_share=0.3, seed=1, size_bytes=1024)
    trace._replace(name="1 µs").save(found / "t.parquet")
    done = CliRunner().invoke(
        main, ["bound", f"{found}/t.parquet", *TIGHT, *LIMIT, "--save-certificate", f"{found}/proof.npz"]
    )
    assert done.exit_code == 0, done.output
    return found


COMMANDS = {
    "compare": ("t.parquet", *TIGHT, *LIMIT, "--methods", "static,exact"),
    "solve": ("t.parquet", *TIGHT, *LIMIT, "--method", "exact"),
    "bound": ("t.parquet", *TIGHT, *LIMIT),
    "verify": ("t.parquet", "proof.npz", *TIGHT),
    "explain": ("t.parquet", *TIGHT, *LIMIT),
    "size": ("t.parquet", "--target-latency-s", "1e-6", *LIMIT),
    "sweep": ("t.parquet", "--vary", "hbm_bytes=5k:9k:2", "--processes", "1", *LIMIT),
    "trace info": ("t.parquet",),
    "instances": (),
    "platforms": (),
    "models": (),
    "objectives": (),
}
"""Every command that offers --json, with arguments that take a second or two."""


def _with_json(group: click.Group, before: str = "") -> set[str]:
    found = set()
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found |= _with_json(command, f"{before}{name} ")
        elif any("--json" in parameter.opts for parameter in command.params):
            found.add(before + name)
    return found


def test_every_command_that_offers_json_is_tested():
    assert _with_json(main) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_json_on_standard_output_is_json_alone(command, folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, [*command.split(), *COMMANDS[command], "--json", "-"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)


def kvopt_process(folder: Path, *arguments, environment=None, **options) -> subprocess.CompletedProcess:
    """A run in a process of its own, with bytes for its output."""
    command = [sys.executable, "-m", "kvopt", *map(str, arguments)]
    environment = {**os.environ, **(environment or {})}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run(command, cwd=folder, env=environment, check=False, **options)


def test_what_libraries_write_goes_to_standard_error(folder, tmp_path):
    """By Python or by C, in this process or in one that it starts."""
    (tmp_path / "noisy.py").write_text(
        "import os\n"
        "from kvopt.cli import answers, main\n"
        "def noisy(*_, **__):\n"
        "    print('by Python')\n"
        "    os.write(1, b'by C\\n')\n"
        "    os.system('echo by a child')\n"
        "answers.compile_kernels = noisy\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "noisy.py", "compare", *COMMANDS["compare"], "--json", "-"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(kvopt.__file__).parents[1])},
        capture_output=True,
        check=True,
    )
    assert len(json.loads(done.stdout)["rows"]) == 2
    assert all(word in done.stderr for word in (b"by Python", b"by C", b"by a child"))


@pytest.mark.parametrize("encoding", ["gbk", "cp1252", "ascii", "utf-16"])
def test_a_report_is_written_in_any_encoding(encoding, folder):
    if encoding in ("gbk", "cp1252"):  # One that has a sign for micro, and one that has none.
        arguments = ("compare", "t.parquet", *TIGHT, *LIMIT, "--methods", "static")
        done = kvopt_process(folder, *arguments, environment={"PYTHONIOENCODING": encoding})
        assert done.returncode == 0, done.stderr
        micro = "µ" if encoding == "cp1252" else "u"
        assert f"trace     1 {micro}s: 4 steps" in done.stdout.decode(encoding)
    done = kvopt_process(
        folder, "trace", "info", "t.parquet", "--json", "-", environment={"PYTHONIOENCODING": encoding}
    )
    assert json.loads(done.stdout.decode(encoding))["name"] == "1 µs"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names of files are text there")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_path_that_is_no_text_is_printed_and_written(encoding, folder, tmp_path):
    """From the trace's name to the report, JSON on standard output and in a file, the picture and the placement."""
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.parquet"))
    odd.write_bytes((folder / "t.parquet").read_bytes())
    environment = {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    kvopt.load_trace(odd)._replace(name=odd.stem).save(odd)
    outputs = ("--json", odd.with_suffix(".json"), "--save-placement", odd.with_suffix(".placement.parquet"))
    done = kvopt_process(tmp_path, "solve", odd, *TIGHT, *LIMIT, "--method", "exact", *outputs, environment=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(odd.with_suffix(".json").read_bytes())["instance"]["trace"]["name"] == odd.stem
    arguments = (
        "compare",
        odd,
        *TIGHT,
        *LIMIT,
        "--methods",
        "static",
        "--json",
        "-",
        "--plot",
        odd.with_suffix(".png"),
    )
    done = kvopt_process(tmp_path, *arguments, environment=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode(encoding))["instance"]["trace"]["name"] == odd.stem
    assert len(list(tmp_path.iterdir())) == 4


ONE_LINE = b"error: standard output: cannot be written (No space left on device). Send it to a place that takes it\n"


@POSIX
@pytest.mark.parametrize("options", [(), ("--json", "-")])
def test_a_full_disk_costs_one_line_and_no_other_output(options, folder, tmp_path):
    saved = tmp_path / "proof.npz"
    arguments = ("bound", "t.parquet", *TIGHT, *LIMIT, "--save-certificate", saved, *options)
    with open("/dev/full", "wb") as full:
        done = kvopt_process(folder, *arguments, stdout=full)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines(True) if not line.startswith(b"bound: ")] == [ONE_LINE]
    assert saved.is_file()


@POSIX
def test_a_closed_pipe_costs_no_other_output(folder, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    saved = tmp_path / "proof.npz"
    arguments = ("bound", "t.parquet", *TIGHT, *LIMIT, "--save-certificate", saved)
    done = kvopt_process(folder, *arguments, stdout=writing)
    os.close(writing)
    assert done.returncode == 128 + 13
    assert b"Traceback" not in done.stderr
    assert b"error" not in done.stderr
    assert saved.is_file()


@POSIX
@pytest.mark.parametrize(
    ("redirection", "code"), [(">&-", 2), ("2>&-", 0), ("2>/dev/full", 0), ("</dev/null >&- 2>&-", 2)]
)
def test_closed_and_full_streams(redirection, code, folder):
    command = f"{sys.executable} -m kvopt trace info t.parquet {redirection}"
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, check=False)
    assert done.returncode == code
    assert b"Traceback" not in done.stderr
    assert (b"trace" in done.stdout) == (code == 0)


@POSIX
def test_help_on_a_full_disk(folder):
    with open("/dev/full", "wb") as full:
        done = kvopt_process(folder, "--help", stdout=full)
    assert (done.returncode, done.stderr) == (2, ONE_LINE)


@POSIX
def test_the_systems_name_of_standard_output(folder):
    done = kvopt_process(folder, "trace", "info", "t.parquet", "--json", "/dev/stdout")
    assert json.loads(done.stdout)["n_lanes"] == 2


def test_an_output_that_fails_is_told_once_and_fails_at_the_end():
    @click.command(cls=streams.Speaking)
    def command():
        for _ in range(2):
            streams.deliver(lambda: broken())
        streams.say("said all the same")

    def broken():
        raise kvopt.errors.KvoptError("--json", "cannot write x", "Choose")

    group = type(main)(commands={"command": command})
    done = CliRunner().invoke(group, ["command"])
    assert (done.exit_code, done.stdout) == (2, "said all the same\n")
    assert done.stderr == "error: --json: cannot write x. Choose\n"


def test_commands_speak_through_one_door():
    """A bare echo would go to standard error, where sys.stdout is while a command runs."""
    for path in Path(streams.__file__).parent.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if "click.echo(" in line:
                assert "err=True" in line, f"{path.name}: {line.strip()}"
