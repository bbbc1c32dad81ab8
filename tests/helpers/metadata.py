"""Put metadata into image files, byte by byte: valid, broken and over-long."""

import struct
import zlib

JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"


def make_exif(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """The TIFF structure of an EXIF block with one tag. `kind`: 1 byte, 3 short, 4 long."""
    name = b"II" if order == "<" else b"MM"
    code = {1: "Bxxx", 3: "Hxx", 4: "I"}[kind]
    entry = struct.pack(f"{order}HHI{code}", 0x0112, kind, 1, orientation)
    return name + struct.pack(f"{order}HIH", 42, 8, 1) + entry + bytes(4)


def make_xmp(orientation: int, as_element: bool = False) -> bytes:
    value = (
        f"<tiff:Orientation>{orientation}</tiff:Orientation>"
        if as_element
        else f'<rdf:Description tiff:Orientation="{orientation}"/>'
    )
    return f'<x:xmpmeta xmlns:x="adobe:ns:meta/">{value}</x:xmpmeta>'.encode()


def make_raw_profile(name: bytes, content: bytes) -> bytes:
    """The text in which ImageMagick keeps a profile."""
    digits = content.hex().encode()
    lines = b"\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return b"\n" + name + b"\n%8d\n" % len(content) + lines + b"\n"


def make_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def insert_chunks(png: bytes, before: bytes = b"", behind: bytes = b"") -> bytes:
    """Put chunks before the first IDAT and behind the last."""
    first = png.index(b"IDAT") - 4
    return png[:first] + before + png[first:-12] + behind + png[-12:]


def insert_segments(jpeg: bytes, *segments: tuple[int, bytes]) -> bytes:
    """Put segments (marker, content) at the beginning of a JPEG file."""
    made = b"".join(
        bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content
        for marker, content in segments
    )
    return jpeg[:2] + made + jpeg[2:]


def make_extended_webp(webp: bytes, size: tuple[int, int], *chunks: tuple[bytes, bytes]) -> bytes:
    """A WebP file (width, height) with the chunk VP8X and further chunks behind the picture."""
    flags = sum({b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}.get(name, 0) for name, _ in chunks)
    width, height = (side - 1 for side in size)
    head = bytes([flags, 0, 0, 0]) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    at = webp.index(b"VP8", 12)
    body = b"WEBP" + _chunk(b"VP8X", head) + webp[at:]
    body += b"".join(_chunk(name, data) for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
