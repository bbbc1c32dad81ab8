"""Read chosen pieces of a file as one file, without copying them."""

import io
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, BinaryIO, cast

Piece = bytes | tuple[int, int]  # bytes as they are, or (offset, length) of the file
_BUFFER_BYTES = 1 << 16


def join_pieces(file: BinaryIO, pieces: Sequence[Piece], closes_file: bool = False) -> BinaryIO:
    """Return a seekable file whose content is the pieces one after the other.

    `file` must stay open, and nothing else may read it meanwhile. `closes_file`: closing the result
    closes it.
    """
    joined = _JoinedPieces(file, pieces, closes_file)
    return cast(BinaryIO, io.BufferedReader(joined, _BUFFER_BYTES))


class _JoinedPieces(io.RawIOBase):
    def __init__(self, file: BinaryIO, pieces: Sequence[Piece], closes_file: bool) -> None:
        self._closes_file = closes_file
        self._file, self._pieces = file, [piece for piece in pieces if _measure(piece)]
        self._starts = list(accumulate(map(_measure, self._pieces), initial=0))
        self._at = 0

    def close(self) -> None:
        if self._closes_file:
            self._file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError("negative seek position")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        if self._at >= self._starts[-1]:
            return 0
        number = bisect_right(self._starts, self._at) - 1
        piece, skipped = self._pieces[number], self._at - self._starts[number]
        n_bytes = min(len(buffer), _measure(piece) - skipped)

        if isinstance(piece, bytes):
            data = piece[skipped : skipped + n_bytes]
        else:
            self._file.seek(piece[0] + skipped)
            data = self._file.read(n_bytes)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _measure(piece: Piece) -> int:
    return len(piece) if isinstance(piece, bytes) else piece[1]
