"""Diagnose why a decoder refused an image file: find its format and whether it is truncated.

The diagnosis determines statuses and messages only, never pixels.
"""

import io

from PIL import UnidentifiedImageError

from pipeline.core.types import InputError, Status
from pipeline.inputs.decoding.formats import HEIF, IMAGE_FORMATS, JPEG_XL
from pipeline.inputs.decoding.jpeg_segments import EOI, SOS, iterate_segments
from pipeline.inputs.decoding.optional_formats import OPTIONAL_FORMATS

DIAGNOSED_BYTES = 64 << 20  # a diagnosis reads at most this many bytes from a file's beginning

_SIGNATURES = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"%!PS", "EPS"),
    (b"8BPS", "PSD"),
    (b"SIMPLE", "FITS"),
    (b"%PDF", "PDF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", JPEG_XL),
    (b"\0\0\0\x0cJXL ", JPEG_XL),
    (b"\0\0\1\0", "ICO"),
    (b"<svg", "SVG"),
)
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")


def diagnose_failure(data: bytes, error: Exception) -> InputError:
    """Return an InputError with the status and message for a file that a decoder refused.

    Args:
        data: The file, or its beginning.
        error: The decoder's error.
    """
    if isinstance(error, MemoryError):
        return InputError(Status.OUT_OF_MEMORY, "not enough memory to decode it")

    name = guess_format(data)
    if name is None:
        return InputError(
            Status.UNSUPPORTED,
            f"the content is no known image format (begins with {data[:8].hex(' ')})",
        )
    if name not in IMAGE_FORMATS and name not in OPTIONAL_FORMATS:
        return InputError(
            Status.UNSUPPORTED,
            f"{name} files are not decoded; supported: {', '.join(IMAGE_FORMATS)}",
        )

    # Pillow's text of this error names a BytesIO object, which helps nobody
    is_unidentified = isinstance(error, UnidentifiedImageError)
    reason = "its header cannot be read" if is_unidentified else str(error) or type(error).__name__
    if name == "TIFF" and is_unidentified and not is_truncated(data, name):
        return InputError(
            Status.UNSUPPORTED,
            "TIFF: pixels of a kind that is not decoded (e.g. float RGB, five channels)",
        )

    ends_early = len(data) < DIAGNOSED_BYTES and is_truncated(data, name)
    if ends_early or "truncated" in reason.casefold():
        return InputError(
            Status.TRUNCATED, f"{name} ends too early after {len(data)} bytes: {reason}"
        )
    return InputError(Status.CORRUPT, f"{name}: {reason}")


def guess_format(data: bytes) -> str | None:
    """Return the name of the format that begins with these bytes, or None if none does.

    The beginning of a signature counts as a match, because a file can be cut within its signature.
    """
    if not data:
        return None
    if _matches(data[:4], b"RIFF") and _matches(data[8:12], b"WEBP"):
        return "WEBP"
    for signature, name in _SIGNATURES:
        if _matches(data[: len(signature)], signature):
            return name
    if _matches(data[4:8], b"ftyp") and data[:2] == b"\0\0":
        return _guess_by_brands(data)
    if data[:1] == b"P" and data[1:2] in b"123456" and (len(data) < 3 or data[2:3].isspace()):
        return "PPM"
    return None


def _guess_by_brands(data: bytes) -> str:
    """Return the format of a file that begins with a box `ftyp`, by the brands in it."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(size, len(data)) - 3, 4))]
    if any(_matches(brand, known) for brand in brands for known in _AVIF_BRANDS):
        return "AVIF"
    return HEIF if any(brand in _HEIF_BRANDS for brand in brands) else "MP4 or QuickTime video"


def _matches(data: bytes, signature: bytes) -> bool:
    """Return whether the data begins with the signature, or ends within it."""
    return signature.startswith(data)


def is_truncated(data: bytes, name: str) -> bool:
    """Return whether the file ends before its format's structure is complete."""
    if name == "JPEG":
        return _is_jpeg_truncated(data)
    if name == "PNG":
        return _is_png_truncated(data)
    if name == "WEBP":
        return len(data) < 12 or len(data) < 8 + int.from_bytes(data[4:8], "little")
    if name == "BMP":
        return len(data) < 54 or len(data) < int.from_bytes(data[2:6], "little")
    if name == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    return len(data) < 16


def _is_jpeg_truncated(data: bytes) -> bool:
    """Return whether a segment extends past the file's end, or no end marker follows the scan."""
    last = None
    for last in iterate_segments(io.BytesIO(data)):  # noqa: B007 - only the last one counts
        pass
    if last is None:
        return len(data) < 6

    if last.marker == SOS:
        return data.find(bytes((0xFF, EOI)), last.offset) < 0
    # In all other cases the iteration stopped at damage within the file.
    return last.marker != EOI and last.end + 4 > len(data)


def _is_png_truncated(data: bytes) -> bool:
    """Return whether a chunk (ISO/IEC 15948, 5.3) extends past the end, or IEND is missing."""
    at = 8
    while at + 12 <= len(data):
        length, chunk_type = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if chunk_type == b"IEND":
            return False
        if length > 0x7FFFFFFF or not chunk_type.isalpha():
            return False  # no chunk begins here: the file is damaged, not cut
        at += 12 + length
    return True
