"""Write the report of a run, at the end of the run or for the command `report`."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote_from_bytes

import numpy as np
import pyarrow as pa

from pipeline.config.task_classes import find_task
from pipeline.core.errors import ConfigError, is_persistent_failure
from pipeline.core.keys import resolve_below
from pipeline.core.locations import Location
from pipeline.core.timing import read_timings
from pipeline.core.types import Status
from pipeline.results.input_reader import InputReader, iterate_entries
from pipeline.results.report.gallery import (
    IMAGE_COLUMNS,
    PREDICTION_COLUMNS,
    SHOWN_CONTENTS,
    Gallery,
    make_gallery_data,
)
from pipeline.results.report.page import write_page
from pipeline.results.report.run_statistics import RunStatistics, summarize_stages
from pipeline.results.report.thumbnails import (
    BLOCK_SIZE,
    find_overlays,
    make_thumbnail_blocks,
    prepare_from_input,
    prepare_from_overlay,
    prepare_from_pixels,
)
from pipeline.runs.finished_run import FinishedRun
from pipeline.runs.run_folder import RunFolder

log = logging.getLogger(__name__)
REPORT_NAME = "report.html"
# A path may contain bytes that are not valid text.
TEXT_OPTIONS: Any = {"encoding": "utf-8", "errors": "backslashreplace"}
_MOST_IMAGES = 5000  # in the gallery; a browser can still show so many at once
_AT_THE_END = 500  # number of thumbnails that a run makes at its end; each takes 6 ms


def publish_report(folder: RunFolder) -> None:
    """Write RUN/report.html. The caller holds the folder's lock.

    A failure is only logged as a warning, because nothing depends on the report. Thumbnails are
    made from overlays only. Decoding an input could crash this process, which has no supervisor at
    this point.
    """
    try:
        folder.staging.mkdir(parents=True, exist_ok=True)
        with (folder.staging / REPORT_NAME).open("w", **TEXT_OPTIONS) as file:
            write_report(
                FinishedRun.from_folder(folder), file, folder.path, _AT_THE_END, from_inputs=False
            )
        folder.publish_file(REPORT_NAME)
    except Exception as error:
        if is_persistent_failure(error):
            raise
        log.warning("%s was not made: %s", folder.path / REPORT_NAME, error)


def write_report(
    run: FinishedRun, file: TextIO, place: Location, thumbnails: int, from_inputs: bool
) -> int:
    """Write the page.

    Args:
        place: the folder in which the page will be; links are relative to it.
        thumbnails: the largest number of thumbnails to make.
        from_inputs: make the thumbnails of images without an overlay from the input.

    Returns:
        The number of images in the gallery.
    """
    figures, gallery = RunStatistics(run.categories), Gallery(_MOST_IMAGES)
    for images, predictions in _shards(run):
        figures.add(images, predictions)
        gallery.add(images, predictions)
    images, predictions = gallery.shown()
    overlays = find_overlays(run.folder, images["key"].to_pylist())
    makers = _makers(run, images, overlays, thumbnails, from_inputs)
    shown = {
        "n_shown": len(images),
        "n_usable_shown": images["status"].cast(pa.string()).to_pylist().count(Status.OK.value),
        "n_thumbnails": sum(maker is not None for maker in makers),
        "data": {
            **make_gallery_data(images, predictions, overlays, *_file_and_time_columns(run)),
            **_addresses(run, place),
            **_originals(run, images),
        },
        "blocks": make_thumbnail_blocks(makers),
    }
    write_page(file, _summary(run) | {"figures": figures} | shown)
    return len(images)


def _shards(run: FinishedRun) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the tables with the columns that the page shows: no masks, no embeddings."""
    of_images = [*IMAGE_COLUMNS, *filter(None, _file_and_time_columns(run))]
    of_predictions = [*PREDICTION_COLUMNS]
    for content, columns in SHOWN_CONTENTS.items():
        of_predictions += columns if content in find_task(run.task).contents else ()
    for shard_id in run.shard_ids:
        yield (
            run.read_table("images", shard_id, of_images),
            run.read_table("predictions", shard_id, of_predictions),
        )


def _file_and_time_columns(run: FinishedRun) -> tuple[str | None, str | None]:
    """Return the names of two columns: the file that holds an image, and the time in that file.

    None stands for a column that the run lacks.
    """
    names, locations = run.schema.names, run.locations
    file_column, time_column = locations.file_column, locations.time_column
    return (
        file_column if file_column in names else None,
        time_column if time_column in names else None,
    )


