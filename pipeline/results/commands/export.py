"""Convert a finished run to another program's format: export run=outputs/latest to=coco.

The output names everything that the format cannot hold.
"""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
from omegaconf import OmegaConf

from pipeline.config.declare import setting
from pipeline.config.instantiate import instantiate
from pipeline.config.task_classes import find_task
from pipeline.config.validators import check_choice, check_optional_path, check_path, check_text
from pipeline.core.errors import ConfigError, suggest_nearest
from pipeline.core.locations import Location
from pipeline.core.output_protocols import ExportContext, Exporter, SinkWriter
from pipeline.core.package_files import find_resource
from pipeline.core.tables import mark_duplicates, mark_failed, select_usable
from pipeline.core.task_roles import Content
from pipeline.results.image_placing import ImagePlacer
from pipeline.runs.finished_run import FinishedRun
from pipeline.storage.publish import publish_folder


def list_formats() -> list[str]:
    """Return the names of the exporters in conf/exporter, sorted."""
    return sorted(file.stem for file in (find_resource("conf") / "exporter").glob("*.yaml"))


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")
    to: str = setting(check_text, help=f"the format: {', '.join(list_formats())}")
    output: Location | None = setting(
        check_optional_path,
        None,
        "a new folder; RUN/exports/FORMAT unless given, made anew each time",
    )
    images: str = setting(
        check_choice("none", "link", "copy", "upright"),
        "none",
        "put the images into the export: none, link, copy, or upright (copies turned upright)",
    )


@dataclass
class ExportCounts:
    """The images and rows of an export, and the images that it leaves out."""

    rows: int = 0
    images: int = 0
    failed: int = 0
    duplicates: int = 0


def run_command(options: Options) -> str:
    """Export a run and return the command's output text.

    The text also lists what the export lacks.
    """
    run, exporter = FinishedRun.open(options.run), build_exporter(options.to)
    contents = find_task(run.task).contents
    check_contents(run, contents, options.to, exporter)

    target = options.output or run.path / "exports" / options.to
    with (
        publish_folder(target.absolute(), replace=options.output is None) as stage,
        closing(ImagePlacer(run, exporter.image_folder, options.images, stage)) as placer,
        exporter.open(
            ExportContext(
                stage, run.schema, contents, placer.root, placer, run.path.name, target.name
            )
        ) as writer,
    ):
        counts = write_shards(run, writer, placer, "failures" in exporter.holds)

    # Areas are not reported as lost, because they can be computed from the masks.
    lost = sorted(contents - exporter.holds - {Content.AREAS})
    lines = [f"{target}: {counts.images:,} images, {counts.rows:,} predictions."]
    if lost:
        lines.append(f"Not in it, because {options.to} has no place for them: {', '.join(lost)}.")
    return "\n".join([*lines, *describe_missing(run, counts), *describe_placed(run, placer)])


def check_contents(
    run: FinishedRun, contents: frozenset[Content], name: str, exporter: Exporter
) -> None:
    """Raise ConfigError if the format can hold nothing of the run but scores."""
    if contents <= {Content.SCORES}:
        raise ConfigError(
            f"the rows of task={run.task} hold nothing that a format can hold, such as boxes or "
            f"labels. All their columns are in {run.path / 'predictions'}."
        )
    if not (contents & exporter.holds) - {Content.SCORES}:
        found, held = (
            ", ".join(sorted(words - {Content.SCORES})) for words in (contents, exporter.holds)
        )
        raise ConfigError(
            f"to={name} holds {held}; the run has {found}. to=jsonl holds everything."
        )


def write_shards(
    run: FinishedRun, writer: SinkWriter, placer: ImagePlacer, holds_failures: bool
) -> ExportCounts:
    """Write the tables of all shards. `holds_failures`: also the images that failed."""
    counts = ExportCounts()
    for shard_id in run.shard_ids:
        images = run.read_table("images", shard_id)
        predictions = run.read_table("predictions", shard_id)
        placer.load_shard(shard_id, images)
        held = images if holds_failures else select_usable(images)
        writer.write(held, predictions)

        counts.rows += len(predictions)
        counts.images += len(held)
        if held is not images:
            counts.failed += pc.sum(mark_failed(images)).as_py()
            counts.duplicates += pc.sum(mark_duplicates(images)).as_py()
    return counts


def describe_missing(run: FinishedRun, counts: ExportCounts) -> list[str]:
    """Return a line for each kind of image that the export leaves out."""
    lines = []
    if counts.failed:
        lines.append(
            f"Not in it: {counts.failed:,} images that failed; images/ in {run.path} says why."
        )
    if counts.duplicates:
        lines.append(f"Not in it: {counts.duplicates:,} duplicates, which were not looked at.")
    return lines


def describe_placed(run: FinishedRun, placer: ImagePlacer) -> list[str]:
    """Return a line for each kind of image that other programs may not find or show turned."""
    lines = []
    if placer.n_elsewhere:
        lines.append(
            f"{placer.n_elsewhere:,} images are no files below {run.input}; images=copy puts them "
            "beside it."
        )
    if placer.n_turned:
        lines.append(
            f"{placer.n_turned:,} images are stored turned, with an orientation in their metadata. "
            "Programs that ignore it, such as torchvision, show them otherwise than the boxes; "
            "images=upright stores them upright."
        )
    return lines


def build_exporter(name: str) -> Exporter:
    """Build the exporter of this name from its file in conf/exporter.

    Raises:
        ConfigError: there is no exporter of this name.
    """
    if name not in list_formats():
        raise ConfigError(
            f"to={name}: expected "
            f"{', '.join(list_formats())}.{suggest_nearest(name, list_formats())}"
        )
    node: Any = OmegaConf.load(find_resource("conf") / "exporter" / f"{name}.yaml")
    exporter: Exporter = instantiate(node)
    return exporter
