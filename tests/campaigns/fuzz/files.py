"""Spoiled Parquet files and numpy archives."""

from __future__ import annotations

import io
import json
import zipfile
from decimal import Decimal
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.campaigns.fuzz import junk

_COMPRESSIONS = ("zstd", "snappy", "none", "gzip")
_FLAT = (
    *(pa.int8(), pa.uint8(), pa.int16(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(), pa.string(), pa.bool_()),
    *(pa.decimal128(30, 2), pa.timestamp("ns"), pa.date32(), pa.binary(), pa.duration("s"), pa.float16(), pa.null()),
)


def parquet(rng: Random, columns: dict[str, list], meta: Any, data: bytes) -> bytes:
    """A Parquet file of these columns with something wrong: a column's type or values, the metadata, or bytes.

    Parameters
    ----------
    rng : Random
    columns : dict of column to list
        Of a file that is right.
    meta : object
        What it has under ``kvopt``.
    data : bytes
        Another right file, to splice with.
    """
    if rng.random() < 0.35:
        return junk.spoiled_bytes(rng, data, data)
    columns = dict(columns)
    if rng.random() < 0.7:
        name = rng.choice(list(columns))
        columns[name] = _column(rng, columns[name])
    arrays = {name: v if isinstance(v, pa.Array | pa.ChunkedArray) else pa.array(v) for name, v in columns.items()}
    if rng.random() < 0.05:
        del arrays[rng.choice(list(arrays))]
    length = min(len(a) for a in arrays.values())
    names = list(arrays) + ([rng.choice(list(arrays))] if rng.random() < 0.03 else [])
    table = pa.Table.from_arrays([arrays[n].slice(0, length) for n in names], names=names)
    if rng.random() < 0.9:
        if rng.random() < 0.5:
            meta = junk.spoiled_json(rng, meta)
        text = junk.json_text(rng, meta).encode("utf-8", "surrogatepass")
        if rng.random() < 0.05:
            text = junk.spoiled_bytes(rng, text, b"\xff{")
        table = table.replace_schema_metadata({b"kvopt": text})
    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        compression=rng.choice(_COMPRESSIONS),
        row_group_size=rng.choice((None, 1, 2)),
        use_dictionary=rng.random() < 0.5,
        data_page_version=rng.choice(("1.0", "2.0")),
    )
    return junk.spoiled_bytes(rng, out.getvalue(), data) if rng.random() < 0.25 else out.getvalue()


def _column(rng: Random, values: list) -> Any:
    """The column with other values or another type; plain numbers where Arrow cannot cast."""
    kind = rng.random()
    nested = bool(values) and isinstance(values[0], list)
    spoiled = [list(v) if nested else v for v in values]
    at = rng.randrange(len(spoiled)) if spoiled else 0
    if kind < 0.5 and spoiled:
        numbers = (
            -1,
            0,
            7,
            2**31 - 1,
            2**31,
            2**62,
            2**63 - 1,
            -(2**63),
            None,
            0.5,
            float("nan"),
            float("inf"),
            1e300,
            2.0**63,
        )
        if nested and rng.random() < 0.7:
            spoiled[at].insert(rng.randrange(len(spoiled[at]) + 1), rng.choice(numbers))
        else:
            spoiled[at] = None if nested else rng.choice(numbers)
    elif kind < 0.55:
        spoiled = [] if rng.random() < 0.3 else spoiled[::-1]
    elif kind < 0.6:
        spoiled = [[v] for v in spoiled] if rng.random() < 0.5 else [{"a": v} for v in spoiled]
    elif kind < 0.65:
        spoiled = [Decimal("1.5")] * len(spoiled)
    try:
        made = pa.array(spoiled)
        if kind >= 0.65:
            inner = rng.choice(_FLAT)
            wanted = rng.choice((pa.list_(inner), pa.large_list(inner), pa.list_(inner, 1))) if nested else inner
            made = made.cast(wanted, safe=False)
        if not nested and rng.random() < 0.1:
            made = made.dictionary_encode()
    except (pa.ArrowException, OverflowError, TypeError):
        return pa.array([rng.choice(("a", "")) for _ in values])
    return made


