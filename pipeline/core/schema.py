"""The columns that every task's prediction rows begin with, and what the files say about themselves."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.types import Item, Outputs, Status

BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")  # pixels of the upright original
CLASS_NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
_CARRIED = {b"from": b"source"}
_STATUSES = [status.value for status in Status]


def make_predictions_schema(
    task: str, categories: Sequence[str], own: Sequence[pa.Field], **more: Sequence[str]
) -> pa.Schema:
    """The schema of a task's predictions: the common columns, the task's `own`, and the file-level metadata, to which
    `more` adds lists of names."""
    common = [
        pa.field("image_id", pa.int64(), nullable=False),  # joins with images/
        pa.field("key", pa.string(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),  # the model's own id
        pa.field("class_name", CLASS_NAME_TYPE, nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
    return pa.schema([*common, *own], metadata=_metadata(task, categories, more))


BOX_FIELDS = [pa.field(name, pa.float32(), nullable=False) for name in BOX_COLUMNS]


def make_detection_columns(
    outputs: Outputs, items: Sequence[Item], categories: Sequence[str]
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """The common columns and the four of the box, best score first within an image; and the order they were put in, for
    what else belongs to each detection. `outputs[i]`: boxes (N, 4) xyxy in pixels of the upright original, labels (N,),
    scores (N,)."""
    import torch

    counts = [len(one["scores"]) for one in outputs]
    scores = torch.cat([one["scores"] for one in outputs]).numpy().astype(np.float32)
    class_ids = torch.cat([one["labels"] for one in outputs]).numpy()
    boxes = torch.cat([one["boxes"].reshape(-1, 4) for one in outputs]).numpy().astype(np.float32)
    order = np.lexsort((-scores, np.repeat(np.arange(len(items)), counts)))
    columns = make_class_columns(items, counts, class_ids[order], scores[order], categories)
    return columns | {name: pa.array(boxes[order, i]) for i, name in enumerate(BOX_COLUMNS)}, order


def read_categories(schema: pa.Schema) -> tuple[str, ...]:
    """The class names in a schema's metadata; index = class id."""
    return read_name_list(schema, "categories")


def read_name_list(schema: pa.Schema, key: str) -> tuple[str, ...]:
    """A list of names in a schema's metadata; empty where it has none."""
    return tuple(json.loads(schema.metadata.get(key.encode(), b"[]")))


def make_carried_field(name: str, kind: pa.DataType) -> pa.Field:
    """A column that a source carries into every row; the mark stays in the files."""
    return pa.field(name, kind, metadata=_CARRIED)


def add_source_columns(schema: pa.Schema, columns: Sequence[pa.Field]) -> pa.Schema:
    """A task's schema with the source's columns after its own. Raises ConfigError for a name that is taken."""
    taken = {column.name for column in columns} & {*schema.names, *IMAGES_SCHEMA.names}
    if taken:
        raise ConfigError(
            f"The source's columns {sorted(taken)} have names that the tables use themselves; "
            "rename them, or say which to carry: source.carry=[a,b]."
        )
    return pa.schema([*schema, *columns], metadata=schema.metadata)


def make_images_schema(predictions_schema: pa.Schema) -> pa.Schema:
    """The schema of `images` beside these predictions: the source's columns are in both."""
    carried = [column for column in predictions_schema if column.metadata == _CARRIED]
    return pa.schema([*IMAGES_SCHEMA, *carried], metadata=predictions_schema.metadata)


def add_carried_values(rows: pa.Table, items: Sequence[Item], schema: pa.Schema) -> pa.Table:
    """Rows of these items, any number for each, with the source's columns after their own; `schema` is the result's."""
    names = schema.names[rows.num_columns :]
    if not names:
        return rows
    item_of = {item.image_id: i for i, item in enumerate(items)}
    at = pa.array([item_of[i] for i in rows["image_id"].to_pylist()], pa.int64())
    values = list(zip(*(item.entry.carried for item in items if item.entry), strict=True))
    for name, column in zip(names, values, strict=True):
        rows = rows.append_column(
            schema.field(name), pa.array(column, schema.field(name).type).take(at)
        )
    return rows.cast(schema)


