"""Find objects and how wide they are. A task that nothing else in the repository knows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.core.schema import BOX_FIELDS, make_detection_columns, make_predictions_schema
from pipeline.core.task_roles import Content, EvaluationMethod, RowComparison, ViewMerging
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.boxes import read_boxes_xyxy

if TYPE_CHECKING:
    from torch import Tensor


class Toy:
    """Make one row per detection, with the column `aspect_ratio`: width by height."""

    name = "toy"
    needs = frozenset({"boxes"})
    takes_clips = False
    contents = frozenset({Content.SCORES, Content.BOXES})
    filters = frozenset({"classes", "exclude", "min_score", "max_detections"})
    merging = ViewMerging.BOXES
    comparison = RowComparison.BOXES
    evaluations = (EvaluationMethod.DETECTION,)

    def __init__(self, spec: ModelSpec, decimals: int) -> None:
        self.categories, self.decimals = spec.categories, decimals
        ratio = pa.field("aspect_ratio", pa.float32(), nullable=False)
        self.schema = make_predictions_schema(self.name, self.categories, [*BOX_FIELDS, ratio])

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        columns, _ = make_detection_columns(outputs, items, self.categories)
        boxes = read_boxes_xyxy(pa.table(columns))
        width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        ratio = width / np.maximum(height, 1e-3)
        columns["aspect_ratio"] = pa.array(ratio.round(self.decimals))
        return pa.table(columns, schema=self.schema)

    def draw(self, image: "Tensor", rows: pa.Table, long_side: int | None = None) -> "Tensor":
        from pipeline.ops.drawing import Canvas, make_captions

        canvas = Canvas(image, long_side)
        canvas.draw_boxes(read_boxes_xyxy(rows), *make_captions(rows))
        return canvas.image
