"""A seekable remote file: each read requests a range of bytes."""

import io
from collections.abc import Callable
from typing import Any

MIN_REQUEST_BYTES = 1 << 20  # buffer size for `io.BufferedReader` around a `RangeFile`


class RangeFile(io.RawIOBase):
    """A raw, seekable binary file that calls a function for each range of bytes that is read."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        """Make a file that is positioned at its start.

        Args:
            read_range: (start, end) -> the bytes from `start` up to but excluding `end`.
            size: Length of the file in bytes.
        """
        self._read_range, self._size, self._position = read_range, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._read_up_to(min(self._position + len(buffer), self._size))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Read the rest by one request. The standard library would request 8 KB at a time."""
        return self._read_up_to(self._size)

    def _read_up_to(self, end: int) -> bytes:
        if end <= self._position:
            return b""
        data = self._read_range(self._position, end)
        self._position += len(data)
        return data
