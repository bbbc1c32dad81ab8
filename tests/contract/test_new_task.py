"""A new task is a file of code, a file of configuration and a test, and no edit elsewhere.

The files of two toy tasks are added to a copy of the program. Every verb that meets a task then
works on their runs, or refuses with a sentence that says why.
"""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers.paths import SAMPLES
from tests.helpers.program_copy import ProgramCopy

pytestmark = pytest.mark.long

TOYS = ("toy", "toy_label")
PICTURES = ("astronaut.jpg", "bricks.jpg", "desk/page.jpg", "yard/grass.jpg")
N_IMAGES = len(PICTURES)


def run_task(program: ProgramCopy, task: str) -> Path:
    """Run a task over the samples. Returns the run's folder."""
    words = [f"task={task}", "model=codes", "input=in", "min_score=0.1", f"output=out/{task}"]
    program.call("run", *words, "log_level=error")
    return (program.folder / "out" / task / "latest").resolve()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> ProgramCopy:
    made = ProgramCopy.create(tmp_path_factory.mktemp("program"))
    folder = made.folder
    (folder / "in").mkdir()
    for name in PICTURES:
        shutil.copy(SAMPLES / name, folder / "in")
    components = Path(__file__).parent / "new_components"
    for toy in TOYS:
        shutil.copy(components / f"task_{toy}.py", folder / "pipeline" / "tasks" / f"{toy}.py")
        shutil.copy(components / f"task_{toy}.yaml", folder / "conf" / "task" / f"{toy}.yaml")
    return made


@pytest.fixture(scope="module")
def boxes(program: ProgramCopy) -> Path:
    """The folder of a run of the task `toy`, whose rows are boxes."""
    return run_task(program, "toy")


@pytest.fixture(scope="module")
def labels(program: ProgramCopy) -> Path:
    """The folder of a run of the task `toy_label`, whose rows are classes of images."""
    return run_task(program, "toy_label")


def read_rows(run: Path) -> list[dict]:
    rows = pq.read_table(run / "predictions", partitioning=None).to_pylist()
    assert rows
    return rows


def test_boxes_are_found_and_drawn(boxes: Path) -> None:
    rows = read_rows(boxes)
    assert len(list((boxes / "overlays").rglob("*.jpg"))) == N_IMAGES
    for row in rows:
        ratio = (row["x_max"] - row["x_min"]) / (row["y_max"] - row["y_min"])
        assert row["aspect_ratio"] == pytest.approx(ratio, abs=0.006)
    assert "qr code" in (boxes / "report.html").read_text()


def test_boxes_are_read_by_every_verb(program: ProgramCopy, boxes: Path) -> None:
    n, run = len(read_rows(boxes)), f"run={boxes}"
    report = program.call("report", run)
    assert f"{N_IMAGES} of {N_IMAGES} images" in report
    assert '"box":[' in (boxes / "report.html").read_text()
    assert f"{n} crops" in program.call("crops", run)
    assert f"{n} predictions" in program.call("export", run, "to=coco")
    exported = json.loads((boxes / "exports" / "coco" / "annotations.json").read_text())
    assert len(exported["annotations"]) == n
    for to in ("csv", "jsonl"):
        program.call("export", run, f"to={to}")
        (file,) = (boxes / "exports" / to).glob(
            "predictions.csv" if to == "csv" else "images.jsonl"
        )
        assert "aspect_ratio" in file.read_text()


def test_boxes_are_evaluated(program: ProgramCopy, boxes: Path) -> None:
    program.call("export", f"run={boxes}", "to=coco", "output=truth")
    truth = program.folder / "truth" / "annotations.json"
    text = program.call("evaluate", f"run={boxes}", f"truth={truth}")
    assert "boxes: IoU 0.50 to 0.95" in text
    summary = json.loads((boxes / "evaluation" / "summary.json").read_text())
    assert summary["figures"]["boxes"]["ap50"] == pytest.approx(1.0)


def test_boxes_are_filtered_compared_and_watched_for_drift(
    program: ProgramCopy, boxes: Path
) -> None:
    program.call("refilter", f"run={boxes}", "min_score=0.5", "output=out/strict")
    (strict,) = (program.folder / "out" / "strict").glob("toy-*")
    assert 0 < len(read_rows(strict)) < len(read_rows(boxes))
    assert "aspect_ratio" in read_rows(strict)[0]
    text = program.call("compare", f"runs=[{boxes},{strict}]")
    assert f"{len(read_rows(strict))} the same" in text and " 0 added" in text
    assert "No drift" in program.call("drift", f"run={boxes}", f"reference={boxes}", "brightness=2")


def test_labels_of_images_are_found_and_read(program: ProgramCopy, labels: Path) -> None:
    n, run = len(read_rows(labels)), f"run={labels}"
    assert 0 < n <= N_IMAGES
    assert '"box":' not in (labels / "report.html").read_text()
    assert f"{N_IMAGES} of {N_IMAGES} images" in program.call("report", run)
    assert f"{n} predictions" in program.call("export", run, "to=labelstudio")
    drift = program.call("drift", run, f"reference={labels}", "brightness=0")
    assert "No drift" in drift and "detections per image" not in drift
    assert f"0 of {N_IMAGES} images changed" in program.call("compare", f"runs=[{labels},{labels}]")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["crops"], "toy_label has no boxes to cut out"),
        (["repeats"], "toy_label has no boxes"),
        (["export", "to=coco"], "to=coco holds boxes, keypoints, masks; the run has labels"),
        (["evaluate", "truth=in"], "an object's class is not the class of its image"),
        (["refilter", "nms_iou=0.5"], "nms_iou: toy_label has no such filter"),
    ],
)
def test_what_labels_cannot_do_is_refused(
    words: list[str], message: str, program: ProgramCopy, labels: Path
) -> None:
    assert message in program.call(words[0], f"run={labels}", *words[1:], code=2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tiles.size=200"], "tiles.size means nothing to task=toy_label"),
        (["flip=true"], "flip=true means nothing to task=toy_label"),
        (["nms_iou=0.5"], "nms_iou means nothing to task=toy_label"),
        (["model=resnet18", "weights=random"], "model=resnet18 cannot do task=toy_label"),
    ],
)
def test_what_a_task_cannot_do_is_refused_before_the_model_is_loaded(
    words: list[str], message: str, program: ProgramCopy
) -> None:
    given = ["run", "task=toy_label", "model=codes", "input=in", "output=out/refused", *words]
    assert message in program.call(*given, code=2)
    assert not (program.folder / "out" / "refused").exists()


def test_runs_of_two_tasks_that_are_compared_in_other_ways_are_refused(
    program: ProgramCopy, boxes: Path, labels: Path
) -> None:
    text = program.call("compare", f"runs=[{boxes},{labels}]", code=2)
    assert "toy and toy_label have nothing in common that could be compared" in text


def test_a_model_is_described_with_the_tasks_that_it_serves(program: ProgramCopy) -> None:
    assert "detect, toy, toy_label" in program.call("inspect", "task=toy", "model=codes")
