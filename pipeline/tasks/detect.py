"""Boxes with a class and a score."""

from collections.abc import Sequence

import pyarrow as pa
from torch import Tensor

from pipeline.core.schema import BOX_FIELDS, make_detection_columns, make_predictions_schema
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.ops.drawing import Canvas, make_captions


class Detect:
    """One row per detection, best score first within an image."""

    name = "detect"
    takes_clips = False
    filters = frozenset(
        {"classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections"}
    )

    def __init__(self, spec: ModelSpec) -> None:
        self.categories = spec.categories
        self.schema = make_predictions_schema(self.name, self.categories, BOX_FIELDS)

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        columns, _ = make_detection_columns(outputs, items, self.categories)
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        canvas = Canvas(image, long_side)
        canvas.draw_boxes(read_boxes_xyxy(rows), *make_captions(rows))
        return canvas.image
