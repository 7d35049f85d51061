"""Archives: what was written is read, and what is odd is refused before memory is taken for it."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile

import numpy as np
import pytest

from kvopt.errors import KvoptError
from kvopt.npz import read_arrays


def read(path, most: float = 1e6) -> dict[str, np.ndarray]:
    return read_arrays(path, "field", "no archive of ours", "The fix", most)


def header(shape, descr: str = "<f8") -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": descr, "fortran_order": False, "shape": shape})
    return out.getvalue()


def write(path, members: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytearray:
    with zipfile.ZipFile(path, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of a name that is there already.
        for name, data in members:
            archive.writestr(name, data)
    return bytearray(path.read_bytes())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_wrote_is_read(tmp_path, save):
    arrays = {
        "plain": np.arange(12.0).reshape(3, 4),
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "empty": np.zeros((0, 5)),
        "point": np.array(3.0),
        "text": np.array("häh"),
        "ints": np.arange(3),
    }
    save(tmp_path / "a.npz", **arrays)
    found = read(tmp_path / "a.npz")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


ONE = header((1,)) + bytes(8)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("a.npy", header((10**12,)) + bytes(8))], r"a header of shape \(1000000000000,\) over"),
        ([("a.npy", header((2**62, 4)) + bytes(8))], "a header of shape"),
        ([("a.npy", header((0,)) + bytes(8))], "a header of shape"),
        ([("a.npy", header((-1,)) + bytes(8))], "is no archive of ours"),
        ([("a.npy", header((1,), "|O") + pickle.dumps([1]))], "neither numbers nor text"),
        ([("a.npy", header((1,), "<c16") + bytes(16))], "neither numbers nor text"),
        ([("a.npy", b"\x93NUMPY\x01\x00\x05\x00{{{{{")], "is no archive of ours"),
        ([("a.npy", b"words")], "is no archive of ours"),
        ([("a.npy", b"")], "is no archive of ours"),
        ([("a.npy", ONE), ("a.npy", ONE)], "two members have one name"),
        ([("a.txt", ONE)], r"member 'a\.txt' is no plain array"),
        ([("d/", b"")], "member 'd/' is no plain array"),
        ([(f"{k}.npy", ONE) for k in range(100)], "it has 100 members"),
        ([("a.npy", header((10**6,)) + bytes(8 * 10**6))], r"claims to hold 8,000,128 bytes, more than the 1,000,000"),
    ],
)
def test_odd_members_are_refused(tmp_path, members, words):
    write(tmp_path / "a.npz", members)
    with pytest.raises(KvoptError, match=words) as caught:
        read(tmp_path / "a.npz")
    assert caught.value.field == "field"


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_methods_are_refused_damaged_or_not(tmp_path, method):
    data = write(tmp_path / "a.npz", [("a.npy", ONE)], method)
    with pytest.raises(KvoptError, match="is no plain array"):
        read(tmp_path / "a.npz")
    for at in range(40, 60):
        data[at] ^= 0x5A
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(KvoptError, match="is no archive of ours"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize(("at", "value"), [(8, 99), (6, 1)])
def test_unknown_methods_and_encryption_are_refused(tmp_path, at, value):
    data = write(tmp_path / "a.npz", [("a.npy", ONE)])
    data[at] = value
    data[data.find(b"PK\x01\x02") + at + 2] = value
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(KvoptError, match="is no plain array"):
        read(tmp_path / "a.npz")


def test_a_member_that_holds_more_than_it_says_is_refused(tmp_path):
    data = write(tmp_path / "a.npz", [("a.npy", header((1000,)) + bytes(8000))])
    central = data.find(b"PK\x01\x02")
    size = len(ONE).to_bytes(4, "little")
    data[22:26] = size
    data[central + 24 : central + 28] = size
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(KvoptError, match="is no archive of ours"):
        read(tmp_path / "a.npz")
