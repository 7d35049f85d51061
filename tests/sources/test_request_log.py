"""Request logs: the rule by hand, every way a line can be wrong, and the facts known of the published log."""

import json
import os
from pathlib import Path

import pytest

from kvopt.errors import TraceError
from kvopt.sources.request_log import LLAMA_3_70B_BYTES_PER_TOKEN, import_mooncake

LOG = Path(os.environ.get("KVOPT_MOONCAKE_TRACE", "conversation_trace.jsonl"))
needs_log = pytest.mark.skipif(not LOG.is_file(), reason=f"no Mooncake log at {LOG} (set KVOPT_MOONCAKE_TRACE)")


def line(stamp=0, ids=(0,), **changes) -> str:
    request = {"timestamp": stamp, "input_length": 512, "output_length": 3, "hash_ids": list(ids), **changes}
    return json.dumps({key: value for key, value in request.items() if value is not ...})


@pytest.fixture
def log(tmp_path):
    """A function that writes a log of the given lines."""

    def write(*lines: str) -> Path:
        path = tmp_path / "log.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def test_known_ids_are_read_and_new_ones_written(log):
    trace = import_mooncake(log(line(0, [7, 3]), line(5, [7, 9]), line(5, []), line(8.5, [7, 3, 3, 4])))
    # Blocks by appearance: 7, 3, 9, 4. The repeated 3 counts once.
    assert (trace.n_steps, trace.n_lanes, trace.n_blocks, trace.step_unit) == (4, 1, 4, "request")
    assert trace.write_step.tolist() == [0, 0, 1, 3]
    assert trace.free_step.tolist() == [4, 4, 4, 4]
    runs = zip(trace.run_block.tolist(), trace.run_start.tolist(), trace.run_stop.tolist(), strict=True)
    assert list(runs) == [(0, 1, 2), (0, 3, 4), (1, 3, 4)]
    assert set(trace.size_bytes.tolist()) == {512 * LLAMA_3_70B_BYTES_PER_TOKEN} == {167_772_160}
    assert trace.provenance["file"] == "log.jsonl"
    assert trace.provenance["requests"] == 4
    assert trace.provenance["last_timestamp_ms"] == 8.5
    assert "Mooncake" in trace.provenance["source"]
    assert "Apache-2.0" in trace.provenance["licence"]


def test_options(log):
    path = log(line(0, [1]), line(1, [1, 2]), "broken beyond max_requests")
    trace = import_mooncake(path, max_requests=2, bytes_per_token=10, block_tokens=16)
    assert (trace.n_steps, trace.n_accesses, trace.size_bytes.tolist()) == (2, 1, [160, 160])


def test_blank_lines_are_passed_over(log):
    assert import_mooncake(log(line(0, [1]), "", "  ", line(1, [1]))).n_steps == 2


def test_it_saves(log, tmp_path):
    from kvopt.trace_io import load_trace

    trace = import_mooncake(log(line(0, [1]), line(1, [1, 2])))
    trace.save(tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet").provenance == trace.provenance


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        ("{", "line", "no JSON.*one JSON object a line"),
        ('{"timestamp": 0', "line", "no JSON"),
        ("[1, 2]", "line", "is a list"),
        ("3", "line", "is a int"),
        (line(timestamp=...), "timestamp", "is missing"),
        (line(input_length=...), "input_length", "is missing"),
        (line(output_length=...), "output_length", "is missing"),
        (line(hash_ids=...), "hash_ids", "is missing. Each request needs timestamp"),
        (line(ids=[0, -1]), "hash_ids", "holds -1. Ids are whole numbers"),
        (line(ids=[1.5]), "hash_ids", "holds 1.5"),
        (line(ids=[float("nan")]), "hash_ids", "holds nan"),
        (line(ids=["a"]), "hash_ids", "holds 'a'"),
        (line(ids=[None]), "hash_ids", "holds None"),
        (line(ids=[True]), "hash_ids", "holds True"),
        (line(hash_ids=3), "hash_ids", "is a int"),
        (line(hash_ids={"a": 1}), "hash_ids", "is a dict"),
        (line(stamp=-1), "timestamp", "is -1"),
        (line(stamp=float("nan")), "timestamp", "is nan"),
        (line(stamp=float("inf")), "timestamp", "is inf"),
        (line(stamp="now"), "timestamp", "is 'now'"),
        (line(stamp=3), "timestamp", "3 comes after 5.*Sort the requests"),
        (line(5, input_length=-3), "input_length", "is -3"),
        (line(5, output_length=2.5), "output_length", "is 2.5"),
    ],
)
def test_a_bad_line_is_named_with_its_number(log, bad, field, words):
    with pytest.raises(TraceError, match=rf"log\.jsonl line 2: .*{words}") as caught:
        import_mooncake(log(line(5, [1]), bad))
    assert caught.value.field == field
    assert caught.value.fix


def test_files_without_a_request_or_a_block(log, tmp_path):
    with pytest.raises(TraceError, match=r"requests: log\.jsonl holds none"):
        import_mooncake(log())
    with pytest.raises(TraceError, match=r"hash_ids: log\.jsonl names no block"):
        import_mooncake(log(line(0, [])))
    with pytest.raises(TraceError, match=r"path: .* is a directory"):
        import_mooncake(tmp_path)
    with pytest.raises(TraceError, match=r"path: .* does not exist"):
        import_mooncake(tmp_path / "absent.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00PAR1")
    with pytest.raises(TraceError, match=r"path: .* cannot be read as text"):
        import_mooncake(tmp_path / "binary")


@pytest.mark.parametrize("option", ["max_requests", "bytes_per_token", "block_tokens"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_options_are_counts(log, option, value):
    with pytest.raises(TraceError, match=f"{option}: must be a whole number of at least 1"):
        import_mooncake(log(line()), **{option: value})


@needs_log
def test_facts_of_the_published_log():
    trace = import_mooncake(LOG)
    assert trace.n_steps == 12_031
    assert trace.n_blocks == 182_790
    assert trace.n_accesses + trace.n_blocks == 288_500  # Known ids are read, new ones written.
    assert trace.n_accesses / 288_500 == pytest.approx(0.366, abs=5e-4)  # The unbounded hit rate.


@needs_log
def test_the_first_requests_alone():
    trace, whole = import_mooncake(LOG, max_requests=500), import_mooncake(LOG)
    assert trace.n_steps == 500
    part = whole.window((0, 500))
    assert part.write_step.tolist() == trace.write_step.tolist()
    assert part.run_start.tolist() == trace.run_start.tolist()
