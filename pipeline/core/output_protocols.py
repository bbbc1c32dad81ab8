"""Contracts of the components that write files: sinks during a run, exporters afterwards."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import pyarrow as pa

from pipeline.core.task_roles import Content

if TYPE_CHECKING:
    from torch import Tensor


class DrawPredictions(Protocol):
    """Signature of `Task.draw`."""

    def __call__(self, image: Tensor, rows: pa.Table, long_side: int | None = None) -> Tensor: ...


class SinkWriter(Protocol):
    """Receives the tables of a shard, batch by batch in any order."""

    def write(self, images: pa.Table, predictions: pa.Table) -> None:
        """Write the image rows of one batch and their prediction rows."""
        ...


@dataclass(frozen=True)
class SinkContext:
    """Everything that a sink needs to write one shard."""

    stage: Path  # staging folder laid out like a run folder; its files are published with the shard
    shard_id: int
    predictions_schema: pa.Schema
    draw: DrawPredictions
    read_image: Callable[[str], Tensor]  # key -> upright image (3, H, W) uint8 RGB


class Sink(Protocol):
    """Consumes Arrow tables during a run. It sees schemas, never the name of a task."""

    def open(self, context: SinkContext) -> AbstractContextManager[SinkWriter]:
        """Return a writer for one shard."""
        ...


@runtime_checkable
class PictureSink(Sink, Protocol):
    """A sink that only draws pictures of rows.

    It is no part of the fingerprint, because it determines no row. Pictures that a run lacks are
    drawn later from the committed rows.
    """

    def count_pictured(self, first_image_id: int, n_images: int) -> int:
        """Return how many of a shard's images, counted from its first, have pictures."""
        ...


@dataclass(frozen=True)
class ExportContext:
    """Everything that an exporter needs."""

    folder: Path  # the exporter writes below it
    predictions_schema: pa.Schema  # has the categories in its metadata
    contents: frozenset[Content]  # what the prediction rows hold
    image_root: Path  # absolute path of the images, for exports that name it
    # (key, name) -> path of the image. If the user asked for the images, it puts the image into
    # `image_folder` under this name and returns its path below the export. If not, it returns the
    # absolute path of the original.
    place_image: Callable[[str, str], Path]
    run_name: str
    export_name: str  # name of the folder that `folder` becomes


class Exporter(Protocol):
    """Converts a finished run to files of another program, shard by shard in input order.

    It sees schemas, never the name of a task. It gets the images that are ok, and also those that
    failed if `holds` has `failures`.
    """

    # The contents that the format can hold, by the words of `Content`, and `failures`.
    holds: frozenset[str]
    image_folder: str  # folder below the export where the other program looks for images

    def open(self, context: ExportContext) -> AbstractContextManager[SinkWriter]:
        """Return a writer for the whole run."""
        ...
