"""Write the plan of a run, or compare it with the input and add the new inputs."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import ConfigError, InputChanged, shorten_list
from pipeline.core.protocols import Source
from pipeline.core.shard_names import make_part_name
from pipeline.core.types import Entry
from pipeline.runs.plan import PLAN_SCHEMA, Plan, PlanPart, load_plan, make_plan_table, read_entries
from pipeline.runs.run_folder import RunFolder

_SHARDS_PER_PART = 1000  # bounds the memory of a part's footer
_REMOVED_SIZE = -1  # the size of an input whose absence was accepted


@dataclass
class PlanDifference:
    """Differences between source and plan. `find_new_entries` counts them while it streams both."""

    new: int = 0
    changed: dict[str, Entry] = field(default_factory=dict)  # key -> the entry as it is now
    removed: dict[str, Entry] = field(default_factory=dict)  # key -> the entry as planned


def freeze_plan(
    folder: RunFolder, source: Source, shard_size: int, limit: int | None, accept_changes: bool
) -> Plan:
    """Write the plan, or add inputs that are new in the source.

    Args:
        folder: The locked run folder.
        source: Lists the inputs.
        shard_size: Images of a shard.
        limit: Most images of the plan; None: all.
        accept_changes: Keep the rows of inputs that have changed or no longer exist.

    Raises:
        InputChanged: Planned inputs have changed or no longer exist.
        ConfigError: The source has no inputs.
    """
    plan = load_plan(folder)
    schema = pa.schema([*PLAN_SCHEMA, *source.columns])
    if not plan.parts:
        parts = _stage_parts(plan, islice(source.entries(), limit), shard_size, schema)
        if not parts:
            raise ConfigError(describe_empty_input(source))
        return _publish_parts(plan, parts)

    difference = PlanDifference()
    new = find_new_entries(plan.entries_by_key(), source.entries(), difference)
    room = None if limit is None else max(0, limit - plan.n_images)
    parts = _stage_parts(plan, islice(new, room), shard_size, schema)
    deque(new, maxlen=0)  # reads to the end, to find all differences
    if difference.changed or difference.removed:
        if not accept_changes:
            raise InputChanged(_describe_difference(difference, folder))
        _accept_difference(plan, difference)
    return _publish_parts(plan, parts)


def find_new_entries(
    planned: Iterable[Entry], listed: Iterable[Entry], difference: PlanDifference
) -> Iterator[Entry]:
    """Merge two streams sorted by key.

    Yields entries that are not planned and fills `difference`.
    """
    planned_entries = iter(planned)
    expected = next(planned_entries, None)
    for entry in listed:
        while expected is not None and expected.key < entry.key:
            _note_removed(difference, expected)
            expected = next(planned_entries, None)
        if expected is None or entry.key < expected.key:
            difference.new += 1
            yield entry
            continue
        if entry != expected:
            difference.changed[entry.key] = entry
        expected = next(planned_entries, None)

    while expected is not None:
        _note_removed(difference, expected)
        expected = next(planned_entries, None)


def _note_removed(difference: PlanDifference, entry: Entry) -> None:
    if entry.size != _REMOVED_SIZE:  # otherwise its absence was accepted before
        difference.removed[entry.key] = entry


def _describe_difference(difference: PlanDifference, folder: RunFolder) -> str:
    lines = [f"The input is not the one that {folder.path} was begun with."]
    if difference.changed:
        lines.append(f"  changed ({len(difference.changed)}): {shorten_list(difference.changed)}")
    if difference.removed:
        lines.append(f"  removed ({len(difference.removed)}): {shorten_list(difference.removed)}")
    lines.append(
        "Say changed=accept to keep the rows already written and go on, or output=ELSEWHERE to "
        "start afresh."
    )
    return "\n".join(lines)


def _accept_difference(plan: Plan, difference: PlanDifference) -> None:
    """Rewrite the parts so that they list changed inputs as they are now, at their old ids."""
    removed = {
        key: replace(entry, size=_REMOVED_SIZE, mtime_ns=0)
        for key, entry in difference.removed.items()
    }
    current = difference.changed | removed
    for part in plan.parts:
        staged = plan.folder.staging / part.file
        staged.parent.mkdir(parents=True, exist_ok=True)
        with (
            pq.ParquetFile(plan.folder.local(part.file)) as file,
            pq.ParquetWriter(staged, file.schema_arrow, compression="zstd") as writer,
        ):
            for i in range(part.shards):
                table = file.read_row_group(i)
                entries = [current.get(entry.key, entry) for entry in read_entries(table)]
                rewritten = make_plan_table(entries, table["image_id"][0].as_py(), table.schema)
                writer.write_table(rewritten, row_group_size=len(entries))
        plan.folder.publish_file(part.file)


def _stage_parts(
    plan: Plan, entries: Iterator[Entry], shard_size: int, schema: pa.Schema
) -> list[PlanPart]:
    """Write entries as further parts below the staging folder, which no reader reads."""
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
                rows = make_plan_table(shard, first_image_id + images, schema)
                writer.write_table(rows, row_group_size=shard_size)
                images += len(shard)
                shards += 1
                shard = list(islice(entries, 1))

        first_shard = sum(part.shards for part in before)
        parts.append(PlanPart(name, first_shard, first_image_id, shards, images, listing))
        first = shard[0] if shard else None
    return parts


def _publish_parts(plan: Plan, parts: list[PlanPart]) -> Plan:
    """Publish the staged parts, then plan.json. Returns the extended plan."""
    if not parts:
        return plan
    for part in parts:
        plan.folder.publish_file(part.file)
    extended = Plan(plan.folder, (*plan.parts, *parts))
    plan.folder.publish_json("plan/plan.json", {"parts": [asdict(part) for part in extended.parts]})
    return extended


def describe_empty_input(source: Source) -> str:
    """Return the message for an input without any file that the source reads."""
    kind, _, where = source.identity.partition(":")
    hint = f" {source.hint_if_empty}" if source.hint_if_empty else ""
    passed_over = source.passed_over.describe()
    if passed_over:
        hint = f" Passed over: {passed_over}.{hint}"
    return f"No inputs found in {where} (source={kind}). The README names the file types.{hint}"
