"""Entries of the pages of TIFF files: `a.tif`, `a.tif#0002.tif` (`source.pages=all`)."""

from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa

from pipeline.core.keys import read_suffix
from pipeline.core.schema import make_carried_field
from pipeline.core.types import Entry, InputError
from pipeline.inputs.decoding.tiff_directory import count_pages
from pipeline.inputs.decoding.tiff_pages import open_page

PAGE_COLUMNS = (
    make_carried_field("file", pa.string()),  # path below the input folder
    make_carried_field("page", pa.int32()),  # from 1
)
_TIFF_SUFFIXES = (".tif", ".tiff")

OpenFile = Callable[[str], BinaryIO]


def expand_pages(files: Iterable[Entry], open_file: OpenFile) -> Iterator[Entry]:
    """Yield an entry for each page of each file, sorted by key. Other files have one page.

    The key of a first page is that of its file. The size of a page of several is not known.
    """
    pending: list[tuple[str, Entry]] = []
    for file in files:
        while pending and pending[0][0] < file.key:
            yield heappop(pending)[1]

        n_pages = _count_pages(file, open_file)
        size = file.size if n_pages == 1 else None
        yield Entry(file.key, size, file.mtime_ns, (file.key, 1), int(n_pages > 1))
        for number in range(2, n_pages + 1):
            key = file.key + _get_ending(file.key, number)
            entry = Entry(key, None, file.mtime_ns, (file.key, number), number)
            heappush(pending, (key, entry))
    while pending:
        yield heappop(pending)[1]


def open_page_entry(entry: Entry, open_file: OpenFile) -> BinaryIO:
    """Open a file, or a page of several as a file of its own. Raises InputError and OSError.

    `entry.offset` is the number of the page, from 1; 0 for a file of one page.
    """
    if not entry.offset:
        return open_file(entry.key)
    ending = _get_ending(entry.key, entry.offset) if entry.offset > 1 else ""
    file = open_file(entry.key.removesuffix(ending))
    try:
        return open_page(file, entry.offset - 1)
    except BaseException:
        file.close()
        raise


def _count_pages(file: Entry, open_file: OpenFile) -> int:
    """Return the pages of a TIFF file; 1 for any other, and for one that cannot be read."""
    if read_suffix(file.key) not in _TIFF_SUFFIXES:
        return 1
    try:
        with open_file(file.key) as opened:
            return count_pages(opened)
    except (InputError, OSError):
        return 1


def _get_ending(key: str, number: int) -> str:
    """Return what the key of a further page adds to that of its file.

    It ends with the file's suffix, so that copies of pages open in other programs.
    """
    return f"#{number:04d}{PurePosixPath(key).suffix}"
