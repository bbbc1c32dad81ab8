"""Convert values of result rows for other programs: classes, boxes, masks, numbers, texts."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import read_categories
from pipeline.ops.filters import PLACEHOLDERS
from pipeline.ops.masks import decode_rle


def list_classes(schema: pa.Schema) -> dict[int, str]:
    """Return the model's class ids and names, without background and unused ids."""
    return {i: name for i, name in enumerate(read_categories(schema)) if name not in PLACEHOLDERS}


def list_class_names(schema: pa.Schema) -> list[str]:
    """Return the names of the model's classes, each once."""
    return list(dict.fromkeys(list_classes(schema).values()))


def clip_box(row: dict[str, Any], image: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return a prediction's box, cut to the image: x_min, y_min, x_max, y_max in pixels."""
    width, height = image["width"], image["height"]
    x_min, x_max = (min(max(row[name], 0.0), width) for name in ("x_min", "x_max"))
    y_min, y_max = (min(max(row[name], 0.0), height) for name in ("y_min", "y_max"))
    return x_min, y_min, x_max, y_max


def decode_row_mask(row: dict[str, Any]) -> np.ndarray:
    """Decode a prediction's mask, (H, W) bool in the frame of the upright image."""
    return decode_rle(row["mask_rle"], (row["mask_height"], row["mask_width"]))


def encode_run_lengths(values: np.ndarray) -> list[int]:
    """Count equal neighbours in a flat boolean array.

    Returns:
        The lengths of the runs, which alternate between False and True. The first run is False;
        its length is 0 if the array begins with True.
    """
    edges = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(values)]))
    return [0] * bool(values[0]) + np.diff(edges).tolist()


def escape_formulas(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Put ' before texts that spreadsheets treat as formulas: those with = + - @ or a tab first."""
    return pc.replace_substring_regex(texts, r"\A([=+\-@\t\r])", r"'\1")


def shorten_floats(table: pa.Table) -> pa.Table:
    """Convert float32 to the float64 with the fewest digits: 0.9 instead of 0.8999999761581421."""
    for i, column in enumerate(table.columns):
        chunks = [_shorten_array(chunk) for chunk in column.chunks]
        if chunks and chunks[0].type != column.type:
            table = table.set_column(i, table.schema.names[i], pa.chunked_array(chunks))
    return table


def _shorten_array(values: pa.Array) -> pa.Array:
    """Convert the float32 values in an array, also those inside lists and structs."""
    kind = values.type
    if pa.types.is_float32(kind):
        return values.cast(pa.string()).cast(pa.float64())
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(_shorten_array(values.flatten()), kind.list_size)
    if pa.types.is_list(kind):
        offsets = values.offsets.to_numpy()
        items = _shorten_array(values.flatten())
        return pa.ListArray.from_arrays(pa.array(offsets - offsets[0]), items)
    if pa.types.is_struct(kind):
        fields = [_shorten_array(field) for field in values.flatten()]
        return pa.StructArray.from_arrays(fields, kind.names)
    return values
