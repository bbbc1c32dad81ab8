"""Make finished runs with given rows, without a model and without images.

The shards are committed as a run commits them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.instantiate import instantiate
from pipeline.core.schema import CLASS_NAME_TYPE, make_images_schema, read_categories
from pipeline.core.shard_names import make_part_name
from pipeline.core.types import Entry
from pipeline.runs.plan_freezing import freeze_plan
from pipeline.runs.run_folder import RunFolder
from tests.helpers.pictures import spec_of
from tests.helpers.runs import settings_for

CATEGORIES = ("__background__", "dog", "cat", "stop sign")
FILTERS = dict.fromkeys(
    ("classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections", "top_k")
)


@dataclass(frozen=True)
class Row:
    """An image row with its predictions: dicts of class_id, score and the task's own columns."""

    key: str
    size_hw: tuple[int, int] | None = (480, 640)
    found: Sequence[dict[str, Any]] = ()
    status: str = "ok"
    error: str | None = None


@dataclass(frozen=True)
class _ListedKeys:
    """A source that only lists keys."""

    keys: Sequence[str]
    identity: str
    columns: tuple = ()
    sizes: Sequence[int] | None = None  # bytes

    def entries(self) -> Iterator[Entry]:
        for key, size in zip(self.keys, self.sizes or [10] * len(self.keys), strict=True):
            yield Entry(key, size, 1_000_000_007)


def box(class_id: int, score: float, *xyxy: float, **more: Any) -> dict[str, Any]:
    """Return a prediction with a box, and the columns in `more`."""
    return (
        {"class_id": class_id, "score": score}
        | dict(zip(("x_min", "y_min", "x_max", "y_max"), xyxy, strict=True))
        | more
    )


def made_run(
    path: Path,
    rows: Sequence[Row],
    task: str = "detect",
    categories: Sequence[str] = CATEGORIES,
    keypoint_names: tuple[str, ...] = (),
    input: Path = Path("/nowhere"),
    shard_size: int = 4,
    sizes: Sequence[int] | None = None,
    source: str = "folder",
    listed: Any = None,
    source_settings: dict[str, Any] | None = None,
    **filters: Any,
) -> Path:
    """Make a complete run.

    The image_id, key and class names of predictions are filled in.

    Args:
        path: The run folder to make.
        rows: The images, in the order of their keys.
        task: Name of the task.
        categories: Class names; index = class id.
        keypoint_names: Names of the keypoints.
        input: The folder that the run says its images are in.
        shard_size: Images of a shard.
        sizes: Bytes of the image files, for tests that read them again.
        source: Name of the kind of source.
        listed: A source that lists the keys of the rows; None for one that only lists them.
        source_settings: The settings of that source.
        filters: Filter settings that the run says it used.

    Returns:
        `path`.
    """
    made = instantiate(
        settings_for(f"task={task}").components["task"],
        spec=spec_of(*categories, keypoint_names=keypoint_names),
    )
    folder = RunFolder(path)
    with folder.lock():
        listed = listed or _ListedKeys([row.key for row in rows], f"{source}:{input}", sizes=sizes)
        plan = freeze_plan(folder, listed, shard_size, None, False)
        determined_by = {
            "source": listed.identity,
            "task": {"name": task},
            "model": "made",
            "filters": FILTERS | filters,
        }
        determined_by |= {"max_pixels": 10**8} | (
            {"source_settings": source_settings} if source_settings else {}
        )
        config = {"input": str(input), "model": "made", "min_score": filters.get("min_score")}
        record = {"task": task, "model": "made", "categories": list(categories), "config": config}
        folder.publish_json("run.json", record | {"fingerprint_of": determined_by})
        for shard_id in range(plan.n_shards):
            first = plan.read_shard(shard_id).first_image_id
            stage = folder.create_stage(shard_id)
            part = list(enumerate(rows))[first : first + shard_size]
            for kind, table in (
                ("images", _images(part, made.schema)),
                ("predictions", _predictions(part, made.schema)),
            ):
                (stage / kind).mkdir()
                pq.write_table(table, stage / kind / make_part_name(shard_id), compression="zstd")
            folder.commit(shard_id, len(part), stage)
    return path


def _images(part: list[tuple[int, Row]], schema: pa.Schema) -> pa.Table:
    rows = []
    for image_id, row in part:
        height, width = row.size_hw or (None, None)
        one = {
            "image_id": image_id,
            "key": row.key,
            "width": width,
            "height": height,
            "status": row.status,
        }
        rows.append(
            one
            | {"error": row.error, "n_predictions": len(row.found) if row.status == "ok" else None}
        )
    return pa.Table.from_pylist(rows, schema=make_images_schema(schema))


def _predictions(part: list[tuple[int, Row]], schema: pa.Schema) -> pa.Table:
    names = read_categories(schema)
    rows = [
        {"image_id": image_id, "key": row.key, "class_name": names[one["class_id"]]} | one
        for image_id, row in part
        for one in row.found
    ]
    at = schema.get_field_index("class_name")
    plain = schema.set(at, schema.field(at).with_type(pa.string()))
    return pa.Table.from_pylist(rows, schema=plain).set_column(
        at,
        schema.field(at),
        pa.array([row["class_name"] for row in rows], pa.string())
        .dictionary_encode()
        .cast(CLASS_NAME_TYPE),
    )
