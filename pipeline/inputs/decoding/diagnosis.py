"""What a file that cannot be decoded was meant to be, and whether its end is missing. For messages and statuses only."""

from pipeline.inputs.decoding.jpeg import EOI, SOS, iterate_segments

_MAGIC = (
    (b"\xff\xd8", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"%!PS", "EPS"),
    (b"8BPS", "PSD"),
    (b"SIMPLE", "FITS"),
    (b"%PDF", "PDF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\1\0", "ICO"),
    (b"<svg", "SVG"),
)


def guess_format(data: bytes) -> str | None:
    """The format's name by its first bytes, or None. A prefix of a signature counts: a file can be cut within it."""
    if not data:
        return None
    if _agrees(data[:4], b"RIFF") and _agrees(data[8:12], b"WEBP"):
        return "WEBP"
    for magic, name in _MAGIC:
        if _agrees(data[: len(magic)], magic):
            return name
    if _agrees(data[4:8], b"ftyp") and data[:2] == b"\0\0":
        return (
            "AVIF"
            if any(_agrees(data[8:12], brand) for brand in (b"avif", b"avis", b"mif1"))
            else "HEIF or video"
        )
    if data[:1] == b"P" and data[1:2] in b"123456" and (len(data) < 3 or data[2:3].isspace()):
        return "PPM"
    return None


def _agrees(data: bytes, magic: bytes) -> bool:
    """Equal as far as the data goes."""
    return magic.startswith(data)


def is_truncated(data: bytes, kind: str) -> bool:
    """True when the file ends before the structure of its format does."""
    if kind == "JPEG":
        return _jpeg_is_cut(data)
    if kind == "PNG":
        return _png_is_cut(data)
    if kind == "WEBP":
        return len(data) < 12 or len(data) < 8 + int.from_bytes(data[4:8], "little")
    if kind == "BMP":
        return len(data) < 54 or len(data) < int.from_bytes(data[2:6], "little")
    if kind == "GIF":
        return not data.rstrip(b"\0").endswith(b";")
    return len(data) < 16


def _jpeg_is_cut(data: bytes) -> bool:
    """Cut when the segments run past the end of the file, or no end marker follows the scan."""
    at, marker = 0, 0
    for at, marker in iterate_segments(data):  # noqa: B007 - the last one counts
        pass
    if marker == SOS:
        return data.find(bytes((0xFF, EOI)), at) < 0
    if marker == EOI:
        return False
    length = int.from_bytes(data[at + 2 : at + 4], "big") if at else 0
    return at + 2 + length + 4 > len(data)  # else the walk stopped at damage within the file


def _png_is_cut(data: bytes) -> bool:
    """Walk the chunks (ISO/IEC 15948, 5.3): cut when one runs past the end or IEND never comes."""
    at = 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"IEND":
            return False
        if length > 0x7FFFFFFF or not data[at + 4 : at + 8].isalpha():
            return False  # not a chunk: damaged, not cut
        at += 12 + length
    return True
