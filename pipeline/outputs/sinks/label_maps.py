"""Write an indexed PNG for each image, with the class of each pixel."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path, make_safe_key
from pipeline.core.output_protocols import SinkContext
from pipeline.core.schema import read_categories
from pipeline.core.task_roles import Content
from pipeline.core.types import Status
from pipeline.ops.drawing import choose_colour
from pipeline.ops.masks import make_label_map

_MAX_CLASSES = 256  # colours of an indexed PNG


class LabelMaps:
    """Sink that writes one PNG for each image with status ok, in the size of the upright image:

        label_maps/desk/page.jpg.png

    The value of a pixel is its class id, 0 where nothing was found. The palette holds the
    colours of the classes. Where masks overlap, the one with the better score is on top.
    """

    def count_pictured(self, first_image_id: int, n_images: int) -> int:
        return n_images

    @contextmanager
    def open(self, context: SinkContext) -> Iterator["_Writer"]:
        categories = read_categories(context.predictions_schema)
        if not Content.MASKS.is_in(context.predictions_schema):
            raise ConfigError("sink=label_maps needs a task with masks: segment or instances.")
        if len(categories) > _MAX_CLASSES:
            raise ConfigError(
                f"sink=label_maps: an indexed PNG holds {_MAX_CLASSES} classes, "
                f"the model has {len(categories)}."
            )
        colours = b"".join(bytes(choose_colour(name)) for name in categories[1:])
        yield _Writer(context, b"\0\0\0" + colours)


class _Writer:
    def __init__(self, context: SinkContext, palette: bytes) -> None:
        self.context, self.palette = context, palette

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for row in images.to_pylist():
            if row["status"] == Status.OK:
                rows = predictions.filter(pc.equal(predictions["image_id"], row["image_id"]))
                self._save(row["key"], make_label_map(rows, (row["height"], row["width"])))

    def _save(self, key: str, labels: np.ndarray) -> None:
        image = Image.fromarray(labels)
        image.putpalette(self.palette)
        path = self.context.stage / "label_maps" / (key_to_path(make_safe_key(key)) + ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, "PNG")
