"""Run a YOLO program on letterboxed images, and decode what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert, nms

from pipeline.core.errors import PipelineError
from pipeline.core.types import Output, Outputs
from pipeline.models.programs.signature import format_shape
from pipeline.models.programs.yolo_layout import RowKind, YoloLayout
from pipeline.ops.letterbox import Letterbox


@dataclass(frozen=True)
class Detections:
    """The detections of one image in the frame of the network's input.

    Attributes:
        boxes: (N, 4) xyxy in pixels of the input.
        scores: (N,).
        labels: (N,) int64.
        extra: (N, E), what the program adds to each box, for example keypoints.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    extra: Tensor

    def select(self, indices: Tensor) -> "Detections":
        """Return the detections with these indices, or those where a mask is true."""
        return Detections(*(values[indices] for values in vars(self).values()))


# (detections, placement of the image) -> further outputs
ExtraDecoder = Callable[[Detections, Letterbox], Output]


@dataclass(frozen=True)
class YoloThresholds:
    """Limits of the boxes that a YOLO network reports.

    Scores are above `floor`, and an image has at most `max_det` boxes.
    Boxes of a class that overlap more than `iou` are one object.
    """

    floor: float
    iou: float
    max_det: int


class YoloNetwork(nn.Module):
    """Call a YOLO program: letterboxed images (3, h, w) uint8 -> boxes, labels and scores of each.

    Args:
        program: Takes (B, 3, h, w), float in 0..1.
        layout: The program's input and rows.
        thresholds: What is reported.
        decode_extra: Makes the outputs beside boxes, labels and scores.
    """

    def __init__(
        self,
        program: nn.Module,
        layout: YoloLayout,
        thresholds: YoloThresholds,
        decode_extra: ExtraDecoder | None = None,
    ) -> None:
        super().__init__()
        self.program, self.layout, self.thresholds = program, layout, thresholds
        self.decode_extra = decode_extra

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        images = torch.stack(list(inputs)).float() / 255
        outputs: Outputs = []
        for chunk in images.split(self.layout.max_batch or len(images)):
            for rows in self._call(chunk):
                placed = self.layout.place(sizes_hw[len(outputs)])
                outputs.append(self._decode(rows, placed))
        return outputs

    def _call(self, images: Tensor) -> Tensor:
        """Return the main output for a chunk of images: (B, rows, columns) float32."""
        n_missing = max(0, self.layout.min_batch - len(images))
        if n_missing:
            images = torch.cat([images, images.new_zeros(n_missing, *images.shape[1:])])
        tensors = _list_tensors(self.program(images))
        rows = next((t for t in tensors if t.dim() == 3 and len(t) == len(images)), None)
        if rows is None:
            given = ", ".join(format_shape(tuple(t.shape)) for t in tensors) or "no tensor"
            raise PipelineError(
                f"The program gave {given} for a batch of {len(images)}; expected "
                f"{len(images)} x rows x columns, as a YOLO file does."
            )
        return rows[: len(images) - n_missing].float()

    def _decode(self, rows: Tensor, placed: Letterbox) -> Output:
        """Decode the rows of one image: boxes in pixels of the image, the best score first."""
        found = self._read_rows(rows, placed.input_hw)
        found = found.select(found.scores > self.thresholds.floor)
        found = found.select(found.scores.argsort(descending=True, stable=True))
        if self.layout.kind in (RowKind.ANCHORS, RowKind.OBJECTNESS):
            found = found.select(suppress_overlaps(found, self.thresholds.iou))
        found = found.select(torch.arange(min(len(found.scores), self.thresholds.max_det)))

        output = {
            "boxes": placed.restore_boxes(found.boxes),
            "labels": found.labels,
            "scores": found.scores,
        }
        if self.decode_extra:
            output |= self.decode_extra(found, placed)
        return output

    def _read_rows(self, rows: Tensor, input_hw: tuple[int, int]) -> Detections:
        """Split the columns of one image's rows."""
        kind, n_classes = self.layout.kind, len(self.layout.names)
        if kind is RowKind.ANCHORS:
            rows = rows.T
        n_before = {RowKind.OBJECTNESS: 5}.get(kind, 4)
        n_scores = 2 if kind in (RowKind.DETECTIONS, RowKind.QUERY_DETECTIONS) else n_classes
        if rows.shape[1] < n_before + n_scores:
            raise PipelineError(
                f"The program gave rows of {rows.shape[1]} numbers; expected at least "
                f"{n_before + n_scores} for {n_classes} classes ({kind})."
            )
        boxes, by_class = rows[:, :4], rows[:, n_before : n_before + n_scores]
        if kind in (RowKind.DETECTIONS, RowKind.QUERY_DETECTIONS):
            scores, labels = by_class[:, 0], by_class[:, 1].long()
        else:
            if kind is RowKind.OBJECTNESS:
                by_class = by_class * rows[:, 4:5]
            scores, labels = by_class.max(dim=1)
        if kind is not RowKind.DETECTIONS:
            boxes = box_convert(boxes, "cxcywh", "xyxy")
        if kind in (RowKind.QUERIES, RowKind.QUERY_DETECTIONS):
            boxes = boxes * boxes.new_tensor([input_hw[1], input_hw[0]] * 2)
        return Detections(boxes, scores, labels, rows[:, n_before + n_scores :])


def suppress_overlaps(found: Detections, iou: float) -> Tensor:
    """Return the indices that non-maximum suppression keeps, for each class on its own.

    Boxes of different classes are moved apart, in float64, where that costs no accuracy.
    """
    if not len(found.scores):
        return torch.empty(0, dtype=torch.long, device=found.scores.device)
    boxes = found.boxes.double()
    apart = (found.labels.double() * (boxes.max() - boxes.min() + 1))[:, None]
    kept: Tensor = nms(boxes + apart, found.scores.double(), iou)
    return kept


def _list_tensors(returned: Any) -> list[Tensor]:
    """Return the tensors in what a program returned, in order."""
    if isinstance(returned, Tensor):
        return [returned]
    values = returned.values() if isinstance(returned, dict) else returned
    if not isinstance(returned, dict | list | tuple):
        return []
    return [tensor for value in values for tensor in _list_tensors(value)]
