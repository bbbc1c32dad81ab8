"""Rank the classes of whole images or clips, for the tasks `classify` and `video`."""

from __future__ import annotations  # readers of finished runs lack torch

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.core.schema import make_class_columns, make_predictions_schema
from pipeline.core.task_roles import Content, EvaluationMethod, RowComparison, ViewMerging
from pipeline.core.types import Item, ModelSpec, Outputs

if TYPE_CHECKING:
    from torch import Tensor


class TopClasses:
    """Base class of tasks that make one row for each of an input's k most probable classes.

    `score` is the softmax probability over all of the model's classes; `rank` is 1 for the best.
    Class and score filters are applied after the k best classes are chosen. They never add a row
    for another class.
    """

    name: str
    needs = frozenset({"logits"})
    takes_clips: bool
    contents = frozenset({Content.SCORES, Content.LABELS, Content.RANKS})
    filters = frozenset({"classes", "exclude", "min_score", "top_k"})
    merging = ViewMerging.MEAN
    comparison = RowComparison.LABELS
    evaluations = (EvaluationMethod.CLASSIFICATION,)

    def __init__(self, spec: ModelSpec, top_k: int) -> None:
        self.categories = spec.categories
        self.top_k = min(top_k, len(self.categories))
        self.schema = make_predictions_schema(
            self.name, self.categories, [pa.field("rank", pa.int32(), nullable=False)]
        )

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Make the rows of `items`, best class first. `outputs[i]` has logits (C,)."""
        import torch

        logits = torch.stack([output["logits"] for output in outputs])  # (B, C)
        scores, class_ids = logits.softmax(dim=1).topk(self.top_k, dim=1)  # (B, k)
        counts = [self.top_k] * len(items)
        columns = make_class_columns(
            items, counts, class_ids.flatten().numpy(), scores.flatten().numpy(), self.categories
        )
        columns["rank"] = pa.array(
            np.tile(np.arange(1, self.top_k + 1, dtype=np.int32), len(items))
        )
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """Draw the classes and their scores below one another in the upper left corner."""
        from pipeline.ops.drawing import Canvas, make_captions  # not at the top: imports torch

        canvas = Canvas(image, long_side)
        canvas.draw_label_list(*make_captions(rows))
        return canvas.image
