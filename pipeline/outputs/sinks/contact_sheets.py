"""Write pages of thumbnails with predictions, for a quick look through a large run."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image
from torchvision.transforms.functional import to_pil_image

from pipeline.core.errors import ConfigError, is_persistent_failure
from pipeline.core.output_protocols import SinkContext
from pipeline.core.shard_names import make_shard_name
from pipeline.core.types import Status
from pipeline.outputs.background_writer import BackgroundWriter
from pipeline.outputs.contact_sheet_tiles import PAGE_COLOUR, TileRenderer

log = logging.getLogger(__name__)
_GAP = 8  # pixels around a tile
_MAX_SIDE = 65_500  # pixels: the limit of JPEG
_MAX_AREA = 89_000_000  # pixels: some viewers reject larger images as an attack
_COLUMNS = ["image_id", "key", "status", "error", "n_predictions"]


class ContactSheets:
    """Sink that writes pages of thumbnails in input order:

        contact_sheets/shard-00000000-page-000.jpg
        contact_sheets/shard-00000000-page-001.jpg

    A page is a grid of tiles. A tile is the whole image, scaled into a square, with its predictions
    drawn at that size. Below it are the end of the image's key, its image_id and its number of
    predictions. An input that failed has a tile with its status and its error.

    Args:
        columns: Tiles in a row.
        rows: Rows on a page.
        size: Pixels of a tile's square.
        every: Show only images whose image_id is a multiple of this. Failures are always shown.
        quality: Quality of the JPEG files.

    Raises:
        ConfigError: A number is out of range, or a page would be too large.
    """

    def __init__(self, columns: int, rows: int, size: int, every: int, quality: int) -> None:
        _check_range("columns", columns, 1, 100)
        _check_range("rows", rows, 1, 100)
        _check_range("size", size, 160, 2560)
        _check_range("every", every, 1, None)
        _check_range("quality", quality, 1, 100)
        self.columns, self.rows, self.every, self.quality = columns, rows, every, quality
        self.renderer = TileRenderer(size)

        width, height = self._compute_page_size(columns * rows)
        if max(width, height) > _MAX_SIDE or width * height > _MAX_AREA:
            raise ConfigError(
                f"sink.contact_sheets: {columns} x {rows} tiles of size={size} make a page of "
                f"{width} x {height} pixels; expected at most {_MAX_SIDE} on a side and "
                f"{_MAX_AREA // 10**6} million in all. Choose fewer or smaller tiles."
            )

    def count_pictured(self, first_image_id: int, n_images: int) -> int:
        return n_images

    @contextmanager
    def open(self, context: SinkContext) -> Iterator["_Writer"]:
        folder = context.stage / "contact_sheets"
        folder.mkdir(parents=True, exist_ok=True)
        # Batches come in any order, so a page may be complete only at the end of the shard. The
        # thumbnails are stored in an unnamed file; in memory each would take 300 KB.
        with TemporaryFile(dir=folder) as file, BackgroundWriter("contact_sheets") as background:
            writer = _Writer(self.renderer.size, self.every, context, background, file)
            yield writer
            background.finish()
            self._save_pages(writer, folder, context.shard_id)

    def _save_pages(self, writer: "_Writer", folder: Path, shard_id: int) -> None:
        image_ids = sorted(writer.rows)
        n_tiles = self.columns * self.rows
        for page, first in enumerate(range(0, len(image_ids), n_tiles)):
            path = folder / f"{make_shard_name(shard_id)}-page-{page:03d}.jpg"
            self._save_page(path, writer, image_ids[first : first + n_tiles])

    def _save_page(self, path: Path, writer: "_Writer", image_ids: Sequence[int]) -> None:
        size = self.renderer.size
        page = Image.new("RGB", self._compute_page_size(len(image_ids)), PAGE_COLOUR)
        for i, tile in enumerate(self._render_tiles(writer, image_ids)):
            row, column = divmod(i, self.columns)
            left, top = column * (size + _GAP), row * (self.renderer.height + _GAP)
            page.paste(tile, (_GAP + left, _GAP + top))
        # Full colour resolution keeps thin lines and letters sharp.
        page.save(path, "JPEG", quality=self.quality, subsampling=0)

    def _render_tiles(self, writer: "_Writer", image_ids: Iterable[int]) -> Iterator[Image.Image]:
        for image_id in image_ids:
            thumbnail, problem = writer.read_thumbnail(image_id), writer.problems.get(image_id)
            yield self.renderer.render(writer.rows[image_id], thumbnail, problem)

    def _compute_page_size(self, n_tiles: int) -> tuple[int, int]:
        """Return a page's (width, height) in pixels. A page ends below its last row of tiles."""
        columns = min(n_tiles, self.columns)
        rows = min(-(-n_tiles // self.columns), self.rows)
        width = columns * (self.renderer.size + _GAP) + _GAP
        return width, rows * (self.renderer.height + _GAP) + _GAP


class _Writer:
    """Writer that draws the thumbnails of a shard into a file, in a background thread."""

    def __init__(
        self,
        size: int,
        every: int,
        context: SinkContext,
        background: BackgroundWriter,
        file: IO[bytes],
    ) -> None:
        self.size, self.every, self.context = size, every, context
        self.background, self.file = background, file
        # The keys of these three mappings are image ids.
        self.rows: dict[int, dict[str, Any]] = {}  # rows of `images` that have a tile
        self.places: dict[int, tuple[int, tuple[int, int]]] = {}  # offset, (width, height)
        self.problems: dict[int, str] = {}  # reason why an image with status ok has no thumbnail

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for row in images.select(_COLUMNS).to_pylist():
            image_id, is_ok = row["image_id"], row["status"] == Status.OK
            if is_ok and image_id % self.every:
                continue
            self.rows[image_id] = row
            if is_ok:
                found = predictions.filter(pc.equal(predictions["image_id"], image_id))
                self.background.submit(self._draw, image_id, row["key"], found)

    def _draw(self, image_id: int, key: str, rows: pa.Table) -> None:
        try:
            drawn = self.context.draw(self.context.read_image(key), rows, self.size)
            thumbnail = to_pil_image(drawn)
            offset = self.file.seek(0, 2)
            self.file.write(thumbnail.tobytes())
            self.places[image_id] = offset, thumbnail.size
        except Exception as error:  # an image without a thumbnail keeps its rows
            if is_persistent_failure(error):
                raise
            log.warning("no thumbnail for %s: %s", key, error)
            self.problems[image_id] = str(error)

    def read_thumbnail(self, image_id: int) -> Image.Image | None:
        """Return an image's thumbnail, or None if it has none. All must have been drawn before."""
        if image_id not in self.places:
            return None
        offset, (width, height) = self.places[image_id]
        self.file.seek(offset)
        return Image.frombytes("RGB", (width, height), self.file.read(width * height * 3))


def _check_range(name: str, value: Any, least: int, most: int | None) -> None:
    """Raise ConfigError unless a setting is a whole number from `least` to `most`."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < least or (most is not None and value > most):
        expected = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(
            f"sink.contact_sheets.{name}={value}: expected a whole number {expected}."
        )
