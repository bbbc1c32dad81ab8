"""Draw sheets of example images for repeated places."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.core.types import InputError
from pipeline.ops.crops import compute_crop_window
from pipeline.ops.drawing import choose_colour, load_font, make_printable
from pipeline.results.input_reader import InputReader, iterate_entries
from pipeline.results.repeats.repeated_places import EXAMPLES, RepeatedPlace
from pipeline.runs.finished_run import FinishedRun

_TILE, _GAP, _LETTER = 200, 8, 14  # pixels, points
_STEP = _TILE + _LETTER * 2 + _GAP  # pixels from the top of one place's line to the next
_PER_PAGE = 10  # places
# Margin around a box, as a fraction of its longer side, so that the surroundings are visible.
_AROUND = 0.75
_EMPTY, _INK = "#e4e4e4", "#1a1a1a"


def save_example_sheets(
    run: FinishedRun, found: Sequence[RepeatedPlace], images: np.ndarray, folder: Path
) -> None:
    """Write sheet-000.jpg, sheet-001.jpg ... with one line of examples for each place.

    The examples are in the order of the run. A grey tile stands for an image that can no longer be
    read.

    Args:
        images: (N,) the image_id of each of the run's boxes.

    Raises:
        ConfigError: the input no longer exists.
    """
    with closing(InputReader(run)) as inputs:
        tiles = _tiles(run, inputs, found, images)
    for page, first in enumerate(range(0, len(found), _PER_PAGE)):
        here = found[first : first + _PER_PAGE]
        sheet = Image.new(
            "RGB", (EXAMPLES * (_TILE + _GAP) + _GAP, len(here) * _STEP + _GAP), "white"
        )
        pen, font = ImageDraw.Draw(sheet), load_font(_LETTER)
        for line, one in enumerate(here):
            top = _GAP + line * _STEP
            name = run.categories[one.class_id]
            caption = (
                f"place {first + line}: {name} in {one.images:,} of {one.images_of_camera:,} "
                f"images   {one.camera}/"
            )
            pen.text((_GAP, top), make_printable(caption), _INK, font)
            for i in range(len(one.examples)):
                at = (_GAP + i * (_TILE + _GAP), top + _LETTER + 8)
                sheet.paste(
                    tiles.get((first + line, i)) or Image.new("RGB", (_TILE, _TILE), _EMPTY), at
                )
        sheet.save(folder / f"sheet-{page:03d}.jpg", "JPEG", quality=88)


def _tiles(
    run: FinishedRun, inputs: InputReader, found: Sequence[RepeatedPlace], images: np.ndarray
) -> dict[tuple[int, int], Image.Image]:
    """Return a picture for each (place, number of the example). Each image is read once."""
    wanted = defaultdict(list)
    for place, one in enumerate(found):
        for i, row in enumerate(one.examples):
            wanted[int(images[row])].append((place, i))
    tiles = {}
    for image_id, entry, size_hw in iterate_entries(run, wanted):
        try:
            pixels = inputs.read(entry, size_hw)
            for place, i in wanted[image_id]:
                tiles[place, i] = _tile(pixels, found[place], run.categories[found[place].class_id])
        except (InputError, OSError):
            continue
    return tiles


def _tile(pixels: np.ndarray, one: RepeatedPlace, name: str) -> Image.Image:
    """Draw a place with its box and its surroundings, scaled to fit a square tile."""
    size_hw = pixels.shape[0], pixels.shape[1]
    box = one.box * np.array([size_hw[1], size_hw[0]] * 2)
    left, top, right, bottom = compute_crop_window(box, _AROUND, size_hw)
    scale = _TILE / max(right - left, bottom - top)
    size = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    piece = Image.fromarray(pixels[top:bottom, left:right]).resize(size, Image.Resampling.BICUBIC)
    tile = Image.new("RGB", (_TILE, _TILE), _EMPTY)
    at = (_TILE - size[0]) // 2, (_TILE - size[1]) // 2
    tile.paste(piece, at)
    corners = (box.reshape(2, 2) - [left, top]) * scale + at
    ImageDraw.Draw(tile).rectangle(
        [tuple(corner) for corner in corners.tolist()], outline=choose_colour(name), width=2
    )
    return tile
