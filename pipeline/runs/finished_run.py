"""A run as those read it who come after it: what was committed, shard by shard or as a whole. No model, no writing."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from pipeline.core.errors import ConfigError, PipelineError, stops_a_run
from pipeline.core.keys import path_of
from pipeline.core.locations import Address, Place, place
from pipeline.core.schema import categories_of
from pipeline.core.types import Status
from pipeline.inputs.manifests.locations import joined
from pipeline.runs.plan import Plan, load_plan
from pipeline.runs.run_folder import RunFolder
from pipeline.storage.object_backend import resolved

log = logging.getLogger(__name__)
_COLUMNS = {"boxes": "x_min", "masks": "mask_rle", "keypoints": "keypoints", "embeddings": "embedding"}
_COLUMNS |= {"further classes": "rank"}
_ERRORS = pa.array([status.value for status in Status if status.is_error])


@dataclass(frozen=True)
class FinishedRun:
    """Readers trust markers: a part without one is not there."""

    folder: RunFolder
    record: dict[str, Any]  # run.json
    plan: Plan
    shard_ids: tuple[int, ...]  # with a marker, in order

    @classmethod
    def open(cls, path: Place) -> "FinishedRun":
        """Raises ConfigError for what is no run, has no tables, or nothing committed; warns of one that is not complete."""
        folder = RunFolder(resolved(path) if isinstance(path, Address) else path.resolve())  # `latest` may come to lead away
        return cls.of(folder, path)

    @classmethod
    def of(cls, folder: RunFolder, path: Place | None = None) -> "FinishedRun":
        """The same where the folder is in hand; `path` is what messages call it."""
        plan, path = load_plan(folder), path or folder.path
        if not folder.begun() or not plan.parts:
            said = (
                "is no folder" if not folder.exists() else "is not the folder of a run: it has no plan/ and no _committed/"
            )
            raise ConfigError(f"run={path}: {said}. Say run=outputs/latest, or one of its neighbours.")
        shard_ids = tuple(sorted(folder.committed() & set(range(plan.n_shards))))
        if not shard_ids or not {f"part-{i:05d}.parquet" for i in shard_ids} <= set(folder.store.files("images")):
            raise ConfigError(
                f"run={path}: it has no committed tables. Runs have them with the sink `parquet`, once complete."
            )
        if len(shard_ids) < plan.n_shards:
            log.warning("%s is not complete: %d of %d shards.", path, len(shard_ids), plan.n_shards)
        return cls(folder, json.loads(folder.local("run.json").read_text(encoding="utf-8")), plan, shard_ids)

    @property
    def path(self) -> Place:
        return self.folder.path

    @property
    def task(self) -> str:
        return str(self.record["task"])

    @property
    def categories(self) -> tuple[str, ...]:
        """Index = the model's own class id."""
        return categories_of(self.schema)

    @property
    def schema(self) -> pa.Schema:
        """Of predictions, with the metadata."""
        part = _part("predictions", self.shard_ids[0])
        with self._reading(part):
            return pq.read_schema(self.folder.local(part))

    @property
    def source(self) -> str:
        """What kind its input is: folder, video, clips, tar, zip, manifest, hf_parquet."""
        return str(self.record["fingerprint_of"]["source"]).partition(":")[0]

    @property
    def archived(self) -> bool:
        """Whether its images are members of archives."""
        return self.source in ("tar", "zip")

    @property
    def files_below_input(self) -> bool:
        """Whether a key is the name of a file below the input's folder, or begins with one."""
        return self.source in ("folder", "video", "clips")

    @property
    def input(self) -> Place:
        """The folder below which the keys of its images lead, or the paths that a manifest's keys are. May be gone since."""
        determined_by = self.record["fingerprint_of"]
        given = place(path_of(determined_by["source"].partition(":")[2]))
        if self.source == "manifest":
            gone = isinstance(given, Path) and not given.is_file()
            return joined(given if gone else given.parent, determined_by.get("source_settings", {}).get("root"))
        if isinstance(given, Path):
            return given.parent if given.is_file() else given
        first = next(self.plan.in_order(), None)
        return given.parent if first and self.plan.n_images == 1 and first.key == given.name else given

    def shards(self) -> Iterator[tuple[pa.Table, pa.Table]]:
        """(images, predictions) of each shard, in input order; predictions of an image follow one another."""
        brought = self.folder.store.brought(_part(kind, i) for i in self.shard_ids for kind in ("images", "predictions"))
        for shard_id in self.shard_ids:
            next(brought), next(brought)
            yield self.table("images", shard_id), self.table("predictions", shard_id)

    def table(self, kind: str, shard_id: int, columns: Sequence[str] | None = None) -> pa.Table:
        """`images` or `predictions` of one shard. Raises PipelineError where it is damaged, as all do that read tables."""
        part = _part(kind, shard_id)
        with self._reading(part):
            return pq.read_table(self.folder.local(part), columns=columns, partitioning=None)

    def rows(self, kind: str, columns: Sequence[str]) -> pa.Table:
        """`images` or `predictions` of all shards at once: of few and narrow columns."""
        with self._reading(kind):
            return self.dataset(kind).to_table(columns=list(columns))

    def count(self, kind: str) -> int:
        """How many rows all shards have."""
        with self._reading(kind):
            return int(self.dataset(kind).count_rows())

    def dataset(self, kind: str) -> ds.Dataset:
        """`images` or `predictions` of all shards, to be scanned."""
        with self._reading(kind):
            paths = self.folder.store.brought(_part(kind, i) for i in self.shard_ids)
            return ds.dataset([str(path) for path in paths], format="parquet")

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowInvalid, OSError) as error:
            if stops_a_run(error):
                raise
            raise PipelineError(
                f"{self.path / what} cannot be read; verify run={self.path} names what is damaged."
            ) from error


def _part(kind: str, shard_id: int) -> str:
    return f"{kind}/part-{shard_id:05d}.parquet"


def contents(schema: pa.Schema) -> frozenset[str]:
    """What prediction rows of this schema say: `scores`; `boxes`, `masks`, `keypoints`, or else `labels` of whole images,
    and `further classes` where they are ranked; `embeddings`."""
    found = {"scores"}
    found |= {name for name, column in _COLUMNS.items() if column in schema.names}
    return frozenset(found if found & {"boxes", "masks"} else found | {"labels"})


def usable(images: pa.Table) -> pa.Table:
    """Those that are ok."""
    return images.filter(_is(Status.OK, images))


def failed(images: pa.Table) -> pa.ChunkedArray:
    """(N,) bool: which are rows with an error. A duplicate is neither usable nor failed."""
    return pc.is_in(images["status"].cast(pa.string()), _ERRORS)


def duplicates(images: pa.Table) -> pa.ChunkedArray:
    """(N,) bool: which were not looked at, because another image is the same picture."""
    return _is(Status.DUPLICATE, images)


def _is(status: Status, images: pa.Table) -> pa.ChunkedArray:
    return pc.equal(images["status"].cast(pa.string()), status.value)


def by_image(images: pa.Table, predictions: pa.Table) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(image row, its prediction rows) of a shard's tables, in input order, failed images too."""
    rows = predictions.to_pylist()
    at = 0
    for image in images.to_pylist():
        end = at + (image["n_predictions"] or 0)
        yield image, rows[at:end]
        at = end
