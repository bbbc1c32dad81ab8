"""List the views of an image that the model sees, and merge the outputs of all views.

A view is the whole image, a tile of it, or the mirror image of one of these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import PipelineError
from pipeline.core.types import Output, View
from pipeline.ops.keypoints import find_mirrored_keypoints
from pipeline.ops.merge_views import ViewDetections, merge_detections

SizeHW = tuple[int, int]


@dataclass(frozen=True)
class Views:
    """Cuts images into the views that the model sees, and merges the detections in them.

    The whole image is always a view. Larger images have tiles as further views.

    Args:
        tile: side of the square tiles in pixels; None: no tiles.
        overlap: smallest share of the tile's side that neighbouring tiles have in common.
        iou: smallest IoU of two boxes of one object in different views.
        union: join the boxes of an object (nmm) instead of keeping the best one (nms).
        flip: add the mirror image of every view.
        keypoint_names: names that pair left keypoints with right ones.
    """

    tile: int | None = None
    overlap: float = 0.2
    iou: float = 0.5
    union: bool = False
    flip: bool = False
    keypoint_names: tuple[str, ...] = ()

    def list_views(self, size_hw: SizeHW) -> tuple[View, ...]:
        """Return the views of an upright image of this size in pixels, the whole image first."""
        windows = [(0, 0, size_hw[1], size_hw[0])]
        if self.tile is not None and max(size_hw) > self.tile:
            windows += make_tile_windows(size_hw, self.tile, self.overlap)
        return tuple(
            View(window, is_mirrored)
            for window in windows
            for is_mirrored in ([False, True] if self.flip else [False])
        )

    def merge(self, outputs: Sequence[Output], views: Sequence[View]) -> Output:
        """Merge the outputs of all views of one image.

        Args:
            outputs: one output per view, in pixels of the view.
            views: as `list_views` returned them.

        Returns:
            One output in pixels of the image.
        """
        if len(outputs) == 1:
            return outputs[0]
        if "boxes" in outputs[0]:
            moved = [
                move_to_image_frame(output, view, self.keypoint_names)
                for output, view in zip(outputs, views, strict=True)
            ]
            return self._merge_detections(moved, views)
        return {name: _average(name, outputs, views) for name in outputs[0]}

    def _merge_detections(self, outputs: Sequence[Output], views: Sequence[View]) -> Output:
        joined = {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
        view_of = np.repeat(np.arange(len(views)), [len(output["scores"]) for output in outputs])
        windows = np.array([view.window_xyxy for view in views], dtype=np.float64)
        detections = ViewDetections(
            boxes_xyxy=joined["boxes"].reshape(-1, 4).double().numpy(),
            scores=joined["scores"].double().numpy(),
            labels=joined["labels"].numpy(),
            view=view_of,
            windows_xyxy=windows[view_of],
            image_hw=views[0].size_hw,
        )
        kept, boxes, scores = merge_detections(detections, self.iou, self.union)
        merged = {name: values[torch.from_numpy(kept)] for name, values in joined.items()}
        return merged | {
            "boxes": torch.from_numpy(boxes).float(),
            "scores": torch.from_numpy(scores).float(),
        }


def make_tile_windows(
    size_hw: SizeHW, tile: int, overlap: float
) -> list[tuple[int, int, int, int]]:
    """Return the windows (x_min, y_min, x_max, y_max) of the tiles, row by row.

    All windows have one size: `tile` x `tile`, or less where the image is smaller. They cover the
    image, and neighbours share at least `overlap * tile` pixels.
    """
    (tops, height), (lefts, width) = (_spread_tiles(side, tile, overlap) for side in size_hw)
    return [(left, top, left + width, top + height) for top, left in product(tops, lefts)]


def _spread_tiles(side: int, tile: int, overlap: float) -> tuple[list[int], int]:
    """Return the starts of tiles spread evenly along one side, and their length."""
    if side <= tile:
        return [0], side
    step = max(1, int(tile * (1 - overlap)))
    steps = -(-(side - tile) // step)
    return [i * (side - tile) // steps for i in range(steps + 1)], tile


def crop_view(pixels: Tensor, view: View) -> Tensor:
    """Return the part of an image that a view shows: (..., H, W) -> (..., h, w).

    The whole image is returned as it is, without a copy.
    """
    if view.size_hw == pixels.shape[-2:] and not view.mirrored:
        return pixels
    x_min, y_min, x_max, y_max = view.window_xyxy
    part = pixels[..., y_min:y_max, x_min:x_max]
    return part.flip(-1) if view.mirrored else part.contiguous()


def move_to_image_frame(output: Output, view: View, keypoint_names: Sequence[str]) -> Output:
    """Move detections from the frame of a view to the frame of its image.

    Masks are relative to their boxes, so they only need to be mirrored back.
    """
    left, top, width = *view.window_xyxy[:2], view.size_hw[1]
    moved = dict(output)
    boxes = output["boxes"].reshape(-1, 4)
    if view.mirrored:
        boxes = torch.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1
        )
        if "masks" in output:
            moved["masks"] = output["masks"].flip(-1)
    moved["boxes"] = boxes + boxes.new_tensor([left, top, left, top])

    if "keypoints" in output:
        x, y, visibility = output["keypoints"].unbind(-1)  # (N, K) each
        x = width - x if view.mirrored else x
        points = torch.stack([x + left, y + top, visibility], dim=-1)
        scores = output["keypoints_scores"]
        order = (
            find_mirrored_keypoints(keypoint_names)
            if view.mirrored
            else list(range(points.shape[1]))
        )
        moved |= {"keypoints": points[:, order], "keypoints_scores": scores[:, order]}
    return moved


def _average(name: str, outputs: Sequence[Output], views: Sequence[View]) -> Tensor:
    if name not in _AVERAGES:
        raise PipelineError(
            f"No rule says how the {name!r} of several views become one; leave flip= out."
        )
    return _AVERAGES[name]([output[name] for output in outputs], views)


def _average_logits(values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
    """Return the logarithm of the views' mean softmax probabilities, (C,).

    The softmax of the result is that mean.
    """
    return torch.stack(list(values)).log_softmax(dim=1).logsumexp(dim=0) - np.log(len(values))


def _average_vectors(values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)


def _average_maps(values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
    """Return the mean of (C, h, w) maps after mirroring back those of mirrored views."""
    upright = [
        value.flip(-1) if view.mirrored else value
        for value, view in zip(values, views, strict=True)
    ]
    return torch.stack(upright).mean(dim=0)


_AVERAGES: dict[str, Callable[[Sequence[Tensor], Sequence[View]], Tensor]] = {
    "logits": _average_logits,
    "embedding": _average_vectors,
    "probabilities": _average_maps,
}
