"""Save each box of a run as a JPEG file, in a folder for each class.

  crops run=outputs/latest margin=0.1

The images are read again from the run's input and turned upright. The files are
CLASS/path/of/image.jpg-000.jpg (number 0 is the image's best box) and crops.parquet, a table of
what each file shows. metadata.parquet and README.md are for Hugging Face: load_dataset("FOLDER").
For fewer crops, refilter the run first.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.declare import setting
from pipeline.config.task_classes import find_task
from pipeline.config.validators import check_fraction, check_optional_path, check_path
from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path
from pipeline.core.locations import Location
from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.tables import group_by_image
from pipeline.core.task_roles import Content
from pipeline.core.types import Entry, InputError
from pipeline.ops.crops import compute_crop_window, make_crop_key, name_class_folders
from pipeline.results.input_reader import InputReader
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_folder

_QUALITY = 95  # of JPEG
# A word of a path that Hugging Face's imagefolder takes for the name of a split.
_SPLIT_WORD = re.compile(
    r"(?:^|[-._ 0-9/])(?:train(?:ing)?|val(?:id(?:ation)?)?|dev|test(?:ing)?|eval(?:uation)?)"
    r"(?:[-._ 0-9/]|$)"
)
_METADATA_SCHEMA = pa.schema(
    [("file_name", pa.string()), ("label", pa.string()), ("score", pa.float32())]
)
# Hugging Face reads it if the folder itself is loaded. It keeps all crops in one split.
_README = """---
configs:
- config_name: default
  data_files:
  - split: train
    path:
    - metadata.parquet
    - "*/**"
---
"""
_MOST_TOLD = 5  # largest number of failures to list
_FOUND = ("image_id", "key", "class_id", "class_name", "score")
_SCHEMA = pa.schema(
    [
        ("file", pa.string()),  # path below the output folder, with / as separator
        ("image_id", pa.int64()),
        ("key", pa.string()),
        ("number", pa.int32()),  # rank of the detection in its image; 0 has the best score
        ("class_id", pa.int32()),
        ("class_name", pa.string()),
        ("score", pa.float32()),
        # The part of the image that the crop shows, in pixels; max is exclusive.
        *((f"window_{edge}", pa.int32()) for edge in BOX_COLUMNS),
    ]
)


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")
    output: Location | None = setting(
        check_optional_path, None, "a new folder; RUN/crops unless given, made anew each time"
    )
    margin: float = setting(
        check_fraction(10),
        0.0,
        "space added on each side of a box, as a fraction of its longer side",
    )


@dataclass(frozen=True)
class _Image:
    """An image and the rows of its boxes."""

    entry: Entry
    size_hw: tuple[int, int]
    found: list[dict[str, Any]]  # a row for each box, best score first


def run_command(options: Options) -> str:
    """Write a crop of every box and crops.parquet, and return the command's output text."""
    run = FinishedRun.open(options.run)
    if Content.BOXES not in find_task(run.task).contents:
        raise ConfigError(f"crops: {run.task} has no boxes to cut out.")
    target = options.output or run.path / "crops"
    n, lost, reasons, has_split_words = 0, 0, list[str](), False
    with (
        closing(InputReader(run)) as inputs,
        publish_folder(target.absolute(), replace=options.output is None) as stage,
    ):
        cut = partial(
            _cut,
            inputs=inputs,
            folder=stage,
            names=name_class_folders(run.categories),
            margin=options.margin,
        )
        (stage / "README.md").write_text(_README, encoding="utf-8")
        with (
            pq.ParquetWriter(stage / "crops.parquet", _SCHEMA, compression="zstd") as writer,
            pq.ParquetWriter(stage / "metadata.parquet", _METADATA_SCHEMA) as metadata,
        ):
            for shard_id in run.shard_ids:
                done = list(_each(cut, _images(run, shard_id), inputs.in_order))
                rows, failed = (
                    [row for rows, _ in done for row in rows],
                    [reason for _, failed in done for reason in failed],
                )
                table = pa.Table.from_pylist(rows, schema=_SCHEMA)
                writer.write_table(table)
                metadata.write_table(_make_metadata(table))
                has_split_words |= any(_SPLIT_WORD.search(row["file"]) for row in rows)
                n, lost, reasons = (
                    n + len(rows),
                    lost + len(failed),
                    (reasons + failed)[:_MOST_TOLD],
                )
        folders = sum(1 for _ in stage.glob("*/"))
    lines = [f"{target}: {n:,} crops in {folders:,} folders."]
    if lost:
        more = f"; and {lost - len(reasons):,} more" if lost > len(reasons) else ""
        lines.append(f"Without a crop: {'; '.join(reasons)}{more}.")
    if has_split_words:
        lines.append(
            "Hugging Face's imagefolder takes names such as train and test for splits, and would "
            f'leave the others out. load_dataset("{target}") reads all crops.'
        )
    return "\n".join(lines)


def _make_metadata(crops: pa.Table) -> pa.Table:
    """Return the table that Hugging Face's imagefolder reads instead of the names of folders."""
    columns = [crops[name] for name in ("file", "class_name", "score")]
    return pa.Table.from_arrays(columns, schema=_METADATA_SCHEMA)


def _images(run: FinishedRun, shard_id: int) -> Iterator[_Image]:
    """Yield the images of a shard that have at least one box."""
    images = run.read_table("images", shard_id, ["height", "width", "n_predictions"])
    tables = images, run.read_table("predictions", shard_id, [*_FOUND, *BOX_COLUMNS])
    for (row, found), entry in zip(
        group_by_image(*tables), run.plan.read_shard(shard_id).entries, strict=True
    ):
        if found:
            yield _Image(entry, (row["height"], row["width"]), found)


# Rows of the crops, and a message for each box or image that failed.
_Cut = tuple[list[dict[str, Any]], list[str]]


def _each(
    cut: Callable[[_Image], _Cut], images: Iterable[_Image], in_order: bool
) -> Iterable[_Cut]:
    """Cut images one after another if `in_order`, else in several threads."""
    from pipeline.core.cpu import map_in_threads  # late: it imports torch

    return map(cut, images) if in_order else map_in_threads(cut, images)


def _cut(
    image: _Image, inputs: InputReader, folder: Path, names: Sequence[str], margin: float
) -> _Cut:
    """Write the crops of one image.

    Returns:
        The rows of the crops, and a message for each box without a crop. If the image cannot be
        read, there is one message for all its boxes.
    """
    from PIL import Image

    try:
        pixels = inputs.read(image.entry, image.size_hw)  # (H, W, 3)
    except (InputError, OSError) as error:
        return [], [f"{image.entry.key!r}: {error}"]
    rows, failed = [], []
    for number, found in enumerate(image.found):
        box = np.array([found[name] for name in BOX_COLUMNS])
        try:
            window = left, top, right, bottom = compute_crop_window(
                box, margin, (pixels.shape[0], pixels.shape[1])
            )
        except InputError as error:
            failed.append(f"{image.entry.key!r}: {error}")
            continue
        file = f"{names[found['class_id']]}/{make_crop_key(image.entry.key, number)}"
        # The path stays below `folder`: `read` refuses keys that lead out of the input, and names
        # of class folders contain neither \ nor /.
        path = folder / key_to_path(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[top:bottom, left:right]).save(path, "JPEG", quality=_QUALITY)
        edges = dict(zip((f"window_{edge}" for edge in BOX_COLUMNS), window, strict=True))
        rows.append(
            {name: found[name] for name in _FOUND} | {"file": file, "number": number} | edges
        )
    return rows, failed
