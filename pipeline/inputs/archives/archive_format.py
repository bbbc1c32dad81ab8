"""The interface of an archive format: the description of a member, and the operations on one
archive.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import BinaryIO

NOT_A_FILE_OFFSET = -1  # offset of a member that the directory does not list as a regular file
MAX_SIZE = (1 << 63) - 1  # headers may claim more than an int64 column can hold


@dataclass(frozen=True, slots=True)
class Member:
    """Description of a member by the archive's headers. The values are not verified."""

    name: bytes
    offset: int  # position of its first header, for `ArchiveFormat.open_member`
    size: int  # bytes
    mtime_ns: int  # 0: unknown


@dataclass(frozen=True)
class ArchiveFormat:
    """One archive format, such as tar or zip.

    `list_members(file)` yields all members in the order of the archive. It reads only headers. If
    the archive is damaged, it yields the members before the damage and then raises InputError.

    `open_member(file, offset, size)` returns the member of `size` bytes whose headers begin at
    `offset`, and a file of the member's bytes. Closing this file closes `file`, too. It raises
    InputError if the member must not be read.
    """

    name: str
    endings: tuple[str, ...]  # endings of the archives' file names
    list_members: Callable[[BinaryIO], Iterator[Member]]
    open_member: Callable[[BinaryIO, int, int], tuple[Member, BinaryIO]]


class FileSlice(RawIOBase):
    """A file that contains a range of another file's bytes. Closing it closes the other file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._position = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        origin = (0, self._position, self._size)[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.read_next(min(len(buffer), max(0, self._size - self._position)))
        buffer[: len(data)] = data
        return len(data)

    def read_next(self, max_bytes: int) -> bytes:
        """Return at most `max_bytes` bytes from the current position, and move behind them."""
        self._file.seek(self._start + self._position)
        data = self._file.read(max_bytes)
        self._position += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
