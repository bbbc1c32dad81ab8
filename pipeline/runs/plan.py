"""The frozen list of inputs, cut into shards.

The list is streamed from disk and never loaded as a whole.

`plan/part-NNNNNNNN.parquet` has what the source lists of each input, in the order of the keys.
One row group is one shard. `plan/plan.json` names the parts and is replaced last, so a plan is
complete or absent. Inputs that appear later become further parts: existing shards never change.
`plan_freezing.py` writes the plan.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import merge
from itertools import chain, groupby
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import ConfigError, RunDamaged
from pipeline.core.json_files import Types, check_object, read_json_object
from pipeline.core.types import Entry, Shard
from pipeline.runs.run_folder import RunFolder

# The source's own columns follow these.
PLAN_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("key", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("at", pa.int64()),
    ]
)
_PART_NAME = re.compile(r"plan/part-[0-9]+\.parquet")


@dataclass(frozen=True)
class PlanPart:
    """One file of the plan."""

    file: str  # below the run folder
    first_shard: int
    first_image_id: int
    shards: int
    images: int
    # Number of the source listing that the part comes from. Keys ascend across the parts of a
    # listing.
    listing: int = 0


_PART_TYPES: Mapping[str, Types] = {
    "file": str,
    "first_shard": int,
    "first_image_id": int,
    "shards": int,
    "images": int,
}
_PART_FIELDS = (*_PART_TYPES, "listing")


class Plan:
    """The planned images and the shards that they belong to."""

    def __init__(self, folder: RunFolder, parts: Iterable[PlanPart]) -> None:
        self.folder = folder
        self.parts = tuple(parts)
        self.n_images = sum(part.images for part in self.parts)
        self.n_shards = sum(part.shards for part in self.parts)

    def read_shard(self, shard_id: int) -> Shard:
        """Read the entries of one shard."""
        part = self.parts[bisect_right(self.parts, shard_id, key=attrgetter("first_shard")) - 1]
        with self._open(part) as file:
            table = file.read_row_group(shard_id - part.first_shard)
        return Shard(shard_id, table["image_id"][0].as_py(), tuple(read_entries(table)))

    def find_shard(self, image_id: int) -> Shard:
        """Read the shard that contains an image. Raises IndexError."""
        part = self.parts[bisect_right(self.parts, image_id, key=attrgetter("first_image_id")) - 1]
        end = part.first_image_id
        for shard_id, size in self.shard_sizes():
            if shard_id >= part.first_shard:
                end += size
                if image_id < end:
                    return self.read_shard(shard_id)
        raise IndexError(image_id)

    def find_input(self, image_id: int) -> Shard:
        """Return one input as a shard of its own, with the shard id that it has in the plan."""
        shard = self.find_shard(image_id)
        entry = shard.entries[image_id - shard.first_image_id]
        return Shard(shard.shard_id, image_id, (entry,))

    def shard_sizes(self) -> Iterator[tuple[int, int]]:
        """Yield (shard_id, number of images) of every shard.

        Reads the footers of the parts only.
        """
        for part in self.parts:
            with self._open(part) as file:
                sizes = [file.metadata.row_group(i).num_rows for i in range(part.shards)]
            for i, size in enumerate(sizes):
                yield part.first_shard + i, size

    def entries_by_key(self) -> Iterator[Entry]:
        """Yield every planned input in the order of the keys.

        Opens one part of each listing at a time.
        """
        listings = groupby(self.parts, key=attrgetter("listing"))
        streams = [chain.from_iterable(map(self._entries_of, list(parts))) for _, parts in listings]
        return merge(*streams, key=attrgetter("key"))

    def entries_by_id(self) -> Iterator[Entry]:
        """Yield every planned input in the order of image_id."""
        for part in self.parts:
            yield from self._entries_of(part)

    def _entries_of(self, part: PlanPart) -> Iterator[Entry]:
        with self._open(part) as file:
            for i in range(part.shards):
                yield from read_entries(file.read_row_group(i))

    @contextmanager
    def _open(self, part: PlanPart) -> Iterator[pq.ParquetFile]:
        """Open a part. Raises RunDamaged if it is not what a run writes, now or when it is read."""
        path = self.folder.local(part.file)
        try:
            with pq.ParquetFile(path) as file:
                _check_part(file, part)
                yield file
        except (pa.ArrowException, ValueError, FileNotFoundError, IsADirectoryError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunDamaged(f"{path} is damaged: {reason}. Restore the file.") from None


def load_plan(folder: RunFolder) -> Plan:
    """Read the plan of a run. The plan has no parts if none is written yet.

    Raises:
        ConfigError: plan.json names files that no run writes. This check keeps a foreign run from
            naming files outside its folder.
    """
    path = folder.local("plan/plan.json")
    listed = read_json_object(path, {"parts": list})["parts"] if path.is_file() else []
    for part in listed:
        check_object(part, _PART_TYPES, f"{path}, parts")
    parts = [PlanPart(**{name: part.get(name, 0) for name in _PART_FIELDS}) for part in listed]
    n_shards = n_images = 0
    for part in parts:
        found = part.first_shard, part.first_image_id, min(part.shards, part.images) > 0
        if found != (n_shards, n_images, True) or not isinstance(part.listing, int):
            raise RunDamaged(f"{path} is damaged: the numbers of {part.file!r} are not possible.")
        n_shards, n_images = n_shards + part.shards, n_images + part.images
        if not _PART_NAME.fullmatch(part.file):
            raise ConfigError(
                f"{path}: expected parts called plan/part-00000000.parquet, got {part.file!r}; no "
                "run wrote it."
            )
    return Plan(folder, parts)


def _check_part(file: pq.ParquetFile, part: PlanPart) -> None:
    """Raise ValueError if a part has not the columns and the rows that it should have."""
    own = file.schema_arrow.remove_metadata()
    if own.names[: len(PLAN_SCHEMA)] != PLAN_SCHEMA.names or not all(
        own.field(i).type == field.type for i, field in enumerate(PLAN_SCHEMA)
    ):
        raise ValueError(f"its columns are {', '.join(own.names)}")
    if (file.num_row_groups, file.metadata.num_rows) != (part.shards, part.images):
        raise ValueError(f"it has {file.metadata.num_rows} rows, plan.json says {part.images}")


def make_plan_table(entries: Sequence[Entry], first_image_id: int, schema: pa.Schema) -> pa.Table:
    """Return the rows of one shard's inputs, whose image ids are consecutive."""
    rows = [
        (first_image_id + i, entry.key, entry.size, entry.mtime_ns, entry.offset, *entry.carried)
        for i, entry in enumerate(entries)
    ]
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)], schema=schema
    )


def read_entries(table: pa.Table) -> Iterator[Entry]:
    """Yield the inputs of plan rows."""
    columns = (column.to_pylist() for column in table.columns[1:])
    for key, size, mtime_ns, offset, *carried in zip(*columns, strict=True):
        yield Entry(key, size, mtime_ns, tuple(carried), offset)
