"""Compute an embedding of each image: the vector that enters a classifier's last layer."""

from __future__ import annotations  # readers of finished runs lack torch

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.core.errors import ConfigError
from pipeline.core.schema import make_class_columns, make_predictions_schema
from pipeline.core.task_roles import Content, EvaluationMethod, RowComparison, ViewMerging
from pipeline.core.types import Item, ModelSpec, Outputs

if TYPE_CHECKING:
    from torch import Tensor


class Embed:
    """Task with one row per image: its vector in `embedding`, and its most probable class.

    `normalize` scales vectors to length 1.
    """

    name = "embed"
    needs = frozenset({"logits", "embedding"})
    takes_clips = False
    contents = frozenset({Content.SCORES, Content.LABELS, Content.EMBEDDINGS})
    filters = frozenset({"classes", "exclude", "min_score"})
    merging = ViewMerging.MEAN
    comparison = RowComparison.LABELS
    evaluations = (EvaluationMethod.CLASSIFICATION,)

    def __init__(self, spec: ModelSpec, normalize: bool) -> None:
        if spec.embedding_dim is None:
            raise ConfigError(
                f"model={spec.name} gives no embedding; choose a classification builder."
            )
        self.categories, self.normalize, self.dim = spec.categories, normalize, spec.embedding_dim()
        vector = pa.field("embedding", pa.list_(pa.float32(), self.dim), nullable=False)
        self.schema = make_predictions_schema(self.name, self.categories, [vector])

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Make the rows of `items`. `outputs[i]`: logits (C,), embedding (D,)."""
        import torch

        logits = torch.stack([output["logits"] for output in outputs])  # (B, C)
        scores, class_ids = logits.softmax(dim=1).max(dim=1)
        vectors = torch.stack([output["embedding"] for output in outputs])  # (B, D)
        if self.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)

        columns = make_class_columns(
            items, [1] * len(items), class_ids.numpy(), scores.numpy(), self.categories
        )
        flat = pa.array(vectors.numpy().astype(np.float32).reshape(-1))
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, self.dim)
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """Write the class and its score into the image's corner."""
        from pipeline.ops.drawing import Canvas, make_captions  # not at the top: imports torch

        canvas = Canvas(image, long_side)
        canvas.draw_label_list(*make_captions(rows))
        return canvas.image
