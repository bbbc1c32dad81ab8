"""Read-only access to the committed tables of a run. Loads no model."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.config.instantiate import find_class
from pipeline.core.errors import ConfigError, PipelineError, is_persistent_failure
from pipeline.core.keys import key_to_path
from pipeline.core.locations import Location, Uri, parse_location
from pipeline.core.recorded_inputs import InputLocations, RecordedSource, SourceClass
from pipeline.core.schema import read_categories
from pipeline.runs.plan import Plan, load_plan
from pipeline.runs.run_folder import RunFolder
from pipeline.runs.run_record import read_record
from pipeline.storage.object_publish import resolve_latest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinishedRun:
    """A run folder with the plan and the shards that have a marker.

    Parts without a marker are ignored.
    """

    folder: RunFolder
    record: dict[str, Any]  # run.json
    plan: Plan
    shard_ids: tuple[int, ...]  # with a marker, in order

    @classmethod
    def open(cls, path: Location) -> "FinishedRun":
        """Open a run. Warns if it is not complete.

        Raises:
            ConfigError: The path is no run folder, or nothing is committed.
        """
        # `latest` may lead to another run later.
        folder = RunFolder(resolve_latest(path) if isinstance(path, Uri) else path.resolve())
        return cls.from_folder(folder, path)

    @classmethod
    def from_folder(cls, folder: RunFolder, path: Location | None = None) -> "FinishedRun":
        """Open a run from its `RunFolder`. Messages name it `path`."""
        plan, path = load_plan(folder), path or folder.path
        if not folder.has_begun() or not plan.parts:
            problem = (
                "is no folder"
                if not folder.exists()
                else "is not the folder of a run: it has no plan/ and no _committed/"
            )
            raise ConfigError(
                f"run={path}: {problem}. Say run=outputs/latest, or one of its neighbours."
            )
        shard_ids = tuple(sorted(folder.committed_shards() & set(range(plan.n_shards))))
        if not shard_ids or not {folder.part_name("images", i) for i in shard_ids} <= {
            f"images/{name}" for name in folder.store.list_files("images")
        }:
            raise ConfigError(
                f"run={path}: it has no committed tables. Runs have them with the sink `parquet`, "
                "once complete."
            )
        folder.check_parts()
        if len(shard_ids) < plan.n_shards:
            log.warning("%s is not complete: %d of %d shards.", path, len(shard_ids), plan.n_shards)
        return cls(
            folder,
            read_record(folder.local("run.json")),
            plan,
            shard_ids,
        )

    @property
    def path(self) -> Location:
        return self.folder.path

    @property
    def task(self) -> str:
        return str(self.record["task"])

    @property
    def categories(self) -> tuple[str, ...]:
        """Class names; index = class id."""
        return read_categories(self.schema)

    @property
    def schema(self) -> pa.Schema:
        """Schema of the predictions, with metadata."""
        part = self.folder.part_name("predictions", self.shard_ids[0])
        with self._reading(part):
            return pq.read_schema(self.folder.local(part))

    @property
    def max_pixels(self) -> int:
        """Return the most pixels of an image that the run decoded."""
        return int(self.record["fingerprint_of"].get("max_pixels", 100_000_000))

    @property
    def source(self) -> str:
        """Return the name of the source component, such as `folder`."""
        return str(self.record["fingerprint_of"]["source"]).partition(":")[0]

    @property
    def recorded_source(self) -> RecordedSource:
        """Return what run.json records about the source, as plain values."""
        determined_by = self.record["fingerprint_of"]
        path = key_to_path(determined_by["source"].partition(":")[2])
        first = next(self.plan.entries_by_id(), None) if self.plan.n_images == 1 else None
        return RecordedSource(
            parse_location(path),
            determined_by.get("source_settings", {}),
            first.key if first else None,
            determined_by.get("pixels", {}),
        )

    def find_source_class(self) -> SourceClass:
        """Return the class of the source. Raises ConfigError if this version has no such source."""
        return cast(SourceClass, find_class("source", self.source))

    @cached_property
    def locations(self) -> InputLocations:
        """Return where the inputs are.

        The source declares it. For a source that this version does not have it is only the folder.
        """
        recorded = self.recorded_source
        try:
            return self.find_source_class().locate(recorded)
        except ConfigError:
            return InputLocations(recorded.folder)

    @property
    def input(self) -> Location:
        """Return the folder that the keys of the images are relative to. It may no longer exist."""
        return self.locations.root

    def read_shards(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """Yield (images, predictions) of each shard in input order.

        Rows of one image are adjacent.
        """
        fetched = self.folder.store.fetch_all(
            self.folder.part_name(kind, i)
            for i in self.shard_ids
            for kind in ("images", "predictions")
        )
        for shard_id in self.shard_ids:
            next(fetched), next(fetched)
            yield self.read_table("images", shard_id), self.read_table("predictions", shard_id)

    def read_table(
        self, kind: str, shard_id: int, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read `images` or `predictions` of one shard.

        Raises PipelineError if the part is damaged or lacks one of the columns.
        """
        part = self.folder.part_name(kind, shard_id)
        with self._reading(part, columns or ()):
            return pq.read_table(self.folder.local(part), columns=columns, partitioning=None)

    def read_columns(self, kind: str, columns: Sequence[str]) -> pa.Table:
        """Read columns of `images` or `predictions` of all shards into memory."""
        with self._reading(kind):
            dataset = self.open_dataset(kind)
            self._check_columns(kind, dataset.schema, columns)
            return dataset.to_table(columns=list(columns))

    def count_rows(self, kind: str) -> int:
        """Count the rows of `images` or `predictions` of all shards."""
        with self._reading(kind):
            return int(self.open_dataset(kind).count_rows())

    def open_dataset(self, kind: str) -> ds.Dataset:
        """Return `images` or `predictions` of all shards as a dataset to scan."""
        with self._reading(kind):
            paths = self.folder.store.fetch_all(
                self.folder.part_name(kind, i) for i in self.shard_ids
            )
            return ds.dataset([str(path) for path in paths], format="parquet")

    def _check_columns(self, what: str, schema: pa.Schema, columns: Sequence[str]) -> None:
        """Raise PipelineError if the schema lacks one of the columns."""
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise PipelineError(
                f"{self.path / what} lacks the columns {', '.join(missing)}. It is not damaged: "
                f"runs of task={self.task} are written without them."
            )

    @contextmanager
    def _reading(self, what: str, columns: Sequence[str] = ()) -> Iterator[None]:
        """Turn errors of reading into a PipelineError: for damage or for a missing column.

        Args:
            what: Path of the part, relative to the run folder.
            columns: The columns that are read from this part.
        """
        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            if is_persistent_failure(error):
                raise
            if columns:
                with suppress(pa.ArrowInvalid, OSError):
                    schema = pq.read_schema(self.folder.local(what))
                    self._check_columns(what, schema, columns)
            raise PipelineError(
                f"{self.path / what} cannot be read; verify run={self.path} names what is damaged."
            ) from error
