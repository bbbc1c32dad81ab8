"""List the files below a folder of a store in the order of their names, in bounded memory."""

import weakref
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import pyarrow as pa

from pipeline.core.passed_over import PassedOver, is_passed_over_name
from pipeline.storage.external_sort import SortedRows
from pipeline.storage.object_client import ObjectClient, read_modified_ns

# The path of a file below the folder, and its info as `ObjectClient.read_info` returns it.
NamedInfo = tuple[str, dict[str, Any]]
_SCHEMA = pa.schema([("name", pa.string()), ("size", pa.int64()), ("modified_ms", pa.int64())])
_ROWS_AT_ONCE = 10_000


class OrderedListing:
    """The files below a folder, in the order of their names' code points.

    A store that lists in this order is read page by page, as far as it is needed. The names of any
    other store are sorted first, in a temporary file. A store whose driver has no pages is read
    folder by folder.
    """

    def __init__(self, remote: ObjectClient, passed_over: PassedOver) -> None:
        self._remote, self._passed_over = remote, passed_over
        self._is_web = remote.address.scheme in ("http", "https")
        self._unread: SortedRows | None = None  # a sorted listing that was not read to its end

    def __iter__(self) -> Iterator[NamedInfo]:
        """List the store.

        A sorted listing that was not read to its end is read again instead, because a run asks
        whether there is any file before it asks for all of them.
        """
        if self._unread:
            yield from self._read_sorted(self._unread)
            return

        root = self._remote.root
        pages = self._remote.list_recursively(root)
        if pages is None:
            yield from self._walk(root, "")
            return

        prefix = f"{root}/".partition("/")[2]
        first = next(pages)
        named = (
            (path.removeprefix(prefix), info)
            for page in chain([first], pages)
            for path, info in page.objects
        )
        yield from named if first.is_sorted else self._read_sorted(self._sort(named))

    def _sort(self, named: Iterable[NamedInfo]) -> SortedRows:
        rows = SortedRows(_SCHEMA)
        weakref.finalize(self, rows.close)
        waiting = iter(named)
        while chunk := list(islice(waiting, _ROWS_AT_ONCE)):
            columns = zip(
                *((name, info["size"], read_modified_ns(info) // 10**6) for name, info in chunk),
                strict=True,
            )
            rows.add(pa.table([list(column) for column in columns], schema=_SCHEMA))
        rows.finish()
        return rows

    def _read_sorted(self, rows: SortedRows) -> Iterator[NamedInfo]:
        self._unread = rows
        for name, size, modified_ms in rows:
            yield name, {"size": size, "mtime": modified_ms / 1000}
        self._unread = None
        rows.close()

    def _walk(self, folder: str, prefix: str) -> Iterator[NamedInfo]:
        """Yield all files below a folder, depth first in the order of their names."""
        infos = {}
        for info in self._remote.list_folder(folder):
            path = str(info["name"])
            name = (
                path.rstrip("/").removeprefix(f"{folder}/".lstrip("/")).removeprefix(f"{folder}/")
            )
            # The links of a web page may lead anywhere. Keep those to its own files and folders.
            leads_elsewhere = self._is_web and ("?" in name or "#" in name)
            if name and "/" not in name and not leads_elsewhere:
                is_folder = info["type"] == "directory" or path.endswith("/")
                infos[name + "/" * is_folder] = info

        for name, info in sorted(infos.items()):
            if name.endswith("/") and is_passed_over_name(name[:-1], is_folder=True):
                self._passed_over.add(prefix + name)
            elif name.endswith("/"):
                yield from self._walk(f"{folder}/{name[:-1]}", prefix + name)
            else:
                yield prefix + name, info
