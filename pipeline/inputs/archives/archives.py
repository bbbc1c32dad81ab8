"""Archives as collections: the images among the members of tar or zip files, listed from headers and read in place.

Nothing is ever extracted. A member's name is a label: it becomes the end of a key, never a path that is opened. What is
wrong with a member is said when it is opened, from the same headers, so a plan needs no more than where it begins.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from io import RawIOBase
from operator import itemgetter
from typing import BinaryIO

import pyarrow as pa

from pipeline.core.keys import fit_name, path_to_key, read_suffix
from pipeline.core.schema import make_carried_field
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.decoding.image import IMAGE_SUFFIXES
from pipeline.storage.listing import open_listing

ARCHIVE_COLUMNS = (
    make_carried_field("archive", pa.string()),  # path below the input folder
    make_carried_field(
        "member", pa.string()
    ),  # its name in the archive; null in the row of an archive that is damaged
)
NOWHERE = -1  # where a member begins that only its archive's directory knows to be no file
LARGEST = (1 << 63) - 1  # headers may claim more than a column of sizes holds
# The images of one archive are in memory while they are sorted: about 2 million with usual names.
_MOST_HELD, _HELD_EACH = 1 << 30, 400  # bytes; of one member beside its names (measured)
_LONGEST_NAME = 4096  # bytes of a name that are kept: what systems take for a path
_LONGEST_PART, _LONGEST_LABEL = (
    200,
    1000,
)  # bytes; so that pictures' names, which are longer, fit a file system
_DRIVE = re.compile(rb"[A-Za-z]:[/\\]")


@dataclass(frozen=True, slots=True)
class Member:
    """What an archive's headers say of a member. None of it is trusted."""

    name: bytes
    at: int  # what `Kind.open` finds it by
    size: int  # bytes
    mtime_ns: int  # 0: not known


@dataclass(frozen=True)
class ArchiveFormat:
    """A kind of archive. `members(file)`: all of them, in the archive's order, from headers alone; raises InputError where
    the archive is damaged, after what comes before. `open(file, at, size)`: the member that begins there and is of that
    size, and its bytes as a file that closes the other one; raises InputError for one that is not to be read."""

    name: str
    endings: tuple[str, ...]  # of files' names
    members: Callable[[BinaryIO], Iterator[Member]]
    open: Callable[[BinaryIO, int, int], tuple[Member, BinaryIO]]


class Archives:
    """Keys are `<the archive's path>/<the member's name>`. An archive that is damaged has a row of its own with the key
    `<the archive's path>/`; the members that are there have theirs besides."""

    def __init__(self, given: str, kind: ArchiveFormat) -> None:
        suffixes = {ending[ending.rindex(".") :] for ending in kind.endings}
        self.kind, self.listing = (
            kind,
            open_listing(given, suffixes, f"{kind.name} archives", below=True),
        )
        self._problems: dict[str, InputError] = {}  # what listing has found, by the archive's key

    def entries(self) -> Iterator[Entry]:
        for archive in self.listing.entries():
            if archive.key.casefold().endswith(
                (*self.kind.endings, "/")
            ):  # "/": a folder that cannot be listed
                yield from self._entries_of(archive)

    def _entries_of(self, archive: Entry) -> Iterator[Entry]:
        found, problem = self._list(archive.key)
        if problem:
            self._problems[archive.key] = problem
            yield Entry(f"{archive.key}/", archive.size, archive.mtime_ns, (archive.key, None))
        for label, member in found:
            carried = (archive.key, _text(member.name))
            yield Entry(f"{archive.key}/{label}", member.size, member.mtime_ns, carried, member.at)

    def _list(self, archive: str) -> tuple[list[tuple[str, Member]], InputError | None]:
        """(label, member) of its images, sorted; and what is wrong with it."""
        found: list[tuple[str, Member]] = []
        problem, held, labels = None, 0, MemberLabels()
        try:
            with self.listing.open(archive) as file:
                for member in self.kind.members(file):
                    if not is_image(member.name):
                        continue
                    label = labels.of(member.name)
                    held += _HELD_EACH + len(label) + len(member.name)
                    if held > _MOST_HELD:
                        said = f"too many members to be sorted; the first {len(found):,} images are read, split the archive"
                        raise InputError(Status.TOO_LARGE, said)
                    found.append((label, member))
        except InputError as error:
            problem = error
        except OSError as error:
            problem = InputError(Status.UNREADABLE, error.strerror or str(error))
        return sorted(found, key=itemgetter(0)), problem

    def open(self, entry: Entry) -> BinaryIO:
        """A member's bytes, as a file that can be searched in. Raises InputError and OSError."""
        archive, name = (
            entry.carried if len(entry.carried) == len(ARCHIVE_COLUMNS) else (None, None)
        )
        if (
            not entry.key.startswith(f"{archive}/") or entry.offset < NOWHERE
        ):  # who made up the plan might name any file
            raise InputError(
                Status.UNREADABLE, "the plan names no archive that it is in; no run made it"
            )
        if name is None:
            raise self._problem(archive)
        file = self.listing.open(archive)
        try:
            member, contents = self.kind.open(file, entry.offset, entry.size or 0)
            if (_text(member.name), member.size) != (name, entry.size):
                said = f"at byte {entry.offset} the archive has {_text(member.name)!r} of {member.size} bytes now"
                raise InputError(Status.CHANGED, said)
            if leads_outside(member.name):
                raise InputError(
                    Status.UNREADABLE,
                    f"its name {name!r} leads out of the archive; such members are not read",
                )
        except BaseException:
            file.close()
            raise
        return contents

    def _problem(self, archive: str) -> InputError:
        known = self._problems.get(archive) or self._list(archive)[1]
        if known is None:
            return InputError(
                Status.CHANGED, "the archive was damaged when the plan was made, and is not now"
            )
        return InputError(known.status, str(known))  # several threads may raise it


