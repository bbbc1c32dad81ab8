"""Find boxes of one class that recur at one place in the images of a fixed camera.

  repeats run=outputs/latest

A camera is a folder or a video. Such boxes often show fixed objects, for example stones instead of
animals. They are listed for review, and the run is not changed. The command writes places.parquet,
predictions.parquet (the boxes at these places) and sheet-000.jpg ..., which are pages of examples.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.declare import setting
from pipeline.config.task_classes import find_task
from pipeline.config.validators import (
    build_refusal,
    check_fraction,
    check_integer,
    check_optional_path,
    check_path,
)
from pipeline.core.errors import ConfigError
from pipeline.core.locations import Location
from pipeline.core.schema import BOX_COLUMNS
from pipeline.core.task_roles import Content
from pipeline.results.repeats.repeated_places import (
    RepeatedPlace,
    find_repeated_places,
    read_run_boxes,
)
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_folder

log = logging.getLogger(__name__)
_MOST_TOLD = 10
_COLUMNS = ["image_id", "key", "class_id", "class_name", "score", *BOX_COLUMNS]


def parse_overlap(key: str, value: object) -> float:
    """Parse a number above 0 and up to 1."""
    given = check_fraction(1.0)(key, value)
    if given == 0:
        raise build_refusal(key, value, "a number above 0, up to 1")
    return given


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")
    output: Location | None = setting(
        check_optional_path, None, "a new folder; RUN/repeats unless given, made anew each time"
    )
    iou: float = setting(parse_overlap, 0.9, "least IoU of boxes at the same place")
    images: int = setting(
        check_integer(2), 20, "least number of images of a camera with a box at the place"
    )
    shown: int = setting(
        check_integer(0), 40, "places to show on the pages, most images first; 0: no pages"
    )


def run_command(options: Options) -> str:
    """Find the places, write the files and return the command's output text."""
    run = FinishedRun.open(options.run)
    if Content.BOXES not in find_task(run.task).contents:
        raise ConfigError(f"repeats: {run.task} has no boxes that could come again at one place.")
    rows = read_run_boxes(run)
    found = find_repeated_places(rows, options.iou, options.images)
    target = options.output or run.path / "repeats"
    with publish_folder(target.absolute(), replace=options.output is None) as stage:
        keys = _write_predictions(run, found, stage / "predictions.parquet")
        pq.write_table(
            _places(run.categories, found, keys), stage / "places.parquet", compression="zstd"
        )
        if found and options.shown:
            _draw(run, found[: options.shown], rows.images, stage)
    boxes = sum(len(one.rows) for one in found)
    lines = [
        f"{len(found):,} places, with {boxes:,} of {len(rows.images):,} boxes; "
        f"{sum(rows.cameras.values()):,} usable images of {len(rows.cameras):,} cameras."
    ]
    lines += [_line(run.categories, one, keys) for one in found[:_MOST_TOLD]]
    lines += [f"  ... and {len(found) - _MOST_TOLD:,} more"] if len(found) > _MOST_TOLD else []
    return "\n".join([*lines, f"files: {target}"])


def _line(categories: Sequence[str], one: RepeatedPlace, keys: dict[int, str]) -> str:
    """Format a place as a line of text."""
    where = repr(one.camera) if one.camera else "the input folder"
    return (
        f"  {categories[one.class_id]} in {one.images:,} of {one.images_of_camera:,} images of "
        f"{where}, "
        f"scores up to {one.max_score:.2f}, e.g. {keys[one.examples[0]]!r}"
    )


def _write_predictions(
    run: FinishedRun, found: Sequence[RepeatedPlace], path: Path
) -> dict[int, str]:
    """Write the boxes at all places, in the run's order.

    Returns:
        The image keys of the examples, by row number.
    """
    at = np.concatenate([np.zeros(0, np.int64), *(one.rows for one in found)])
    place = np.repeat(np.arange(len(found), dtype=np.int32), [len(one.rows) for one in found])
    order = np.argsort(at)
    at, place = at[order], place[order]
    examples = {int(row) for one in found for row in one.examples}
    keys: dict[int, str] = {}
    schema = pa.schema(
        [pa.field("place", pa.int32()), *(run.schema.field(name) for name in _COLUMNS)]
    )
    first = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for shard_id in run.shard_ids:
            table = run.read_table("predictions", shard_id, _COLUMNS)
            here = slice(*np.searchsorted(at, [first, first + len(table)]))
            chosen = table.take(at[here] - first)
            writer.write_table(chosen.add_column(0, "place", pa.array(place[here])).cast(schema))
            keys |= {
                row: key
                for row, key in zip(at[here].tolist(), chosen["key"].to_pylist(), strict=True)
                if row in examples
            }
            first += len(table)
    return keys


def _places(
    categories: Sequence[str], found: Sequence[RepeatedPlace], keys: dict[int, str]
) -> pa.Table:
    """Return the table of places, one row for each."""
    box = np.array([one.box for one in found]).reshape(-1, 4)
    columns = {
        "place": pa.array(range(len(found)), pa.int32()),
        "camera": pa.array([one.camera for one in found], pa.string()),
        "class_name": pa.array([categories[one.class_id] for one in found], pa.string()),
        # As fractions of the image's width and height.
        **{
            name: pa.array(box[:, i], pa.float32())
            for i, name in enumerate(("left", "top", "right", "bottom"))
        },
        "images": pa.array([one.images for one in found], pa.int64()),
        "images_of_camera": pa.array([one.images_of_camera for one in found], pa.int64()),
        "detections": pa.array([len(one.rows) for one in found], pa.int64()),
        "mean_score": pa.array([one.mean_score for one in found], pa.float32()),
        "max_score": pa.array([one.max_score for one in found], pa.float32()),
        "examples": pa.array(
            [[keys[row] for row in one.examples.tolist()] for one in found], pa.list_(pa.string())
        ),
    }
    return pa.table(columns)


def _draw(
    run: FinishedRun, found: Sequence[RepeatedPlace], images: np.ndarray, folder: Path
) -> None:
    """Write the pages of examples, or warn if the input is gone."""
    from pipeline.results.repeats.sheets import save_example_sheets  # late: drawing imports torch

    try:
        save_example_sheets(run, found, images, folder)
    except ConfigError as error:  # the tables are useful without the pictures
        log.warning("no pages of examples: %s", error)
