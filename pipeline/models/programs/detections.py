"""Call a program that detects objects in one image, and parse what it returns."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.core.errors import PipelineError
from pipeline.core.types import Output, Outputs
from pipeline.models.programs.signature import DETECTION_OUTPUTS, format_shape


class OneImageDetector(nn.Module):
    """Call a program once for each image: {boxes, labels, scores} for each.

    With several images, a program may ignore all but the first (mobile ones do), or pad them and
    change the results.

    Args:
        program: Takes one image.
        batched: Whether it takes (1, 3, H, W) instead of (3, H, W).
    """

    def __init__(self, program: Callable[[Tensor], Any], batched: bool = False) -> None:
        super().__init__()
        self.program, self.batched = program, batched

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        return [
            parse_detections(self.program(image[None] if self.batched else image), self.batched)
            for image in inputs
        ]


def parse_detections(returned: Any, batched: bool = False) -> Output:
    """Parse what a detector returned for one image.

    Args:
        returned: A mapping with the names boxes, labels and scores; torchvision's `[mapping]` or
            `(losses, [mapping])`; or the three tensors, which their types and shapes tell apart.
        batched: Whether the tensors may have a batch dimension of one.

    Returns:
        boxes (N, 4), labels (N,) int64, and scores (N,).

    Raises:
        PipelineError: The three tensors cannot be found.
    """
    if isinstance(returned, tuple) and len(returned) == 2 and isinstance(returned[1], list):
        returned = returned[1]  # a scripted torchvision detector: (losses, detections)
    if isinstance(returned, list | tuple) and len(returned) == 1:
        returned = returned[0]

    has_names = isinstance(returned, Mapping) and set(DETECTION_OUTPUTS) <= set(returned)
    values = (
        (returned[name] for name in DETECTION_OUTPUTS) if has_names else _find_tensors(returned)
    )
    tensors = [t[0] if batched and t.dim() and len(t) == 1 else t for t in values]

    by_name = dict(zip(DETECTION_OUTPUTS, tensors, strict=True)) if has_names else None
    found = by_name or _match_by_shape(tensors)
    count = len(found["scores"]) if found and found["scores"].dim() == 1 else -1
    if not found or found["boxes"].shape != (count, 4) or found["labels"].shape != (count,):
        given = ", ".join(f"{t.dtype} {format_shape(tuple(t.shape))}" for t in tensors)
        raise PipelineError(
            f"The program gave {given or type(returned).__name__} for one image; expected the "
            "interface of a torchvision detector: boxes (N x 4, float), labels (N, integer) and "
            "scores (N, float)."
        )
    return {"boxes": found["boxes"], "labels": found["labels"].long(), "scores": found["scores"]}


def _match_by_shape(tensors: list[Tensor]) -> dict[str, Tensor] | None:
    """Return the three outputs by name, or None unless exactly one tensor fits each."""
    candidates = {
        "boxes": [t for t in tensors if t.is_floating_point() and t.dim() == 2 and t.shape[1] == 4],
        "labels": [t for t in tensors if not t.is_floating_point() and t.dim() == 1],
        "scores": [t for t in tensors if t.is_floating_point() and t.dim() == 1],
    }
    if any(len(fitting) != 1 for fitting in candidates.values()):
        return None
    return {name: fitting[0] for name, fitting in candidates.items()}


def _find_tensors(returned: Any) -> Iterator[Tensor]:
    """Yield the tensors of a mapping or a sequence, or the value itself."""
    values: Sequence[Any] = ()
    if isinstance(returned, Mapping):
        values = tuple(returned.values())
    elif isinstance(returned, list | tuple):
        values = returned
    return (value for value in (*values, returned) if isinstance(value, Tensor))
