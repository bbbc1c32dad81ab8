"""The verb: what it leaves and says."""

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.results.commands.evaluate import Options, run_command
from pipeline.tasks.detect import Detect
from tests.helpers.made_runs import Row, box, made_run
from tests.results.evaluation.coco_truth import write_truth

NAMES = {1: "dog", 2: "cat", 3: "stop sign"}
PICTURES = ("confusion.png", "f1.png", "precision_recall.png")
LEFT = {".visionbatch", "confusion.csv", "per_class.csv", "summary.json", *PICTURES}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    rows = [
        Row("a.jpg", found=[box(1, 0.9, 0, 0, 10, 10), box(2, 0.6, 50, 50, 90, 90)]),
        Row("b.jpg"),
    ]
    return made_run(tmp_path / "run", rows)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    boxes = [(1, [0, 0, 10, 10]), (1, [50, 50, 40, 40])]
    annotations = [{"image_id": "a.jpg", "category_id": k, "bbox": xywh} for k, xywh in boxes]
    return write_truth(
        tmp_path / "t.json", {"a.jpg": (480, 640), "b.jpg": (480, 640)}, annotations, NAMES
    )


def said(run: Path, truth: Path, *words: str) -> str:
    return run_command(read_options("evaluate", [f"run={run}", f"truth={truth}", *words], Options))


def test_what_it_leaves(run: Path, truth: Path) -> None:
    text = said(run, truth)
    assert (
        "2 images in truth, 2 of them usable in the run" in text and "1  dog found as cat" in text
    )
    folder = run / "evaluation"
    assert {path.name for path in folder.iterdir()} == LEFT
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["figures"]["boxes"]["ap50"] == pytest.approx(
        51 / 101
    )  # recall 0.5 is reached, with all right
    assert summary["images"] == {
        "truth": 2,
        "duplicates": 0,
        "failed": 0,
        "not_in_run": 0,
        "not_in_truth": 0,
    }
    assert summary["settings"]["confusion_score"] == 0.5 and len(summary["truth_sha256"]) == 64
    with (folder / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["f1"]) for row in rows] == [
        ("dog", str(2 / 3)),
        ("cat", ""),
        ("stop sign", ""),
    ]
    assert [row["class"] for row in summary["classes"]] == ["dog", "cat", "stop sign"]
    with (folder / "confusion.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["truth", "found", "objects"],
            ["dog", "dog", "1"],
            ["dog", "cat", "1"],
        ]
    for name in PICTURES:
        with Image.open(folder / name) as image:
            assert image.width > 300 and image.convert("L").getextrema() != (255, 255)


def test_the_confusion_matrix_has_a_threshold(run: Path, truth: Path) -> None:
    said(run, truth, "score=0.7")
    assert "dog,background" in (run / "evaluation" / "confusion.csv").read_text().replace('"', "")


def test_again_gives_the_same_bytes_and_a_users_folder_is_kept(
    run: Path, truth: Path, tmp_path: Path
) -> None:
    said(run, truth)
    before = {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()}
    (run / "evaluation" / "old.txt").touch()
    said(run, truth)
    assert {path.name: path.read_bytes() for path in (run / "evaluation").iterdir()} == before
    said(run, truth, f"output={tmp_path / 'mine'}")
    with pytest.raises(ConfigError, match="there is something already"):
        said(run, truth, f"output={tmp_path / 'mine'}")


def test_names_that_a_picture_would_take_for_formulas(tmp_path: Path) -> None:
    names = ("__background__", "$x^{", "a_b <img>", "ß" * 40)
    run = made_run(
        tmp_path / "run",
        [Row("a.jpg", found=[box(k, 0.9, 0, 0, 9, 9) for k in (1, 2, 3)])],
        categories=names,
    )
    boxes = [{"image_id": "a.jpg", "category_id": k, "bbox": [0, 0, 9, 9]} for k in (1, 2, 3)]
    said(
        run, write_truth(tmp_path / "t.json", {"a.jpg": (480, 640)}, boxes, dict(enumerate(names)))
    )
    assert {path.name for path in (run / "evaluation").iterdir()} == LEFT


