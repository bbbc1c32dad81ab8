"""The fast JPEG decoder of this machine: torchcodec's, or torchvision's own where torchcodec is older than its images.

Both wrap libjpeg-turbo and give the same pixels. Which one it was goes into every run's fingerprint.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import cast

import torch
from torch import Tensor

APP1, APP15, SOS, EOI = 0xE1, 0xEF, 0xDA, 0xD9  # Exif or XMP; unused; start of scan; end of image


def _from_torchcodec() -> Callable[[bytes], Tensor]:
    from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]

    def decode(data: bytes) -> Tensor:
        return cast(Tensor, decode_jpeg(data, mode="RGB"))  # a list only for a list of files

    return decode


def _from_torchvision() -> Callable[[bytes], Tensor]:
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(data: bytes) -> Tensor:
        return decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB)

    return decode


def _choose() -> tuple[str, Callable[[bytes], Tensor]]:
    try:
        return f"torchcodec {version('torchcodec')}", _from_torchcodec()
    except (ImportError, RuntimeError, OSError):  # absent, without decode_jpeg, or its libraries do not load here
        return f"torchvision {version('torchvision')}", _from_torchvision()


def segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(offset, marker) of the segments from the first up to the start of scan or the end of image, which is the last one
    yielded (ITU-T T.81, annex B). Ends before it where the file ends or no marker stands where one must."""
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        yield at, marker
        if marker in (EOI, SOS):
            return
        without_length = marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 2 if without_length else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def without_exif(data: bytes) -> bytes | None:
    """The file with its APP1 segments renamed, so that a decoder finds no orientation in them; None where the segments
    cannot be followed up to the scan."""
    found = list(segments(data))
    if not found or found[-1][1] != SOS:
        return None
    app1 = [offset for offset, marker in found if marker == APP1]
    if not app1:
        return data
    renamed = bytearray(data)
    for offset in app1:
        renamed[offset + 1] = APP15
    return bytes(renamed)


# decode_jpeg(data): a whole file -> (3, H, W) uint8 RGB as stored; RuntimeError or ValueError for what it cannot decode
JPEG_DECODER, decode_jpeg = _choose()
