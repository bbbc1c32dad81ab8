"""A finished run in another program's format: export run=outputs/latest to=coco. What the format cannot hold is said."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from omegaconf import OmegaConf

from pipeline import checks
from pipeline.commit import published_folder
from pipeline.errors import ConfigError, nearest
from pipeline.finished import FinishedRun, contents, duplicates, failed, usable
from pipeline.keys import inside
from pipeline.options import option, path, path_or_none
from pipeline.parts import build
from pipeline.reread import Inputs
from pipeline.resources import resource
from pipeline.types import ExportContext, Exporter, InputError


def formats() -> list[str]:
    return sorted(file.stem for file in (resource("conf") / "exporter").glob("*.yaml"))


@dataclass(frozen=True)
class Options:
    run: Path = option(path, Path("outputs/latest"), "the run's folder")
    to: str = option(checks.some_text, help=f"the format: {', '.join(formats())}")
    output: Path | None = option(path_or_none, None, "a new folder; RUN/exports/FORMAT unless given, made anew each time")
    images: str = option(checks.one_of("none", "link", "copy"), "none", "the images beside it: none, link or copy")


def review(options: Options) -> str:
    run, exporter = FinishedRun.open(options.run), exporter_of(options.to)
    there = contents(run.schema)
    if not (there & exporter.holds) - {"scores"}:
        found, held = (", ".join(sorted(one - {"scores"})) for one in (there, exporter.holds))
        raise ConfigError(f"to={options.to} holds {held}; the run has {found}. to=jsonl holds everything.")
    target = options.output or run.path / "exports" / options.to
    rows = images = n_failed = n_duplicates = 0
    with (
        published_folder(target.absolute(), replace=options.output is None) as stage,
        exporter.open(_context(run, exporter, options.images, stage)) as writer,
    ):
        for shard_images, predictions in run.shards():
            held = shard_images if "failures" in exporter.holds else usable(shard_images)
            writer.write(held, predictions)
            rows, images = rows + len(predictions), images + len(held)
            if held is not shard_images:
                n_failed += pc.sum(failed(shard_images)).as_py()
                n_duplicates += pc.sum(duplicates(shard_images)).as_py()
    lost = sorted(there - exporter.holds)
    said = [f"{target}: {images:,} images, {rows:,} predictions."]
    said += [f"Not in it, because {options.to} has no place for them: {', '.join(lost)}."] if lost else []
    said += [f"Not in it: {n_failed:,} images that failed; images/ in {run.path} says why."] if n_failed else []
    said += [f"Not in it: {n_duplicates:,} duplicates, which were not looked at."] if n_duplicates else []
    if run.archived and options.images == "none":
        said.append("The images are in archives, where other programs do not find them; images=copy puts them beside it.")
    return "\n".join(said)


def exporter_of(name: str) -> Exporter:
    if name not in formats():
        raise ConfigError(f"to={name}: expected {', '.join(formats())}.{nearest(name, formats())}")
    exporter: Exporter = build(OmegaConf.load(resource("conf") / "exporter" / f"{name}.yaml"))  # type: ignore[arg-type]
    return exporter


def _context(run: FinishedRun, exporter: Exporter, images: str, stage: Path) -> ExportContext:
    put: Callable[[Path, Path], object] = os.symlink if images == "link" else shutil.copyfile
    unpack = _unpacking(run, images) if run.archived and images != "none" else None

    def place(key: str, name: str) -> Path:
        source, placed = inside(run.input, key), inside(Path(exporter.image_folder), name)
        if source is None or placed is None:
            raise ConfigError(f"run={run.path}: the image {key!r} leads out of its folder. This run was not made by a run.")
        if images == "none":
            return source
        target = stage / placed
        if unpack is None and not source.is_file():
            raise ConfigError(
                f"images={images}: {source} is not there any more, or no file of its own (a frame of a video)."
            )
        if os.path.lexists(target):
            raise ConfigError(f"images={images}: two images would be {placed}, one of them {key!r}. Say images=none.")
        target.parent.mkdir(parents=True, exist_ok=True)
        if unpack:
            unpack(key, target)
        else:
            put(source, target)
        return placed

    return ExportContext(stage, run.schema, run.input, place, run.path.name)


def _unpacking(run: FinishedRun, images: str) -> Callable[[str, Path], None]:
    """(key, target): writes a member of an archive out as it is. Exporters ask in the order of the plan."""
    if images == "link":
        raise ConfigError("images=link: the images are in archives, so there is nothing to link to. Say images=copy.")
    inputs, planned = Inputs(run), run.plan.in_order()

    def unpack(key: str, target: Path) -> None:
        entry = next((entry for entry in planned if entry.key == key), None)
        if entry is None:
            raise ConfigError(f"run={run.path}: the image {key!r} is not where its plan has it. No run made this one.")
        try:
            with inputs.open(entry) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
        except InputError as error:
            raise ConfigError(f"images={images}: {key!r} cannot be read any more: {error}.") from None

    return unpack
