"""The run folder, on a disk or in an object store. Only this module publishes files in it.

A shard is first written below a staging folder, laid out like the run folder. A commit has three
steps, after all staged files are closed:

1. The Parquet parts are reopened and their rows counted.
2. All files are published, each durably and atomically.
3. The marker `_committed/NNNNNNNN.json` is published in the same way.

Readers trust markers only. At the next start a part without a marker is removed, and a picture
without a marker is drawn again.
"""

import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import PipelineError
from pipeline.core.hashing import hash_file
from pipeline.core.json_files import check_object, read_json_object
from pipeline.core.locations import Location, Uri
from pipeline.core.shard_names import (
    format_shard_number,
    make_marker_name,
    make_part_name,
    make_shard_name,
    parse_shard_number,
)
from pipeline.core.types import Writer
from pipeline.storage.object_publish import write_latest
from pipeline.storage.publish import translate_write_errors
from pipeline.storage.run_storage import RunStorage, open_run_storage

log = logging.getLogger(__name__)
_PARTS = ("images", "predictions")  # folders whose files are valid only with a marker


class RunFolder:
    """The folder of one run, on a disk or in an object store.

    Only a process that has locked it may write. That is the single writer, or one of several
    writers, each with its own shards and staging folder.
    """

    def __init__(self, path: Location, writer: Writer | None = None) -> None:
        self.path = path  # for messages; `local` returns paths to read
        self.writer = writer or Writer()
        self.store: RunStorage = open_run_storage(path, self.writer)
        self.staging = self.store.staging

    def exists(self) -> bool:
        return self.store.exists()

    def local(self, name: str) -> Path:
        """Return the local path of a file. For an object store it is the path of a copy.

        The file need not exist.
        """
        return self.store.fetch(name)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder and remove what an interrupted run left. Raises RunLocked."""
        with translate_write_errors(self.path):
            self.store.create()
        with self.store.acquire(self._remove_leftovers):
            try:
                yield
            finally:
                shutil.rmtree(self.staging, ignore_errors=True)

    def critical_section(self) -> AbstractContextManager[None]:
        """Return a context in which no other writer changes shared files.

        A single writer never waits.
        """
        return self.store.critical_section() if self.writer.name else nullcontext()

    def has_begun(self) -> bool:
        """Return whether the folder has a marker or a folder for markers."""
        return bool(self.store.list_files("_committed")) or self.local("_committed").is_dir()

    def committed_shards(self) -> set[int]:
        """Return the ids of the shards that have a marker."""
        return set(self._list_markers())

    def _list_markers(self) -> dict[int, str]:
        """Return the file name of each shard's marker, by shard id."""
        names = [name for name in self.store.list_files("_committed") if name.endswith(".json")]
        numbers = {name: parse_shard_number(name) for name in names}
        return {number: name for name, number in numbers.items() if number is not None}

    @cached_property
    def _numbers_of_old_runs(self) -> dict[int, str]:
        """Map shards that an earlier version named with five digits to their number as text."""
        texts = {
            shard_id: name.removesuffix(".json") for shard_id, name in self._list_markers().items()
        }
        return {
            shard_id: text
            for shard_id, text in texts.items()
            if text != format_shard_number(shard_id)
        }

    def marker_name(self, shard_id: int) -> str:
        """Return the path of a shard's marker below the run folder, for old runs too."""
        text = self._numbers_of_old_runs.get(shard_id)
        return f"_committed/{text}.json" if text else make_marker_name(shard_id)

    def part_name(self, kind: str, shard_id: int) -> str:
        """Return the path of a shard's table below the run folder.

        `kind` is `images` or `predictions`.
        """
        text = self._numbers_of_old_runs.get(shard_id)
        return f"{kind}/part-{text}.parquet" if text else f"{kind}/{make_part_name(shard_id)}"

    def read_marker(self, shard_id: int) -> dict[str, Any]:
        """Return the content of a shard's marker."""
        return _read(self.local(self.marker_name(shard_id)))

    def check_parts(self) -> None:
        """Raise PipelineError if a part that a marker names is missing or has another size.

        Reads no part.
        """
        sizes = {
            f"{kind}/{name}": size
            for kind in _PARTS
            for name, size in self.store.list_files(kind).items()
        }
        committed = sorted(self.committed_shards())
        for shard_id, marker in zip(
            committed, self.store.fetch_all(map(self.marker_name, committed)), strict=True
        ):
            for name, part in _read(marker)["parts"].items():
                if sizes.get(name) != part["bytes"]:
                    raise PipelineError(
                        f"{self.path / name} is missing or damaged: its marker says "
                        f"{part['bytes']} bytes. Restore it, or "
                        f"delete {self.path / self.marker_name(shard_id)} and run again to "
                        "compute that shard anew."
                    )

    def create_stage(self, shard_id: int) -> Path:
        """Create an empty staging folder for a shard's files."""
        stage = self.staging / make_shard_name(shard_id)
        shutil.rmtree(stage, ignore_errors=True)
        stage.mkdir(parents=True)
        return stage

    def commit(
        self, shard_id: int, n_images: int, stage: Path, pictures: Mapping[str, int] | None = None
    ) -> None:
        """Publish everything below `stage`, then the marker.

        A shard that is committed again loses its marker first, so that an interruption leaves it
        uncommitted.

        Args:
            shard_id: The shard.
            n_images: How many image rows the shard must have.
            stage: The folder from `create_stage`.
            pictures: Sink name -> number of the shard's images, from its first, with pictures.

        Raises:
            PipelineError: A part is damaged or has not one row for each input.
        """
        files = _list_files(stage)
        parts = {
            str(path.relative_to(stage)): _describe(path)
            for path in files
            if path.suffix == ".parquet"
        }
        counted = parts.get(f"images/{make_part_name(shard_id)}", {"rows": n_images})["rows"]
        if counted != n_images:
            raise PipelineError(
                f"shard {shard_id} has {counted} image rows for {n_images} inputs; nothing was "
                "committed."
            )

        if self.store.find_existing([make_marker_name(shard_id)]):
            self.store.remove(make_marker_name(shard_id))
        self.store.publish(files, stage)
        marker = {
            "shard": shard_id,
            "images": n_images,
            "parts": parts,
            "other_files": len(files) - len(parts),
            "pictures": dict(pictures or {}),
        }
        self.publish_json(make_marker_name(shard_id), marker)
        shutil.rmtree(stage)

    def add_pictures(self, shard_id: int, stage: Path, pictures: Mapping[str, int]) -> None:
        """Publish pictures of a committed shard, then replace its marker by one that counts them.

        After an interruption the old marker is still valid and the pictures are drawn again.
        `pictures` is as in `commit`, for the sinks that have drawn.
        """
        files = _list_files(stage)
        self.store.publish(files, stage)
        marker = self.read_marker(shard_id)
        marker["other_files"] += len(files)
        marker["pictures"] = marker.get("pictures", {}) | dict(pictures)
        self.publish_json(make_marker_name(shard_id), marker)
        shutil.rmtree(stage)

    def publish_json(self, name: str, content: Any) -> None:
        """Publish a JSON file atomically."""
        staged = self.staging / name
        staged.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        # A path may contain bytes that are no text.
        staged.write_bytes(text.encode("utf-8", "backslashreplace"))
        self.store.publish([staged], self.staging)

    def publish_file(self, name: str) -> None:
        """Move a file that was written below `staging` to the same place in the run folder."""
        self.store.publish([self.staging / name], self.staging)

    def append_line(self, name: str, content: Any) -> None:
        """Append a line to a log that is not published atomically, such as timing.jsonl."""
        self.store.append_line(name, json.dumps(content).encode())

    def _remove_leftovers(self, alone: bool) -> None:
        """Remove staging folders and parts without a marker.

        While other writers exist (`alone` is false), only this writer's staging folder is removed.
        """
        shutil.rmtree(self.store.staging_root if alone else self.staging, ignore_errors=True)
        if not alone:
            return
        done = self.committed_shards()
        for kind in _PARTS:
            for name in self.store.list_files(kind):
                if parse_shard_number(name) not in {None, *done}:
                    self.store.remove(f"{kind}/{name}")


