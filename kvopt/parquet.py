"""Reading flat Parquet tables of any name, with errors that name the column.

What a file claims of itself is checked before anything is allocated for it: a few hundred bytes can claim terabytes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from kvopt.errors import KvoptError
from kvopt.memory import check_fits
from kvopt.reading import decoded, decoding, existing_file, parse_json, reason

_CHECK = "Check the path; kvopt trace import reads other formats"
_OTHER = "kvopt trace import reads other formats"


class Table:
    """A Parquet file that has the columns required, to be read in parts.

    Parameters
    ----------
    path : path of the file
    field : str
        What the file is, for errors.
    required : tuple of str
    fix : str
        Where the schema is described.
    error : type
        What to raise.

    Raises
    ------
    KvoptError
        Of class ``error``, when there is no such file, it is no Parquet, lacks a column, has one twice, or claims more
        than the memory there is.
    """

    def __init__(
        self, path: Path, field: str, required: tuple[str, ...], fix: str, error: type[KvoptError] = KvoptError
    ) -> None:
        import pyarrow.parquet as pq

        self.path = existing_file(path, field, _CHECK, error)
        self.field, self.error = field, error
        with self._decoding():
            self._file = pq.ParquetFile(native_file(self.path, "rb"))
        try:
            with self._decoding():
                self.names: list[str] = list(self._file.schema_arrow.names)
                self.rows: int = self._file.metadata.num_rows
            self._check(required, fix)
        except KvoptError:
            self.close()
            raise

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close(force=True)

    def _decoding(self):
        return decoding(self.path, self.field, "not a Parquet file", _OTHER, self.error)

    def _check(self, required: tuple[str, ...], fix: str) -> None:
        missing = [c for c in required if c not in self.names]
        if missing:
            raise self.error(", ".join(missing), f"missing from {self.path.name}", fix)
        twice = next((c for c, times in Counter(self.names).items() if times > 1), None)
        if twice is not None:
            raise self.error(twice, f"stands twice in {self.path.name}", "Keep one column of that name")
        with self._decoding():
            groups = [self._file.metadata.row_group(k) for k in range(self._file.metadata.num_row_groups)]
            rows, largest = sum(g.num_rows for g in groups), max((g.total_byte_size for g in groups), default=0)
        if rows != self.rows or self.rows < 0:
            raise self.error(self.field, f"{self.path} says {self.rows} rows and has {rows}", "Write it again")
        self.check_fits(largest, "a row group")

    def check_fits(self, needed_bytes: float, what: str) -> None:
        """Refuse what the file claims to hold where it exceeds the memory there is."""
        check_fits(needed_bytes, self.field, f"{what} of {self.path}", "Write the file again, or cut it up", self.error)

    @property
    def metadata(self) -> Any:
        """What the file's key-value metadata holds under ``kvopt`` as JSON; None where it holds nothing there."""
        with self._decoding():
            raw = (self._file.schema_arrow.metadata or {}).get(b"kvopt")
        if raw is None:
            return None
        try:
            return parse_json(raw)
        except ValueError as found:
            problem = f"{self.path.name} holds no valid JSON there ({reason(found)})"
            raise self.error("metadata 'kvopt'", problem, "Write it with kvopt") from None

    def values(self, column: str) -> int:
        """Number of values of a list column by the file's metadata; each empty list counts as one."""
        total = 0
        with self._decoding():
            paths = [self._file.schema.column(c).path.split(".")[0] for c in range(len(self._file.schema))]
            for k in range(self._file.num_row_groups):
                # Arrow checks what the file says of a column when it reads it, and then says what is wrong. Asked for
                # that alone, as below, it ends the process.
                next(self._file.iter_batches(1, row_groups=[k], columns=[column]), None)
                group = self._file.metadata.row_group(k)
                total += sum(group.column(c).num_values for c, name in enumerate(paths) if name == column)
        if total < 0:
            raise self.error(column, f"has {total} values by {self.path.name}", "Write it again")
        return total

    def batches(self, columns: list[str], rows: int) -> Iterator[Any]:
        """Consecutive pyarrow tables of these columns, each of ``rows`` rows at most."""
        import pyarrow as pa

        for group in range(self._file.num_row_groups):
            # One reader over all groups would keep memory for each that it has read.
            with self._decoding():
                found = self._file.iter_batches(rows, row_groups=[group], columns=columns)
            for batch in decoded(found, self._decoding):
                with self._decoding():
                    yield pa.Table.from_batches([batch])


def read_table(path: Path, field: str, required: tuple[str, ...], fix: str, error: type[KvoptError] = KvoptError):
    """A whole Parquet file as a pyarrow table; parameters are those of :class:`Table`."""
    import pyarrow as pa

    with Table(path, field, required, fix, error) as table:
        return pa.concat_tables(table.batches(table.names, 1 << 20))


def native_file(path: Path, mode: str):
    """Open a file as Arrow does by itself, whether or not its name is text: as a pyarrow.OSFile."""
    import pyarrow as pa

    return pa.OSFile(os.fsencode(path), mode)


def flat_column(table, column: str, error: type[KvoptError] = KvoptError) -> np.ndarray:
    """A column of numbers without gaps."""
    data = table.column(column).combine_chunks()
    if data.null_count:
        raise error(column, f"has {data.null_count} missing values", "Fill or drop those rows")
    return _numbers(column, data, error)


def list_column(table, column: str, error: type[KvoptError] = KvoptError) -> tuple[np.ndarray, np.ndarray]:
    """Offsets and values of a column of lists of numbers, without a second copy of the values."""
    import pyarrow as pa

    data = table.column(column).combine_chunks()
    if not (pa.types.is_list(data.type) or pa.types.is_large_list(data.type)):
        raise error(column, f"has type {data.type}", "It must be a list of whole numbers in each row")
    if data.null_count:
        raise error(column, f"has {data.null_count} missing lists", "Use an empty list for a block never read")
    values = data.flatten()
    if values.null_count:
        raise error(column, f"has {values.null_count} missing values in its lists", "Remove them")
    offsets = data.offsets.to_numpy().astype(np.int64)
    return offsets - offsets[0], _numbers(column, values, error, "lists hold")


def _numbers(column: str, data, error: type[KvoptError], has: str = "has type") -> np.ndarray:
    import pyarrow as pa

    kind = data.type.value_type if pa.types.is_dictionary(data.type) else data.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise error(column, f"{has} {data.type}, not whole numbers", "Convert the column to integers")
    return data.to_numpy(zero_copy_only=False)