@pytest.mark.long
def test_more_classes_than_a_picture_holds(tmp_path: Path) -> None:
    names = [f"class {i}" for i in range(150)]
    found = [{"class_id": i, "score": 0.9, "rank": 1} for i in range(150)]
    run = made_run(
        tmp_path / "run",
        [Row(f"{i:03d}.jpg", found=[found[i]]) for i in range(150)],
        "classify",
        names,
        top_k=5,
    )
    (tmp_path / "t.csv").write_text(
        "key,label\n" + "".join(f"{i:03d}.jpg,{i}\n" for i in range(150))
    )
    text = said(run, tmp_path / "t.csv")
    assert "top1" in text and "134 more in per_class.csv" in text
    assert {path.name for path in (run / "evaluation").iterdir()} == LEFT


def test_pixels_have_a_picture_of_their_own(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [Row("a.jpg", (4, 4))], "segment", ("__background__", "road"))
    (tmp_path / "truth").mkdir()
    Image.new("L", (4, 4), 1).save(tmp_path / "truth" / "a.png")
    assert "miou" in said(run, tmp_path / "truth")
    assert {path.name for path in (run / "evaluation").iterdir()} == LEFT - {
        "f1.png",
        "precision_recall.png",
    } | {"iou.png"}


def test_from_the_command_line(run: Path, truth: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["evaluate", f"run={run}", f"truth={truth}"]) == 0
        and "ap50" in capsys.readouterr().out
    )
    assert (
        main(["evaluate", f"run={run}"]) == 2 and "evaluate needs truth=" in capsys.readouterr().err
    )
    assert (
        main(["evaluate", f"run={run}", "truth=nowhere.json"]) == 2
        and "no such file" in capsys.readouterr().err
    )
    assert main(["evaluate", "--help"]) == 0 and "COCO's format" in capsys.readouterr().out


def test_truth_is_asked_for_only_if_the_task_can_be_evaluated(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = read_options("evaluate", [f"run={run}"], Options)
    with pytest.raises(ConfigError, match=r"needs truth=FILE or FOLDER.*docs/evaluate\.md"):
        run_command(options)
    monkeypatch.setattr(Detect, "evaluations", "there is no measure.")
    with pytest.raises(ConfigError, match="task=detect cannot be evaluated: there is no measure"):
        run_command(options)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_no_text_of_a_table_is_a_formula(name: str, tmp_path: Path) -> None:
    names = ("__background__", name, "a=b")
    run = made_run(
        tmp_path / "run",
        [Row("a.jpg", found=[box(k, 0.9, 0, 0, 9, 9) for k in (1, 2)])],
        categories=names,
    )
    boxes = [{"image_id": "a.jpg", "category_id": k, "bbox": [0, 0, 9, 9]} for k in (1, 2)]
    said(run, write_truth(tmp_path / "t.json", {"a.jpg": (480, 640)}, boxes, {1: name, 2: "a=b"}))
    for file, column in (
        ("per_class.csv", "class"),
        ("confusion.csv", "truth"),
        ("confusion.csv", "found"),
    ):
        with (run / "evaluation" / file).open(newline="", encoding="utf-8") as opened:
            found = {row[column] for row in csv.DictReader(opened)}
        assert found >= {"'" + name, "a=b"} and name not in found
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    assert name in [row["class"] for row in summary["classes"]]


def test_truth_that_counts_no_pixel_leaves_what_is_there(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [Row("a.jpg", (2, 3))], "segment")
    (run / "evaluation").mkdir()
    (run / "evaluation" / "summary.json").write_text("before")
    (tmp_path / "truth").mkdir()
    Image.new("L", (3, 2), 255).save(tmp_path / "truth" / "a.png")
    with pytest.raises(ConfigError, match="every pixel is 255"):
        said(run, tmp_path / "truth")
    assert (run / "evaluation" / "summary.json").read_text() == "before"
