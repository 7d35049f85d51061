"""The commands that campaigns end at random moments: how each is started in its own folder, and what it leaves."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

import kvopt
from kvopt.certificate_io import save_certificate
from kvopt.sources.synthetic import drifting

_HBM = "60k"
_INSTANCE = ("trace.parquet", "--hbm-bytes", _HBM)
_ON_INSTANCE = ("--time-limit", "2", "--json", "out.json")
_BEGIN_S = 0.5
"""In which ``kvopt --help`` is done on a machine with nothing else to do."""


@dataclass(frozen=True)
class Command:
    """A command line of ``kvopt`` and what is known of it.

    Parameters
    ----------
    name : str
    arguments : tuple of str
    files : tuple of str
        That it writes, each whole or not at all.
    seconds : float
        Moments to end it at are drawn from about so many seconds.
    json_stdout : bool
        Whether standard output is to be JSON.
    compiles : bool
        Whether to give it an empty cache of kernels.
    """

    name: str
    arguments: tuple[str, ...]
    files: tuple[str, ...] = ()
    seconds: float = 6.0
    json_stdout: bool = False
    compiles: bool = False


def _solving(method: str) -> Command:
    arguments = ("solve", *_INSTANCE, "--method", method, *_ON_INSTANCE, "--save-placement", "placement.parquet")
    return Command(f"solve {method}", arguments, ("out.json", "placement.parquet"))


def _sweeping(processes: int) -> Command:
    arguments = ("sweep", *_INSTANCE[:1], "--vary", "hbm_bytes=20k:100k:3", "--processes", str(processes))
    name = f"sweep, {processes} process{'es' * (processes > 1)}"
    return Command(name, (*arguments, *_ON_INSTANCE, "--plot", "out.png"), ("out.json", "out.png"), seconds=16.0)


def _studying(processes: int) -> Command:
    arguments = ("study", "fang2025", "--scale", "hundredth", "--only", "60 %, high", "--only", "50 %, middle")
    name = f"study, {processes} process{'es' * (processes > 1)}"
    return Command(name, (*arguments, "--processes", str(processes), "--out", "s"), ("s/study.json",), seconds=25.0)


COMMANDS = (
    Command("help", ("--help",), seconds=1.0),
    Command("instances", ("instances", "--json", "-"), seconds=1.0, json_stdout=True),
    Command("platforms", ("platforms", "--json", "out.json"), ("out.json",), seconds=1.0),
    Command("models", ("models", "--json", "-"), seconds=1.0, json_stdout=True),
    Command("objectives", ("objectives",), seconds=1.0),
    Command("trace info", ("trace", "info", "trace.parquet", "--json", "-"), seconds=1.5, json_stdout=True),
    Command("trace make", ("trace", "make", "published-low", "--accesses", "4e6", "-o", "o.parquet"), ("o.parquet",)),
    Command("trace import", ("trace", "import", "mooncake", "log.jsonl", "-o", "o.parquet"), ("o.parquet",), 3.0),
    Command("bound", ("bound", *_INSTANCE, *_ON_INSTANCE), ("out.json",)),
    Command("bound to stdout", ("bound", *_INSTANCE, "--time-limit", "2", "--json", "-"), json_stdout=True),
    Command(
        "bound, checkpoint",
        ("bound", *_INSTANCE, *_ON_INSTANCE, "--checkpoint", "c.npz", "--save-certificate", "cert.npz"),
        ("out.json", "c.npz", "cert.npz"),
    ),
    Command("bound aggregate", ("bound", *_INSTANCE, "--method", "aggregate", *_ON_INSTANCE), ("out.json",)),
    Command("bound, compiling", ("bound", *_INSTANCE, *_ON_INSTANCE), ("out.json",), seconds=40.0, compiles=True),
    Command("verify", ("verify", *_INSTANCE, "given.npz", "--json", "out.json"), ("out.json",), seconds=2.0),
    *(_solving(method) for method in ("anneal", "exact", "guided", "static", "static-hottest", "lru", "belady")),
    *(_solving(method) for method in ("look-ahead", "page", "reactive-flush")),
    Command(
        "solve, compiling", _solving("anneal").arguments, ("out.json", "placement.parquet"), seconds=60.0, compiles=True
    ),
    Command("compare", ("compare", *_INSTANCE, *_ON_INSTANCE, "--plot", "out.png"), ("out.json", "out.png"), 14.0),
    Command("compare to stdout", ("compare", "--time-limit", "2", "--json", "-"), seconds=16.0, json_stdout=True),
    Command("explain", ("explain", *_INSTANCE, *_ON_INSTANCE, "--plot", "out.png"), ("out.json", "out.png")),
    Command("export lp", ("export", *_INSTANCE, "-o", "o.lp"), ("o.lp",), seconds=5.0),
    Command("export mps.gz", ("export", *_INSTANCE, "-o", "o.mps.gz"), ("o.mps.gz",), seconds=8.0),
    Command("export, pyomo", ("export", *_INSTANCE, "--backend", "pyomo", "-o", "o.lp"), ("o.lp",), seconds=12.0),
    Command("size", ("size", *_INSTANCE, "--target-latency-s", "1.5e-7", *_ON_INSTANCE), ("out.json",), seconds=8.0),
    _sweeping(1),
    _sweeping(2),
    _studying(1),
    _studying(2),
)


def chosen(names: list[str] | None) -> list[Command]:
    """The commands whose names begin with one of these; default: all."""
    found = [command for command in COMMANDS if not names or command.name.startswith(tuple(names))]
    if not found:
        raise SystemExit(f"no command begins so. Choose from: {', '.join(c.name for c in COMMANDS)}")
    return found


def prepare(folder: Path, requests: int = 20_000) -> None:
    """Write the files that commands read, with a log of so many requests."""
    trace = drifting(200, 60, n_lanes=2, read_share=0.2, seed=3, size_bytes=1024)
    trace.save(folder / "trace.parquet")
    instance = kvopt.Instance(trace, kvopt.Platform.preset("gh200")).with_hbm_bytes(60e3)
    certificate = kvopt.bound(instance, time_limit=5.0).certificate
    save_certificate(certificate, folder / "given.npz", instance, field="path")
    rng = np.random.default_rng(0)
    with (folder / "log.jsonl").open("w") as log:
        for k in range(requests):
            first = int(rng.integers(1000))
            ids = list(range(first * 100, first * 100 + int(rng.integers(1, 20))))
            line = {"timestamp": 40 * k, "input_length": 512 * len(ids), "output_length": 64, "hash_ids": ids}
            log.write(json.dumps(line) + "\n")


@dataclass
class Run:
    """A command at work, in a process group of its own.

    Parameters
    ----------
    kvopt : str
        The executable.
    command : Command
    given : Path
        The folder of :func:`prepare`.
    folder : Path
        Its working folder, made if need be.
    """

    kvopt: str
    command: Command
    given: Path
    folder: Path
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir()
            for file in self.given.iterdir():
                os.link(file, self.folder / file.name)
        environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "COLUMNS")}
        if self.command.compiles:
            environment["NUMBA_CACHE_DIR"] = str(self.folder / "kernels")
        with (self._said / "stdout").open("wb") as out, (self._said / "stderr").open("wb") as err:
            self.process = subprocess.Popen(
                [self.kvopt, *self.command.arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=_heed_ctrl_c,
            )

    @property
    def _said(self) -> Path:
        """Beside the working folder, where nothing is to be left."""
        said = self.folder.with_name(self.folder.name + ".said")
        said.mkdir(exist_ok=True)
        return said

    def text(self, stream: str) -> str:
        """What it said on "stdout" or "stderr"."""
        return (self._said / stream).read_text(errors="replace")

    def send(self, number: signal.Signals, *, group: bool) -> None:
        """Send a signal to the group, as a terminal does, or to the process."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self) -> None:
        """Kill what is left."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def survivors(self, patience_s: float) -> int:
        """Processes of the group that are still alive after a while."""
        until = time.monotonic() + patience_s
        while True:
            alive = sum(1 for _ in _alive(self.process.pid))
            if not alive or time.monotonic() > until:
                return alive
            time.sleep(0.05)

    def broken_files(self) -> list[str]:
        """What is there of the command's files and not whole."""
        return [name for name in self.command.files if (self.folder / name).exists() and not _whole(self.folder / name)]

    def parts(self) -> list[str]:
        """Temporary files of the command that are left."""
        hidden = [path.name for path in self.folder.rglob(".*") if "kernels" not in path.parts]
        return sorted(hidden)

    def drop(self) -> None:
        """Remove its folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.rmtree(self._said, ignore_errors=True)


def _heed_ctrl_c() -> None:
    """What a shell starts in the background ignores Ctrl-C, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _alive(group: int) -> Iterator[int]:
    """Processes of a group, but for those that nobody has waited for."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, _, of_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
            except OSError:
                continue
            if int(of_group) == group and state != "Z":
                yield int(entry.name)


def _whole(path: Path) -> bool:
    kind = next(kind for kind in _READERS if path.name.endswith(kind))
    try:
        return bool(_READERS[kind](path))
    except Exception:
        return False


def _npz(path: Path) -> bool:
    with np.load(path, allow_pickle=False) as arrays:
        return all(arrays[name] is not None for name in arrays.files)


_READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".parquet": lambda path: pq.read_table(path) is not None,  # A placement of no interval has no row.
    ".npz": _npz,
    ".png": lambda path: path.read_bytes().endswith(b"IEND\xaeB`\x82"),
    ".lp": lambda path: path.read_text().strip().lower().endswith("end"),
    ".mps.gz": lambda path: gzip.decompress(path.read_bytes()).strip().endswith(b"ENDATA"),
}

_OF_THE_START = re.compile(r'File ".*/kvopt/(?!(__init__|__main__|ctrl_c|interrupts)\.py)')


def traceback_of_ours(stderr: str) -> bool:
    """Whether a traceback leads through the package, but for the lines that first hear of Ctrl-C."""
    return "Traceback" in stderr and _OF_THE_START.search(stderr) is not None


_usual: dict[int, float] = {}


def slowness(kvopt: str, turn: int) -> float:
    """How many times longer than usual a command takes to begin just now: a busy machine takes its moments later.

    Measured again every ten turns.
    """
    if turn // 10 not in _usual:
        began = time.monotonic()
        subprocess.run([kvopt, "--help"], stdout=subprocess.DEVNULL, check=True)
        _usual[turn // 10] = max(1.0, (time.monotonic() - began) / _BEGIN_S)
    return _usual[turn // 10]
