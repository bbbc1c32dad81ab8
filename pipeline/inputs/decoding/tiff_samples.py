"""Read the samples of a TIFF page at any bit depth and number of channels.

libtiff, as Pillow has it, unpacks the strips or tiles: they are presented to it as those of an
8-bit grey picture whose rows are the bytes of a row of samples. The bytes are interpreted here.
"""

from dataclasses import dataclass, replace
from typing import BinaryIO

import numpy as np
from PIL import Image

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding import tiff_directory as tiff
from pipeline.inputs.decoding.tiff_directory import (
    TiffDirectory,
    pack_longs,
    replace_directory,
)

# none, LZW, deflate (two numbers), PackBits, LZMA, Zstandard: all keep the samples as they are
LOSSLESS = (1, 5, 8, 32946, 32773, 34925, 50000)
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # sample formats
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
_BY_VALUE, _BY_BYTE = 2, 3  # predictors: of whole numbers, of floats
_MAX_CHANNELS = 4096


@dataclass(frozen=True)
class TiffLayout:
    """Storage of the samples of one page."""

    size_hw: tuple[int, int]
    n_channels: int
    bits: int
    sample_format: int
    photometric: int
    compression: int
    predictor: int
    is_planar: bool
    tile_hw: tuple[int, int] | None  # None: strips

    @property
    def dtype(self) -> np.dtype:
        """The type of a sample, as wide as `bits` or wider."""
        kind = {SIGNED: "i", FLOAT: "f"}.get(self.sample_format, "u")
        return np.dtype(f"{kind}{max(1, 1 << (self.bits - 1).bit_length() >> 3)}")

    @property
    def n_bytes(self) -> int:
        """The bytes of all samples, not packed."""
        return self.size_hw[0] * self.size_hw[1] * self.n_channels * self.dtype.itemsize


def read_layout(directory: TiffDirectory) -> TiffLayout | None:
    """Return how the samples are stored; None if they cannot be read sample by sample."""
    read = directory.read_first
    bits = set(directory.read(tiff.BITS, _MAX_CHANNELS).tolist()) or {1}
    formats = set(directory.read(tiff.SAMPLE_FORMAT, _MAX_CHANNELS).tolist()) or {UNSIGNED}
    is_tiled = tiff.TILE_WIDTH in directory.tags
    layout = TiffLayout(
        (read(tiff.LENGTH, 0), read(tiff.WIDTH, 0)),
        read(tiff.SAMPLES, 1),
        min(bits),
        min(formats),
        read(tiff.PHOTOMETRIC, WHITE_IS_ZERO),
        read(tiff.COMPRESSION, 1),
        read(tiff.PREDICTOR, 1),
        read(tiff.PLANAR, 1) == 2,
        (read(tiff.TILE_LENGTH, 0), read(tiff.TILE_WIDTH, 0)) if is_tiled else None,
    )
    is_known = (
        len(bits) == len(formats) == 1
        and min(*layout.size_hw, *(layout.tile_hw or (1,))) > 0
        and 0 < layout.n_channels <= _MAX_CHANNELS
        and layout.compression in LOSSLESS
        and layout.predictor in (1, _BY_VALUE, _BY_BYTE)
        and layout.photometric != YCBCR
    )
    return layout if is_known and _is_readable(layout) else None


def _is_readable(layout: TiffLayout) -> bool:
    """Return whether numpy has a type for the samples, and packed ones fill whole bytes."""
    if layout.sample_format == FLOAT:
        return layout.bits in (16, 32, 64)
    if layout.sample_format == SIGNED:
        return layout.bits in (8, 16, 32)
    if layout.sample_format != UNSIGNED or not 1 <= layout.bits <= 32:
        return layout.sample_format == UNSIGNED and layout.bits == 64
    return layout.bits in (8, 16, 32) or (layout.tile_hw is None and layout.predictor == 1)


def read_samples(directory: TiffDirectory, layout: TiffLayout) -> np.ndarray:
    """Return the samples, (H, W, channels), in the machine's byte order.

    Raises:
        OSError, ValueError, SyntaxError: The file is damaged or cut.
    """
    is_tiled = layout.tile_hw is not None
    offsets = directory.read(tiff.TILE_OFFSETS if is_tiled else tiff.STRIP_OFFSETS)
    sizes = directory.read(tiff.TILE_BYTES if is_tiled else tiff.STRIP_BYTES)
    if len(sizes) == 0 and len(offsets) == 1:  # custom of early writers: the rest of the file
        sizes = directory.file.seek(0, 2) - offsets
    n_planes = layout.n_channels if layout.is_planar else 1
    if len(offsets) != len(sizes) or len(offsets) % n_planes:
        raise ValueError("its strips or tiles are not as many as its size needs")

    per_plane = len(offsets) // n_planes
    if n_planes == 1:
        return _read_plane(directory, layout, offsets, sizes)
    one = replace(layout, n_channels=1, is_planar=False)
    samples = np.empty((*layout.size_hw, n_planes), layout.dtype)
    for number in range(n_planes):
        part = slice(number * per_plane, (number + 1) * per_plane)
        samples[:, :, number] = _read_plane(directory, one, offsets[part], sizes[part])[:, :, 0]
    return samples


