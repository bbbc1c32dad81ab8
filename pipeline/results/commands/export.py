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
from pipeline.core.package_files import find_resource
from pipeline.core.protocols import ExportContext, Exporter
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


def run_command(options: Options) -> str:
    """Export a run and return the command's output text.

    The text also lists what the export lacks.
    """
    run, exporter = FinishedRun.open(options.run), build_exporter(options.to)
    contents = find_task(run.task).contents
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
            f"to={options.to} holds {held}; the run has {found}. to=jsonl holds everything."
        )
    target = options.output or run.path / "exports" / options.to
    rows = images = n_failed = n_duplicates = 0
    with (
        publish_folder(target.absolute(), replace=options.output is None) as stage,
        closing(ImagePlacer(run, exporter.image_folder, options.images, stage)) as placer,
        exporter.open(
            ExportContext(
                stage, run.schema, contents, placer.root, placer, run.path.name, target.name
            )
        ) as writer,
    ):
        for shard_id in run.shard_ids:
            shard_images, predictions = (
                run.read_table("images", shard_id),
                run.read_table("predictions", shard_id),
            )
            placer.load_shard(shard_id, shard_images)
            held = shard_images if "failures" in exporter.holds else select_usable(shard_images)
            writer.write(held, predictions)
            rows, images = rows + len(predictions), images + len(held)
            if held is not shard_images:
                n_failed += pc.sum(mark_failed(shard_images)).as_py()
                n_duplicates += pc.sum(mark_duplicates(shard_images)).as_py()
    # Areas are not reported as lost, because they can be computed from the masks.
    lost = sorted(contents - exporter.holds - {Content.AREAS})
    lines = [f"{target}: {images:,} images, {rows:,} predictions."]
    lines += (
        [f"Not in it, because {options.to} has no place for them: {', '.join(lost)}."]
        if lost
        else []
    )
    lines += (
        [f"Not in it: {n_failed:,} images that failed; images/ in {run.path} says why."]
        if n_failed
        else []
    )
    lines += (
        [f"Not in it: {n_duplicates:,} duplicates, which were not looked at."]
        if n_duplicates
        else []
    )
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
    return "\n".join(lines)


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
