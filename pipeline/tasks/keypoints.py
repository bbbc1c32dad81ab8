"""Detect objects, for example persons, and named points on each."""

from __future__ import annotations  # readers of finished runs lack torch

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

_POINT = pa.struct(
    [
        pa.field("x", pa.float32()),  # pixels of the upright original
        pa.field("y", pa.float32()),
        # the model's value; torchvision's Keypoint R-CNN returns 1 for every point
        pa.field("visibility", pa.float32()),
        pa.field("score", pa.float32()),  # the heat map's logit: above 0 is more likely than not
    ]
)
# COCO's limbs, as pairs of names. A limb is drawn only if the model has both points.
_LIMBS = (
    "nose left_eye", "nose right_eye", "left_eye left_ear", "right_eye right_ear",
    "left_shoulder right_shoulder", "left_shoulder left_elbow", "left_elbow left_wrist",
    "right_shoulder right_elbow", "right_elbow right_wrist", "left_shoulder left_hip",
    "right_shoulder right_hip", "left_hip right_hip", "left_hip left_knee", "left_knee left_ankle",
    "right_hip right_knee", "right_knee right_ankle",
)  # fmt: skip


class Keypoints:
    """Task with one row per object, best score first within an image.

    `keypoints` is a list of (x, y, visibility, score) in the order of `keypoint_names` in the
    file's metadata, which is the model's order.
    """

    name = "keypoints"
    needs = frozenset({"boxes", "keypoints"})
    takes_clips = False
    contents = frozenset({Content.SCORES, Content.BOXES, Content.KEYPOINTS})
    filters = frozenset(
        {"classes", "exclude", "min_score", "min_area", "nms_iou", "max_detections"}
    )
    merging = ViewMerging.SHAPES
    comparison = RowComparison.BOXES
    evaluations = (EvaluationMethod.DETECTION,)

    def __init__(self, spec: ModelSpec) -> None:
        self.categories, self.names = spec.categories, spec.keypoint_names
        points = pa.field("keypoints", pa.list_(_POINT), nullable=False)
        self.schema = make_predictions_schema(
            self.name, self.categories, [*BOX_FIELDS, points], keypoint_names=self.names
        )
        index = {name: i for i, name in enumerate(self.names)}
        pairs = [limb.split() for limb in _LIMBS]
        self.limbs = [(index[a], index[b]) for a, b in pairs if a in index and b in index]

    def make_rows(self, outputs: Outputs, items: Sequence[Item]) -> pa.Table:
        """Make the rows of `items`.

        `outputs[i]`: boxes (N, 4), labels (N,), scores (N,), keypoints (N, K, 3) as x, y and
        visibility, keypoints_scores (N, K).
        """
        import torch

        columns, order = make_detection_columns(outputs, items, self.categories)
        points = torch.cat([output["keypoints"] for output in outputs])  # (N, K, 3)
        scores = torch.cat([output["keypoints_scores"] for output in outputs])[..., None]
        values = torch.cat([points, scores], dim=2).numpy().astype(np.float32)[order]  # (N, K, 4)
        flat = values.reshape(-1, 4)
        structs = pa.StructArray.from_arrays(
            [pa.array(flat[:, i]) for i in range(4)], fields=list(_POINT)
        )
        offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        columns["keypoints"] = pa.ListArray.from_arrays(pa.array(offsets), structs)
        return pa.table(columns, schema=self.schema)

    def draw(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor:
        """Draw each box, its points with a score above 0, and the limbs between these points."""
        from pipeline.ops.drawing import Canvas, make_captions  # not at the top: imports torch

        canvas = Canvas(image, long_side)
        names, labels = make_captions(rows)
        canvas.draw_boxes(read_boxes_xyxy(rows), names, labels)
        for name, points in zip(names, rows["keypoints"].to_pylist(), strict=True):
            xy = np.array([[point["x"], point["y"]] for point in points], dtype=np.float32)
            canvas.draw_skeleton(xy, [point["score"] > 0 for point in points], self.limbs, name)
        return canvas.image
