"""Detect objects: boxes with a class and a score."""

from __future__ import annotations  # readers of finished runs lack torch

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from pipeline.core.schema import BOX_FIELDS, make_detection_columns, make_predictions_schema
from pipeline.core.task_roles import Content, EvaluationMethod, RowComparison, ViewMerging
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.boxes import read_boxes_xyxy

if TYPE_CHECKING:
    from torch import Tensor


class Detect:
    """Task with one row per detection, best score first within an image."""

    name = "detect"
    needs = frozenset({"boxes"})
    takes_clips = False
    contents = frozenset({Content.SCORES, Content.BOXES})
    filters = frozenset(
        {"classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections"}
    )
    merging = ViewMerging.BOXES
    comparison = RowComparison.BOXES
    evaluations = (EvaluationMethod.DETECTION,)

    def __init__(self, spec: ModelSpec) -> None:
        self.categories = spec.categories
        self.schema = make_predictions_schema(self.name, self.categories, BOX_FIELDS)

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Make the rows of `items`. `outputs[i]`: boxes (N, 4), labels (N,), scores (N,)."""
        columns, _ = make_detection_columns(outputs, items, self.categories)
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """Draw each box with its class and score."""
        from pipeline.ops.drawing import Canvas, make_captions  # not at the top: imports torch

        canvas = Canvas(image, long_side)
        canvas.draw_boxes(read_boxes_xyxy(rows), *make_captions(rows))
        return canvas.image
