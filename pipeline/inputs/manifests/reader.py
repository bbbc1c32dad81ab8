"""A manifest's rows, streamed: Parquet, CSV, tab-separated values, or text with a path in each line."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from pipeline.core.errors import ConfigError

MANIFEST_SUFFIXES = frozenset((".parquet", ".csv", ".tsv", ".txt"))
TEXT_COLUMN = "path"  # of a text file
_BLOCK_BYTES = 1 << 20
_BATCH_ROWS = 1 << 15
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_UTF8_MARK = b"\xef\xbb\xbf"
_FROM_TEXT = (
    "size",
    "mtime",
)  # columns of a CSV file that may be numbers or times; the others are text

ReadBatches = Callable[[list[str]], Iterator[pa.Table]]


@contextmanager
def open_manifest(
    file: BinaryIO, suffix: str, where: str
) -> Iterator[tuple[pa.Schema, ReadBatches]]:
    """(schema, columns -> their rows). Raises ConfigError, which begins with `where`, for what cannot be read, also while it
    is read."""
    readers: dict[str, Callable[[BinaryIO], tuple[pa.Schema, ReadBatches]]]
    readers = {
        ".parquet": _parquet,
        ".csv": partial(_csv, delimiter=","),
        ".tsv": partial(_csv, delimiter="\t"),
    }
    try:
        if suffix != ".parquet" and file.read(2) in _UTF16:
            raise pa.ArrowInvalid("the text is UTF-16, not UTF-8")
        file.seek(0)
        yield readers.get(suffix, _text)(file)
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        said = " ".join(str(error).split())[:300].rstrip(".")
        expected = "a Parquet file" if suffix == ".parquet" else "text in UTF-8"
        raise ConfigError(
            f"{where}: cannot be read: {said}. Expected {expected}; the README shows manifests."
        ) from None


def name_row(row: int, suffix: str) -> str:
    """Of a row, counted from 0, for people."""
    return f"line {row + 2}" if suffix in (".csv", ".tsv") else f"row {row + 1}"


def _parquet(file: BinaryIO) -> tuple[pa.Schema, ReadBatches]:
    table = pq.ParquetFile(file)

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        for batch in table.iter_batches(_BATCH_ROWS, columns=columns):
            batch.validate(full=True)  # a damaged file may have been read without an error
            yield pa.Table.from_batches([batch])

    return table.schema_arrow, batches


def _csv(file: BinaryIO, delimiter: str) -> tuple[pa.Schema, ReadBatches]:
    """All columns are text, so that a type does not depend on the rows that come first, and 007 stays 007."""
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    read = csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False)
    guessed = csv.open_csv(file, read_options=read, parse_options=parse).schema
    schema = pa.schema([(field.name, _type_of(field)) for field in guessed])

    def batches(columns: list[str]) -> Iterator[pa.Table]:
        file.seek(0)
        convert = csv.ConvertOptions(
            column_types={name: schema.field(name).type for name in columns},
            include_columns=columns,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        for batch in csv.open_csv(
            file, read_options=read, parse_options=parse, convert_options=convert
        ):
            yield pa.Table.from_batches([batch])

    return schema, batches


def _type_of(field: pa.Field) -> pa.DataType:
    number = pa.types.is_integer(field.type) or pa.types.is_timestamp(field.type)
    return field.type if field.name in _FROM_TEXT and number else pa.string()


def _text(file: BinaryIO) -> tuple[pa.Schema, ReadBatches]:
    """Empty lines are no paths."""
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
