"""Decode JPEG files on the GPU (nvJPEG), many at a time, where a run asks for it with `jpeg=gpu`.

Its pixels differ from the CPU's by a level or two, because it uses another inverse DCT and
interpolates colour in another way. The decoder's name is part of the fingerprint, so these runs get
a folder of their own.
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from pipeline.core.protocols import ImageDecoder
from pipeline.core.types import InputError
from pipeline.inputs.decoding.diagnosis import is_truncated
from pipeline.inputs.decoding.header import open_image, read_orientation
from pipeline.inputs.decoding.image import (
    IMAGE_DECODER,
    CpuImageDecoder,
    decode_or_error,
    turn_upright,
)
from pipeline.inputs.decoding.jpeg_decoder import JPEG_LIBRARIES, DecodeJpegs
from pipeline.inputs.decoding.jpeg_segments import hide_exif

log = logging.getLogger(__name__)
_MODES = ("L", "RGB")  # nvJPEG would take the inks of CMYK for colours


def build_gpu_decoder(device: str) -> ImageDecoder:
    """Return a decoder that uses nvJPEG on the device, or else the CPU's, after a warning that says
    why.
    """
    try:
        return GpuJpegDecoder.find(device)
    except RuntimeError as error:
        log.warning("jpeg=gpu: %s. The CPU decodes.", error)
        return CpuImageDecoder()


@dataclass(frozen=True)
class GpuJpegDecoder:
    """Decodes JPEG files in batches on a device, and all other files on the CPU.

    `library`: the name of the JPEG decoder in use. `decode_jpegs`: see `DecodeJpegs`.
    """

    library: str
    decode_jpegs: DecodeJpegs
    device: str
    is_batched = True

    @property
    def name(self) -> str:
        return f"{self.library}, else {IMAGE_DECODER}"

    @classmethod
    def find(cls, device: str) -> "GpuJpegDecoder":
        """Return a decoder of the first library that decodes a small file on the device.

        Raises:
            RuntimeError: no library does; its text says why for each.
        """
        if torch.device(device).type != "cuda":
            raise RuntimeError(f"needs a CUDA device, and this run's is {device}")

        probe = io.BytesIO()
        Image.new("RGB", (16, 16)).save(probe, "JPEG")
        failures = []
        for library, load_library in JPEG_LIBRARIES:
            try:
                decode_jpegs = load_library()
                decode_jpegs([probe.getvalue()], device)
            except Exception as error:  # noqa: BLE001 - absent, built without nvJPEG, too old for this GPU, ...
                failures.append(f"{library}: {' '.join(str(error).split())[:100]}")
            else:
                return cls(f"jpeg: nvJPEG by {library}", decode_jpegs, device)
        raise RuntimeError("; ".join(failures))

    def decode_many(self, files: Sequence[bytes], max_pixels: int) -> Sequence[Tensor | InputError]:
        """Decode whole files as `decode_image` does each.

        The CPU decodes the files that the GPU does not take or refuses, and its verdict is final.
        """
        jpegs = [_prepare_jpeg(data, max_pixels) for data in files]
        decoded = iter(self._decode_batch([jpeg.data for jpeg in jpegs if jpeg]))

        results: list[Tensor | InputError] = []
        for data, jpeg in zip(files, jpegs, strict=True):
            pixels = next(decoded) if jpeg else None
            if jpeg and pixels is not None:
                results.append(turn_upright(pixels, jpeg.orientation))
            else:
                results.append(decode_or_error(data, max_pixels))
        return results

    def _decode_batch(self, files: list[bytes]) -> Sequence[Tensor | None]:
        """Decode the files in one call; None for a file that fails.

        One bad file fails the whole call, so a batch that fails is halved until the bad file is
        alone.
        """
        if not files:
            return []
        try:
            return self.decode_jpegs(files, self.device)
        except (RuntimeError, ValueError):
            half = len(files) // 2
            if not half:
                return [None]
            return [*self._decode_batch(files[:half]), *self._decode_batch(files[half:])]


@dataclass(frozen=True)
class _PreparedJpeg:
    data: bytes  # without EXIF
    orientation: int  # EXIF, 1..8


def _prepare_jpeg(data: bytes, max_pixels: int) -> _PreparedJpeg | None:
    """Return the file for nvJPEG, or None for a file that it must not decode.

    A truncated file is one of these, because nvJPEG would invent the missing part.
    """
    if not data.startswith(b"\xff\xd8") or is_truncated(data, "JPEG"):
        return None
    try:
        with open_image(io.BytesIO(data), max_pixels) as image:
            is_supported = image.format == "JPEG" and image.mode in _MODES
            orientation = read_orientation(image)
    except InputError:
        return None
    plain = hide_exif(data)
    return _PreparedJpeg(plain, orientation) if is_supported and plain else None
