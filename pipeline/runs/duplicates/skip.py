"""`skip_duplicates=`: of pictures that are the same only the first is looked at; the others' rows say which one that is. And
`duplicates`, which counts and lists them and skips none."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.instantiate import instantiate
from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file, hash_text
from pipeline.core.inflight import InFlightTable
from pipeline.core.locations import parse_location
from pipeline.core.protocols import Source
from pipeline.core.text_tables import format_pairs
from pipeline.core.types import Entry, ExcludedInput, Status
from pipeline.inputs.image_source import ImageSource
from pipeline.runs.duplicates.find import Duplicates, ImageScan, find_duplicates
from pipeline.runs.isolation.quarantine import Quarantine
from pipeline.runs.plan import Plan
from pipeline.runs.run_folder import RunFolder
from pipeline.storage.publish import publish_folder

_SCHEMA = pa.schema(
    [
        ("image_id", pa.int64()),
        ("key", pa.string()),
        ("first_key", pa.string()),
        ("same_bytes", pa.bool_()),
    ]
)


@dataclass(frozen=True)
class SkippedDuplicates(Mapping[int, ExcludedInput]):
    """By image_id, in arrays: a large collection has many."""

    twins: pa.Table  # of _SCHEMA, by image_id

    def __getitem__(self, image_id: int) -> ExcludedInput:
        ids = self.twins["image_id"].to_numpy()
        at = int(np.searchsorted(ids, image_id))
        if at == len(ids) or ids[at] != image_id:
            raise KeyError(image_id)
        how = "the same bytes as" if self.twins["same_bytes"][at].as_py() else "looks like"
        return ExcludedInput(Status.DUPLICATE, f"{how} {self.twins['first_key'][at].as_py()}")

    def __iter__(self) -> Iterator[int]:
        return iter(self.twins["image_id"].to_pylist())

    def __len__(self) -> int:
        return len(self.twins)


def load_or_find_duplicates(
    settings: Settings, source: Source, plan: Plan, folder: RunFolder, suspects: Quarantine
) -> Mapping[int, ExcludedInput]:
    """Found once for a plan, and kept beside it under the plan's hash: a resumed run skips what it began to skip, and looks
    again where inputs have come or changed. What killed a runner before is not looked at."""
    if settings.skip_duplicates is None:
        return {}
    planned = hash_file(*(folder.local(part.file) for part in plan.parts))
    name = f"plan/duplicates-{settings.skip_duplicates}-{planned[:16]}.parquet"
    if not folder.local(name).is_file():
        untouched = {*suspects.suspects, *suspects.excluded}
        board = InFlightTable.attach()
        pictures = ImageScan(
            image_files(source),
            plan.entries_by_id,
            settings.max_pixels,
            lambda i: board.track([i], settings.timeout),
        )
        twins = find_duplicates(pictures, settings.skip_duplicates == "near", untouched)
        staged = folder.staging / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(make_duplicates_table(twins, plan.entries_by_id), staged, compression="zstd")
        folder.publish_file(name)
    return SkippedDuplicates(pq.read_table(folder.local(name), partitioning=None).combine_chunks())


def count_duplicates(settings: Settings) -> str:
    """Leaves <output>/duplicates/<hash of the input>/duplicates.parquet. How many there are."""
    if settings.input is None:
        raise ConfigError("duplicates needs input=FOLDER.")
    source: Source = instantiate(settings.components["source"])

    def entries() -> Iterator[Entry]:
        return islice(source.entries(), settings.limit)

    near = settings.skip_duplicates != "bytes"
    twins = find_duplicates(ImageScan(image_files(source), entries, settings.max_pixels), near)
    target = parse_location(settings.output) / "duplicates" / hash_text(source.identity)
    with publish_folder(target.absolute(), replace=True) as stage:
        pq.write_table(
            make_duplicates_table(twins, entries), stage / "duplicates.parquet", compression="zstd"
        )
    same = int(twins.same_bytes[twins.indices].sum())
    counts = {"images": len(twins.first), "of equal bytes to one before": same}
    counts |= {"that look like one before": len(twins.indices) - same} if near else {}
    return (
        format_pairs({name: f"{count:,}" for name, count in counts.items()})
        + f"\n\n  {target}/duplicates.parquet"
    )


def make_duplicates_table(twins: Duplicates, entries: Callable[[], Iterable[Entry]]) -> pa.Table:
    """A row for each twin: which image it is, and the first that is the same."""
    indices, firsts = twins.indices, twins.first[twins.indices]
    wanted = set(indices.tolist()) | set(firsts.tolist())
    keys = {i: entry.key for i, entry in enumerate(entries()) if i in wanted}
    columns = [
        indices,
        [keys[i] for i in indices.tolist()],
        [keys[i] for i in firsts.tolist()],
        twins.same_bytes[indices],
    ]
    return pa.table(columns, schema=_SCHEMA)


def image_files(source: Source) -> ImageSource:
    if not isinstance(source, ImageSource):
        raise ConfigError(
            "Duplicates are found among image files; the source's inputs are parts of videos."
        )
    return source
