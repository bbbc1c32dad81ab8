"""Each image with its predictions drawn on it."""

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
from pipeline.core.protocols import SinkContext
from pipeline.core.types import Status
from pipeline.outputs.background_writer import BackgroundWriter

log = logging.getLogger(__name__)


class Overlays:
    """Leaves overlays/<the input's relative name>. An input of another format gets `.overlay.jpg` appended.

    The image is read again and drawn in a thread beside the next forward pass; nothing of the original file but its
    pixels gets into the overlay (no EXIF, no GPS). `enabled`: true, false, or only for the first N images.
    """

    def __init__(self, enabled: bool | int, quality: int) -> None:
        self.limit = None if enabled is True else int(enabled)
        self.quality = quality

    @contextmanager
    def open(self, context: SinkContext) -> Iterator["_Writer"]:
        with BackgroundWriter("overlays") as thread:
            yield _Writer(self, context, thread)
            thread.finish()


class _Writer:
    def __init__(self, sink: Overlays, context: SinkContext, thread: BackgroundWriter) -> None:
        self.sink, self.context, self.thread = sink, context, thread

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for image_id, key, status in zip(
            *(images[c].to_pylist() for c in ("image_id", "key", "status")), strict=True
        ):
            if status == Status.OK and (self.sink.limit is None or image_id < self.sink.limit):
                rows = predictions.filter(pc.equal(predictions["image_id"], image_id))
                self.thread.submit(self._draw, key, rows)

    def _draw(self, key: str, rows: pa.Table) -> None:
        path = self.context.stage / "overlays" / key_to_path(make_overlay_key(key))
        try:
            drawn = self.context.draw(self.context.read_image(key), rows)
            path.parent.mkdir(parents=True, exist_ok=True)
            save_overlay(to_pil_image(drawn), path, self.sink.quality)
        except Exception as error:  # the rows stand, whatever became of the picture: gone, or its name too long ...
            if is_persistent_failure(error):
                raise
            log.warning("no overlay for %s: %s", key, error)


def save_overlay(image: Image.Image, path: Path, quality: int) -> None:
    """Write without metadata, in the format of the name. PNG without a search for the best compression."""
    form = OVERLAY_FORMATS[path.suffix.casefold()]
    options = {"compress_level": 1} if form == "PNG" else {"quality": quality}
    image.save(path, form, **options)
