"""Draw the tiles of contact sheets: a thumbnail and two lines of text below it."""

from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw

from pipeline.core.types import Status
from pipeline.ops.drawing import load_font, make_printable
from pipeline.outputs.text_fitting import get_line_height, truncate_start, wrap_text

PAGE_COLOUR = "#ffffff"
_EMPTY_COLOUR, _FAILED_COLOUR = "#e4e4e4", "#fbe3e1"
_TEXT_COLOUR, _PALE_TEXT_COLOUR, _ERROR_TEXT_COLOUR = "#1a1a1a", "#666666", "#a31515"


class TileRenderer:
    """Renderer of tiles that all have one size.

    Args:
        size: Pixels of the square that holds the thumbnail.
    """

    def __init__(self, size: int) -> None:
        font_size = max(12, round(size / 22))
        self.size = size
        self.line_height = get_line_height(font_size)
        self.height = size + 2 * self.line_height + 4  # pixels of a tile
        self.font, self.heading_font = load_font(font_size), load_font(round(font_size * 1.5))

    def render(
        self, row: Mapping[str, Any], thumbnail: Image.Image | None, problem: str | None
    ) -> Image.Image:
        """Draw the tile of one input.

        Args:
            row: The input's row of `images`.
            thumbnail: The image with its predictions, at most (size, size) pixels.
            problem: The reason why an input with the status ok has no thumbnail.

        Returns:
            An image of (size, height) pixels.
        """
        tile = Image.new("RGB", (self.size, self.height), PAGE_COLOUR)
        if thumbnail:
            self._paste(tile, thumbnail)
        elif row["status"] == Status.OK:
            self._write_notice(tile, "no thumbnail", problem or "")
        else:
            self._write_notice(tile, row["status"], row["error"] or "")

        pen, top = ImageDraw.Draw(tile), self.size + 3
        name = truncate_start(make_printable(row["key"]), self.font, self.size)
        pen.text((0, top), name, _TEXT_COLOUR, self.font)
        is_ok = row["status"] == Status.OK
        result = _format_count(row["n_predictions"]) if is_ok else row["status"]
        has_failed = Status(row["status"]).is_error
        colour = _ERROR_TEXT_COLOUR if has_failed else _PALE_TEXT_COLOUR
        text = f"#{row['image_id']} · {result}"
        pen.text((0, top + self.line_height), text, colour, self.font)
        return tile

    def _paste(self, tile: Image.Image, thumbnail: Image.Image) -> None:
        """Paste the thumbnail into the middle of the square."""
        tile.paste(_EMPTY_COLOUR, (0, 0, self.size, self.size))
        left, top = (self.size - thumbnail.width) // 2, (self.size - thumbnail.height) // 2
        tile.paste(thumbnail, (left, top))

    def _write_notice(self, tile: Image.Image, heading: str, reason: str) -> None:
        """Write a heading and a reason where the thumbnail would be."""
        margin = self.size // 16
        top = margin + 2 * self.line_height
        max_lines = (self.size - margin - top) // self.line_height
        lines = wrap_text(make_printable(reason), self.font, self.size - 2 * margin, max_lines)

        tile.paste(_FAILED_COLOUR, (0, 0, self.size, self.size))
        pen = ImageDraw.Draw(tile)
        pen.text((margin, margin), heading, _ERROR_TEXT_COLOUR, self.heading_font)
        for i, line in enumerate(lines):
            pen.text((margin, top + i * self.line_height), line, _TEXT_COLOUR, self.font)


def _format_count(n: int) -> str:
    return f"{n} prediction" if n == 1 else f"{n} predictions"
