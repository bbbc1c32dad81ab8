"""Decode a page of a TIFF file, sample by sample where Pillow does not read it right."""

from contextlib import suppress
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding import tiff_directory as tiff
from pipeline.inputs.decoding import tiff_samples
from pipeline.inputs.decoding.cielab import convert_lab
from pipeline.inputs.decoding.levels import map_levels
from pipeline.inputs.decoding.pillow_modes import convert_to_rgb
from pipeline.inputs.decoding.pixel_options import PixelOptions
from pipeline.inputs.decoding.tiff_directory import TiffDirectory
from pipeline.inputs.decoding.tiff_samples import TiffLayout, open_tiff

_LAB = (tiff_samples.CIELAB, tiff_samples.ICCLAB)
_GREY = (tiff_samples.WHITE_IS_ZERO, tiff_samples.BLACK_IS_ZERO)
_PREMULTIPLIED = 1  # meaning of an extra sample
_MAX_BYTES_PER_PIXEL = 8


def decode_tiff(
    directory: TiffDirectory, picture: BinaryIO, max_pixels: int, options: PixelOptions
) -> np.ndarray:
    """Decode a page to (H, W, 3) uint8 RGB, as stored.

    Args:
        directory: The directory of the page.
        picture: The file with this directory only.
        max_pixels: Limits the bytes of the unpacked samples too.
        options: How to choose channels and brightness.

    Raises:
        InputError: The pixels are of a kind that is not decoded.
        Exception: The file is damaged.
    """
    layout = tiff_samples.read_layout(directory)
    if layout is None or not _needs_samples(layout, options):
        try:
            with open_tiff(picture) as image:
                return convert_to_rgb(image)
        except UnidentifiedImageError:
            if layout is None:
                raise
    tiff_samples.check_bytes(layout, _MAX_BYTES_PER_PIXEL * max_pixels)
    samples = tiff_samples.read_samples(directory, layout)
    return _convert_samples(samples, directory, layout, options)


def _needs_samples(layout: TiffLayout, options: PixelOptions) -> bool:
    """Return whether the settings or the kind of the pixels ask for the samples as they are."""
    if layout.photometric in _LAB or (options.bands and layout.photometric in (*_GREY, 2)):
        return True
    if layout.is_planar and layout.n_channels > 1:  # Pillow fails on several kinds of these
        return True
    is_deep = layout.bits > 8 or layout.sample_format == tiff_samples.FLOAT
    return is_deep and (
        options.levels != "full"
        or layout.photometric in (tiff_samples.WHITE_IS_ZERO, tiff_samples.PALETTE)
        or layout.bits not in (16, 32)
    )


def _convert_samples(
    samples: np.ndarray, directory: TiffDirectory, layout: TiffLayout, options: PixelOptions
) -> np.ndarray:
    """Convert (H, W, channels) of any type to (H, W, 3) uint8 RGB."""
    photometric = layout.photometric
    white = None
    if layout.sample_format == tiff_samples.UNSIGNED and layout.bits <= 16:
        white = (1 << layout.bits) - 1
    if photometric in _LAB and layout.n_channels >= 3:
        return convert_lab(samples[:, :, :3], layout.bits, photometric == tiff_samples.ICCLAB)
    if photometric == tiff_samples.PALETTE and white is not None:
        return _look_up(samples[:, :, 0], directory)
    if photometric == tiff_samples.CMYK and layout.n_channels >= 4:
        inks = map_levels(samples[:, :, :4], options, white)
        return np.array(Image.fromarray(inks, "CMYK").convert("RGB"))

    chosen = _choose_channels(samples, directory, layout, options)
    mapped = map_levels(chosen, options, white, _read_no_data(directory))
    if photometric == tiff_samples.WHITE_IS_ZERO:
        mapped = 255 - mapped
    return np.array(np.broadcast_to(mapped, (*mapped.shape[:2], 3)))


def _choose_channels(
    samples: np.ndarray, directory: TiffDirectory, layout: TiffLayout, options: PixelOptions
) -> np.ndarray:
    """Return (H, W, 1 or 3): the bands of the settings, or those that the photometric names."""
    channels = layout.n_channels
    if options.bands:
        if max(options.bands) > channels:
            bands = ",".join(map(str, options.bands))
            raise InputError(
                Status.UNSUPPORTED, f"bands=[{bands}], but the image has {channels} channels"
            )
        return samples[:, :, [band - 1 for band in options.bands]]

    extra = directory.read(tiff.EXTRA_SAMPLES, channels).tolist()
    if layout.photometric == tiff_samples.RGB and channels >= 3:
        n_colours = 3
    elif layout.photometric in _GREY and channels <= 2:
        n_colours = 1
    else:
        raise InputError(
            Status.UNSUPPORTED,
            f"TIFF of {channels} channels without a defined colour each; say bands=[R,G,B] with "
            "the numbers of three channels, from 1, or bands=[N] for one",
        )
    colours = samples[:, :, :n_colours]
    if extra[:1] == [_PREMULTIPLIED] and layout.photometric != tiff_samples.WHITE_IS_ZERO:
        return _divide_by_alpha(colours, samples[:, :, n_colours])
    return colours


def _divide_by_alpha(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Undo the multiplication of whole numbers by their alpha."""
    if colours.dtype.kind == "f":
        return colours
    white = np.iinfo(colours.dtype).max
    straight = colours.astype(np.float64) * white / np.maximum(alpha, 1)[:, :, None]
    return np.clip(straight, 0, white).astype(colours.dtype)


def _look_up(indices: np.ndarray, directory: TiffDirectory) -> np.ndarray:
    """Return the colours of a palette of 16-bit values."""
    palette = directory.read(tiff.COLOR_MAP).reshape(3, -1)
    if palette.shape[1] <= int(indices.max(initial=0)):
        raise ValueError("its palette has fewer colours than its pixels use")
    return (palette >> 8).astype(np.uint8).T[indices]


def _read_no_data(directory: TiffDirectory) -> float | None:
    """Return the value that means "nothing here" (GDAL's tag), or None."""
    with suppress(ValueError):
        return float(directory.read_bytes(tiff.NO_DATA).strip(b"\0 ") or b"nan")
    return None
