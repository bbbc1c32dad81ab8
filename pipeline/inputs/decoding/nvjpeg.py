"""Decode many JPEG files at once on the GPU with nvJPEG, for runs with `jpeg=gpu`.

The pixels differ from the CPU's by one or two levels, because nvJPEG uses another inverse DCT and
another interpolation of colour. The decoder's name is part of the fingerprint, so these runs have
other run folders.
"""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image
from torch import Tensor

from pipeline.core.protocols import ImageDecoder
from pipeline.core.types import InputError
from pipeline.inputs.decoding.diagnosis import is_truncated
from pipeline.inputs.decoding.header import open_image
from pipeline.inputs.decoding.image import (
    IMAGE_DECODER,
    CpuImageDecoder,
    turn_upright,
)
from pipeline.inputs.decoding.jpeg_decoder import JPEG_LIBRARIES, DecodeJpegs
from pipeline.inputs.decoding.pixel_options import AS_STORED, PixelOptions

log = logging.getLogger(__name__)
_MULTI_PICTURE, _SEARCHED_BYTES = b"MPF\0", 1 << 17  # nvJPEG was never tried with such files
_MODES = ("L", "RGB")  # not CMYK, which nvJPEG does not convert to RGB


def build_gpu_decoder(device: str, options: PixelOptions = AS_STORED) -> ImageDecoder:
    """Return a decoder that uses nvJPEG on the device.

    If that is not possible, log a warning with the reason and return the CPU's decoder.
    """
    try:
        return replace(GpuJpegDecoder.find(device), cpu=CpuImageDecoder(options))
    except RuntimeError as error:
        log.warning("jpeg=gpu: %s. The CPU decodes.", error)
        return CpuImageDecoder(options)


@dataclass(frozen=True)
class GpuJpegDecoder:
    """Decodes JPEG files in batches on a device, and all other files on the CPU.

    `library` is the name of the JPEG decoder in use; `decode_jpegs` is its function.
    """

    library: str
    decode_jpegs: DecodeJpegs
    device: str
    cpu: CpuImageDecoder = field(default_factory=CpuImageDecoder)
    is_batched = True

    @property
    def name(self) -> str:
        return f"{self.library}, else {IMAGE_DECODER}"

    @classmethod
    def find(cls, device: str) -> "GpuJpegDecoder":
        """Return a decoder that uses the first library able to decode a small file on the device.

        Raises:
            RuntimeError: No library can; the message gives the reason for each.
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
        """Decode whole files; see `decode_image` for the pixels and errors of each.

        Files that are not suitable for the GPU or that it refuses are decoded on the CPU.
        """
        jpegs = [_prepare_jpeg(data, max_pixels) for data in files]
        decoded = iter(self._decode_batch([jpeg.data for jpeg in jpegs if jpeg]))

        results: list[Tensor | InputError] = []
        for data, jpeg in zip(files, jpegs, strict=True):
            pixels = next(decoded) if jpeg else None
            if jpeg and pixels is not None:
                results.append(turn_upright(pixels, jpeg.orientation))
            else:
                results.extend(self.cpu.decode_many([data], max_pixels))
        return results

    def log_notes(self) -> None:
        """Log what was noticed about the files that the CPU decoded, once."""
        self.cpu.log_notes()

    def _decode_batch(self, files: list[bytes]) -> Sequence[Tensor | None]:
        """Decode the files in one call. The result of a file that fails is None.

        One bad file makes the whole call fail. So a batch that fails is halved until the bad file
        is alone.
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
    data: bytes  # without metadata
    orientation: int  # EXIF, 1..8


def _prepare_jpeg(data: bytes, max_pixels: int) -> _PreparedJpeg | None:
    """Prepare a file for nvJPEG. Return None if nvJPEG must not decode it.

    For example, nvJPEG must not decode a truncated file, because it would invent the missing part.
    """
    is_multi_picture = _MULTI_PICTURE in data[:_SEARCHED_BYTES]
    if not data.startswith(b"\xff\xd8") or is_multi_picture or is_truncated(data, "JPEG"):
        return None
    try:
        with open_image(io.BytesIO(data), max_pixels) as opened:
            is_supported = opened.image is not None and opened.image.mode in _MODES
            opened.picture.seek(0)
            plain = opened.picture.read()
            return _PreparedJpeg(plain, opened.header.orientation) if is_supported else None
    except InputError:
        return None
