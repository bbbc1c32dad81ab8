"""Write each image with its predictions drawn on it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from pipeline.core.errors import is_persistent_failure
from pipeline.core.keys import OVERLAY_FORMATS, key_to_path, make_overlay_key
from pipeline.core.output_protocols import SinkContext
from pipeline.core.types import Status
from pipeline.outputs.background_writer import BackgroundWriter

log = logging.getLogger(__name__)


class Overlays:
    """Sink that writes one picture for each image with status ok:

        overlays/desk/page.jpg              the key of the input
        overlays/scan.tif.overlay.jpg       if the input's format cannot be written

    A background thread reads the image again and draws on it, while the network runs the next
    batch. The picture has the pixels of the original, but none of its metadata (EXIF, GPS).

    Args:
        enabled: True, False, or the number of images that get an overlay, counted from the first.
        quality: Quality of JPEG and WebP files.
    """

    def __init__(self, enabled: bool | int, quality: int) -> None:
        self.limit = None if enabled is True else int(enabled)
        self.quality = quality

    def count_pictured(self, first_image_id: int, n_images: int) -> int:
        if self.limit is None:
            return n_images
        return min(n_images, max(0, self.limit - first_image_id))

    @contextmanager
    def open(self, context: SinkContext) -> Iterator["_Writer"]:
        with BackgroundWriter("overlays") as background:
            yield _Writer(self.limit, self.quality, context, background)
            background.finish()


class _Writer:
    def __init__(
        self,
        limit: int | None,
        quality: int,
        context: SinkContext,
        background: BackgroundWriter,
    ) -> None:
        self.limit, self.quality, self.context = limit, quality, context
        self.background = background

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        columns = (images[name].to_pylist() for name in ("image_id", "key", "status"))
        for image_id, key, status in zip(*columns, strict=True):
            if status == Status.OK and (self.limit is None or image_id < self.limit):
                rows = predictions.filter(pc.equal(predictions["image_id"], image_id))
                self.background.submit(self._draw, key, rows)

    def _draw(self, key: str, rows: pa.Table) -> None:
        path = self.context.stage / "overlays" / key_to_path(make_overlay_key(key))
        try:
            drawn = self.context.draw(self.context.read_image(key), rows)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_overlay(to_pil_image(drawn), path, self.quality)
        except Exception as error:  # an image without an overlay keeps its rows
            if is_persistent_failure(error):
                raise
            log.warning("no overlay for %s: %s", key, error)


def save_overlay(image: Image.Image, path: Path, quality: int) -> None:
    """Write an image without metadata, in the format that the file's suffix names."""
    file_format = OVERLAY_FORMATS[path.suffix.casefold()]
    # A search for the best compression of a PNG would take longer than the network.
    options = {"compress_level": 1} if file_format == "PNG" else {"quality": quality}
    image.save(path, file_format, **options)