def _makers(
    run: FinishedRun, images: pa.Table, overlays: list[str | None], most: int, from_inputs: bool
) -> list[Callable[[], bytes] | None]:
    """Return a function for each image that makes its thumbnail.

    Only the first `most` images with an overlay or a readable input get one; the others get None.
    """
    folder = run.input if run.locations.keys_are_files and isinstance(run.input, Path) else None

    def maker(
        image_id: int, key: str, status: str, overlay: str | None
    ) -> Callable[[], bytes] | None:
        if overlay is not None:
            return partial(_thumbnail, run.folder, str(resolve_below(Path("overlays"), overlay)))
        if folder is None:
            return prepare_from_pixels(read[image_id]) if image_id in read else None
        file = resolve_below(folder, key) if from_inputs and status == Status.OK else None
        if file is None or not file.is_file():
            return None
        return prepare_from_input(file, run.max_pixels, run.recorded_source.pixel_settings)

    ids, keys = images["image_id"].to_pylist(), images["key"].to_pylist()
    statuses = images["status"].cast(pa.string()).to_pylist()
    plain = [
        i
        for i, status, overlay in zip(ids, statuses, overlays, strict=True)
        if status == Status.OK and overlay is None
    ]
    read = _readers(run, plain[:most]) if from_inputs and folder is None else {}
    every = [maker(*row) for row in zip(ids, keys, statuses, overlays, strict=True)]
    first = set(islice((i for i, make in enumerate(every) if make is not None), most))
    return [make if i in first else None for i, make in enumerate(every)]


def _readers(run: FinishedRun, image_ids: Sequence[int]) -> dict[int, Callable[[], np.ndarray]]:
    """Return a function for each image that reads its pixels again.

    The result is empty if the input no longer exists.
    """
    try:
        inputs = InputReader(run)
    except ConfigError as error:
        log.warning("%s", error)
        return {}
    return {
        i: partial(inputs.read, entry, size_hw)
        for i, entry, size_hw in iterate_entries(run, image_ids)
    }


def _originals(run: FinishedRun, images: pa.Table) -> dict[str, list[str | None]]:
    """Return the address of each original for the page, None for an image without an address.

    The result is empty if the page's script derives the addresses itself.
    """
    if run.locations.have_derived_links:
        return {}
    try:
        link = InputReader(run).link
    except ConfigError:
        return {"original": [None] * len(images)}
    return {"original": [link(key) for key in images["key"].to_pylist()]}


def _thumbnail(folder: RunFolder, overlay: str) -> bytes:
    """Make the thumbnail of an overlay. The overlay is fetched only when this is called."""
    return prepare_from_overlay(folder.local(overlay))()


def _summary(run: FinishedRun) -> dict[str, Any]:
    """Return the variables of the page's head: the run's facts and its times."""
    named = {"task": run.task, "model": run.record["model"], "facts": _facts(run)}
    return named | {
        "n_planned": run.plan.n_images,
        "stages": summarize_stages(read_timings(run.folder.local("timing.jsonl"))),
    }


def _facts(run: FinishedRun) -> dict[str, str]:
    """Return how the run was made, as name -> text in the order of the page.

    Facts that run.json does not contain are omitted.
    """
    record, determined_by = run.record, run.record["fingerprint_of"]
    filters = {name: value for name, value in determined_by["filters"].items() if value is not None}
    engine = [record.get("device"), determined_by.get("engine", {}).get("precision")]
    facts = {
        "input": str(run.input),
        "weights": record.get("weights"),
        "SHA-256 of the weights": record.get("weights_sha256"),
        "filters": ", ".join(f"{name} {value}" for name, value in filters.items()),
        "device": " ".join(text for text in engine if text),
        "versions": ", ".join(
            f"{name} {version}" for name, version in record.get("libraries", {}).items()
        ),
        "folder": run.path.name,
    }
    return {name: value for name, value in facts.items() if value}


def _addresses(run: FinishedRun, place: Location) -> dict[str, Any]:
    """Return what the page's script needs to find pictures and class names.

    Addresses are percent-encoded.
    """
    overlays, root = f"{run.path}/overlays", run.input
    if isinstance(run.path, Path) and isinstance(place, Path):
        overlays = os.path.relpath(overlays, place)
    elif place == run.path:
        overlays = "overlays"
    return {
        "classes": dict(enumerate(run.categories)),
        "block": BLOCK_SIZE,
        "overlays": quote_from_bytes(os.fsencode(overlays)),
        "input": root.absolute().as_uri() if isinstance(root, Path) else str(root),
    }
