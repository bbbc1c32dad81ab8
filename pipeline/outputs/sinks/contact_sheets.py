"""Pages of thumbnails with their predictions: a large run at a glance."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw, ImageFont
from torchvision.transforms.functional import to_pil_image

from pipeline.core.errors import ConfigError, is_persistent_failure
from pipeline.core.protocols import SinkContext
from pipeline.core.shard_names import make_shard_name
from pipeline.core.types import Status
from pipeline.ops.drawing import load_font, make_printable
from pipeline.outputs.background_writer import BackgroundWriter

log = logging.getLogger(__name__)
_GAP = 8  # pixels around a tile
_PAGE, _EMPTY, _FAILED = "#ffffff", "#e4e4e4", "#fbe3e1"
_INK, _PALE, _ALARM = "#1a1a1a", "#666666", "#a31515"
_SIDE, _AREA = (
    65_500,
    89_000_000,
)  # pixels: what a JPEG holds, and what viewers open without suspecting an attack


class ContactSheets:
    """Leaves

    contact_sheets/shard-00000000-page-000.jpg

    and so on: grids of `columns` x `rows` tiles in input order, whatever order the batches came in. A tile is a whole image
    fitted into `size` x `size` pixels, its predictions drawn at that size; below it the end of its name, its image_id and
    the number of its predictions. `every`: only images whose image_id is a multiple of it; but each input that failed has a
    tile, with its status and what was wrong.
    """

    def __init__(self, columns: int, rows: int, size: int, every: int, quality: int) -> None:
        """Raises ConfigError."""
        limits = {
            "columns": (1, 100),
            "rows": (1, 100),
            "size": (160, 2560),
            "every": (1, None),
            "quality": (1, 100),
        }
        given = {"columns": columns, "rows": rows, "size": size, "every": every, "quality": quality}
        for name, (least, most) in limits.items():
            _check(f"sink.contact_sheets.{name}", given[name], least, most)
        self.columns, self.rows, self.size, self.every, self.quality = (
            columns,
            rows,
            size,
            every,
            quality,
        )
        self.letter = max(12, round(size / 22))  # points
        width, height = self.page_size(columns * rows)
        if max(width, height) > _SIDE or width * height > _AREA:
            raise ConfigError(
                f"sink.contact_sheets: {columns} x {rows} tiles of size={size} make a page of {width} x {height} pixels; "
                f"expected at most {_SIDE} on a side and {_AREA // 10**6} million in all. Choose fewer or smaller tiles."
            )

    @contextmanager
    def open(self, context: SinkContext) -> Iterator["_Writer"]:
        folder = context.stage / "contact_sheets"
        folder.mkdir(parents=True, exist_ok=True)
        # Batches come in any order, so no page is complete before nearly all of the shard is: thumbnails wait in a file
        # without a name. In memory they would be 300 KB for each image of a shard.
        with TemporaryFile(dir=folder) as file, BackgroundWriter("contact_sheets") as thread:
            writer = _Writer(self, context, thread, file)
            yield writer
            thread.finish()
            shown = sorted(writer.shown)
            for page, first in enumerate(range(0, len(shown), self.columns * self.rows)):
                tiles = (
                    writer.tile(image_id)
                    for image_id in shown[first : first + self.columns * self.rows]
                )
                self._save(
                    tiles,
                    folder / f"{make_shard_name(context.shard_id)}-page-{page:03d}.jpg",
                    len(shown) - first,
                )

    def tile_height(self) -> int:
        """Pixels: the picture and two lines below it."""
        return self.size + 2 * get_line_height(self.letter) + 4

    def page_size(self, n_tiles: int) -> tuple[int, int]:
        """(width, height) in pixels; a page that is not full ends with its last row."""
        columns = min(n_tiles, self.columns)
        rows = min(-(-n_tiles // self.columns), self.rows)
        return columns * (self.size + _GAP) + _GAP, rows * (self.tile_height() + _GAP) + _GAP

    def _save(self, tiles: Iterator[Image.Image], path: Path, n_tiles: int) -> None:
        page = Image.new("RGB", self.page_size(n_tiles), _PAGE)
        for i, tile in enumerate(tiles):
            row, column = divmod(i, self.columns)
            page.paste(
                tile, (_GAP + column * (self.size + _GAP), _GAP + row * (self.tile_height() + _GAP))
            )
        page.save(
            path, "JPEG", quality=self.quality, subsampling=0
        )  # full colour: thin lines and letters stay clear


class _Writer:
    def __init__(
        self, sink: ContactSheets, context: SinkContext, thread: BackgroundWriter, file: IO[bytes]
    ) -> None:
        self.sink, self.context, self.thread, self.file = sink, context, thread, file
        self.shown: dict[int, dict[str, Any]] = {}  # image_id -> its row of `images`
        self.pictures: dict[
            int, tuple[int, tuple[int, int]]
        ] = {}  # image_id -> where in the file, (width, height)
        self.undrawn: dict[int, str] = {}  # image_id -> why
        self.font, self.large = load_font(sink.letter), load_font(round(sink.letter * 1.5))

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        for row in images.select(
            ["image_id", "key", "status", "error", "n_predictions"]
        ).to_pylist():
            image_id, usable = row["image_id"], row["status"] == Status.OK
            if not usable or image_id % self.sink.every == 0:
                self.shown[image_id] = row
            if usable and image_id in self.shown:
                rows = predictions.filter(pc.equal(predictions["image_id"], image_id))
                self.thread.submit(self._draw, image_id, row["key"], rows)

    def _draw(self, image_id: int, key: str, rows: pa.Table) -> None:
        try:
            picture = to_pil_image(
                self.context.draw(self.context.read_image(key), rows, self.sink.size)
            )
            offset = self.file.seek(0, 2)
            self.file.write(picture.tobytes())
            self.pictures[image_id] = offset, picture.size
        except Exception as error:  # the rows stand, whatever became of the picture
            if is_persistent_failure(error):
                raise
            log.warning("no thumbnail for %s: %s", key, error)
            self.undrawn[image_id] = str(error)

    def tile(self, image_id: int) -> Image.Image:
        """(size, tile_height) pixels. Only after all pictures are drawn."""
        row, size = self.shown[image_id], self.sink.size
        tile = Image.new("RGB", (size, self.sink.tile_height()), _PAGE)
        failed = Status(row["status"]).is_error
        if image_id in self.pictures:
            tile.paste(_EMPTY, (0, 0, size, size))
            picture = self._picture(image_id)
            tile.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
        else:
            heading, reason = (
                (row["status"], row["error"])
                if failed
                else ("no thumbnail", self.undrawn[image_id])
            )
            self._notice(tile, heading, reason or "")
        found = row["status"] if failed else _counted(row["n_predictions"])
        pen, second = ImageDraw.Draw(tile), size + 3 + get_line_height(self.sink.letter)
        pen.text(
            (0, size + 3),
            truncate_start(make_printable(row["key"]), self.font, size),
            _INK,
            self.font,
        )
        pen.text((0, second), f"#{image_id} · {found}", _ALARM if failed else _PALE, self.font)
        return tile

    def _notice(self, tile: Image.Image, heading: str, reason: str) -> None:
        """What stands where the picture would."""
        size, step = self.sink.size, get_line_height(self.sink.letter)
        margin = size // 16
        top = margin + 2 * step
        lines = wrap_text(
            make_printable(reason), self.font, size - 2 * margin, (size - margin - top) // step
        )
        tile.paste(_FAILED, (0, 0, size, size))
        pen = ImageDraw.Draw(tile)
        pen.text((margin, margin), heading, _ALARM, self.large)
        for i, line in enumerate(lines):
            pen.text((margin, top + i * step), line, _INK, self.font)

    def _picture(self, image_id: int) -> Image.Image:
        offset, (width, height) = self.pictures[image_id]
        self.file.seek(offset)
        return Image.frombytes("RGB", (width, height), self.file.read(width * height * 3))


def _check(name: str, value: Any, least: int, most: int | None) -> None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < least
        or (most is not None and value > most)
    ):
        expected = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ConfigError(f"{name}={value}: expected a whole number {expected}.")


def _counted(n: int) -> str:
    return f"{n} prediction" if n == 1 else f"{n} predictions"


def get_line_height(letter: int) -> int:
    """Points -> pixels from one line to the next."""
    return round(letter * 1.4)


def truncate_start(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """As much of the end of `text` as `width` pixels hold: a long path's last folders and the file's number."""
    if font.getlength(text) <= width:
        return text
    end = text[-width // 2 :]  # no letter is narrower
    while font.getlength("…" + end) > width:
        end = end[1:]
    return "…" + end


def wrap_text(text: str, font: ImageFont.FreeTypeFont, width: int, most: int) -> list[str]:
    """At most `most` lines of at most `width` pixels, broken at blanks, and within a word that is longer than a line. What
    does not fit is cut off, visibly."""
    lines: list[str] = []
    while text:
        if len(lines) == most:
            lines[-1] = lines[-1].rstrip()[:-2] + "…"
            break
        n = min(len(text), width // 2)
        while font.getlength(text[:n]) > width:
            n -= 1
        if n < len(text):
            n = text.rfind(" ", 1, n + 1) if " " in text[1 : n + 1] else n
        lines.append(text[:n])
        text = text[n:].lstrip()
    return lines
