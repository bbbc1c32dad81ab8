"""The frozen list of inputs, cut into shards. On disk and streamed: never a list of paths in memory.

`plan/part-NNNNNNNN.parquet` holds key, size, modification time, place in its file and what else the source knows of each
input, in the order of the keys; one row group is one shard.
`plan/plan.json` names the parts and is replaced last, so a plan is whole or absent. Files that come later become further
parts: what was cut is never cut anew.
"""

import json
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from heapq import merge
from itertools import chain, groupby, islice
from operator import attrgetter

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import ConfigError, InputChanged, shorten_list
from pipeline.core.protocols import Source
from pipeline.core.shard_names import make_part_name
from pipeline.core.types import Entry, Shard
from pipeline.runs.run_folder import RunFolder

_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("key", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("at", pa.int64()),
    ]
)
_SHARDS_PER_PART = 1000  # bounds what a part's footer takes in memory
_NAME = re.compile(r"plan/part-[0-9]+\.parquet")  # of a part
_GONE = -1  # the size of an input whose absence was accepted


@dataclass(frozen=True)
class PlanPart:
    """One file of the plan."""

    file: str
    first_shard: int
    first_image_id: int
    shards: int
    images: int
    listing: int = 0  # the how-manieth gave it: the keys of one listing's parts follow one another


class Plan:
    """Index arithmetic over the parts: which images a shard holds."""

    def __init__(self, folder: RunFolder, parts: Iterable[PlanPart]) -> None:
        self.folder = folder
        self.parts = tuple(parts)
        self.n_images = sum(part.images for part in self.parts)
        self.n_shards = sum(part.shards for part in self.parts)

    def read_shard(self, shard_id: int) -> Shard:
        part = self.parts[bisect_right(self.parts, shard_id, key=attrgetter("first_shard")) - 1]
        with pq.ParquetFile(self.folder.local(part.file)) as file:
            table = file.read_row_group(shard_id - part.first_shard)
        return Shard(shard_id, table["image_id"][0].as_py(), tuple(_entries(table)))

    def find_shard(self, image_id: int) -> Shard:
        part = self.parts[bisect_right(self.parts, image_id, key=attrgetter("first_image_id")) - 1]
        before = part.first_image_id
        for shard_id, size in self.shard_sizes():
            if shard_id >= part.first_shard:
                if image_id < before + size:
                    return self.read_shard(shard_id)
                before += size
        raise IndexError(image_id)

    def find_input(self, image_id: int) -> Shard:
        """Return one input as a shard of its own, with the shard id that it has in the plan."""
        shard = self.find_shard(image_id)
        entry = shard.entries[image_id - shard.first_image_id]
        return Shard(shard.shard_id, image_id, (entry,))

    def shard_sizes(self) -> Iterator[tuple[int, int]]:
        """(shard_id, number of images) of every shard, from the footers alone."""
        for part in self.parts:
            metadata = pq.read_metadata(self.folder.local(part.file))
            for i in range(part.shards):
                yield part.first_shard + i, metadata.row_group(i).num_rows

    def entries_by_key(self) -> Iterator[Entry]:
        """Every planned input in the order of the keys. One part of each listing is open at a time."""
        listings = groupby(self.parts, key=attrgetter("listing"))
        each = [chain.from_iterable(map(self._entries_of, list(parts))) for _, parts in listings]
        return merge(*each, key=attrgetter("key"))

    def entries_by_id(self) -> Iterator[Entry]:
        """Every planned input in the order of image_id."""
        for part in self.parts:
            yield from self._entries_of(part)

    def _entries_of(self, part: PlanPart) -> Iterator[Entry]:
        with pq.ParquetFile(self.folder.local(part.file)) as file:
            for i in range(part.shards):
                yield from _entries(file.read_row_group(i))


@dataclass
class PlanDifference:
    """How the source differs from the plan: how many inputs it does not list, which are others now, which are gone."""

    new: int = 0
    changed: dict[str, Entry] = field(default_factory=dict)
    removed: dict[str, Entry] = field(default_factory=dict)


def load_plan(folder: RunFolder) -> Plan:
    """The plan on disk; an empty one when there is none yet. Raises ConfigError for parts that no run has."""
    path = folder.local("plan/plan.json")
    parts = (
        [PlanPart(**part) for part in json.loads(path.read_text())["parts"]]
        if path.is_file()
        else []
    )
    for part in parts:
        if not _NAME.fullmatch(
            part.file
        ):  # it may be somebody else's run, and lead out of its folder
            raise ConfigError(
                f"{path}: expected parts called plan/part-00000000.parquet, got {part.file!r}; no run wrote it."
            )
    return Plan(folder, parts)


def freeze_plan(
    folder: RunFolder, source: Source, shard_size: int, limit: int | None, accept_changes: bool
) -> Plan:
    """Write the plan, or add what the source has got since. Raises InputChanged, and ConfigError for an empty input."""
    plan = load_plan(folder)
    schema = pa.schema([*_SCHEMA, *source.columns])
    if not plan.parts:
        parts = _stage(plan, islice(source.entries(), limit), shard_size, schema)
        if not parts:
            raise ConfigError(describe_empty_input(source))
        return _publish(plan, parts)
    difference = PlanDifference()
    new = find_new_entries(plan.entries_by_key(), source.entries(), difference)
    room = None if limit is None else max(0, limit - plan.n_images)
    parts = _stage(plan, islice(new, room), shard_size, schema)
    deque(new, maxlen=0)  # to the end, for the differences
    if difference.changed or difference.removed:
        if not accept_changes:
            raise InputChanged(_describe(difference, folder))
        _record(plan, difference)
    return _publish(plan, parts)


