"""Name each image after its best detection. A task without boxes that nothing else knows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.core.schema import make_class_columns, make_predictions_schema
from pipeline.core.task_roles import Content, RowComparison, ViewMerging
from pipeline.core.types import Item, ModelSpec, Outputs

if TYPE_CHECKING:
    from torch import Tensor


class ToyLabel:
    """Make one row per image in which something was found: the class of the best detection."""

    name = "toy_label"
    needs = frozenset({"boxes"})
    takes_clips = False
    contents = frozenset({Content.SCORES, Content.LABELS})
    filters = frozenset({"classes", "exclude", "min_score"})
    merging = ViewMerging.NONE
    comparison = RowComparison.LABELS
    evaluations = "an object's class is not the class of its image."

    def __init__(self, spec: ModelSpec) -> None:
        self.categories = spec.categories
        self.schema = make_predictions_schema(self.name, self.categories, [])

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        counts = [min(1, len(output["scores"])) for output in outputs]
        found = [output for output, count in zip(outputs, counts, strict=True) if count]
        best = [int(output["scores"].argmax()) for output in found]
        pairs = list(zip(found, best, strict=True))
        class_ids = np.array([int(output["labels"][i]) for output, i in pairs], np.int64)
        scores = np.array([float(output["scores"][i]) for output, i in pairs], np.float32)
        columns = make_class_columns(items, counts, class_ids, scores, self.categories)
        return pa.table(columns, schema=self.schema)

    def draw(self, image: "Tensor", rows: pa.Table, long_side: int | None = None) -> "Tensor":
        from pipeline.ops.drawing import Canvas, make_captions

        canvas = Canvas(image, long_side)
        canvas.draw_label_list(*make_captions(rows))
        return canvas.image
