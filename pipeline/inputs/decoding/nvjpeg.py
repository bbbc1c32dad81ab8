"""JPEG files decoded by the GPU (nvJPEG), many at a time, where a run asks for it: `jpeg=gpu`.

Its pixels differ from the CPU's by a level or two (another inverse DCT, and colour interpolated in another way), so the
decoder's name, which is part of a run's identity, says which it was.
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from pipeline.core.errors import ConfigError
from pipeline.core.protocols import Source
from pipeline.core.types import InputError
from pipeline.inputs.decoding.diagnosis import is_truncated
from pipeline.inputs.decoding.image import (
    IMAGE_DECODER,
    decode_image,
    open_image,
    read_orientation,
    turn_upright,
)
from pipeline.inputs.decoding.jpeg import JPEG_LIBRARIES, DecodeJpegs, hide_exif
from pipeline.inputs.image_source import ImageSource

log = logging.getLogger(__name__)
_MODES = ("L", "RGB")  # not CMYK, whose inks nvJPEG would take for colours


def decode_on_gpu(source: Source, device: str) -> None:
    """Let the source's JPEG files be decoded on the device. Where that cannot be, one line says so, and the CPU decodes.
    Raises ConfigError for a source of other things than image files."""
    if not isinstance(source, ImageSource):
        raise ConfigError("jpeg=gpu is for image files; this source has none. Leave it out.")
    try:
        decoder = GpuJpegs.find(device)
    except RuntimeError as error:
        log.warning("jpeg=gpu: %s. The CPU decodes.", error)
        return
    source.decoder, source.decode_many = (
        f"{decoder.name}, else {IMAGE_DECODER}",
        decoder.decode_many,
    )


@dataclass(frozen=True)
class GpuJpegs:
    """`decode(files, device)` gives (3, H, W) uint8 RGB as stored, on the device."""

    name: str
    decode: DecodeJpegs
    device: str

    @classmethod
    def find(cls, device: str) -> "GpuJpegs":
        """The first library that decodes a small file there. Raises RuntimeError, naming why none does."""
        if torch.device(device).type != "cuda":
            raise RuntimeError(f"needs a CUDA device, and this run's is {device}")
        probe = io.BytesIO()
        Image.new("RGB", (16, 16)).save(probe, "JPEG")
        failures = []
        for library, way in JPEG_LIBRARIES:
            try:
                decode_jpegs = way()
                decode_jpegs([probe.getvalue()], device)
            except Exception as error:  # noqa: BLE001 - absent, built without nvJPEG, too old for this GPU, ...
                failures.append(f"{library}: {' '.join(str(error).split())[:100]}")
            else:
                return cls(f"jpeg: nvJPEG by {library}", decode_jpegs, device)
        raise RuntimeError("; ".join(failures))

    def decode_many(self, files: Sequence[bytes], max_pixels: int) -> list[Tensor | InputError]:
        """As `decoding.decode` each: what the GPU does not take or refuses, the CPU decodes, and its verdict stands."""
        plain = [_plain_jpeg(data, max_pixels) for data in files]
        decoded = iter(self._batch([data for data, _ in filter(None, plain)]))
        found: list[Tensor | InputError] = []
        for data, jpeg in zip(files, plain, strict=True):
            pixels = next(decoded) if jpeg else None
            if jpeg and pixels is not None:
                found.append(turn_upright(pixels, jpeg[1]))
            else:
                found.append(_on_cpu(data, max_pixels))
        return found

    def _batch(self, files: list[bytes]) -> Sequence[Tensor | None]:
        """None for those that fail. One that does fails the call for all."""
        if not files:
            return []
        try:
            return self.decode(files, self.device)
        except (RuntimeError, ValueError):
            half = len(files) // 2
            return [*self._batch(files[:half]), *self._batch(files[half:])] if half else [None]


def _plain_jpeg(data: bytes, max_pixels: int) -> tuple[bytes, int] | None:
    """(file, EXIF orientation) of a JPEG that nvJPEG can be trusted with: of one that is cut it would make up the rest."""
    if not data.startswith(b"\xff\xd8") or is_truncated(data, "JPEG"):
        return None
    try:
        with open_image(io.BytesIO(data), max_pixels) as image:
            known = image.format == "JPEG" and image.mode in _MODES
            orientation = read_orientation(image)
    except InputError:
        return None
    plain = hide_exif(data)
    return (plain, orientation) if known and plain else None


def _on_cpu(data: bytes, max_pixels: int) -> Tensor | InputError:
    try:
        return decode_image(data, max_pixels)
    except InputError as error:
        return error
