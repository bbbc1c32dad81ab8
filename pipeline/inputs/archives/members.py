"""The images among the members of archives: listed from headers, read in place, never extracted.

What is wrong with a member is found when it is opened, from the same headers. So a plan needs to
record only where the member begins.
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import BinaryIO

import pyarrow as pa

from pipeline.core.schema import make_carried_field
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.archives.archive_format import NOT_A_FILE_OFFSET, ArchiveFormat, Member
from pipeline.inputs.archives.member_labels import (
    MemberLabels,
    decode_name,
    is_image,
    leads_outside,
)
from pipeline.storage.listing import open_listing

ARCHIVE_COLUMNS = (
    make_carried_field("archive", pa.string()),  # path below the input folder
    # its name in the archive; null in the row of a damaged archive
    make_carried_field("member", pa.string()),
)
# The images of one archive are in memory while they are sorted: about 2 million with usual names.
_MAX_SORTED_BYTES = 1 << 30
_MEMBER_BYTES = 400  # of memory for one member, beside its names


class ArchiveMembers:
    """Lists and opens the images in the archives below a folder, or in one archive.

    Keys are `<the archive's path>/<the member's label>`. A damaged archive gets a row of its own
    with the key `<the archive's path>/`, beside the rows of the members that can be listed.
    """

    def __init__(self, root: str, archive_format: ArchiveFormat) -> None:
        suffixes = {ending[ending.rindex(".") :] for ending in archive_format.endings}
        self.format = archive_format
        self.listing = open_listing(root, suffixes, f"{archive_format.name} archives", below=True)
        self._problems: dict[str, InputError] = {}  # by the archive's key, found while listing

    def entries(self) -> Iterator[Entry]:
        """Yield the images of all archives, sorted by key."""
        endings = (*self.format.endings, "/")  # "/": a folder that cannot be listed
        for archive in self.listing.entries():
            if archive.key.casefold().endswith(endings):
                yield from self._list_entries(archive)

    def _list_entries(self, archive: Entry) -> Iterator[Entry]:
        images, problem = self._list_images(archive.key)
        if problem:
            self._problems[archive.key] = problem
            yield Entry(f"{archive.key}/", archive.size, archive.mtime_ns, (archive.key, None))

        for label, member in images:
            carried = (archive.key, decode_name(member.name))
            key = f"{archive.key}/{label}"
            yield Entry(key, member.size, member.mtime_ns, carried, member.offset)

    def _list_images(self, archive: str) -> tuple[list[tuple[str, Member]], InputError | None]:
        """Return (label, member) of the archive's images, sorted, and what is wrong with the
        archive.
        """
        images: list[tuple[str, Member]] = []
        problem, n_bytes, labels = None, 0, MemberLabels()
        try:
            with self.listing.open(archive) as file:
                for member in self.format.list_members(file):
                    if not is_image(member.name):
                        continue
                    label = labels.add(member.name)
                    n_bytes += _MEMBER_BYTES + len(label) + len(member.name)
                    if n_bytes > _MAX_SORTED_BYTES:
                        raise InputError(
                            Status.TOO_LARGE,
                            f"too many members to be sorted; the first {len(images):,} images are "
                            "read, split the archive",
                        )
                    images.append((label, member))
        except InputError as error:
            problem = error
        except OSError as error:
            problem = InputError(Status.UNREADABLE, error.strerror or str(error))
        return sorted(images, key=itemgetter(0)), problem

    def open(self, entry: Entry) -> BinaryIO:
        """Open a member's bytes as a seekable file. Raises InputError and OSError."""
        archive, name = self._check_planned(entry)
        if name is None:
            raise self._find_problem(archive)

        file = self.listing.open(archive)
        try:
            member, contents = self.format.open_member(file, entry.offset, entry.size or 0)
            found = decode_name(member.name), member.size
            if found != (name, entry.size):
                raise InputError(
                    Status.CHANGED,
                    f"at byte {entry.offset} the archive has {found[0]!r} of {found[1]} bytes now",
                )
            if leads_outside(member.name):
                raise InputError(
                    Status.UNREADABLE,
                    f"its name {name!r} leads out of the archive; such members are not read",
                )
        except BaseException:
            file.close()
            raise
        return contents

    def _check_planned(self, entry: Entry) -> tuple[str, str | None]:
        """Return (archive, name of the member or None).

        A plan that no run made might name any file.
        """
        if len(entry.carried) == len(ARCHIVE_COLUMNS) and entry.offset >= NOT_A_FILE_OFFSET:
            archive, name = entry.carried
            if isinstance(archive, str) and entry.key.startswith(f"{archive}/"):
                return archive, name
        raise InputError(
            Status.UNREADABLE, "the plan names no archive that it is in; no run made it"
        )

    def _find_problem(self, archive: str) -> InputError:
        """Return what is wrong with a damaged archive, as a new error, because several threads may
        raise it.
        """
        problem = self._problems.get(archive) or self._list_images(archive)[1]
        if problem is None:
            return InputError(
                Status.CHANGED, "the archive was damaged when the plan was made, and is not now"
            )
        return InputError(problem.status, str(problem))