def read_part(
    folder: RunFolder, kind: str, shard_id: int, columns: list[str] | None = None
) -> pa.Table:
    """Read the committed `images` or `predictions` of one shard."""
    path = folder.local(folder.part_name(kind, shard_id))
    return pq.read_table(path, columns=columns, partitioning=None)


def _list_files(stage: Path) -> list[Path]:
    return sorted(path for path in stage.rglob("*") if path.is_file())


def _read(marker: Path) -> dict[str, Any]:
    content = read_json_object(marker, {"parts": dict})
    for name, part in content["parts"].items():
        check_object(part, {"bytes": int, "sha256": str}, f"{marker}, {name}")
    return content


def _describe(part: Path) -> dict[str, Any]:
    """Reopen a staged part and return its rows, bytes and SHA-256. Raises for a damaged part."""
    with pq.ParquetFile(part) as file:
        rows = sum(file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups))
    return {"rows": rows, "bytes": part.stat().st_size, "sha256": hash_file(part)}


def update_latest(run: Location) -> None:
    """Point `latest` to the run: a link beside the run folder, or an object that names it."""
    if isinstance(run, Uri):
        write_latest(run)
        return
    temporary = run.parent / f".latest-{os.getpid()}"
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(run.name)
        temporary.replace(run.parent / "latest")
    except OSError as error:  # no links here, or another file of that name; not fatal
        temporary.unlink(missing_ok=True)
        log.warning("%s was not made: %s", run.parent / "latest", error.strerror)
