"""The command line from a user's point of view."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from tests.helpers.paths import REPOSITORY, SAMPLES


def read_output(capsys: pytest.CaptureFixture[str]) -> str:
    out, err = capsys.readouterr()
    return out + err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "usage: visionbatch"),
        (["--help"], 0, "usage: visionbatch"),
        (["run", "--help"], 0, "  min_score      lowest score: one number, or one for each class"),
        (["rum"], 2, "Did you mean 'run'?"),
        (["run", "bacth_size=3"], 2, "Did you mean 'batch_size'"),
        (["run", "task=detcet"], 2, "Did you mean 'detect'?"),
        (["run", "samples"], 2, "expected key=value"),
        (["run", "classes=dog,cat"], 2, "write classes=[dog,cat]"),
        (["run", "min_score={qr code: 0.9"], 2, "cannot be read"),
        (["run", "task._target_=os.system"], 2, "unknown setting 'task._target_'"),
        (["run", "+engine.extra=1"], 2, "extra"),
        (["sweep", "task=detect,detcet"], 2, "detcet"),
    ],
)
def test_a_wrong_word_gets_an_answer_and_no_traceback(
    arguments: list[str],
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    answer = read_output(capsys)
    assert text in answer and "Traceback" not in answer


def test_a_run_ends_with_a_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "task=detect", f"output={tmp_path}", "overlays=false"]) == 0
    text = read_output(capsys)
    for expected in (
        "Complete: 12 images, 19 predictions",
        "qr code          8",
        "images/s",
        "forward",
        f"{tmp_path}/latest",
    ):
        assert expected in text
    assert main(["run", "task=detect", f"output={tmp_path}", "overlays=false"]) == 0
    assert "nothing was left to do" in read_output(capsys)


@pytest.mark.long
def test_a_sweep_leaves_one_folder_for_each_combination(tmp_path: Path) -> None:
    images = f"input={SAMPLES / 'desk'}"
    assert (
        main(
            [
                "sweep",
                "model=codes",
                images,
                f"output={tmp_path}",
                "min_score=0.3,0.5",
                "classes=null,[barcode]",
            ]
        )
        == 0
    )
    runs = [path for path in tmp_path.iterdir() if path.name.startswith("detect-codes-")]
    assert len(runs) == 4
    assert all((run / "_committed" / "00000000.json").is_file() for run in runs)


@pytest.mark.long
def test_a_path_full_of_special_characters_through_make(tmp_path: Path) -> None:
    folder = tmp_path / 'My Photos (2024), it\'s = "q" $HOME ü~'
    folder.mkdir()
    (folder / "a picture.jpg").write_bytes((SAMPLES / "bricks.jpg").read_bytes())
    makefile = (
        (REPOSITORY / "Makefile")
        .read_text()
        .replace("PY     := $(VENV)/bin/python", f"PY     := {sys.executable}")
    )
    (tmp_path / "Makefile").write_text(makefile)
    (tmp_path / ".venv").mkdir()
    for name in (
        "pyproject.toml",
        "constraints.txt",
        ".venv/.run",
    ):  # make finds that everything is set up
        (tmp_path / name).touch()
    words = [
        f"input={folder}",
        "min_score={default: 0.5, qr code: 0.9}",
        "model=codes",
        f"output={tmp_path / 'out'}",
    ]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["make", "run", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Complete: 1 images" in done.stdout
    assert (tmp_path / "out" / "latest" / "overlays" / "a picture.jpg").is_file()


@pytest.mark.long
def test_the_wheel_carries_what_a_run_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("visionbatch-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    run = [sys.executable, "-m", "pipeline", "run", "task=detect", "output=out"]
    done = subprocess.run(
        run,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Complete: 12 images, 19 predictions" in done.stdout
    assert (tmp_path / "out" / "latest" / "report.html").is_file()  # its template is in the wheel
    assert (
        f"{tmp_path}/site/pipeline/data/samples"
        in (tmp_path / "out" / "latest" / "run.json").read_text()
    )


def test_the_supervising_process_imports_the_standard_library_only() -> None:
    """It must survive what crashes the process that computes."""
    code = (
        "import sys, pipeline.cli; "
        "print(*{name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names))"
    )
    before = [sys.executable, "-c", "import sys; print(*{n.split('.')[0] for n in sys.modules})"]
    started = subprocess.run(before, capture_output=True, text=True, check=True).stdout.split()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) - set(started) == {"pipeline"}


@pytest.mark.long
def test_the_locale_c_reads_names_in_utf_8(tmp_path: Path) -> None:
    """Without its UTF-8 mode, Python would take the letters of these names for broken bytes."""
    folder = tmp_path / "Fotos für Müller"
    folder.mkdir()
    shutil.copy(next(SAMPLES.glob("*.png")), folder / "Äpfel.png")
    command = [
        "run",
        "task=detect",
        "model=codes",
        f"input={folder}",
        f"output={tmp_path / 'Läufe'}",
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "pipeline", *command, "overlays=false"],
        cwd=REPOSITORY,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        check=False,
        timeout=300,
    )
    said = finished.stderr.decode()
    assert (finished.returncode, "UTF-8" in said) == (0, False), said
    images = pq.read_table(tmp_path / "Läufe" / "latest" / "images", partitioning=None)
    assert images["key"].to_pylist() == ["Äpfel.png"]
