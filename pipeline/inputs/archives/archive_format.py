"""What the kinds of archives have in common: the description of a member, and the operations on one
archive.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import RawIOBase
from typing import BinaryIO

NOT_A_FILE_OFFSET = -1  # the offset of a member that is no regular file by its archive's directory
MAX_SIZE = (1 << 63) - 1  # headers may claim more than a column of sizes can hold


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive's headers say of a member. None of it is trusted."""

    name: bytes
    offset: int  # what `ArchiveFormat.open` finds it by
    size: int  # bytes
    mtime_ns: int  # 0: unknown


@dataclass(frozen=True)
class ArchiveFormat:
    """One kind of archive.

    `list_members(file)` yields all members in the archive's order, from headers alone. Where the
    archive is damaged, it raises InputError after the members that come before the damage.

    `open_member(file, offset, size)` returns the member of that size whose headers begin at the
    offset, and its bytes as a file that closes `file`. It raises InputError for a member that must
    not be read.
    """

    name: str
    endings: tuple[str, ...]  # of file names
    list_members: Callable[[BinaryIO], Iterator[Member]]
    open_member: Callable[[BinaryIO, int, int], tuple[Member, BinaryIO]]


class FileSlice(RawIOBase):
    """A range of a file's bytes as a file of its own. Closing it closes the whole file."""

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
        """Return the bytes at the position, and advance it by their number."""
        self._file.seek(self._start + self._position)
        data = self._file.read(max_bytes)
        self._position += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()
