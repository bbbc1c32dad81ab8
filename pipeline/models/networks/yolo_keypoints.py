"""Decode the keypoints that a YOLO program adds to its boxes."""

from collections.abc import Sequence

import torch

from pipeline.core.errors import PipelineError
from pipeline.core.types import Output
from pipeline.models.networks.yolo import Detections
from pipeline.ops.letterbox import Letterbox

_EPSILON = 1e-6  # keeps the logit of 0 and of 1 finite


def decode_keypoints(found: Detections, placed: Letterbox, shape: Sequence[int]) -> Output:
    """Return keypoints (N, K, 3) as x, y, visibility, and keypoints_scores (N, K), logits.

    Args:
        found: Their `extra` holds x, y and perhaps a confidence in 0..1 of each point.
        placed: Where the image lies in the input.
        shape: The number of points, and of numbers for each.
    """
    if found.extra.shape[1] != shape[0] * shape[1]:
        raise PipelineError(
            f"The program gave {found.extra.shape[1]} numbers for the keypoints of a box; "
            f"expected {shape[0]} x {shape[1]}."
        )
    points = found.extra.reshape(-1, *shape)
    xy = placed.restore_points(points[..., :2])
    has_confidence = shape[1] > 2
    confidence = points[..., 2] if has_confidence else found.scores[:, None].expand(xy.shape[:2])
    return {
        "keypoints": torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1),
        "keypoints_scores": confidence.logit(eps=_EPSILON),
    }
