"""Images whose names differ only by the suffix, in formats that tell images apart without it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from defusedxml import ElementTree

from pipeline.cli import main
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

Export = Callable[..., Path]


def list_coco(folder: Path) -> list[str]:
    return [
        one["file_name"] for one in json.loads((folder / "annotations.json").read_text())["images"]
    ]


def list_cvat(folder: Path) -> list[str]:
    root = ElementTree.parse(folder / "annotations.xml").getroot()
    return [one.attrib["name"] for one in root.iter("image")]


def list_fiftyone(folder: Path) -> list[str]:
    data, labels = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("data", "labels")
    )
    assert [name.removesuffix(Path(name).suffix) for name in data] == list(labels["labels"])
    return list(data)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("image1.jpg", "image1.png"):
        picture(40, 30).save(tmp_path / "in" / name)
    rows = [
        Row("image1.jpg", (30, 40), [box(1, 0.9, 0, 0, 9, 9)]),
        Row("image1.png", (30, 40), [box(2, 0.8, 10, 10, 30, 30)]),
    ]
    return made_run(tmp_path / "run", rows, input=tmp_path / "in")


@pytest.mark.parametrize(
    ("to", "list_names"), [("coco", list_coco), ("cvat", list_cvat), ("fiftyone", list_fiftyone)]
)
def test_the_second_is_called_otherwise(
    to: str,
    list_names: Callable[[Path], list[str]],
    run: Path,
    export: Export,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = export(run, to, "images=copy")
    assert list_names(folder) == ["image1.jpg", "image1.png.png"]
    copies = sorted(path.name for path in folder.rglob("image1.*"))
    assert copies == ["image1.jpg", "image1.png.png"]
    assert "1 images are called otherwise there" in caplog.text


@pytest.mark.long
def test_the_run_is_still_evaluated_with_its_own_export(
    run: Path, export: Export, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = export(run, "coco") / "annotations.json"
    assert main(["evaluate", f"run={run}", f"truth={truth}"]) == 0
    assert "2 images" in (text := capsys.readouterr().out) and "not in the run" not in text
