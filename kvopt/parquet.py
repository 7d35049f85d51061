"""Reading flat Parquet tables, with errors that name the column."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kvopt.errors import KvoptError


def read_table(path: Path, field: str, required: tuple[str, ...], fix: str, error: type[KvoptError] = KvoptError):
    """A Parquet file as a pyarrow table that has the columns required.

    Parameters
    ----------
    path : Path
    field : str
        What the file is, for errors.
    required : tuple of str
    fix : str
        Where the schema is described.
    error : type
        What to raise.
    """
    import pyarrow as pa

    try:
        return open_table(path, field, required, fix, error).read()
    except (pa.ArrowInvalid, OSError) as found:
        raise unreadable(path, field, found, error) from None


def open_table(path: Path, field: str, required: tuple[str, ...], fix: str, error: type[KvoptError] = KvoptError):
    """A Parquet file that has the columns required, opened to be read in parts.

    Parameters as of :func:`read_table`. What is read from it may raise; see :func:`unreadable`.

    Returns
    -------
    pyarrow.parquet.ParquetFile
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        raise error(field, f"{path} does not exist or is no file", "Check the path")
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as found:
        raise unreadable(path, field, found, error) from None
    missing = [c for c in required if c not in file.schema_arrow.names]
    if missing:
        raise error(", ".join(missing), f"missing from {path.name}", fix)
    return file


def unreadable(path: Path, field: str, found: Exception, error: type[KvoptError] = KvoptError) -> KvoptError:
    """The error to raise for what Arrow found wrong with a file."""
    return error(field, f"{path} is not a Parquet file ({first_line(found)})", "kvopt trace import reads other formats")


def flat_column(table, column: str, error: type[KvoptError] = KvoptError) -> np.ndarray:
    """A column of numbers without gaps."""
    data = table.column(column).combine_chunks()
    if data.null_count:
        raise error(column, f"has {data.null_count} missing values", "Fill or drop those rows")
    array = data.to_numpy(zero_copy_only=False)
    if array.dtype.kind not in "iuf":
        raise error(column, f"has type {data.type}, not whole numbers", "Convert the column to integers")
    return array


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its type."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
