"""Values of rows as other programs read them."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.schema import read_categories
from pipeline.ops.filters import PLACEHOLDERS


def list_classes(schema: pa.Schema) -> dict[int, str]:
    """The model's class ids and their names, without placeholders."""
    return {i: name for i, name in enumerate(read_categories(schema)) if name not in PLACEHOLDERS}


def decode_row_mask(row: dict[str, Any]) -> np.ndarray:
    """A prediction's mask, (H, W) bool, in the frame of the upright image."""
    from pycocotools import mask as coco_mask

    size = [row["mask_height"], row["mask_width"]]
    return coco_mask.decode({"size": size, "counts": row["mask_rle"].encode("ascii")}).astype(bool)


def escape_formulas(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """With a ' before = + - @ and tabs at the beginning, so that no spreadsheet takes a name for a formula."""
    return pc.replace_substring_regex(texts, r"\A([=+\-@\t\r])", r"'\1")


def encode_run_lengths(values: np.ndarray) -> list[int]:
    """Of a flat boolean array: how many are False, then True, and so on; the first is 0 where it begins with True."""
    edges = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(values)]))
    return [0] * bool(values[0]) + np.diff(edges).tolist()


def clip_box(row: dict[str, Any], image: dict[str, Any]) -> tuple[float, float, float, float]:
    """The box in pixels (x_min, y_min, x_max, y_max), cut to the image."""
    width, height = image["width"], image["height"]
    x_min, x_max = (min(max(row[name], 0.0), width) for name in ("x_min", "x_max"))
    y_min, y_max = (min(max(row[name], 0.0), height) for name in ("y_min", "y_max"))
    return x_min, y_min, x_max, y_max


def shorten_floats(table: pa.Table) -> pa.Table:
    """float32 as the float64 with the fewest digits that means it: 0.9 and not 0.8999999761581421."""
    for i, column in enumerate(table.columns):
        short = [_short(chunk) for chunk in column.chunks]
        if short and short[0].type != column.type:
            table = table.set_column(i, table.schema.names[i], pa.chunked_array(short))
    return table


def _short(values: pa.Array) -> pa.Array:
    kind = values.type
    if pa.types.is_float32(kind):
        return values.cast(pa.string()).cast(pa.float64())
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(_short(values.flatten()), kind.list_size)
    if pa.types.is_list(kind):
        offsets = values.offsets.to_numpy()
        return pa.ListArray.from_arrays(pa.array(offsets - offsets[0]), _short(values.flatten()))
    if pa.types.is_struct(kind):
        return pa.StructArray.from_arrays([_short(one) for one in values.flatten()], kind.names)
    return values
