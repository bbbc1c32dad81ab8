"""Make finished runs whose inputs are not files below one folder: a manifest and a Parquet file."""

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
    """Make a run over a manifest with an image elsewhere, an image beside it, and an address.

    Returns:
        The run folder, and its images in the order of their keys.
    """
    (folder / "lists").mkdir(parents=True)
    images = [folder / "elsewhere.png", folder / "lists" / "near.png"]
    for number, image in enumerate(images):
        picture(40 + number, 30, seed=number).save(image)
    (folder / "lists" / "a.txt").write_text(f"near.png\n{images[0]}\ns3://bucket/far.png\n")
    settings = {"column": "path", "root": None, "carry": []}
    return _run(folder, Manifest(str(folder / "lists" / "a.txt"), **settings), settings, 2), images


def table_run(folder: Path) -> tuple[Path, list[Path]]:
    """Make a run over a Parquet file with two images.

    Returns:
        The run folder, and files with the same images.
    """
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
    """Return the pixels of an image file as RGB bytes."""
    return Image.open(image).convert("RGB").tobytes()
