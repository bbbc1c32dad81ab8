"""Rank the classes of whole images or clips, for the tasks `classify` and `video`."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.core.schema import make_class_columns, make_predictions_schema
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.drawing import Canvas, make_captions


class TopClasses:
    """Base of tasks with one row for each of the k most probable classes of an input.

    `score` is the softmax probability over all of the model's classes; `rank` is 1 for the best.
    Class and score filters are applied after the k best are chosen, so a class that is not among
    them has no row.
    """

    name: str
    takes_clips: bool
    filters = frozenset({"classes", "exclude", "min_score", "top_k"})

    def __init__(self, spec: ModelSpec, top_k: int) -> None:
        self.categories = spec.categories
        self.top_k = min(top_k, len(self.categories))
        self.schema = make_predictions_schema(
            self.name, self.categories, [pa.field("rank", pa.int32(), nullable=False)]
        )

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Make the rows of `items`, best class first. `outputs[i]` has logits (C,)."""
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
        canvas = Canvas(image, long_side)
        canvas.draw_label_list(*make_captions(rows))
        return canvas.image
