"""List the images in archives from the headers, and read them in place without extracting them.

Opening a member reads its headers again and checks them. So a plan needs to record only where the
member begins.
"""

from collections.abc import Iterator
from operator import itemgetter
from typing import BinaryIO

import pyarrow as pa

from pipeline.core.passed_over import PassedOver, find_generated_folder, is_passed_over
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
    # the member's name in the archive; null in the row of a damaged archive
    make_carried_field("member", pa.string()),
)
# Limit of the memory in which the images of one archive are sorted. It is enough for about 2
# million images with names of usual length.
_MAX_SORTED_BYTES = 1 << 30
_MEMBER_BYTES = 400  # memory that one member takes in addition to its names


class ArchiveMembers:
    """Lists and opens the images in the archives below a folder, or in one archive.

    Keys are `<path of the archive>/<label of the member>`. A damaged archive is an additional input
    with the key `<path of the archive>/`. Its members that can be listed are inputs as usual.
    """

    def __init__(self, root: str, archive_format: ArchiveFormat) -> None:
        suffixes = {ending[ending.rindex(".") :] for ending in archive_format.endings}
        self.format = archive_format
        self.listing = open_listing(root, suffixes, f"{archive_format.name} archives", below=True)
        self.passed_over = self.listing.passed_over  # of the last listing
        self._problems: dict[str, InputError] = {}  # archive's key -> problem found while listing

    def entries(self) -> Iterator[Entry]:
        """Yield the images of all archives, sorted by key."""
        endings = (*self.format.endings, "/")  # "/" lets folders pass that cannot be listed
        for archive in self.listing.entries():
            if archive.key.casefold().endswith(endings):
                yield from self._list_entries(archive)

    def _list_entries(self, archive: Entry) -> Iterator[Entry]:
        images, problem = self._list_images(archive.key, self.passed_over)
        if problem:
            self._problems[archive.key] = problem
            yield Entry(f"{archive.key}/", archive.size, archive.mtime_ns, (archive.key, None))

        for label, member in images:
            carried = (archive.key, decode_name(member.name))
            key = f"{archive.key}/{label}"
            yield Entry(key, member.size, member.mtime_ns, carried, member.offset)

    def _list_images(
        self, archive: str, passed_over: PassedOver
    ) -> tuple[list[tuple[str, Member]], InputError | None]:
        """List the images of one archive.

        Args:
            archive: Key of the archive.
            passed_over: Counts what is passed over.

        Returns:
            (label, member) of each image, sorted by label; and the problem of a damaged archive, or
            None.
        """
        images: list[tuple[str, Member]] = []
        problem, n_bytes, labels = None, 0, MemberLabels()
        generated: set[str] = set()  # folders in the archive
        try:
            with self.listing.open(archive) as file:
                for member in self.format.list_members(file):
                    name = _make_path(member)
                    folder = find_generated_folder(name)
                    generated.update(() if folder is None else (folder,))
                    if not is_image(member.name):
                        continue
                    if is_passed_over(name):
                        passed_over.add(f"{archive}/{name}")
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

        if generated:
            for folder in generated:
                passed_over.add(f"{archive}/{folder}")
            inside = tuple(generated)
            images = [image for image in images if not _make_path(image[1]).startswith(inside)]
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
        """Return the archive and the member's name from the carried values of a planned entry.

        The values are checked, because a forged plan could name any file. The name is None in the
        entry of a damaged archive.
        """
        if len(entry.carried) == len(ARCHIVE_COLUMNS) and entry.offset >= NOT_A_FILE_OFFSET:
            archive, name = entry.carried
            if isinstance(archive, str) and entry.key.startswith(f"{archive}/"):
                return archive, name
        raise InputError(
            Status.UNREADABLE, "the plan names no archive that it is in; no run made it"
        )

    def _find_problem(self, archive: str) -> InputError:
        """Return the problem of a damaged archive.

        Each call returns a new error object, because several threads may raise it.
        """
        problem = self._problems.get(archive) or self._list_images(archive, PassedOver())[1]
        if problem is None:
            return InputError(
                Status.CHANGED, "the archive was damaged when the plan was made, and is not now"
            )
        return InputError(problem.status, str(problem))


def _make_path(member: Member) -> str:
    """Return a member's name with `/` between the parts, also if Windows programs packed it."""
    return decode_name(member.name).replace("\\", "/")
