"""Write TIFF files of any kind, byte by byte, so that no library decides what a test holds."""

import struct
import zlib

import numpy as np

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
_SHORT, _LONG = 3, 4


def write_tiff(*pages: dict, order: str = "<", big: bool = False) -> bytes:
    """Return a file of these pages, each the arguments of `make_page`."""
    word, counter = ("Q", "Q") if big else ("I", "H")
    n_word, n_header = struct.calcsize(order + word), 16 if big else 8
    body, starts, links = b"", [], []
    for page in pages:
        tags, strips = make_page(order=order, **page)
        offsets = []
        for strip in strips:
            offsets.append(n_header + len(body))
            body += strip + b"\0" * (len(strip) % 2)
        place, sizes = (324, 325) if 322 in tags else (273, 279)
        tags[place], tags[sizes] = (_LONG, offsets), (_LONG, [len(strip) for strip in strips])

        starts.append(n_header + len(body))
        ifd_bytes = struct.calcsize(order + counter) + (4 + 2 * n_word) * len(tags)
        entries, values = b"", b""
        for tag, (kind, numbers) in sorted(tags.items()):
            data = _pack(kind, numbers, order)
            inline = data.ljust(n_word, b"\0")
            if len(data) > n_word:
                place = starts[-1] + ifd_bytes + n_word + len(values)
                inline = struct.pack(order + word, place)
                values += data + b"\0" * (len(data) % 2)
            entries += struct.pack(order + "HH" + word, tag, kind, len(numbers)) + inline
        links.append(starts[-1] + ifd_bytes)
        body += struct.pack(order + counter, len(tags)) + entries + bytes(n_word) + values

    name, magic = b"II" if order == "<" else b"MM", (43, 8, 0) if big else (42,)
    head = name + struct.pack(f"{order}{len(magic)}H{word}", *magic, starts[0])
    data = bytearray(head + body)
    for link, following in zip(links, starts[1:], strict=False):
        struct.pack_into(order + word, data, link, following)
    return bytes(data)


def _pack(kind: int, numbers: list[int] | bytes, order: str) -> bytes:
    if isinstance(numbers, bytes):
        return numbers
    return struct.pack(f"{order}{len(numbers)}{'I' if kind == _LONG else 'H'}", *numbers)


def make_page(
    samples: np.ndarray,
    photometric: int,
    *,
    bits: int | None = None,
    order: str = "<",
    planar: bool = False,
    deflate: bool = False,
    predictor: int = 1,
    tile: int | None = None,
    rows: int = 7,
    extra: tuple[int, ...] = (),
    tags: dict | None = None,
) -> tuple[dict, list[bytes]]:
    """Return the tags of a page, without those of its strips or tiles, and these.

    `samples`: (H, W, C) of the type that is stored; for fewer bits than that has, see `bits`.
    """
    height, width, channels = samples.shape
    depth = bits or 8 * samples.dtype.itemsize
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    found = {
        256: (_SHORT, [width]),
        257: (_SHORT, [height]),
        258: (_SHORT, [depth] * channels),
        259: (_SHORT, [8 if deflate else 1]),
        262: (_SHORT, [photometric]),
        277: (_SHORT, [channels]),
        284: (_SHORT, [2 if planar else 1]),
        317: (_SHORT, [predictor]),
        339: (_SHORT, [kind] * channels),
    }
    if extra:
        found[338] = (_SHORT, list(extra))
    found |= {322: (_SHORT, [tile]), 323: (_SHORT, [tile])} if tile else {278: (_SHORT, [rows])}

    planes = np.split(samples, channels, axis=2) if planar else [samples]
    blocks = [block for plane in planes for block in _cut(plane, tile, rows)]
    stored = [_store(block, depth, order, predictor) for block in blocks]
    return found | (tags or {}), [zlib.compress(one) if deflate else one for one in stored]


def _cut(plane: np.ndarray, tile: int | None, rows: int) -> list[np.ndarray]:
    height, width, _ = plane.shape
    if tile is None:
        return [plane[row : row + rows] for row in range(0, height, rows)]
    padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)), mode="edge")
    return [
        padded[row : row + tile, column : column + tile]
        for row in range(0, height, tile)
        for column in range(0, width, tile)
    ]


def _store(block: np.ndarray, bits: int, order: str, predictor: int) -> bytes:
    if bits not in (8, 16, 32, 64):
        shifts = np.arange(bits - 1, -1, -1)
        flat = block.reshape(len(block), -1, 1) >> shifts & 1
        return np.packbits(flat.reshape(len(block), -1).astype(np.uint8), axis=1).tobytes()
    if predictor == 2:
        block = np.diff(block, axis=1, prepend=np.zeros_like(block[:, :1]))
    if predictor == 3:
        big = np.ascontiguousarray(block.astype(block.dtype.newbyteorder(">")))
        parts = big.view(np.uint8).reshape(len(block), -1, block.dtype.itemsize)
        parts = np.swapaxes(parts, 1, 2).reshape(len(block), -1, block.shape[2])
        return np.diff(parts, axis=1, prepend=np.zeros_like(parts[:, :1])).tobytes()
    return np.ascontiguousarray(block.astype(block.dtype.newbyteorder(order))).tobytes()
