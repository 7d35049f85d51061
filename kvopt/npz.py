"""Arrays in a numpy archive (.npz) that may be anyone's: sizes are checked before memory is taken, pickles refused.

``numpy.load`` allocates whatever a header or a zip directory claims, of which a kilobyte can claim terabytes. Here each
member's header is read alone, and held against what the zip directory says and against what the caller can use.
"""

from __future__ import annotations

import math
import os
import zipfile
from typing import IO

import numpy as np

from kvopt.errors import KvoptError
from kvopt.reading import decoding, existing_file

_SUFFIX = ".npy"
_MOST_MEMBERS = 64
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_PIECE = 1 << 24
"""Bytes that are unpacked at a time."""


def read_arrays(
    path: str | os.PathLike, field: str, kind: str, fix: str, most_bytes: float, error: type[KvoptError] = KvoptError
) -> dict[str, np.ndarray]:
    """The arrays of floats and texts in an archive, by name.

    Parameters
    ----------
    path : path of the file
    field : str
        What names the path in errors.
    kind : str
        What to say that it is: "no certificate".
    fix : str
    most_bytes : float
        Of all arrays together: more cannot be meant.
    error : type
        What to raise.

    Raises
    ------
    KvoptError
        Of class ``error``, when there is no such file, it is no archive of such arrays, or claims to hold more.
    """
    path = existing_file(path, field, fix, error)

    def refused(problem: str) -> KvoptError:
        return error(field, f"{path} {problem}", fix)

    with decoding(path, field, kind, fix, error), zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > _MOST_MEMBERS:
            raise refused(f"is {kind}: it has {len(members)} members")
        if len({member.filename for member in members}) != len(members):
            raise refused(f"is {kind}: two members have one name")
        claimed = sum(member.file_size for member in members)
        if claimed > most_bytes:
            raise refused(f"claims to hold {claimed:,} bytes, more than the {most_bytes:,.0f} there can be here")
        found = {}
        for member in members:
            name = member.filename.removesuffix(_SUFFIX)
            if name == member.filename or member.compress_type not in _METHODS or member.flag_bits & _ENCRYPTED:
                raise refused(f"is {kind}: member {name!r} is no plain array")
            with archive.open(member) as file:
                found[name] = _array(file, member.file_size)
        return found


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array in a member of that many bytes.

    Raises
    ------
    ValueError
        And whatever numpy and zipfile raise, when it holds none.
    """
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"array format {version}")
    shape, fortran, dtype = readers[version](file)
    if dtype.hasobject or dtype.kind not in "fiuU" or dtype.itemsize == 0:
        raise ValueError(f"an array of {dtype}, which is neither numbers nor text")
    count = math.prod(shape)
    if count < 0 or count * dtype.itemsize != size - file.tell():
        raise ValueError(f"a header of shape {shape} over {size} bytes")
    data = bytearray()
    while piece := file.read(_PIECE):
        data += piece
    flat = np.frombuffer(data, dtype, count)
    return flat.reshape(shape, order="F" if fortran else "C")
