"""What the model is shown of an image (the whole, tiles of it, mirror images), and how its answers become one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor

from pipeline.core.errors import PipelineError
from pipeline.core.types import Output, View
from pipeline.ops.merge_views import ViewDetections, merge_detections

SizeHW = tuple[int, int]


@dataclass(frozen=True)
class Views:
    """The whole image always; tiles of `tile` x `tile` pixels with it when the image is larger; each mirrored too when
    `flip`. `iou` and `union` (nmm) say how boxes of different views become one (see `duplicates`)."""

    tile: int | None = None
    overlap: float = 0.2  # of the tile's side, at least
    iou: float = 0.5
    union: bool = False
    flip: bool = False
    keypoint_names: tuple[str, ...] = ()

    def list_views(self, size_hw: SizeHW) -> tuple[View, ...]:
        """The views of an image of this size (pixels, upright), the whole first."""
        windows = [(0, 0, size_hw[1], size_hw[0])]
        if self.tile is not None and max(size_hw) > self.tile:
            windows += make_tile_windows(size_hw, self.tile, self.overlap)
        return tuple(
            View(window, mirrored)
            for window in windows
            for mirrored in ([False, True] if self.flip else [False])
        )

    def merge(self, answers: Sequence[Output], views: Sequence[View]) -> Output:
        """One answer about the image from one about each view, in the order of `of`. Coordinates become the image's."""
        if len(answers) == 1:
            return answers[0]
        if "boxes" in answers[0]:
            placed = [
                move_to_image_frame(*one, self.keypoint_names)
                for one in zip(answers, views, strict=True)
            ]
            return self._merge_detections(placed, views)
        return {name: _mean(name, answers, views) for name in answers[0]}

    def _merge_detections(self, placed: Sequence[Output], views: Sequence[View]) -> Output:
        together = {name: torch.cat([one[name] for one in placed]) for name in placed[0]}
        view = np.repeat(np.arange(len(views)), [len(one["scores"]) for one in placed])
        found = ViewDetections(
            boxes_xyxy=together["boxes"].reshape(-1, 4).double().numpy(),
            scores=together["scores"].double().numpy(),
            labels=together["labels"].numpy(),
            view=view,
            windows_xyxy=np.array([one.window_xyxy for one in views], dtype=np.float64)[view],
            image_hw=views[0].size_hw,
        )
        kept, boxes, scores = merge_detections(found, self.iou, self.union)
        merged = {name: values[torch.from_numpy(kept)] for name, values in together.items()}
        return merged | {
            "boxes": torch.from_numpy(boxes).float(),
            "scores": torch.from_numpy(scores).float(),
        }


def make_tile_windows(
    size_hw: SizeHW, tile: int, overlap: float
) -> list[tuple[int, int, int, int]]:
    """Windows (x_min, y_min, x_max, y_max), row by row, all of one size: `tile` x `tile`, less where the image is smaller.
    They cover the image, the last ends at its border, and neighbours share at least `overlap` * `tile` pixels."""
    (tops, height), (lefts, width) = (_spread(side, tile, overlap) for side in size_hw)
    return [(left, top, left + width, top + height) for top, left in product(tops, lefts)]


def _spread(side: int, tile: int, overlap: float) -> tuple[list[int], int]:
    """(starts, length) of the tiles along one side, evenly spread."""
    if side <= tile:
        return [0], side
    step = max(1, int(tile * (1 - overlap)))
    steps = -(-(side - tile) // step)
    return [i * (side - tile) // steps for i in range(steps + 1)], tile


def crop_view(pixels: Tensor, view: View) -> Tensor:
    """(..., H, W) -> (..., h, w): what the view shows. The whole image is handed back as it is, in its memory layout."""
    if view.size_hw == pixels.shape[-2:] and not view.mirrored:
        return pixels
    x_min, y_min, x_max, y_max = view.window_xyxy
    shown = pixels[..., y_min:y_max, x_min:x_max]
    return shown.flip(-1) if view.mirrored else shown.contiguous()


def move_to_image_frame(output: Output, view: View, keypoint_names: Sequence[str]) -> Output:
    """Detections in the view's frame -> in the image's. Masks lie within their boxes and move with them."""
    left, top, width = *view.window_xyxy[:2], view.size_hw[1]
    placed = dict(output)
    boxes = output["boxes"].reshape(-1, 4)
    if view.mirrored:
        boxes = torch.stack(
            [width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1
        )
        if "masks" in output:
            placed["masks"] = output["masks"].flip(-1)
    placed["boxes"] = boxes + boxes.new_tensor([left, top, left, top])
    if "keypoints" in output:
        x, y, visibility = output["keypoints"].unbind(-1)  # (N, K) each
        x = width - x if view.mirrored else x
        points, scores = (
            torch.stack([x + left, y + top, visibility], dim=-1),
            output["keypoints_scores"],
        )
        other_side = (
            find_mirrored_keypoints(keypoint_names)
            if view.mirrored
            else list(range(points.shape[1]))
        )
        placed |= {"keypoints": points[:, other_side], "keypoints_scores": scores[:, other_side]}
    return placed


def find_mirrored_keypoints(names: Sequence[str]) -> list[int]:
    """For each point the index of the one that takes its place in a mirror image: left_x for right_x and the reverse."""
    sides = {"left_": "right_", "right_": "left_"}
    at = {name: i for i, name in enumerate(names)}

    def partner(name: str) -> str:
        return next(
            (
                there + name.removeprefix(here)
                for here, there in sides.items()
                if name.startswith(here)
            ),
            name,
        )

    return [at.get(partner(name), i) for i, name in enumerate(names)]


def _mean(name: str, answers: Sequence[Output], views: Sequence[View]) -> Tensor:
    if name not in _MEANS:
        raise PipelineError(
            f"No rule says how the {name!r} of several views become one; leave flip= out."
        )
    return _MEANS[name]([one[name] for one in answers], views)


def _mean_of_logits(values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
    """(C,): the logarithm of the mean of the views' softmax probabilities; the softmax of it is that mean."""
    return torch.stack(list(values)).log_softmax(dim=1).logsumexp(dim=0) - np.log(len(values))


def _mean_vector(values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
    return torch.stack(list(values)).mean(dim=0)


def _mean_of_maps(values: Sequence[Tensor], views: Sequence[View]) -> Tensor:
    """(C, h, w) each, mirrored back."""
    upright = [
        one.flip(-1) if view.mirrored else one for one, view in zip(values, views, strict=True)
    ]
    return torch.stack(upright).mean(dim=0)


_MEANS: dict[str, Callable[[Sequence[Tensor], Sequence[View]], Tensor]] = {
    "logits": _mean_of_logits,
    "embedding": _mean_vector,
    "probabilities": _mean_of_maps,
}
