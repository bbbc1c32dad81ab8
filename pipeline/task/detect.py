"""Boxes with a class and a score."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.boxes import boxes_of
from pipeline.drawing import Canvas
from pipeline.table import class_columns, file_schema
from pipeline.types import Item, Outputs

_BOX = ("x_min", "y_min", "x_max", "y_max")  # pixels of the upright original


class Detect:
    """One row per detection, best score first within an image."""

    name = "detect"
    filters = frozenset({"classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections"})

    def __init__(self, categories: Sequence[str]) -> None:
        self.categories = tuple(categories)
        self.schema = file_schema(
            self.name, self.categories, [pa.field(name, pa.float32(), nullable=False) for name in _BOX]
        )

    def rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """`outputs[i]`: boxes (N, 4) xyxy in pixels of the upright original, labels (N,), scores (N,)."""
        counts = [len(one["scores"]) for one in outputs]
        scores = torch.cat([one["scores"] for one in outputs]).numpy().astype(np.float32)
        class_ids = torch.cat([one["labels"] for one in outputs]).numpy()
        boxes = torch.cat([one["boxes"].reshape(-1, 4) for one in outputs]).numpy().astype(np.float32)
        order = np.lexsort((-scores, np.repeat(np.arange(len(items)), counts)))
        columns = class_columns(items, counts, class_ids[order], scores[order], self.categories)
        columns |= {name: pa.array(boxes[order, i]) for i, name in enumerate(_BOX)}
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table) -> Tensor:
        canvas = Canvas(image)
        names, scores = rows["class_name"].to_pylist(), rows["score"].to_pylist()
        canvas.boxes(boxes_of(rows), names, [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)])
        return canvas.image