class FileSlice(RawIOBase):
    """Bytes of a file as a file of their own, which closes the other one."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self._file, self._start, self._size, self._at = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self.next_bytes(min(len(buffer), max(0, self._size - self._at)))
        buffer[: len(data)] = data
        return len(data)

    def next_bytes(self, most: int) -> bytes:
        self._file.seek(self._start + self._at)
        data = self._file.read(most)
        self._at += len(data)
        return data

    def close(self) -> None:
        self._file.close()
        super().close()


class MemberLabels:
    """A label for each member of an archive, never the same for two. A name that comes again gets a number: a~2.jpg."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}  # label -> how often it was asked for

    def of(self, name: bytes) -> str:
        label = wanted = make_label(name)
        stem, dot, suffix = wanted.rpartition(".")
        while label in self._given:
            self._given[wanted] += 1
            label = f"{stem}~{self._given[wanted]}{dot}{suffix}"
        self._given[label] = 1
        return label


def make_label(name: bytes) -> str:
    """A member's name as the end of a key: a path below the archive's own, whatever it was. Escaped as all names are (see
    `keys.py`), `..` and NUL as in addresses; long parts are cut. A folder that is named like an image gets a `~`, so that a
    file and a folder never have one place among a run's pictures."""
    *folders, last = [_part(part) for part in _parts(name[-_LONGEST_NAME:])] or ["%"]
    label = "/".join(
        (*(folder + "~" * (read_suffix(folder) in IMAGE_SUFFIXES) for folder in folders), last)
    )
    return (
        label
        if len(label.encode()) <= _LONGEST_LABEL
        else f"{blake2b(name, digest_size=8).hexdigest()}/{last}"
    )


def is_image(name: bytes) -> bool:
    """By its suffix, a folder too."""
    return bool(parts := _parts(name)) and read_suffix(os.fsdecode(parts[-1])) in IMAGE_SUFFIXES


def leads_outside(name: bytes) -> bool:
    """Whether a program that extracts the member could write elsewhere than below its folder, on any system."""
    parts = name.replace(b"\\", b"/").split(b"/")
    return b".." in parts or parts[0] == b"" or _DRIVE.match(name) is not None


def _parts(name: bytes) -> list[bytes]:
    return [part for part in name.split(b"/") if part not in (b"", b".")]


def _part(name: bytes) -> str:
    text = "%2E%2E" if name == b".." else _text(name).replace("\0", "%00")
    suffix = read_suffix(text)
    suffix = suffix if suffix in IMAGE_SUFFIXES else ""
    return fit_name(text[: len(text) - len(suffix)], text[len(text) - len(suffix) :], _LONGEST_PART)


def _text(name: bytes) -> str:
    return path_to_key(os.fsdecode(name[-_LONGEST_NAME:]))
