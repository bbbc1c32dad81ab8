"""Detect objects: boxes with a class, a score and a mask."""

from __future__ import annotations  # readers of finished runs lack torch

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.core.schema import BOX_FIELDS, make_detection_columns, make_predictions_schema
from pipeline.core.task_roles import Content, EvaluationMethod, RowComparison, ViewMerging
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.ops.masks import MASK_FIELDS, encode_rle, make_mask_columns, paste_mask, read_masks

if TYPE_CHECKING:
    from torch import Tensor


class Instances:
    """Task with one row per object, best score first within an image.

    Masks have the size of the upright original and are encoded as COCO RLE.
    """

    name = "instances"
    needs = frozenset({"boxes", "masks"})
    takes_clips = False
    contents = frozenset({Content.SCORES, Content.BOXES, Content.MASKS})
    filters = frozenset(
        {"classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections"}
    )
    merging = ViewMerging.SHAPES
    comparison = RowComparison.BOXES
    evaluations = (EvaluationMethod.DETECTION, EvaluationMethod.SEGMENTATION)

    def __init__(self, spec: ModelSpec) -> None:
        self.categories = spec.categories
        self.schema = make_predictions_schema(
            self.name, self.categories, [*BOX_FIELDS, *MASK_FIELDS]
        )

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Make the rows of `items`.

        `outputs[i]`: boxes (N, 4), labels (N,), scores (N,), and masks (N, 1, 28, 28). A mask
        holds probabilities and fills its box.
        """
        columns, order = make_detection_columns(outputs, items, self.categories)
        counts, sizes = [], []
        for output, item in zip(outputs, items, strict=True):
            size_hw = item.size_hw or (0, 0)
            counts += [
                encode_rle(paste_mask(mask, box, size_hw))
                for mask, box in zip(output["masks"], output["boxes"], strict=True)
            ]
            sizes += [size_hw] * len(output["masks"])

        ordered = np.asarray(order).tolist()
        columns |= make_mask_columns((counts[i] for i in ordered), (sizes[i] for i in ordered))
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """Draw each mask and box, with class and score."""
        from pipeline.ops.drawing import Canvas, make_captions  # not at the top: imports torch

        canvas = Canvas(image, long_side)
        names, labels = make_captions(rows)
        canvas.draw_masks(read_masks(rows), names)
        canvas.draw_boxes(read_boxes_xyxy(rows), names, labels)
        return canvas.image
