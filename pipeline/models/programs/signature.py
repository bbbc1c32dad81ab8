"""The shapes of a program's input and outputs, as far as its file tells them."""

from collections.abc import Mapping
from dataclasses import dataclass

Shape = tuple[int | None, ...]  # None: any size
DETECTION_OUTPUTS = ("boxes", "labels", "scores")


@dataclass(frozen=True)
class ProgramSignature:
    """Shapes of a program's one input and of its outputs.

    An empty shape means that the file does not tell it.
    """

    input: Shape  # (B, 3, h, w), or (3, H, W) for a detector
    outputs: Mapping[str, Shape]
    main: Shape  # of the output that holds the logits
    batch: tuple[int, int | None]  # the fewest and the most images of a call; None: no limit


def format_shape(shape: Shape) -> str:
    """Format a shape as `any x 3 x 224 x 224`."""
    return " x ".join("any" if size is None else str(size) for size in shape) or "unknown"
