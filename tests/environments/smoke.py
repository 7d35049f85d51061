"""Does kvopt work here? What touches each library it stands on, in an environment that was made for the question.

Run by :mod:`tests.environments.run` on an installed wheel, far from the sources: this file imports nothing of the
repository but ``kvopt``. It is named so that the default test run leaves it out.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import kvopt

KERNELS = "KVOPT_SMOKE_KERNELS"
"""Environment variable that says which kernels to compile."""
TIGHT = ("--hbm-bytes", "6k")
LIMIT = ("--time-limit", "1")
_LOG = [{"timestamp": 1000 * k, "input_length": 1024, "output_length": 8, "hash_ids": [9, k]} for k in range(4)]


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A folder with a trace of twelve blocks, and a request log."""
    found = tmp_path_factory.mktemp("smoke")
    block = [k % 12 for k in range(36)]
    step = [(k * 7) % 4 for k in range(36)]
    trace = kvopt.Trace.from_accesses(
        block, step, n_steps=4, n_lanes=1, lane=[0] * 12, size_bytes=[1024] * 6 + [512] * 6, write_step=[-1] * 12
    )
    trace.save(found / "t.parquet")
    (found / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in _LOG))
    return found


def run(folder: Path, *arguments) -> bytes:
    """What ``kvopt`` writes to standard output."""
    command = [sys.executable, "-m", "kvopt", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stdout


def test_kernels_compile():
    """Those of the bound, or with ``--kernels all`` all of them; all else here runs uncompiled, which is faster."""
    code = f"from kvopt.warmup import warm_up; warm_up(bound_only={os.environ.get(KERNELS) != 'all'})"
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    subprocess.run([sys.executable, "-W", "error::UserWarning:kvopt", "-c", code], env=environment, check=True)


COMMANDS = {
    "compare": ("t.parquet", *TIGHT, *LIMIT, "--plot", "compare.png"),
    "solve": ("t.parquet", *TIGHT, *LIMIT, "--method", "exact", "--save-placement", "placed.parquet"),
    "bound": ("t.parquet", *TIGHT, *LIMIT, "--save-certificate", "proof.npz"),
    "verify": ("t.parquet", "proof.npz", *TIGHT),
    "explain": ("t.parquet", *TIGHT, *LIMIT, "--plot", "explain.svg"),
    "size": ("t.parquet", "--target-latency-s", "1e-6", *LIMIT),
    "sweep": ("t.parquet", "--vary", "hbm_bytes=5k:9k:2", "--processes", "2", *LIMIT, "--plot", "sweep.pdf"),
    "trace info": ("t.parquet",),
    "instances": (),
    "platforms": (),
    "models": (),
    "objectives": (),
}
"""Every command that offers --json, in an order in which each finds what it reads."""


@pytest.mark.parametrize("command", COMMANDS)
def test_json_on_standard_output_is_json_alone(command, folder):
    assert json.loads(run(folder, *command.split(), *COMMANDS[command], "--json", "-"))


def test_pictures_were_drawn(folder):
    assert all((folder / name).stat().st_size > 1000 for name in ("compare.png", "explain.svg", "sweep.pdf"))


def test_a_log_becomes_a_trace(folder):
    run(folder, "trace", "import", "mooncake", "log.jsonl", "-o", "log.parquet")
    assert kvopt.load_trace(folder / "log.parquet").n_blocks == 5


@pytest.mark.parametrize("backend", ["arrays", "pyomo"])
def test_both_back_ends_write_models_and_prove_the_same_optimum(backend, folder):
    run(folder, "export", "t.parquet", *TIGHT, "-o", f"{backend}.lp", "--backend", backend)
    assert "capacity(0_0)" in (folder / f"{backend}.lp").read_text("ascii")
    instance = kvopt.Instance(kvopt.load_trace(folder / "t.parquet"), kvopt.Platform.preset("gh200"))
    instance = instance.with_hbm_bytes(6000)
    found = kvopt.solve(instance, "exact", backend=backend, time_limit=20)
    assert found.termination.value == "optimal"
    annealed = kvopt.solve(instance, "anneal", time_limit=5)
    bound = kvopt.bound(instance, time_limit=5)
    assert bound.verified
    assert bound.value_s <= found.objective * (1 + 1e-9)
    assert found.objective <= annealed.objective * (1 + 1e-9)


@pytest.mark.parametrize("method", kvopt.methods())
def test_every_method_answers(method, folder):
    instance = kvopt.Instance(kvopt.load_trace(folder / "t.parquet"), kvopt.Platform.preset("gh200"))
    instance = instance.with_hbm_bytes(6000)
    found = kvopt.solve(instance, method, time_limit=2)
    assert not found.placement.violations(instance)


def test_a_report_is_drawn_in_colour_and_is_a_frame(folder):
    from io import StringIO

    from rich.console import Console

    from kvopt import report

    instance = kvopt.Instance(kvopt.load_trace(folder / "t.parquet"), kvopt.Platform.preset("gh200"))
    comparison = kvopt.compare(instance.with_hbm_bytes(6000), ["static-oldest", "lru"], time_limit=1)
    drawn = StringIO()
    report.show(comparison, Console(file=drawn, force_terminal=True, width=120))
    assert "static-oldest" in drawn.getvalue()
    assert comparison.frame["method"].tolist() == ["static-oldest", "lru"]
