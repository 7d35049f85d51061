"""Files that come in: what is no regular file, no text or no JSON is refused by name, and decoders' errors with it."""

from __future__ import annotations

import os

import pytest

from kvopt import reading
from kvopt.errors import KvoptError, TraceError


def refused(path, words: str, read=reading.read_json) -> None:
    with pytest.raises(KvoptError, match=words) as caught:
        read(path, "field", "The fix")
    assert caught.value.field == "field"
    assert caught.value.fix == "The fix"


def test_what_is_no_regular_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    refused(tmp_path, "it is a directory")
    refused(tmp_path / "pipe", "it is no regular file")
    refused("/dev/zero", "it is no regular file")
    refused(tmp_path / "loop", "it is a link to nothing")
    refused(tmp_path / "gone", "it is a link to nothing")
    refused(tmp_path / "none", "it does not exist")
    refused("x" * 5000, "cannot read")
    for path, words in ((None, "got None"), ([tmp_path], "got a list")):
        with pytest.raises(KvoptError, match=f"field: must be a str or PathLike, {words}"):
            reading.read_json(path, "field", "The fix")


def test_a_file_without_permission_is_named(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("1")
    monkeypatch.setattr(reading.os, "access", lambda path, mode: False)
    refused(tmp_path / "a", "permission denied")


def test_files_are_measured_before_they_are_read(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("[1, 2]")
    assert reading.read_json(tmp_path / "a", "field", "The fix") == [1, 2]
    monkeypatch.setattr(reading, "MOST_TEXT_BYTES", 5)
    refused(tmp_path / "a", "has 6 bytes, more than 5")


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe{", b"\xed\xa0\x80", b"{", b"[" * 100_000, b"9" * 5000, b"[" * 51 + b"]" * 51]
)
def test_what_is_no_json_is_refused(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    refused(tmp_path / "a", "a is no JSON ")


def test_json_of_some_depth_and_with_a_mark_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + b"[" * 50 + b"]" * 50)
    found = reading.read_json(tmp_path / "a", "field", "The fix")
    for _ in range(49):
        (found,) = found
    assert found == []


def test_decoders_errors_name_the_file_and_others_pass():
    for raised, words in (
        (NotImplementedError("no such\nmethod"), r"f\.npz is no archive \(no such\)"),
        (KeyError(), r"f\.npz is no archive \(KeyError\)"),
        (MemoryError(), r"f\.npz asks for more memory than there is"),
        (OSError(5, "I/O error"), r"\(I/O error\)"),
    ):
        with (
            pytest.raises(TraceError, match=words),
            reading.decoding("f.npz", "x", "no archive", "Fix", TraceError),
        ):
            raise raised
    with pytest.raises(KvoptError, match="own: words"), reading.decoding("f", "field", "no archive", "Fix", TraceError):
        raise KvoptError("own", "words", "fix")
    with pytest.raises(KeyboardInterrupt), reading.decoding("f", "field", "no archive", "Fix"):
        raise KeyboardInterrupt
