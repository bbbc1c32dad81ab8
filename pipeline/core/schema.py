"""Arrow schemas of the tables `images` and `predictions`, and their common columns."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.core.types import Item, Outputs, Status

BOX_COLUMNS = ("x_min", "y_min", "x_max", "y_max")  # pixels of the upright original
CLASS_NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
SCHEMA_VERSION = "1"
BOX_FIELDS = [pa.field(name, pa.float32(), nullable=False) for name in BOX_COLUMNS]
IMAGES_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),  # position in the plan
        pa.field("key", pa.string(), nullable=False),  # path below the input folder, with /
        pa.field("width", pa.int32()),  # pixels of the upright original; null without a header
        pa.field("height", pa.int32()),
        pa.field("status", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("error", pa.string()),  # null when the status is ok
        pa.field("n_predictions", pa.int32()),  # null when the status is not ok
    ]
)
_CARRIED = {b"from": b"source"}  # metadata of a column that comes from the source
_STATUSES = [status.value for status in Status]


def make_predictions_schema(
    task: str, categories: Sequence[str], own: Sequence[pa.Field], **more: Sequence[str]
) -> pa.Schema:
    """Return the schema of a task's predictions: the common columns, then the task's own.

    Args:
        task: The task's name.
        categories: The model's class names; index = class id.
        own: The task's own columns.
        more: Further lists of names for the schema's metadata, by metadata key.
    """
    common = [
        pa.field("image_id", pa.int64(), nullable=False),  # position in the plan; joins images
        pa.field("key", pa.string(), nullable=False),
        pa.field("class_id", pa.int32(), nullable=False),  # as the model counts
        pa.field("class_name", CLASS_NAME_TYPE, nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
    return pa.schema([*common, *own], metadata=_make_metadata(task, categories, more))


def make_detection_columns(
    outputs: Outputs, items: Sequence[Item], categories: Sequence[str]
) -> tuple[dict[str, pa.Array], np.ndarray]:
    """Return the common columns and the four box columns of detections.

    Args:
        outputs: For each item boxes (N, 4) xyxy in pixels of the upright original, labels (N,) and
            scores (N,).
        items: The inputs that the outputs belong to.
        categories: The model's class names; index = class id.

    Returns:
        The columns, best score first within an image; and the order of the rows as indices into
        the concatenated outputs, for the task's own columns.
    """
    import torch

    counts = [len(output["scores"]) for output in outputs]
    scores = torch.cat([output["scores"] for output in outputs]).numpy().astype(np.float32)
    class_ids = torch.cat([output["labels"] for output in outputs]).numpy()
    all_boxes = torch.cat([output["boxes"].reshape(-1, 4) for output in outputs])  # (sum of N, 4)
    boxes = all_boxes.numpy().astype(np.float32)
    order = np.lexsort((-scores, np.repeat(np.arange(len(items)), counts)))
    columns = make_class_columns(items, counts, class_ids[order], scores[order], categories)
    columns |= {name: pa.array(boxes[order, i]) for i, name in enumerate(BOX_COLUMNS)}
    return columns, order


def read_categories(schema: pa.Schema) -> tuple[str, ...]:
    """Return the class names in a schema's metadata; index = class id."""
    return read_name_list(schema, "categories")


def read_name_list(schema: pa.Schema, key: str) -> tuple[str, ...]:
    """Return a list of names from a schema's metadata; empty when the key is missing."""
    return tuple(json.loads(schema.metadata.get(key.encode(), b"[]")))


def make_carried_field(name: str, kind: pa.DataType) -> pa.Field:
    """Return the field of a column that a source carries into every row of both tables.

    The field's metadata marks it as carried, also in the files.
    """
    return pa.field(name, kind, metadata=_CARRIED)


