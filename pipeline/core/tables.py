"""Questions asked of the committed tables `images` and `predictions`. Needs neither a model nor torch."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.types import Status

_COLUMN_OF_CONTENT = {
    "boxes": "x_min",
    "masks": "mask_rle",
    "keypoints": "keypoints",
    "embeddings": "embedding",
    "further classes": "rank",
}
_ERRORS = pa.array([status.value for status in Status if status.is_error])


def describe_contents(schema: pa.Schema) -> frozenset[str]:
    """What prediction rows of this schema say: `scores`; `boxes`, `masks`, `keypoints`, or else `labels` of whole images,
    and `further classes` where they are ranked; `embeddings`."""
    found = {"scores"}
    found |= {name for name, column in _COLUMN_OF_CONTENT.items() if column in schema.names}
    return frozenset(found if found & {"boxes", "masks"} else found | {"labels"})


def select_usable(images: pa.Table) -> pa.Table:
    """Those that are ok."""
    return images.filter(_is(Status.OK, images))


def mark_failed(images: pa.Table) -> pa.ChunkedArray:
    """(N,) bool: which are rows with an error. A duplicate is neither usable nor failed."""
    return pc.is_in(images["status"].cast(pa.string()), _ERRORS)


def mark_duplicates(images: pa.Table) -> pa.ChunkedArray:
    """(N,) bool: which were not looked at, because another image is the same picture."""
    return _is(Status.DUPLICATE, images)


def _is(status: Status, images: pa.Table) -> pa.ChunkedArray:
    return pc.equal(images["status"].cast(pa.string()), status.value)


def group_by_image(
    images: pa.Table, predictions: pa.Table
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(image row, its prediction rows) of a shard's tables, in input order, failed images too."""
    rows = predictions.to_pylist()
    at = 0
    for image in images.to_pylist():
        end = at + (image["n_predictions"] or 0)
        yield image, rows[at:end]
        at = end
