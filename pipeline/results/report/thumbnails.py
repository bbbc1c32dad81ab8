"""Make thumbnails of images from their overlays, or from the images themselves."""

import base64
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.keys import OVERLAY_FORMATS, make_overlay_key, resolve_below
from pipeline.runs.run_folder import RunFolder

log = logging.getLogger(__name__)
SIDE = 224  # longer side of a thumbnail, in pixels
BLOCK_SIZE = 50  # number of thumbnails in one block of the page
_LARGEST = 2560 * 2560  # pixels: no overlay is larger
_QUALITY = 60
_THREADS = 4  # Pillow releases the GIL while it decodes


def find_overlays(folder: RunFolder, keys: Sequence[str]) -> list[str | None]:
    """Return the key of each image's overlay, None for an image without an overlay."""
    names = [make_overlay_key(key) for key in keys]
    insides = [resolve_below(Path("overlays"), name) for name in names]
    paths = [str(path) if path else None for path in insides]
    there = folder.store.find_existing(path for path in paths if path)
    return [name if path in there else None for name, path in zip(names, paths, strict=True)]


def make_thumbnail_blocks(
    makers: Sequence[Callable[[], bytes] | None],
) -> Iterator[tuple[int, list[str]]]:
    """Yield (block number, thumbnails as base64) of each block that has any thumbnail.

    An empty string stands for a thumbnail that has no maker or whose maker failed.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(makers), BLOCK_SIZE):
            made = list(pool.map(_attempted, makers[first : first + BLOCK_SIZE]))
            if any(made):
                yield first // BLOCK_SIZE, made


def prepare_from_overlay(path: Path) -> Callable[[], bytes]:
    """Return a function that makes the thumbnail from an overlay."""
    return partial(_shrink_overlay, path)


def prepare_from_input(
    path: Path, max_pixels: int, pixel_settings: Mapping[str, Any]
) -> Callable[[], bytes]:
    """Return a function that makes the thumbnail from an image file.

    `pixel_settings`: the run's settings `levels` and `bands`, where not the defaults.
    """
    return partial(_shrink_input, path, max_pixels, pixel_settings)


def prepare_from_pixels(read: Callable[[], np.ndarray]) -> Callable[[], bytes]:
    """Return a function that makes the thumbnail from pixels.

    `read` returns (H, W, 3) uint8 RGB, upright.
    """
    return lambda: _small(Image.fromarray(read()))


def _attempted(make: Callable[[], bytes] | None) -> str:
    try:
        return base64.b64encode(make()).decode() if make else ""
    except Exception as error:  # noqa: BLE001 - hostile bytes raise anything
        log.debug("no thumbnail: %s", error)
        return ""


def _shrink_overlay(path: Path) -> bytes:
    with Image.open(path, formats=tuple(set(OVERLAY_FORMATS.values()))) as image:
        if image.width * image.height > _LARGEST:
            raise ValueError(f"{path} is larger than any overlay")
        # A JPEG is decoded faster at a half, a quarter or an eighth of its size.
        image.draft("RGB", (SIDE, SIDE))
        return _small(image)


def _shrink_input(path: Path, max_pixels: int, pixel_settings: Mapping[str, Any]) -> bytes:
    """Decode an image file as a run does, and shrink it."""
    # Imported here, because it imports torch, which overlays do not need.
    from pipeline.inputs.decoding.image import decode_image
    from pipeline.inputs.decoding.pixel_options import PixelOptions

    options = PixelOptions.from_settings(pixel_settings)
    pixels = decode_image(path.read_bytes(), max_pixels, options)
    return _small(Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()))


def _small(image: Image.Image) -> bytes:
    """Shrink an image and return it as the bytes of a WebP file."""
    image = image.convert("RGB")
    image.thumbnail((SIDE, SIDE), reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()
