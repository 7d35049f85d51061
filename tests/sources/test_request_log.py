"""Request logs: the rule by hand, every way a line can be wrong, and the facts known of the published log."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

import kvopt
from kvopt.errors import KvoptError, ModelError, TraceError
from kvopt.sources.request_log import LLAMA_3_70B_BYTES_PER_TOKEN, import_mooncake

LOG = Path(os.environ.get("KVOPT_MOONCAKE_TRACE", "conversation_trace.jsonl"))
needs_log = pytest.mark.skipif(not LOG.is_file(), reason=f"no Mooncake log at {LOG} (set KVOPT_MOONCAKE_TRACE)")


def line(stamp=0, ids=(0,), **changes) -> str:
    length = 512 * len(ids)
    request = {"timestamp": stamp, "input_length": length, "output_length": 3, "hash_ids": list(ids), **changes}
    return json.dumps({key: value for key, value in request.items() if value is not ...})


@pytest.fixture
def log(tmp_path):
    """A function that writes a log of the given lines."""

    def write(*lines: str) -> Path:
        path = tmp_path / "log.jsonl"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def runs_of(trace) -> list[tuple[int, int, int]]:
    return list(zip(trace.run_block.tolist(), trace.run_start.tolist(), trace.run_stop.tolist(), strict=True))


def test_known_ids_are_read_and_new_ones_written(log):
    trace = import_mooncake(log(line(0, [7, 3]), line(5, [7, 9]), line(5, []), line(8.5, [7, 3, 3, 4])))
    # Blocks by appearance: 7, 3, 9, 4. The repeated 3 counts once.
    assert (trace.n_steps, trace.n_lanes, trace.n_blocks, trace.step_unit) == (4, 1, 4, "request")
    assert trace.write_step.tolist() == [0, 0, 1, 3]
    assert trace.free_step.tolist() == [4, 4, 4, 4]
    assert runs_of(trace) == [(0, 1, 2), (0, 3, 4), (1, 3, 4)]
    assert (trace.n_accesses, trace.n_block_requests) == (3, 7)
    assert set(trace.size_bytes.tolist()) == {512 * LLAMA_3_70B_BYTES_PER_TOKEN} == {167_772_160}


def test_the_provenance_says_what_is_known_and_claims_no_more(log):
    path = log(line(0, [1], chat_id=7, turn=1), line(8.5, [1]))
    assert dict(import_mooncake(path).provenance) == {
        "format": "Mooncake JSON lines",
        "source": "log.jsonl",
        "file": "log.jsonl",
        "licence": "unknown",
        "requests": 2,
        "first_timestamp_ms": 0,
        "last_timestamp_ms": 8.5,
        "time_unit": "ms",
        "block_tokens": 512,
        "bytes_per_token": 327_680,
        "bytes_per_token_from": "default: Llama 3 70B in 16 bits",
        "keys_not_used": "chat_id, turn",
    }
    assert import_mooncake(path, licence="CC-BY-4.0").provenance["licence"] == "CC-BY-4.0"


def test_options(log):
    path = log(line(0, [1], input_length=16), line(1, [1, 2], input_length=32), "broken beyond max_requests")
    trace = import_mooncake(path, max_requests=2, bytes_per_token=10, block_tokens=16)
    assert (trace.n_steps, trace.n_accesses, trace.size_bytes.tolist()) == (2, 1, [160, 160])
    assert trace.provenance["bytes_per_token_from"] == "given"


def test_a_model_gives_the_bytes_per_token(log):
    path, spec = log(line(0, [1])), kvopt.ModelSpec.preset("llama-3.1-8b")
    per_token = 32 * 2 * 8 * 128 * 2
    for model in ("llama-3.1-8b", spec):
        trace = import_mooncake(path, model=model, bytes_per_token=per_token)
        assert trace.size_bytes.tolist() == [512 * per_token]
        assert trace.provenance["bytes_per_token_from"] == "model llama-3.1-8b in 16 bits"
    assert import_mooncake(path, model="llama-3.1-70b").size_bytes.tolist() == [512 * LLAMA_3_70B_BYTES_PER_TOKEN]
    with pytest.raises(TraceError, match=r"bytes_per_token: is 5, and llama-3\.1-8b has 131,072"):
        import_mooncake(path, model="llama-3.1-8b", bytes_per_token=5)
    with pytest.raises(ModelError, match="there is no preset 'nonsense'"):
        import_mooncake(path, model="nonsense")


def test_it_saves(log, tmp_path):
    from kvopt.trace_io import load_trace

    trace = import_mooncake(log(line(5, [1]), line(1, [1, 2])))
    trace.save(tmp_path / "t.parquet")
    assert load_trace(tmp_path / "t.parquet").provenance == trace.provenance


def test_rows_out_of_order_are_sorted_and_that_is_said(log):
    mixed = import_mooncake(log(line(7, [5, 1]), line(3, [5, 2]), line(3, [6]), line(1, [2])))
    in_order = import_mooncake(log(line(1, [2]), line(3, [5, 2]), line(3, [6]), line(7, [5, 1])))
    assert mixed.write_step.tolist() == in_order.write_step.tolist() == [0, 1, 2, 3]
    assert runs_of(mixed) == runs_of(in_order) == [(0, 1, 2), (1, 3, 4)]
    assert mixed.provenance["sorted"] == "3 of 4 requests stood after a later one"
    assert "sorted" not in in_order.provenance
    assert (mixed.provenance["first_timestamp_ms"], mixed.provenance["last_timestamp_ms"]) == (1, 7)


@pytest.mark.parametrize(
    ("ids", "same"),
    [
        (([2**64 - 1, 2**63], [2**64 - 1]), 1),
        (([-5, 5], [-5]), 1),
        ((["a4c5de01b2", "00FF"], ["00ff", "0xA4C5DE01B2"]), 2),
        ((["f" * 128], ["F" * 128]), 1),
    ],
)
def test_ids_are_of_64_bits_or_hexadecimal(log, ids, same):
    trace = import_mooncake(log(*(line(k, each) for k, each in enumerate(ids))))
    assert (trace.n_blocks, trace.n_accesses) == (len(ids[0]), same)


def test_dates_are_converted(log):
    stamps = ("2026-03-02T10:00:00Z", "2026-03-02T11:00:00.250+01:00", "2026-03-02 10:00:01")
    trace = import_mooncake(log(*(line(stamp, [1]) for stamp in stamps)))
    assert trace.provenance["first_timestamp_ms"] == 1_772_445_600_000
    assert trace.provenance["last_timestamp_ms"] == 1_772_445_601_000
    assert trace.provenance["time_unit"] == "ISO 8601 dates"
    with pytest.raises(TraceError, match=r"timestamp: log\.jsonl line 2: is 5, and others of the log are not"):
        import_mooncake(log(line(stamps[0]), line(5)))


def test_seconds_are_converted(log):
    trace = import_mooncake(log(line(0.114, [1]), line("3.2", [1]), line(9, [1])), time_unit="s")
    assert (trace.provenance["first_timestamp_ms"], trace.provenance["last_timestamp_ms"]) == (114, 9000)
    assert trace.provenance["time_unit"] == "s"


def test_a_delay_follows_the_session(log):
    rows = [
        line(0, [1], session_id="a"),
        line(..., [1, 2], session_id="a", delay=500),
        line(100, [1], session_id="b"),
        line(..., [1, 3], session_id="b", delay_ms=250),
        line(..., [1, 4], session_id="b", delay=300),
    ]
    trace = import_mooncake(log(*rows))
    # Arrivals: 0, 500, 100, 350, 650.
    assert trace.write_step.tolist() == [0, 2, 3, 4]
    assert trace.provenance["last_timestamp_ms"] == 650
    assert trace.provenance["delays"].startswith("3 requests have no timestamp")
    with pytest.raises(TraceError, match="line 1: is missing, and its session has no earlier row"):
        import_mooncake(log(rows[1]))
    with pytest.raises(TraceError, match=r"line 1: is missing\. Each request needs timestamp"):
        import_mooncake(log(line(..., [1], delay=500)))
    seconds = log(line(0.5, [1], session_id=1), line(..., [1], session_id=1, delay_ms=250))
    assert import_mooncake(seconds, time_unit="s").provenance["last_timestamp_ms"] == 750


def test_other_names_of_the_same_keys(log):
    row = {"created_time": 4.0, "input_tokens": 512, "output_tokens": 1, "hash_ids": [3]}
    trace = import_mooncake(log(json.dumps(row)))
    assert (trace.n_blocks, trace.provenance["last_timestamp_ms"]) == (1, 4)
    assert "keys_not_used" not in trace.provenance


DEEP = "[" * 100_000 + "]" * 100_000
LONG = "1" + "0" * 400


@pytest.mark.parametrize(
    ("bad", "field", "words"),
    [
        ("{", "line", "no JSON.*one JSON object per line"),
        ('{"timestamp": 0', "line", "no JSON.*--skip-bad"),
        ("[1, 2]", "line", "is a list"),
        ("3", "line", "is a int"),
        (DEEP, "line", "is nested too deep"),
        (line(timestamp=...), "timestamp", "is missing"),
        (line(input_length=...), "input_length", "is missing"),
        (line(output_length=...), "output_length", "is missing"),
        (line(hash_ids=...), "hash_ids", "is missing; without ids .* Each request needs timestamp"),
        (line(hash_ids=None), "hash_ids", "is missing"),
        (line(hash_ids=..., input_length=..., text_input="hello"), "hash_ids", "text_input does not say which"),
        (line(5, [1.5]), "hash_ids", "holds 1.5"),
        (line(5, [float("nan")]), "hash_ids", "holds nan"),
        (line(5, [2**64]), "hash_ids", "holds 18446744073709551616. Ids are whole numbers of 64 bits"),
        (line(5, [-(2**63) - 1]), "hash_ids", "holds -9223372036854775809"),
        (line(5, [1], hash_ids=["a"]), "hash_ids", "text and numbers in one log"),
        (line(5, [1, "a"]), "hash_ids", "text and numbers in one log"),
        (line(5, ["hello"]), "hash_ids", "holds 'hello'. .* hexadecimal"),
        (line(5, [""]), "hash_ids", "holds ''"),
        (line(5, ["f" * 129]), "hash_ids", "holds 'ffff.*at most 128 digits"),
        (line(5, [None]), "hash_ids", "holds None"),
        (line(5, [True]), "hash_ids", "holds True"),
        (line(5, [[1]]), "hash_ids", r"holds \[1\]"),
        (line(hash_ids=3), "hash_ids", "is a int"),
        (line(hash_ids={"a": 1}), "hash_ids", "is a dict"),
        (line().replace("[0]", f"[{LONG}]"), "hash_ids", r"holds 1000+\.\.\.0+\."),
        (line(stamp=-1), "timestamp", "is -1"),
        (line(stamp=float("nan")), "timestamp", "is nan"),
        (line(stamp=float("inf")), "timestamp", "is inf"),
        (line(stamp="now"), "timestamp", "is 'now'"),
        (line(stamp="1969-12-31T23:59:59Z"), "timestamp", "is '1969.*from 1970 on"),
        (line(stamp=[]), "timestamp", r"is \[\]"),
        (line(stamp=True), "timestamp", "is True"),
        (line(stamp=2**53), "timestamp", "is 9007199254740992"),
        (line().replace('"timestamp": 0', f'"timestamp": {LONG}'), "timestamp", r"is 1000+\.\.\.0+\."),
        (line(5, input_length=-3), "input_length", "is -3"),
        (line(5, output_length=2.5), "output_length", "is 2.5"),
        (line(5, output_length="2"), "output_length", "is '2'"),
        (line().replace('"input_length": 512', f'"input_length": {LONG}'), "input_length", r"is 1000+\.\.\."),
        (line().replace("512", "9" * 5000), "line", "no JSON"),
        (line(5, session_id=[1]), "session_id", "is a list"),
        (line(..., session_id="a"), "timestamp", "is missing"),
        (line(5, a=1).replace('"a"', '"\udcff"'), "line", "is no UTF-8 text"),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, bad, field, words):
    path = tmp_path / "log.jsonl"
    path.write_bytes(f"{line(5, [1])}\n{bad}\n".encode(errors="surrogateescape"))
    with pytest.raises(TraceError, match=rf"log\.jsonl.*line 2.*{words}") as caught:
        import_mooncake(path)
    assert caught.value.field == field
    assert caught.value.fix
    assert len(str(caught.value)) < 500


def test_bad_lines_are_left_out_on_request_only(log):
    path = log(line(0, [1]), '{"timestamp": 5, "input_len', line(3, [1.5]), line(7, [1]))
    trace = import_mooncake(path, skip_bad=2)
    assert (trace.n_steps, trace.n_accesses) == (2, 1)
    assert trace.provenance["skipped_lines"] == [2, 3]
    with pytest.raises(TraceError, match=r"line 3: holds 1\.5"):
        import_mooncake(path, skip_bad=1)


def test_a_bad_line_leaves_nothing_behind(log):
    path = log(line(0, [1]), line("never", [2, 3]), line(7, [3, 1]))
    trace = import_mooncake(path, skip_bad=1)
    assert (trace.n_blocks, trace.write_step.tolist()) == (2, [0, 1])


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
    with pytest.raises(TraceError, match="path: is a int"):
        import_mooncake(3)


@pytest.mark.parametrize("option", ["max_requests", "bytes_per_token", "block_tokens"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "16", float("nan"), 2**80])
def test_options_are_counts(log, option, value):
    with pytest.raises(TraceError, match=f"{option}: must be a whole number of at least 1"):
        import_mooncake(log(line()), **{option: value})


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("skip_bad", -1),
        ("skip_bad", None),
        ("time_unit", "h"),
        ("time_unit", ["s"]),
        ("licence", 3),
        ("model", 3),
        ("bytes_per_token", 2**62),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(log, option, value):
    with pytest.raises(KvoptError) as caught:
        import_mooncake(log(line()), **{option: value})
    assert caught.value.field == option


def test_counts_of_other_types_are_taken(log):
    trace = import_mooncake(log(line()), bytes_per_token=np.int64(10), block_tokens=512.0, max_requests=np.int32(1))
    assert trace.size_bytes.tolist() == [5120]


@needs_log
def test_facts_of_the_published_log():
    trace = import_mooncake(LOG)
    assert trace.n_steps == 12_031
    assert trace.n_blocks == 182_790
    assert trace.n_block_requests == 288_500
    assert trace.n_accesses == 288_500 - 182_790  # Known ids are read, new ones written.
    assert trace.n_accesses / 288_500 == pytest.approx(0.366, abs=5e-4)  # The unbounded hit rate.
    assert not {"sorted", "lengths", "keys_not_used"} & trace.provenance.keys()


@needs_log
@pytest.mark.parametrize(
    ("options", "words"),
    [({"block_tokens": 16}, "All rows fit 512 tokens per id"), ({"time_unit": "s"}, r"They fit time_unit='ms'")],
)
def test_the_published_log_contradicts_other_units(options, words):
    with pytest.raises(TraceError, match=words):
        import_mooncake(LOG, **options)


@needs_log
def test_the_first_requests_alone():
    trace, whole = import_mooncake(LOG, max_requests=500), import_mooncake(LOG)
    assert trace.n_steps == 500
    part = whole.window((0, 500))
    assert part.write_step.tolist() == trace.write_step.tolist()
    assert part.run_start.tolist() == trace.run_start.tolist()
