"""Texts and files that once ended in a bare exception, or asked for gigabytes, are refused by field."""

from __future__ import annotations

import contextlib
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import kvopt
from kvopt import Certificate, Instance, KvoptError, Platform, Trace, objective_text
from kvopt.cli import main

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def instance():
    trace = Trace(6, 2, [0, 1], [3, 4], [-1, -1], [6, 6], [0, 1, 2], [0, 1], [2, 3])
    return Instance(trace, Platform.preset("gh200"))


@pytest.mark.parametrize(
    "text",
    [
        "9" * 400 + "*latency",
        "cvar(alpha={})",
        "cvar(alpha='x')",
        "late_steps(deadline_s=None)",
        "late_steps(deadline_s=" + "9" * 400 + ")",
        "traffic(channel=[1])",
        "cost(per_hour='x')",
        "cost(per_hour=1, per_byte_written=3)",
        "energy(read_j_per_byte={'hbm': 'x'}, write_j_per_byte={})",
        "energy(read_j_per_byte=1, write_j_per_byte=2)",
        "energy(read_j_per_byte={}, write_j_per_byte={}, power_w='x')",
        "{[]: 1}*latency",
        "cvar(alpha={[]: 1})",
        "latency" + "+latency" * 5000,
        "-" * 100_000 + "1*latency",
        "(" * 150 + "latency" + ")" * 150,
        "2*" * 5000 + "latency",
        "latency" + "+latency" * 900,
        "cvar(alpha=1" + "+1j" * 3000 + ")",
        "a" * 10**6,
        "latency" * 10_000,
        "__import__('os').system('true')",
        "cvar(alpha=__import__('os').system('true'))",
    ],
    ids=lambda text: f"{text[:30]} ({len(text)})",
)
def test_objective_lines(text, instance):
    """Some may be meant, as many brackets are; what is taken must be usable, and all is over soon."""
    began = time.process_time()
    with contextlib.suppress(KvoptError):
        instance.with_objective(objective_text.parse(text)).summary()
    assert time.process_time() - began < 10  # A guard against what grows with the square: it was minutes.


@pytest.mark.parametrize("name", ["fuzz_trace_1.parquet", "fuzz_trace_3.parquet", "size_statistics.parquet"])
def test_traces(name):
    with pytest.raises(KvoptError):
        kvopt.load_trace(DATA / name)


class Unspeakable:
    """Not even its repr can be had."""

    def __repr__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "call",
    [
        lambda instance: Trace(6, 2, [0], [3], [-1], [6], [0, 1], [0], [2], tokens_per_page=Unspeakable()),
        lambda instance: Platform("p", np.array(5), np.array(5)),
        lambda instance: kvopt.compare(instance, np.array("lru")),
        lambda instance: kvopt.sweep(instance, "hbm_bytes", np.array(5)),
        lambda instance: kvopt.solve(instance, "anneal", move=Unspeakable()),
        lambda instance: kvopt.instances.make(Unspeakable()),
        lambda instance: kvopt.instances.make([]),
        lambda instance: kvopt.Placement.from_intervals(2**45, [0], [0], [1]),
        lambda instance: kvopt.bound(instance, checkpoint="x" * 5000),
        lambda instance: kvopt.bound(instance, checkpoint="a\x00b"),
    ],
)
def test_calls(call, instance):
    with pytest.raises(KvoptError):
        call(instance)


def test_a_name_that_is_too_long_is_refused_before_any_work():
    done = CliRunner().invoke(main, ["compare", "--methods", "lru", "--json", "x" * 5000])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --json: cannot write")


def test_placements(instance):
    with pytest.raises(KvoptError):
        kvopt.load_placement(DATA / "fuzz_placement_2.parquet", instance)


def test_certificates(instance):
    with pytest.raises(KvoptError):
        Certificate.load(DATA / "fuzz_cert_1.npz", instance)


def test_checkpoints(instance):
    with pytest.raises(KvoptError):
        kvopt.bound(instance, checkpoint=DATA / "fuzz_checkpoint_1.npz")


@pytest.mark.parametrize("changes", [{"n_steps": 2**31 - 1}, {"n_lanes": 2**31 - 1}])
def test_a_small_trace_of_terabytes(changes, instance, tmp_path):
    """What needs a number for each slot says how much memory that would be."""
    instance.trace.save(tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    about = json.loads(table.schema.metadata[b"kvopt"]) | changes
    pq.write_table(table.replace_schema_metadata({b"kvopt": json.dumps(about).encode()}), tmp_path / "n.parquet")
    with pytest.raises(KvoptError):
        Instance(kvopt.load_trace(tmp_path / "n.parquet"), Platform.preset("gh200")).live_bytes.sum()


def test_an_archive_of_terabytes(instance, tmp_path):
    path = tmp_path / "c.npz"
    kvopt.bound(instance, method="aggregate").certificate.save(path, instance)
    with zipfile.ZipFile(path, "a") as archive, archive.open("zz.npy", "w") as member:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(member, header)
    with pytest.raises(KvoptError):
        Certificate.load(path, instance)
