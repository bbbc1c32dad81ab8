"""A new source is a file of code, a file of configuration and a test, and no edit elsewhere.

The two files of a toy source, which is unlike the shipped ones, are added to a copy of the program.
Every verb that reads inputs then works on its run.
"""

import base64
import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.helpers.paths import SAMPLES
from tests.helpers.program_copy import ProgramCopy

COMPONENTS = Path(__file__).parent / "new_components"
pytestmark = pytest.mark.long
IMAGES = [SAMPLES / name for name in ("astronaut.jpg", "yard/grass.jpg", "yard/gravel.jpg")]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> ProgramCopy:
    program = ProgramCopy.create(tmp_path_factory.mktemp("program"))
    shutil.copy(COMPONENTS / "source_toy.py", program.folder / "pipeline/inputs/sources/toy.py")
    shutil.copy(COMPONENTS / "source_toy.yaml", program.folder / "conf/source/toy.yaml")
    lines = [base64.b64encode(path.read_bytes()) for path in (*IMAGES, IMAGES[0])]
    (program.folder / "images.txt").write_bytes(b"\n".join(lines))
    return program


@pytest.fixture(scope="module")
def run(program: ProgramCopy) -> Path:
    """The folder of a run over the toy source, with one overlay."""
    words = ["task=detect", "source=toy", "model=codes", "input=images.txt", "overlays=1"]
    program.call("run", *words, "log_level=error")
    return (program.folder / "outputs" / "latest").resolve()


@pytest.fixture(scope="module")
def n_found(run: Path) -> int:
    rows = pq.read_table(run / "predictions", partitioning=None).to_pylist()
    assert {row["line"] for row in rows} == {1, 2, 3, 4}
    assert all(row["key"] == f"line-{row['line']:06d}" for row in rows)
    return len(rows)


def test_images_are_shown_cut_out_and_measured(
    program: ProgramCopy, run: Path, n_found: int
) -> None:
    program.call("report", f"run={run}")
    page = (run / "report.html").read_text()
    (block,) = (line for line in page.splitlines() if 'id="thumbnails-0"' in line)
    assert block.count('"UklGR') == 4, "a thumbnail of each image, as WebP"
    assert '"original":[null,null,null,null]' in page
    assert f"{n_found} crops" in program.call("crops", f"run={run}")
    drift = program.call("drift", f"run={run}", f"reference={run}")
    assert "brightness" in drift and "cannot be read" not in drift
    assert "No drift" in drift


def test_an_export_is_the_truth_of_its_own_run(
    program: ProgramCopy, run: Path, n_found: int
) -> None:
    text = program.call("export", f"run={run}", "to=coco")
    assert f"4 images, {n_found} predictions" in text
    assert f"4 images are no files below {program.folder}; images=copy" in text
    truth = run / "exports" / "coco" / "annotations.json"
    program.call("evaluate", f"run={run}", f"truth={truth}")
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    assert summary["figures"]["boxes"]["ap50"] == pytest.approx(1.0)


def test_images_are_copied_but_not_linked(program: ProgramCopy, run: Path) -> None:
    program.call("export", f"run={run}", "to=coco", "images=copy", "output=copied")
    copies = sorted(path for path in (program.folder / "copied/images").iterdir())
    expected = [path.read_bytes() for path in (*IMAGES, IMAGES[0])]
    assert [copy.read_bytes() for copy in copies] == expected
    words = ["export", f"run={run}", "to=coco", "images=link", "output=linked"]
    assert "no file of its own to link to. Say images=copy." in program.call(*words, code=2)


def test_runs_are_compared_and_duplicates_are_found(program: ProgramCopy, run: Path) -> None:
    assert "0 of 4 images changed" in program.call("compare", f"runs=[{run},{run}]")
    program.call("duplicates", "source=toy", "input=images.txt", "output=found")
    (file,) = (program.folder / "found").glob("duplicates/*/duplicates.parquet")
    assert [(row["key"], row["first_key"]) for row in pq.read_table(file).to_pylist()] == [
        ("line-000004", "line-000001")
    ]


def test_a_run_whose_input_or_source_is_gone_is_still_a_run(
    program: ProgramCopy, run: Path, n_found: int
) -> None:
    images, conf = program.folder / "images.txt", program.folder / "conf/source/toy.yaml"
    images.rename(program.folder / "elsewhere.txt")
    message = program.call("crops", f"run={run}", "output=crops", code=2)
    assert "is not there any more" in message
    (program.folder / "elsewhere.txt").rename(images)

    conf.rename(program.folder / "toy.yaml")
    message = program.call("crops", f"run={run}", "output=crops", code=2)
    assert "was run over source=toy, which has no images that could be read again" in message
    text = program.call("export", f"run={run}", "to=csv", "output=table")
    assert f"{n_found} predictions" in text
    (program.folder / "toy.yaml").rename(conf)
