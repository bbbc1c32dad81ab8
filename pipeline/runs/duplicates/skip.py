"""Skip duplicates during a run (`skip_duplicates=`). The model sees the first of equal images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config.settings import Settings
from pipeline.core.hashing import hash_file
from pipeline.core.inflight import InFlightTable
from pipeline.core.protocols import Source
from pipeline.core.types import ExcludedInput, Status
from pipeline.runs.duplicates.find import ImageScan, find_duplicates, require_image_files
from pipeline.runs.duplicates.table import make_duplicates_table
from pipeline.runs.isolation.quarantine import Quarantine
from pipeline.runs.plan import Plan
from pipeline.runs.run_folder import RunFolder


@dataclass(frozen=True)
class SkippedDuplicates(Mapping[int, ExcludedInput]):
    """The status and error of each skipped image, by image_id.

    A large collection has many duplicates, so they stay in Arrow arrays to save memory.
    """

    table: pa.Table  # of DUPLICATES_SCHEMA, sorted by image_id

    def __getitem__(self, image_id: int) -> ExcludedInput:
        ids = self.table["image_id"].to_numpy()
        row = int(np.searchsorted(ids, image_id))
        if row == len(ids) or ids[row] != image_id:
            raise KeyError(image_id)
        relation = "the same bytes as" if self.table["same_bytes"][row].as_py() else "looks like"
        first_key = self.table["first_key"][row].as_py()
        return ExcludedInput(Status.DUPLICATE, f"{relation} {first_key}")

    def __iter__(self) -> Iterator[int]:
        return iter(self.table["image_id"].to_pylist())

    def __len__(self) -> int:
        return len(self.table)


def load_or_find_duplicates(
    settings: Settings, source: Source, plan: Plan, folder: RunFolder, suspects: Quarantine
) -> Mapping[int, ExcludedInput]:
    """Return the images of the plan to skip.

    Duplicates are found once for a plan and stored beside it under the plan's hash. So a resumed
    run skips the same images, and searches again if inputs were added or changed. Images that
    killed a process before are not read.
    """
    if settings.skip_duplicates is None:
        return {}

    plan_hash = hash_file(*(folder.local(part.file) for part in plan.parts))
    name = f"plan/duplicates-{settings.skip_duplicates}-{plan_hash[:16]}.parquet"
    if not folder.local(name).is_file():
        in_flight = InFlightTable.attach()
        scan = ImageScan(
            require_image_files(source),
            plan.entries_by_id,
            settings.max_pixels,
            lambda i: in_flight.track([i], settings.timeout),
        )
        unreadable = {*suspects.suspects, *suspects.excluded}
        duplicates = find_duplicates(scan, settings.skip_duplicates == "near", unreadable)

        staged = folder.staging / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        table = make_duplicates_table(duplicates, plan.entries_by_id)
        pq.write_table(table, staged, compression="zstd")
        folder.publish_file(name)
    table = pq.read_table(folder.local(name), partitioning=None)
    return SkippedDuplicates(table.combine_chunks())