def _read_plane(
    directory: TiffDirectory, layout: TiffLayout, offsets: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Return the samples of strips or tiles that hold whole pixels, (H, W, channels)."""
    (height, width), channels = layout.size_hw, layout.n_channels
    tile_width = layout.tile_hw[1] if layout.tile_hw else width
    n_across = -(-width // tile_width)
    block_bytes = -(-tile_width * channels * layout.bits // 8)

    rows = _unpack(directory, layout, block_bytes, n_across, offsets, sizes)
    blocks = rows.reshape(height, n_across, block_bytes)
    samples = _interpret(blocks, layout, tile_width, directory.order)
    return samples.reshape(height, n_across * tile_width, channels)[:, :width]


def _unpack(
    directory: TiffDirectory,
    layout: TiffLayout,
    block_bytes: int,
    n_across: int,
    offsets: np.ndarray,
    sizes: np.ndarray,
) -> np.ndarray:
    """Return the unpacked bytes, (H, bytes of a row of blocks) uint8."""
    height = layout.size_hw[0]
    values: dict[int, list[int]] = {
        tiff.WIDTH: [block_bytes * n_across],
        tiff.LENGTH: [height],
        tiff.BITS: [8],
        tiff.COMPRESSION: [layout.compression],
        tiff.PHOTOMETRIC: [BLACK_IS_ZERO],
        tiff.FILL_ORDER: [directory.read_first(tiff.FILL_ORDER, 1)],
        tiff.SAMPLES: [1],
    }
    if layout.tile_hw:
        values |= {tiff.TILE_WIDTH: [block_bytes], tiff.TILE_LENGTH: [layout.tile_hw[0]]}
        values |= {tiff.TILE_OFFSETS: offsets.tolist(), tiff.TILE_BYTES: sizes.tolist()}
    else:
        rows = directory.read_first(tiff.ROWS_PER_STRIP, height)
        values |= {tiff.ROWS_PER_STRIP: [min(rows, height)]}
        values |= {tiff.STRIP_OFFSETS: offsets.tolist(), tiff.STRIP_BYTES: sizes.tolist()}

    longs = {tag: (tiff.LONG, pack_longs(directory, numbers)) for tag, numbers in values.items()}
    picture = replace_directory(directory, longs)
    with open_tiff(picture) as image:
        return np.asarray(image)


def open_tiff(picture: BinaryIO) -> Image.Image:
    """Open a file with Pillow, and keep Pillow from looking for EXIF in it."""
    image = Image.open(picture, formats=("TIFF",))
    image.info["exif"] = b""
    return image


def _interpret(blocks: np.ndarray, layout: TiffLayout, tile_width: int, order: str) -> np.ndarray:
    """Return (H, blocks, width of a block, channels) of samples, with the predictor undone."""
    shape = (*blocks.shape[:2], tile_width, layout.n_channels)
    if layout.predictor == _BY_BYTE:
        return _undo_byte_predictor(blocks, layout).reshape(shape)
    if layout.bits not in (8, 16, 32, 64):
        return _unpack_bits(blocks, layout).reshape(shape)

    stored = layout.dtype.newbyteorder("<" if order == "little" else ">")
    samples = np.ascontiguousarray(blocks).view(stored).reshape(shape).astype(layout.dtype)
    if layout.predictor == _BY_VALUE:
        np.cumsum(samples, axis=2, dtype=samples.dtype, out=samples)  # it wraps, as it must
    return samples


def _undo_byte_predictor(blocks: np.ndarray, layout: TiffLayout) -> np.ndarray:
    """Undo predictor 3 (Adobe's technical note 3): differences of bytes, the highest ones first."""
    *outer, n_bytes = blocks.shape
    n_sample, step = layout.dtype.itemsize, layout.n_channels
    grouped = blocks.reshape(*outer, n_bytes // step, step)
    whole = np.cumsum(grouped, axis=-2, dtype=np.uint8).reshape(*outer, n_sample, -1)
    values = np.ascontiguousarray(np.swapaxes(whole, -1, -2))
    return values.view(layout.dtype.newbyteorder(">")).astype(layout.dtype)


def _unpack_bits(blocks: np.ndarray, layout: TiffLayout) -> np.ndarray:
    """Unpack samples of any number of bits, the highest bit first."""
    n_values = layout.size_hw[1] * layout.n_channels
    bits = np.unpackbits(blocks, axis=-1)[..., : n_values * layout.bits]
    bits = bits.reshape(*blocks.shape[:2], n_values, layout.bits)
    samples = np.zeros(bits.shape[:-1], layout.dtype)
    for number in range(layout.bits):
        samples = (samples << 1) | bits[..., number]
    return samples


def check_bytes(layout: TiffLayout, limit: int) -> None:
    """Raise InputError if the unpacked samples would need more than `limit` bytes."""
    if layout.n_bytes > limit:
        raise InputError(
            Status.TOO_LARGE,
            f"{layout.n_channels} channels of {layout.bits} bits need {layout.n_bytes} bytes, "
            f"more than the {limit} that max_pixels allows",
            layout.size_hw,
        )
