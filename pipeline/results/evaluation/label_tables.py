"""Read tables with the columns key and label: CSV, TSV, Parquet, JSON and JSONL."""

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from pipeline.annotations.text_files import decode_text, split_lines
from pipeline.core.name_matching import KnownNames

LABEL_SCHEMA = pa.schema([("key", pa.string()), ("label", pa.string())])
_MISSING_WORDS = ("null", "nan")  # as programs write a missing value into CSV


def read_label_table(path: Path, categories: Collection[str]) -> pa.Table:
    """Read keys and labels as text. A missing label is null: blank, null or NaN, in every format.

    Args:
        path: The file; its suffix determines the format. JSON may be an object {key: label} or a
            list of objects, JSONL has an object in each line.
        categories: The run's class names. In CSV the words `null` and `NaN` are missing labels,
            unless a class has this name.

    Raises:
        ValueError, KeyError, TypeError, RecursionError, OSError, ArrowException: The table cannot
            be read.
    """
    suffix = path.suffix.casefold()
    if suffix == ".parquet":
        table = pq.read_table(path, columns=LABEL_SCHEMA.names, partitioning=None)
        columns = [_to_text(table[name]) for name in LABEL_SCHEMA.names]
    elif suffix in (".csv", ".tsv"):
        columns = _read_csv(path, "\t" if suffix == ".tsv" else ",", KnownNames(categories))
    elif suffix in (".json", ".jsonl", ".ndjson"):
        columns = _read_json(decode_text(path.read_bytes()), is_lines=suffix != ".json")
    else:
        raise ValueError(
            f"{path.suffix or 'no suffix'} is none of .csv, .tsv, .parquet, .json, .jsonl"
        )
    return pa.table([_drop_blanks(column) for column in columns], schema=LABEL_SCHEMA)


def _read_csv(path: Path, delimiter: str, known: KnownNames) -> list[pa.ChunkedArray]:
    convert = pyarrow.csv.ConvertOptions(
        column_types=LABEL_SCHEMA, include_columns=LABEL_SCHEMA.names, strings_can_be_null=False
    )
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
    table = pyarrow.csv.read_csv(path, parse_options=parse, convert_options=convert)
    words = pa.array([word for word in _MISSING_WORDS if not known.find(word)], pa.string())
    is_missing = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(table["label"])), value_set=words)
    return [table["key"], pc.if_else(is_missing, pa.scalar(None, pa.string()), table["label"])]


def _read_json(text: str, is_lines: bool) -> list[pa.Array]:
    # Numbers stay as they are written: the label 1.10 is not 1.1.
    load = partial(json.loads, parse_float=str, parse_constant=lambda _: None)
    content = [load(line) for line in split_lines(text) if line.strip()] if is_lines else load(text)
    if isinstance(content, dict):
        content = [{"key": key, "label": label} for key, label in content.items()]
    return [
        pa.array([_read_scalar(row[name]) for row in content], pa.string())
        for name in LABEL_SCHEMA.names
    ]


def _read_scalar(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return json.dumps(value)
    raise TypeError(f"expected a text, got {json.dumps(value)[:80]}")


def _to_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Convert a column to text. NaN becomes null, and 3.0 is the class id 3."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    column = column.cast(kind)
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
        is_whole = pc.all(pc.equal(pc.floor(column), column)).as_py()
        column = column.cast(pa.int64()) if is_whole else column
    return column.cast(pa.string())


def _drop_blanks(column: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    is_blank = pc.equal(pc.utf8_trim_whitespace(column), "")
    return pc.if_else(is_blank, pa.scalar(None, pa.string()), column)
