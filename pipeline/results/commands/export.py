"""Convert a finished run to another program's format: export run=outputs/latest to=coco.

The output names everything that the format cannot hold.
"""

import os
import shutil
from collections.abc import Callable
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
from pipeline.core.keys import resolve_below
from pipeline.core.locations import Location
from pipeline.core.package_files import find_resource
from pipeline.core.protocols import ExportContext, Exporter
from pipeline.core.tables import mark_duplicates, mark_failed, select_usable
from pipeline.core.task_roles import Content
from pipeline.core.types import Entry, InputError
from pipeline.results.input_reader import InputReader
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
        check_choice("none", "link", "copy"),
        "none",
        "put the images into the export: none, link or copy",
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
        closing(_Placing(run, exporter.image_folder, options.images, stage)) as place,
        exporter.open(
            ExportContext(stage, run.schema, contents, place.root, place, run.path.name)
        ) as writer,
    ):
        for shard_id in run.shard_ids:
            place.shard(shard_id)
            shard_images, predictions = (
                run.read_table("images", shard_id),
                run.read_table("predictions", shard_id),
            )
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
    if place.elsewhere:
        lines.append(
            f"{place.elsewhere:,} images are no files below {run.input}; images=copy puts them "
            "beside it."
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


class _Placing:
    """Function that links or copies images into the export: `ExportContext.place_image`.

    An image that is not a separate file, such as a row of a Parquet file, can only be copied.
    """

    def __init__(self, run: FinishedRun, image_folder: str, images: str, stage: Path) -> None:
        self.run, self.image_folder, self.images, self.stage = run, image_folder, images, stage
        self.locations = run.locations
        files = self.locations.keys_are_files and isinstance(run.input, Path)
        self.root = (
            run.input if isinstance(run.input, Path) else Path(run.input.text.partition("://")[2])
        )
        self.inputs = None if files or images == "none" else InputReader(run)
        self.entries: dict[str, Entry] = {}
        self.elsewhere = (
            0  # number of images that are not files below the input and were not copied
        )

    def shard(self, shard_id: int) -> None:
        """Load the plan's entries of a shard, whose images are placed next."""
        if self.inputs:
            self.entries = {
                entry.key: entry for entry in self.run.plan.read_shard(shard_id).entries
            }

    def close(self) -> None:
        if self.inputs:
            self.inputs.close()

    def __call__(self, key: str, name: str) -> Path:
        """Place the image `key` under `name` and return its path for the export.

        Raises:
            ConfigError: the image cannot be linked or copied there.
        """
        source, placed = resolve_below(self.root, key), resolve_below(Path(self.image_folder), name)
        if source is None or placed is None:
            reason = f"the image {key!r} leads out of its folder. This run was not made by a run."
            raise ConfigError(f"run={self.run.path}: {reason}")
        if self.images == "none":
            self.elsewhere += not self.locations.is_below_root(key)
            return self.locations.find_file(key) or source
        target = self.stage / placed
        if os.path.lexists(target):
            reason = f"two images would be {placed}, one of them {key!r}. Say images=none."
            raise ConfigError(f"images={self.images}: {reason}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.inputs:
            self._put_input(self.inputs, key, target)
        else:
            self._put_file(source, target)
        return placed

    def _put_file(self, source: Path, target: Path) -> None:
        if not source.is_file():
            reason = f"{source} is not there any more, or no file of its own (a frame of a video)."
            raise ConfigError(f"images={self.images}: {reason}")
        put: Callable[[Path, Path], object] = (
            os.symlink if self.images == "link" else shutil.copyfile
        )
        put(source, target)

    def _put_input(self, inputs: InputReader, key: str, target: Path) -> None:
        if self.images == "link":
            file = self.locations.find_file(key)
            if file is None:
                raise ConfigError(
                    f"images=link: {key} is no file of its own to link to. Say images=copy."
                )
            return self._put_file(file, target)
        if key not in self.entries:
            reason = (
                f"the image {key!r} is not where its plan has it. This run was not made by a run."
            )
            raise ConfigError(f"run={self.run.path}: {reason}")
        try:
            with inputs.open(self.entries[key]) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
        except InputError as error:
            raise ConfigError(f"images=copy: {key}: {error}.") from None
