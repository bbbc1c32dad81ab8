"""Decode JPEG files with torchcodec, or with torchvision if torchcodec cannot be loaded.

Both wrap libjpeg-turbo and give the same pixels. The fingerprint of a run names the library in use.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import cast

import torch
from torch import Tensor

# (whole files, device) -> (3, H, W) uint8 RGB each, as stored in the file, on the device
DecodeJpegs = Callable[[Sequence[bytes], str], list[Tensor]]


def _load_torchcodec() -> DecodeJpegs:
    from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]

    def decode(files: Sequence[bytes], device: str) -> list[Tensor]:
        return cast(list[Tensor], decode_jpeg(list(files), mode="RGB", device=device))

    return decode


def _load_torchvision() -> DecodeJpegs:
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(files: Sequence[bytes], device: str) -> list[Tensor]:
        encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        return cast(list[Tensor], decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device))

    return decode


# (name of a library, function that loads its decoder), in order of preference. The function raises
# ImportError, RuntimeError or OSError if the library is absent or cannot be loaded.
JPEG_LIBRARIES = (
    (f"torchcodec {version('torchcodec')}", _load_torchcodec),
    (f"torchvision {version('torchvision')}", _load_torchvision),
)


def _choose_library() -> tuple[str, DecodeJpegs]:
    """Return the name and the decoder of the first library that can be loaded."""
    try:
        return JPEG_LIBRARIES[0][0], JPEG_LIBRARIES[0][1]()
    except (ImportError, RuntimeError, OSError):
        return JPEG_LIBRARIES[1][0], JPEG_LIBRARIES[1][1]()


JPEG_DECODER, _decode_jpegs = _choose_library()


def decode_jpeg(data: bytes) -> Tensor:
    """Decode a whole file to (3, H, W) uint8 RGB, as stored in the file.

    Raises:
        RuntimeError, ValueError: the library cannot decode it.
    """
    return _decode_jpegs([data], "cpu")[0]
