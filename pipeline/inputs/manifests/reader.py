"""Read the rows of a manifest as a stream.

A manifest is a Parquet file, a table of comma- or tab-separated values, or text with one path per
line.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from pipeline.core.errors import ConfigError

MANIFEST_SUFFIXES = frozenset((".parquet", ".csv", ".tsv", ".txt"))
TEXT_COLUMN = "path"  # the name of a text file's only column
_BLOCK_BYTES = 1 << 20
_BATCH_ROWS = 1 << 15
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_DELIMITERS = (",", ";", "\t", "|")
_UTF8_MARK = b"\xef\xbb\xbf"
# Columns of a CSV file that may be numbers or times. All others are read as text.
_TYPED_COLUMNS = ("size", "mtime")

ReadBatches = Callable[[list[str]], Iterator[pa.Table]]  # names of columns -> batches of rows


@contextmanager
def open_manifest(
    file: BinaryIO, suffix: str, where: str
) -> Iterator[tuple[pa.Schema, ReadBatches]]:
    """Open a manifest.

    Args:
        suffix: Suffix of the manifest's name in lower case. It determines the format.
        where: Beginning of error messages.

    Returns:
        The schema, and a function that reads the rows.

    Raises:
        ConfigError: The manifest cannot be read. Reading the rows may raise the same error.
    """
    readers: dict[str, Callable[[BinaryIO], tuple[pa.Schema, ReadBatches]]]
    readers = {
        ".parquet": _open_parquet,
        ".csv": partial(_open_csv, delimiter=","),
        ".tsv": partial(_open_csv, delimiter="\t"),
    }
    try:
        if suffix != ".parquet" and file.read(2) in _UTF16:
            raise pa.ArrowInvalid("the text is UTF-16, not UTF-8")
        file.seek(0)
        yield readers.get(suffix, _open_text)(file)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:300].rstrip(".")
        expected = "a Parquet file" if suffix == ".parquet" else "text in UTF-8"
        raise ConfigError(
            f"{where}: cannot be read: {reason}. Expected {expected}; the README shows manifests."
        ) from None


def name_row(row: int, suffix: str) -> str:
    """Return how messages name a row. `row` is counted from 0."""
    return f"line {row + 2}" if suffix in (".csv", ".tsv") else f"row {row + 1}"


def _open_parquet(file: BinaryIO) -> tuple[pa.Schema, ReadBatches]:
    table = pq.ParquetFile(file)

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
            batch.validate(full=True)  # pyarrow may read a damaged file without an error
            yield pa.Table.from_batches([batch])

    return table.schema_arrow, batches


def _open_csv(file: BinaryIO, delimiter: str) -> tuple[pa.Schema, ReadBatches]:
    """Open a CSV file. All columns except sizes and times are read as text.

    So the type of a column does not depend on its first rows, and 007 remains 007.
    """
    delimiter = _find_delimiter(file, delimiter)
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    read = csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)
    # A reader that stays open goes on reading in a thread, which aborts a process that ends.
    with csv.open_csv(file, read_options=read, parse_options=parse) as reader:
        guessed = reader.schema
    schema = pa.schema([(field.name, _choose_type(field)) for field in guessed])

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        file.seek(0)
        convert = csv.ConvertOptions(
            column_types={name: schema.field(name).type for name in columns},
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        with csv.open_csv(
            file, read_options=read, parse_options=parse, convert_options=convert
        ) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])

    return schema, batches


def _find_delimiter(file: BinaryIO, usual: str) -> str:
    """Return the character between the columns, from the header.

    Spreadsheets write `;` where the comma is the decimal separator. The usual delimiter is kept
    unless only another one is in the header.
    """
    header = file.readline(_BLOCK_BYTES).decode("utf-8", "replace")
    file.seek(0)
    found = [mark for mark in _DELIMITERS if mark in header]
    return found[0] if len(found) == 1 else usual


def _choose_type(field: pa.Field) -> pa.DataType:
    number = pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)
    return field.type if field.name in _TYPED_COLUMNS and number else pa.string()


def _open_text(file: BinaryIO) -> tuple[pa.Schema, ReadBatches]:
    """Open a text file that has one path per line. Empty lines are ignored."""
    schema = pa.schema([(TEXT_COLUMN, pa.string())])

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        number = 0
        while lines := file.readlines(_BLOCK_BYTES):
            lines[0] = lines[0].removeprefix(_UTF8_MARK) if number == 0 else lines[0]
            paths = pa.array([line.rstrip(b"\r\n") for line in lines], pa.binary())
            try:
                paths = paths.cast(pa.string())
            except pa.ArrowInvalid:
                wrong = next(i for i, line in enumerate(lines, number + 1) if not _is_utf8(line))
                raise pa.ArrowInvalid(f"line {wrong} is not UTF-8") from None
            number += len(lines)
            yield pa.table([paths.filter(pa.compute.not_equal(paths, ""))], schema=schema)

    return schema, batches


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
