"""The vector before a classifier's head."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.core.schema import make_class_columns, make_predictions_schema
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.drawing import Canvas, make_captions


class Embed:
    """One row per image: `embedding`, and as its class the most probable one. `normalize` scales vectors to length 1."""

    name = "embed"
    takes_clips = False
    filters = frozenset({"classes", "exclude", "min_score"})

    def __init__(self, spec: ModelSpec, normalize: bool) -> None:
        if spec.embedding_dim is None:
            raise ConfigError(
                f"model={spec.name} gives no embedding; choose a classification builder."
            )
        self.categories, self.normalize, self.dim = spec.categories, normalize, spec.embedding_dim()
        vector = pa.field("embedding", pa.list_(pa.float32(), self.dim), nullable=False)
        self.schema = make_predictions_schema(self.name, self.categories, [vector])

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """`outputs[i]`: logits (C,), embedding (D,)."""
        scores, class_ids = (
            torch.stack([one["logits"] for one in outputs]).softmax(dim=1).max(dim=1)
        )
        vectors = torch.stack([one["embedding"] for one in outputs])  # (B, D)
        if self.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        columns = make_class_columns(
            items, [1] * len(items), class_ids.numpy(), scores.numpy(), self.categories
        )
        flat = pa.array(vectors.numpy().astype(np.float32).reshape(-1))
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, self.dim)
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        canvas = Canvas(image, long_side)
        canvas.draw_label_list(*make_captions(rows))
        return canvas.image