def archive(rng: Random, arrays: dict[str, np.ndarray], about: Any, data: bytes) -> bytes:
    """A numpy archive with something wrong: an array, what it says it is of, a member, or bytes.

    Parameters
    ----------
    rng : Random
    arrays : dict of name to array
        Of one that is right.
    about : object
        What it says of itself.
    data : bytes
        Another right one, to splice with.
    """
    if rng.random() < 0.35:
        return junk.spoiled_bytes(rng, data, data)
    arrays = dict(arrays)
    if rng.random() < 0.6:
        name = rng.choice([*arrays, "zz", "late_price"])
        arrays[name] = _array(rng, arrays.get(name, np.zeros((3, 12))))
    if rng.random() < 0.5:
        about = junk.spoiled_json(rng, about)
    text = np.array(junk.json_text(rng, about).replace("\x00", "0"))
    members = {**arrays, "about": text}
    if rng.random() < 0.1:
        del members[rng.choice(list(members))]
    out = io.BytesIO()
    method = rng.choice(
        (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)
    )
    with zipfile.ZipFile(out, "w", method) as z:
        for name, array in members.items():
            z.writestr(zipfile.ZipInfo(_member_name(rng, name)), _npy(rng, array), method)
        if rng.random() < 0.05:
            for k in range(rng.choice((1, 100))):
                z.writestr(zipfile.ZipInfo(f"more{k}.npy"), _npy(rng, np.zeros(1)), method)
    made = bytearray(out.getvalue())
    if rng.random() < 0.15:
        _patch_header(rng, made)
    return junk.spoiled_bytes(rng, bytes(made), data) if rng.random() < 0.2 else bytes(made)


def _member_name(rng: Random, name: str) -> str:
    if rng.random() < 0.98:
        return name + ".npy"
    return rng.choice((name, name + ".txt", "../" + name + ".npy", "/x.npy", "d/", "channel_price.npy", "é.npy"))


def _array(rng: Random, array: np.ndarray) -> np.ndarray:
    kinds = ("f4", "i8", "u1", "c16", "U3", "S4", "O", "M8[s]", "?", "V8", ">f8", "f8,i4")
    kind = rng.randrange(7)
    if kind == 0:
        return np.zeros(array.shape, rng.choice(kinds))
    if kind == 1:
        spoiled = np.array(array, float)
        if spoiled.size:
            spoiled.flat[rng.randrange(spoiled.size)] = rng.choice((np.nan, np.inf, -1.0, 1e308, -1e300))
        return spoiled
    if kind == 2:
        return array.reshape(-1)
    if kind == 3:
        return array[:, : rng.randrange(4)] if array.ndim == 2 else array[:1]
    if kind == 4:
        return np.asfortranarray(array)
    return np.zeros(rng.choice(((), (0,), (1, 1, 1), (0, 5), (10**4,), (2, 3, 4))))


def _npy(rng: Random, array: np.ndarray) -> bytes:
    """The member's bytes; the header at times claims another shape or type."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=True)
    data = out.getvalue()
    if rng.random() < 0.1:
        claims = ((10**12,), (2**62, 2**62), (-1,), (0,), (3, -4), (True,), (1.5,), "x", (10**400,), ())
        header = {
            "descr": rng.choice(("<f8", "|O", "<U9999999", "x", "<f9", [("a", "<f8")])),
            "fortran_order": rng.choice((False, 1)),
            "shape": rng.choice(claims),
        }
        text = repr(header) if rng.random() < 0.8 else rng.choice(("{" * 300, "(" * 5000, "{'descr': \n", "\x00", "[]"))
        text = text.encode("latin1") + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data[128:]
    return junk.spoiled_bytes(rng, data) if rng.random() < 0.03 else data


def _patch_header(rng: Random, data: bytearray) -> None:
    """Another method, flag or size in both headers of the first member."""
    local, central = data.find(b"PK\x03\x04"), data.find(b"PK\x01\x02")
    if min(local, central) < 0:
        return
    field, width, patch = rng.choice(
        (
            (8, 2, b"\x63\x00"),
            (6, 2, b"\x01\x00"),
            (22, 4, b"\xff\xff\xff\x7f"),
            (18, 4, b"\xff\xff\xff\x7f"),
            (8, 2, b"\x0e\x00"),
        )
    )
    for at in (local + field, central + field + 2):
        data[at : at + width] = patch


def columns_of(path) -> tuple[dict[str, list], Any]:
    """(columns, metadata) of a Parquet file that kvopt wrote."""
    table = pq.read_table(path)
    return table.to_pydict(), json.loads(table.schema.metadata[b"kvopt"])
