"""A run over a folder with names and pictures that exports find difficult."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.config.command_options import read_options
from pipeline.ops.masks import encode_rle
from pipeline.results.commands.export import Options, run_command
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

NAMES = (
    "a.jpg",
    "grey.png",
    "image1.jpg",
    "image1.png",
    "images/b.jpg",
    "mit Blank \u00fc.jpg",
    "sub/a.jpg",
    "sub/deep/c.bmp",
    "turned.jpg",
    "x.webp",
)
SIZE_HW = (60, 80)
POINTS = ("nose", "left_eye", "right_eye")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients") / "photos"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    for name in NAMES:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if name == "turned.jpg":
            picture(60, 80).save(file, exif=exif)
        else:
            picture(80, 60).convert("L" if "grey" in name else "RGB").save(file)
    return folder


@pytest.fixture(scope="session")
def make_run(photos: Path) -> Callable[[str], Path]:
    """make_run("detect") returns a run with two objects on each image but the last."""

    def make(task: str) -> Path:
        mask = np.zeros(SIZE_HW, bool)
        mask[12:36, 16:48] = True
        mask[20:26, 24:32] = False
        more = {
            "detect": {},
            "instances": {"mask_rle": encode_rle(mask), "mask_height": 60, "mask_width": 80},
            "keypoints": {
                "keypoints": [
                    {"x": 20.0 + 5 * i, "y": 15.0 + 5 * i, "visibility": 1.0, "score": 1.0}
                    for i in range(len(POINTS))
                ]
            },
        }[task]
        found = [box(i, 0.75 - i / 8, 16, 12, 48, 36, **more) for i in (1, 3)]
        rows = [Row(name, SIZE_HW, found if name != NAMES[-1] else []) for name in NAMES]
        return made_run(
            photos.parent / task,
            rows,
            task,
            input=photos,
            sizes=[(photos / name).stat().st_size for name in NAMES],
            keypoint_names=POINTS if task == "keypoints" else (),
        )

    made: dict[str, Path] = {}
    return lambda task: made.setdefault(task, made.get(task) or make(task))


@pytest.fixture
def export(make_run: Callable[[str], Path], tmp_path: Path) -> Callable[[str, str], Path]:
    """export("detect", "coco") returns a folder with the export and upright images."""

    def call(task: str, to: str) -> Path:
        words = [f"run={make_run(task)}", f"to={to}", "images=upright"]
        run_command(read_options("export", [*words, f"output={tmp_path / to}"], Options))
        return tmp_path / to

    return call