def add_source_columns(schema: pa.Schema, columns: Sequence[pa.Field]) -> pa.Schema:
    """Return a task's schema with the source's columns appended.

    Raises:
        ConfigError: The tables have a column of that name themselves.
    """
    taken = {column.name for column in columns} & {*schema.names, *IMAGES_SCHEMA.names}
    if taken:
        raise ConfigError(
            f"The source's columns {sorted(taken)} have names that the tables use themselves; "
            "rename them, or say which to carry: source.carry=[a,b]."
        )
    return pa.schema([*schema, *columns], metadata=schema.metadata)


def make_images_schema(predictions_schema: pa.Schema) -> pa.Schema:
    """Return the schema of the table `images` for these predictions, with the source's columns."""
    carried = [column for column in predictions_schema if column.metadata == _CARRIED]
    return pa.schema([*IMAGES_SCHEMA, *carried], metadata=predictions_schema.metadata)


def add_carried_values(rows: pa.Table, items: Sequence[Item], schema: pa.Schema) -> pa.Table:
    """Append the source's columns to rows.

    Args:
        rows: Any number of rows per item, with `image_id`.
        items: The inputs that the rows belong to.
        schema: The schema of the result.
    """
    names = schema.names[rows.num_columns :]
    if not names:
        return rows
    index_of = {item.image_id: i for i, item in enumerate(items)}
    indices = pa.array([index_of[i] for i in rows["image_id"].to_pylist()], pa.int64())
    values = list(zip(*(item.entry.carried for item in items if item.entry), strict=True))
    for name, column in zip(names, values, strict=True):
        rows = rows.append_column(
            schema.field(name), pa.array(column, schema.field(name).type).take(indices)
        )
    return rows.cast(schema)


def make_class_columns(
    items: Sequence[Item],
    counts: Sequence[int],
    class_ids: np.ndarray,
    scores: np.ndarray,
    categories: Sequence[str],
) -> dict[str, pa.Array]:
    """Return the common columns of a table of predictions.

    Args:
        items: The inputs, in the order of the rows.
        counts: The number of rows of each item.
        class_ids: (N,) int.
        scores: (N,) float.
        categories: The model's class names; index = class id.

    Raises:
        PipelineError: A class id has no name.
    """
    if len(class_ids) and not 0 <= class_ids.min() <= class_ids.max() < len(categories):
        wrong = class_ids.min() if class_ids.min() < 0 else class_ids.max()
        raise PipelineError(
            f"The model returned class id {wrong}, but there are {len(categories)} class names. "
            "Check categories= (a detector's names are counted from the background, id 0)."
        )
    names, position = _make_class_dictionary(tuple(categories))
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
def _make_class_dictionary(categories: tuple[str, ...]) -> tuple[pa.Array, np.ndarray]:
    """Return the unique class names, and the position in them of each class id.

    The values of an Arrow dictionary must be unique, but several classes may share a name: ImageNet
    has `crane` twice.
    """
    names = list(dict.fromkeys(categories))
    position = {name: i for i, name in enumerate(names)}
    return pa.array(names, pa.string()), np.array(
        [position[name] for name in categories], dtype=np.int32
    )


def make_image_rows(items: Sequence[Item], predictions: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return the rows of the table `images`, one per item.

    Args:
        items: The inputs, failed ones included.
        predictions: The rows that were kept for these items.
        schema: The schema of the result.
    """
    ids, counts = np.unique(predictions["image_id"].to_numpy(), return_counts=True)
    n_predictions = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    is_ok = [item.status is Status.OK for item in items]
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
                    n_predictions.get(item.image_id, 0) if ok else None
                    for item, ok in zip(items, is_ok, strict=True)
                ],
                pa.int32(),
            ),
        },
        schema=IMAGES_SCHEMA,
    )
    return add_carried_values(rows, items, schema).replace_schema_metadata(schema.metadata)


def _make_metadata(
    task: str, categories: Sequence[str], more: Mapping[str, Sequence[str]]
) -> dict[str, str]:
    lists = {"categories": categories, **more}
    return {"schema_version": SCHEMA_VERSION, "task": task} | {
        k: json.dumps(list(v)) for k, v in lists.items()
    }
