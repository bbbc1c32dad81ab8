"""Boxes, and a mask for each."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from torch import Tensor

from pipeline.core.schema import BOX_FIELDS, make_detection_columns, make_predictions_schema
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.ops.drawing import Canvas, make_captions
from pipeline.ops.masks import MASK_FIELDS, encode_rle, make_mask_columns, paste_mask, read_masks


class Instances:
    """One row per instance, best score first within an image; masks as COCO RLE of the whole upright original."""

    name = "instances"
    takes_clips = False
    filters = frozenset(
        {"classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections"}
    )

    def __init__(self, spec: ModelSpec) -> None:
        self.categories = spec.categories
        self.schema = make_predictions_schema(
            self.name, self.categories, [*BOX_FIELDS, *MASK_FIELDS]
        )

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """`outputs[i]`: as for `detect`, and masks (N, 1, 28, 28), probabilities within the box."""
        columns, order = make_detection_columns(outputs, items, self.categories)
        counts, sizes = [], []
        for one, item in zip(outputs, items, strict=True):
            size_hw = item.size_hw or (0, 0)
            counts += [
                encode_rle(paste_mask(mask, box, size_hw))
                for mask, box in zip(one["masks"], one["boxes"], strict=True)
            ]
            sizes += [size_hw] * len(one["masks"])
        ordered = np.asarray(order).tolist()
        columns |= make_mask_columns((counts[i] for i in ordered), (sizes[i] for i in ordered))
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        canvas = Canvas(image, long_side)
        names, labels = make_captions(rows)
        canvas.draw_masks(read_masks(rows), names)
        canvas.draw_boxes(read_boxes_xyxy(rows), names, labels)
        return canvas.image
