"""Lines of a log, however they were written down."""

import gzip
import io
import subprocess
import sys

import pyarrow as pa
import pytest

from kvopt.errors import TraceError
from kvopt.sources import log_text
from kvopt.sources.log_text import STDIN, log_stem, numbered_lines

TEXT = b'{"a": 1}\n\n  \n{"b": "\xc3\xa9"}\n{"c": 3}'
LINES = [(1, '{"a": 1}'), (4, '{"b": "é"}'), (5, '{"c": 3}')]


def zstd(data: bytes) -> bytes:
    return pa.compress(data, "zstd", asbytes=True)


FORMS = {
    "plain": TEXT,
    "byte order mark": b"\xef\xbb\xbf" + TEXT,
    "CR LF": TEXT.replace(b"\n", b"\r\n"),
    "CR": TEXT.replace(b"\n", b"\r"),
    "gzip": gzip.compress(TEXT),
    "gzip in parts": gzip.compress(TEXT[:11]) + gzip.compress(TEXT[11:]),
    "zstd": zstd(TEXT),
    "zstd in parts": zstd(TEXT[:11]) + zstd(TEXT[11:]),
    "gzip, byte order mark, CR LF": gzip.compress(b"\xef\xbb\xbf" + TEXT.replace(b"\n", b"\r\n")),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["log.jsonl", "log.gz", "log.zst"])
def test_lines_are_the_same_in_every_form(form, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(FORMS[form])
    assert list(numbered_lines(path)) == LINES


@pytest.mark.parametrize("form", FORMS)
def test_standard_input_is_read_in_every_form_and_stays_open(form, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO(FORMS[form]))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert list(numbered_lines(STDIN)) == LINES
    assert not stdin.buffer.closed


def test_a_real_pipe_is_read():
    code = "from kvopt.sources.log_text import *; print(list(numbered_lines(STDIN)) == eval(input_lines))"
    code = f"input_lines = {ascii(LINES)!r}\n{code}"
    done = subprocess.run([sys.executable, "-c", code], input=FORMS["zstd"], capture_output=True, check=True)
    assert done.stdout.strip() == b"True"


def test_names_without_endings():
    from pathlib import Path

    names = ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a", "a.gz", "-")
    assert [log_stem(Path(name)) for name in names] == ["a", "a", "a", "a", "a", "stdin"]


LONG = b'{"a": "' + b"0123456789abcdef" * 4096 + b'"}\n'
DAMAGED = {
    "gzip cut": gzip.compress(LONG)[:-20],
    "gzip of noise": gzip.compress(LONG)[:10] + b"\xff" * 100,
    "zstd cut": zstd(LONG)[:-5],
    "zstd of noise": zstd(LONG)[:8] + b"\xff" * 100,
    "no text": b"\xff\xfe\x00PAR1",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damage_is_an_error_of_one_line_that_names_the_file(kind, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(TraceError, match=r"^path: log\.jsonl cannot be read as text \(line 1"):
        list(numbered_lines(path))


def test_an_endless_line_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(log_text, "LONGEST_LINE", 1000)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"1" * 10_000_000))
    with pytest.raises(TraceError, match="line 1 has more than 1,000 characters"):
        list(numbered_lines(path))
    path.write_bytes(b"1" * 999 + b"\n")
    assert len(list(numbered_lines(path))) == 1


def test_without_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(TraceError, match="there is no standard input"):
        list(numbered_lines(STDIN))