def make_class_columns(
    items: Sequence[Item],
    counts: Sequence[int],
    class_ids: np.ndarray,
    scores: np.ndarray,
    categories: Sequence[str],
) -> dict[str, pa.Array]:
    """The common columns; `counts[i]` rows belong to `items[i]`, in this order."""
    if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < len(categories):
        wrong = class_ids.min() if class_ids.min() < 0 else class_ids.max()
        raise PipelineError(
            f"The model returned class id {wrong}, but there are {len(categories)} class names. "
            "Check categories= (a detector's names are counted from the background, id 0)."
        )
    names, position = _dictionary(tuple(categories))
    return {
        "image_id": pa.array(np.repeat([item.image_id for item in items], counts).astype(np.int64)),
        "key": pa.array(
            [item.key for item, n in zip(items, counts, strict=True) for _ in range(n)], pa.string()
        ),
        "class_id": pa.array(class_ids.astype(np.int32)),
        "class_name": pa.DictionaryArray.from_arrays(pa.array(position[class_ids]), names),
        "score": pa.array(scores.astype(np.float32)),
    }


@lru_cache(maxsize=8)
def _dictionary(categories: tuple[str, ...]) -> tuple[pa.Array, np.ndarray]:
    """(names, the position in them of each class id). A dictionary's values must be unique, and ImageNet has two kinds of
    crane, so ids are mapped to first occurrences."""
    names = list(dict.fromkeys(categories))
    position = {name: i for i, name in enumerate(names)}
    return pa.array(names, pa.string()), np.array(
        [position[name] for name in categories], dtype=np.int32
    )


def make_image_rows(items: Sequence[Item], predictions: pa.Table, schema: pa.Schema) -> pa.Table:
    """One row per item. `predictions` are the rows kept for these items."""
    ids, counts = np.unique(predictions["image_id"].to_numpy(), return_counts=True)
    n_predictions = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    ok = [item.status is Status.OK for item in items]
    statuses = pa.array([_STATUSES.index(item.status) for item in items], pa.int8())
    sizes = [item.size_hw or (None, None) for item in items]
    rows = pa.table(
        {
            "image_id": pa.array([item.image_id for item in items], pa.int64()),
            "key": pa.array([item.key for item in items], pa.string()),
            "width": pa.array([width for _, width in sizes], pa.int32()),
            "height": pa.array([height for height, _ in sizes], pa.int32()),
            "status": pa.DictionaryArray.from_arrays(statuses, pa.array(_STATUSES)),
            "error": pa.array([item.error for item in items], pa.string()),
            "n_predictions": pa.array(
                [
                    n_predictions.get(item.image_id, 0) if good else None
                    for item, good in zip(items, ok, strict=True)
                ],
                pa.int32(),
            ),
        },
        schema=IMAGES_SCHEMA,
    )
    return add_carried_values(rows, items, schema).replace_schema_metadata(schema.metadata)


def _metadata(
    task: str, categories: Sequence[str], more: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    lists = {"categories": categories, **more}
    return {"schema_version": SCHEMA_VERSION, "task": task} | {
        k: json.dumps(list(v)) for k, v in lists.items()
    }


SCHEMA_VERSION = "1"


IMAGES_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),  # position in the plan
        pa.field("key", pa.string(), nullable=False),  # path below the input folder, with /
        pa.field("width", pa.int32()),  # pixels, upright; null when no header could be read
        pa.field("height", pa.int32()),
        pa.field("status", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("error", pa.string()),  # null when ok
        pa.field("n_predictions", pa.int32()),  # null when not ok: a failure is not zero detections
    ]
)
