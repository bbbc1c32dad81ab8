"""The fast JPEG decoder of this machine: torchcodec's, or torchvision's own where torchcodec is older than its images.

Both wrap libjpeg-turbo and give the same pixels. Which one it was goes into every run's fingerprint.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import cast

import torch
from torch import Tensor

APP1, APP15, SOS, EOI = 0xE1, 0xEF, 0xDA, 0xD9  # Exif or XMP; unused; start of scan; end of image


DecodeJpegs = Callable[
    [Sequence[bytes], str], list[Tensor]
]  # whole files, device -> (3, H, W) uint8 RGB as stored, there


def _with_torchcodec() -> DecodeJpegs:
    from torchcodec.decoders import decode_jpeg  # type: ignore[attr-defined]

    def decode(files: Sequence[bytes], device: str) -> list[Tensor]:
        return cast(list[Tensor], decode_jpeg(list(files), mode="RGB", device=device))

    return decode


def _with_torchvision() -> DecodeJpegs:
    from torchvision.io import ImageReadMode, decode_jpeg

    def decode(files: Sequence[bytes], device: str) -> list[Tensor]:
        encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
        return cast(list[Tensor], decode_jpeg(encoded, mode=ImageReadMode.RGB, device=device))

    return decode


# (library, how to get its decoder; that raises ImportError, RuntimeError or OSError where it is absent or does not load)
JPEG_LIBRARIES = (
    (f"torchcodec {version('torchcodec')}", _with_torchcodec),
    (f"torchvision {version('torchvision')}", _with_torchvision),
)


def _choose() -> tuple[str, DecodeJpegs]:
    try:
        return JPEG_LIBRARIES[0][0], JPEG_LIBRARIES[0][1]()
    except (ImportError, RuntimeError, OSError):
        return JPEG_LIBRARIES[1][0], JPEG_LIBRARIES[1][1]()


def iterate_segments(data: bytes) -> Iterator[tuple[int, int]]:
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


def hide_exif(data: bytes) -> bytes | None:
    """The file with its APP1 segments renamed, so that a decoder finds no orientation in them; None where the segments
    cannot be followed up to the scan."""
    found = list(iterate_segments(data))
    if not found or found[-1][1] != SOS:
        return None
    app1 = [offset for offset, marker in found if marker == APP1]
    if not app1:
        return data
    renamed = bytearray(data)
    for offset in app1:
        renamed[offset + 1] = APP15
    return bytes(renamed)


JPEG_DECODER, _decode_jpegs = _choose()


def decode_jpeg(data: bytes) -> Tensor:
    """A whole file -> (3, H, W) uint8 RGB as stored. Raises RuntimeError or ValueError for what it cannot decode."""
    return _decode_jpegs([data], "cpu")[0]
