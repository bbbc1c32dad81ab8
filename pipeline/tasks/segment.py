"""Find the class of every pixel."""

from __future__ import annotations  # readers of finished runs lack torch

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.core.schema import make_class_columns, make_predictions_schema
from pipeline.core.task_roles import Content, EvaluationMethod, RowComparison, ViewMerging
from pipeline.core.types import Item, ModelSpec, Outputs
from pipeline.ops.filters import PLACEHOLDERS
from pipeline.ops.masks import (
    MASK_FIELDS,
    argmax_at_full_size,
    encode_rle,
    make_mask_columns,
    read_masks,
)

if TYPE_CHECKING:
    from torch import Tensor


class Segment:
    """Task with one row per class that is present, the largest first. The background has no row.

    `score` is the mean probability of the class over its pixels.
    """

    name = "segment"
    needs = frozenset({"probabilities"})
    takes_clips = False
    contents = frozenset({Content.SCORES, Content.MASKS, Content.AREAS})
    filters = frozenset({"classes", "exclude", "min_score"})
    merging = ViewMerging.MEAN
    comparison = RowComparison.REGIONS
    evaluations = (EvaluationMethod.SEGMENTATION,)

    def __init__(self, spec: ModelSpec) -> None:
        self.categories = spec.categories
        own = [
            pa.field("pixels", pa.int64(), nullable=False),  # in the upright original
            pa.field("share", pa.float32(), nullable=False),  # the area as a fraction of the image
        ]
        self.schema = make_predictions_schema(self.name, self.categories, [*own, *MASK_FIELDS])

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Make the rows of `items`. `outputs[i]`: probabilities (C, h, w) at the network's size."""
        counts, found = [], []
        for output, item in zip(outputs, items, strict=True):
            regions = self._regions(output["probabilities"], item.size_hw or (1, 1))
            counts.append(len(regions))
            found += regions
        columns = make_class_columns(
            items,
            counts,
            np.array([region["class_id"] for region in found], dtype=np.int64),
            np.array([region["score"] for region in found], dtype=np.float32),
            self.categories,
        )
        columns["pixels"] = pa.array([region["pixels"] for region in found], pa.int64())
        columns["share"] = pa.array([region["share"] for region in found], pa.float32())
        columns |= make_mask_columns(
            (region["rle"] for region in found), (region["size_hw"] for region in found)
        )
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """Colour the pixels of each class, and list the classes in the image's corner."""
        from pipeline.ops.drawing import Canvas, make_captions  # not at the top: imports torch

        canvas = Canvas(image, long_side)
        names, labels = make_captions(rows)
        canvas.draw_masks(read_masks(rows), names)
        canvas.draw_label_list(names, labels)
        return canvas.image

    def _regions(self, probabilities: Tensor, size_hw: tuple[int, int]) -> list[dict]:
        """Return a dict for each class that is present, the largest first."""
        ids, confidence = argmax_at_full_size(probabilities, size_hw)
        regions = []
        for class_id in np.unique(ids).tolist():
            if self.categories[class_id] in PLACEHOLDERS:
                continue
            mask = ids == class_id
            pixels = int(mask.sum())
            score = float(confidence[mask].mean(dtype=np.float64))
            share = pixels / mask.size
            region = {"class_id": class_id, "score": score, "pixels": pixels, "share": share}
            regions.append(region | {"rle": encode_rle(mask), "size_hw": size_hw})
        return sorted(regions, key=lambda region: -region["pixels"])
