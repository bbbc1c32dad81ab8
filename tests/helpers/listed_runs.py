"""Finished runs whose images are not files below one folder: over a manifest, and over a Parquet file."""

from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.core.protocols import Source
from pipeline.inputs.sources.hf_parquet import HfParquet
from pipeline.inputs.sources.manifest import Manifest
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture


def manifest_run(folder: Path) -> tuple[Path, list[Path]]:
    """(run, its images in the order of their keys): one below the manifest's folder, one not, and an address."""
    (folder / "lists").mkdir(parents=True)
    images = [folder / "elsewhere.png", folder / "lists" / "near.png"]
    for number, image in enumerate(images):
        picture(40 + number, 30, seed=number).save(image)
    (folder / "lists" / "a.txt").write_text(f"near.png\n{images[0]}\ns3://bucket/far.png\n")
    settings = {"column": "path", "root": None, "carry": []}
    return _run(folder, Manifest(str(folder / "lists" / "a.txt"), **settings), settings, 2), images


def table_run(folder: Path) -> tuple[Path, list[Path]]:
    """(run, files with the images of its rows)."""
    folder.mkdir(parents=True)
    images = [folder / "0.png", folder / "1.png"]
    for number, image in enumerate(images):
        picture(40 + number, 30, seed=number).save(image)
    rows = [{"bytes": image.read_bytes(), "path": image.name} for image in images]
    pq.write_table(pa.table({"picture": rows}), folder / "a.parquet")
    settings = {"column": "picture", "carry": []}
    return _run(folder, HfParquet(str(folder / "a.parquet"), **settings), settings, 2), images


def _run(folder: Path, source: Source, settings: dict, readable: int) -> Path:
    with closing(source):
        keys = [entry.key for entry in source.entries()]
        rows = [
            Row(key, (30, 40 + i), [box(1, 0.5, 0, 0, 9, 9)])
            for i, key in enumerate(keys[:readable])
        ]
        rows += [Row(key, None, status="unreadable", error="far") for key in keys[readable:]]
        return made_run(folder / "run", rows, listed=source, source_settings=settings, shard_size=1)


def pixels(image: Path) -> bytes:
    return Image.open(image).convert("RGB").tobytes()