def find_new_entries(
    planned: Iterable[Entry], listed: Iterable[Entry], difference: PlanDifference
) -> Iterator[Entry]:
    """Merge two streams sorted by key. Yields the entries that are not planned; fills in `difference` on the way."""
    old = iter(planned)
    expected = next(old, None)
    for entry in listed:
        while expected is not None and expected.key < entry.key:
            _note_removed(difference, expected)
            expected = next(old, None)
        if expected is None or entry.key < expected.key:
            difference.new += 1
            yield entry
            continue
        if entry != expected:
            difference.changed[entry.key] = entry
        expected = next(old, None)
    while expected is not None:
        _note_removed(difference, expected)
        expected = next(old, None)


def _note_removed(difference: PlanDifference, entry: Entry) -> None:
    if entry.size != _GONE:  # else its absence was accepted before
        difference.removed[entry.key] = entry


def _describe(difference: PlanDifference, folder: RunFolder) -> str:
    lines = [f"The input is not the one that {folder.path} was begun with."]
    if difference.changed:
        lines.append(f"  changed ({len(difference.changed)}): {shorten_list(difference.changed)}")
    if difference.removed:
        lines.append(f"  removed ({len(difference.removed)}): {shorten_list(difference.removed)}")
    lines.append(
        "Say changed=accept to keep the rows already written and go on, or output=ELSEWHERE to start afresh."
    )
    return "\n".join(lines)


def _record(plan: Plan, difference: PlanDifference) -> None:
    """Accept the differences: the plan lists the changed inputs as they are now, in their old places."""
    now = difference.changed | {
        key: replace(entry, size=_GONE, mtime_ns=0) for key, entry in difference.removed.items()
    }
    for part in plan.parts:
        staged = plan.folder.staging / part.file
        staged.parent.mkdir(parents=True, exist_ok=True)
        with (
            pq.ParquetFile(plan.folder.local(part.file)) as file,
            pq.ParquetWriter(staged, file.schema_arrow, compression="zstd") as writer,
        ):
            for i in range(part.shards):
                table = file.read_row_group(i)
                entries = [now.get(entry.key, entry) for entry in _entries(table)]
                rewritten = _table(entries, table["image_id"][0].as_py(), table.schema)
                writer.write_table(rewritten, row_group_size=len(entries))
        plan.folder.publish_file(part.file)


def _stage(
    plan: Plan, entries: Iterator[Entry], shard_size: int, schema: pa.Schema
) -> list[PlanPart]:
    """Write `entries` as further parts below the staging folder, where nobody looks for them yet."""
    parts: list[PlanPart] = []
    listing = plan.parts[-1].listing + 1 if plan.parts else 0
    first = next(entries, None)
    while first is not None:
        before = [*plan.parts, *parts]
        name = f"plan/{make_part_name(len(before))}"
        first_image_id = sum(part.images for part in before)
        staged = plan.folder.staging / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        shards = images = 0
        shard = [first]
        with pq.ParquetWriter(staged, schema, compression="zstd") as writer:
            while shard and shards < _SHARDS_PER_PART:
                shard += islice(entries, shard_size - len(shard))
                writer.write_table(
                    _table(shard, first_image_id + images, schema), row_group_size=shard_size
                )
                images += len(shard)
                shards += 1
                shard = list(islice(entries, 1))
        parts.append(
            PlanPart(
                name, sum(part.shards for part in before), first_image_id, shards, images, listing
            )
        )
        first = shard[0] if shard else None
    return parts


def _publish(plan: Plan, parts: list[PlanPart]) -> Plan:
    """Make the staged parts visible: the files first, plan.json last."""
    if not parts:
        return plan
    for part in parts:
        plan.folder.publish_file(part.file)
    extended = Plan(plan.folder, (*plan.parts, *parts))
    plan.folder.publish_json("plan/plan.json", {"parts": [asdict(part) for part in extended.parts]})
    return extended


def _table(entries: list[Entry], first_image_id: int, schema: pa.Schema) -> pa.Table:
    ids = range(first_image_id, first_image_id + len(entries))
    rows = [
        (i, one.key, one.size, one.mtime_ns, one.offset, *one.carried)
        for i, one in zip(ids, entries, strict=True)
    ]
    columns = zip(*rows, strict=True)
    return pa.table(
        [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)], schema=schema
    )


def _entries(table: pa.Table) -> Iterator[Entry]:
    """The columns after the plan's own are the source's."""
    columns = (column.to_pylist() for column in table.columns[1:])
    rows = zip(*columns, strict=True)
    return (
        Entry(key, size, mtime_ns, tuple(carried), at) for key, size, mtime_ns, at, *carried in rows
    )


def describe_empty_input(source: Source) -> str:
    kind, _, where = source.identity.partition(":")
    hint = f" {source.hint_if_empty}" if source.hint_if_empty else ""
    return f"No inputs found in {where} (source={kind}). The README names the file types.{hint}"
