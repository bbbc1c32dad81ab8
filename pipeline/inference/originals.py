"""Read a planned input again, to draw on it."""

from contextlib import nullcontext

from torch import Tensor

from pipeline.core.protocols import Source
from pipeline.core.types import Entry
from pipeline.inference.watchdog import Watchdog


def read_original(
    source: Source, max_pixels: int, watchdog: Watchdog, image_id: int, entry: Entry
) -> Tensor:
    """Read one image: (3, H, W) uint8 RGB, upright; of a clip its middle frame.

    Raises:
        InputError, OSError: The input cannot be read.
    """
    with watchdog.watch([image_id]):
        (pixels,) = source.read([entry], max_pixels, lambda stage: nullcontext())
    if not isinstance(pixels, Tensor):
        raise pixels
    return (pixels if pixels.dim() == 3 else pixels[len(pixels) // 2]).cpu()
