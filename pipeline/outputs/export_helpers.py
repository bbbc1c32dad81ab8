"""What exporters share: names that other programs can hold, class names, masks, numbers, and lists of JSON that stream."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.keys import fits, inside, key_to_path
from pipeline.core.schema import read_categories
from pipeline.ops.filters import PLACEHOLDERS

_NOT_IN_XML = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
)  # characters that XML 1.0 has no way to write
_NOT_IN_A_NAME = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]"
)  # or that would end a line of a list of names


def classes_of(schema: pa.Schema) -> dict[int, str]:
    """The model's class ids and their names, without placeholders."""
    return {i: name for i, name in enumerate(read_categories(schema)) if name not in PLACEHOLDERS}


def xml_text(text: str) -> str:
    """`text` with what XML cannot hold replaced by U+FFFD; escaping is the writer's."""
    return _NOT_IN_XML.sub("\ufffd", text)


# --- names of files


def held_name(key: str) -> str:
    """The key, or where it holds control characters, which lists and XML cannot, a name made of a hash of it."""
    return _hashed(key) + PurePosixPath(key).suffix if _NOT_IN_A_NAME.search(key) else key


def claim(folder: Path, key: str, suffix: str) -> tuple[str, Path]:
    """(name, file) for the image `key` in a format that knows an image's file by the image's name without its extension:
    the image is to be called name + its own extension, and `file`, now empty, is folder/name + suffix. Where another image
    has that name, this one keeps its extension in it (a.png.txt beside a.txt); where that cannot be, a hash is its name."""
    stem = key.removesuffix(PurePosixPath(key).suffix)
    for name in (stem, key, _hashed(key)):
        file = folder / key_to_path(name + suffix)
        if not _fits(name + suffix):
            continue
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.open("x").close()
        except (FileExistsError, NotADirectoryError):  # taken, or a folder's place is
            continue
        return name, file
    raise FileExistsError(f"{folder}: there is no name left for {key}")


def _fits(name: str) -> bool:
    """Whether it stays below the folder that it is put in, and is one that file systems and lists can hold."""
    short = all(fits(part) for part in name.split("/"))
    return inside(Path(), name) is not None and short and not _NOT_IN_A_NAME.search(name)


def _hashed(key: str) -> str:
    return "image-" + blake2b(key.encode(), digest_size=8).hexdigest()


# --- values


def mask_of(row: dict[str, Any]) -> np.ndarray:
    """A prediction's mask, (H, W) bool, in the frame of the upright image."""
    from pycocotools import mask as coco_mask

    size = [row["mask_height"], row["mask_width"]]
    return coco_mask.decode({"size": size, "counts": row["mask_rle"].encode("ascii")}).astype(bool)


def inert(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """With a ' before = + - @ and tabs at the beginning, so that no spreadsheet takes a name for a formula."""
    return pc.replace_substring_regex(texts, r"\A([=+\-@\t\r])", r"'\1")


def run_lengths(values: np.ndarray) -> list[int]:
    """Of a flat boolean array: how many are False, then True, and so on; the first is 0 where it begins with True."""
    edges = np.concatenate(([0], np.flatnonzero(values[1:] != values[:-1]) + 1, [len(values)]))
    return [0] * bool(values[0]) + np.diff(edges).tolist()


def clipped(row: dict[str, Any], image: dict[str, Any]) -> tuple[float, float, float, float]:
    """The box in pixels (x_min, y_min, x_max, y_max), cut to the image."""
    width, height = image["width"], image["height"]
    x_min, x_max = (min(max(row[name], 0.0), width) for name in ("x_min", "x_max"))
    y_min, y_max = (min(max(row[name], 0.0), height) for name in ("y_min", "y_max"))
    return x_min, y_min, x_max, y_max


def short_floats(table: pa.Table) -> pa.Table:
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


# --- JSON


def strict_json(value: Any) -> str:
    """On one line, without NaN and infinity, which JSON does not have: they become null. Dates and times, which a source
    may carry, are written as ISO 8601 has them."""
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_iso)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=_iso)


def _iso(value: date) -> str:
    return value.isoformat()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


class Members:
    """Members of a JSON list or object, written one by one, each on its line."""

    def __init__(self, file: TextIO) -> None:
        self.file, self.count = file, 0

    def add(self, value: Any, key: str | None = None) -> None:
        before = "" if key is None else strict_json(key) + ": "
        self.file.write((",\n" if self.count else "\n") + before + strict_json(value))
        self.count += 1


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """For writing, the same bytes on every machine."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        yield file
