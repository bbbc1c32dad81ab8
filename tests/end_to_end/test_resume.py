"""Runs that are interrupted and resumed, with more or other inputs.

Tests of kills are in tests/faults.
"""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.core.errors import InputChanged
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.runs import read

SHARDS = 15


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """60 images: five copies of the samples' pictures."""
    for i in range(5):
        shutil.copytree(
            SAMPLES, tmp_path / "images" / str(i), ignore=shutil.ignore_patterns("*.json")
        )
    return tmp_path / "images"


def command(collection: Path, output: Path) -> list[str]:
    settings = [
        "task=detect",
        "model=codes",
        f"input={collection}",
        f"output={output}",
        "shard_size=4",
        "log_level=error",
    ]
    return [sys.executable, "-m", "pipeline", "run", *settings]


def start(collection: Path, output: Path) -> subprocess.Popen[bytes]:
    with (output.parent / "stderr.txt").open("w") as said:
        return subprocess.Popen(
            command(collection, output), cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=said
        )


def markers(output: Path) -> int:
    return len(list(output.glob("detect-*/_committed/*.json")))


@pytest.mark.long
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_with_its_own_code_and_it_goes_on_later(
    sent: int, code: int, collection: Path, tmp_path: Path
) -> None:
    process = start(collection, tmp_path / "out")
    while markers(tmp_path / "out") < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(sent)
    process.wait(30)
    said = (tmp_path / "stderr.txt").read_text()
    assert process.returncode == code, said
    assert "the same command resumes" in said and "Traceback" not in said
    assert 2 <= markers(tmp_path / "out") < SHARDS


def test_the_same_command_again_says_complete_and_computes_nothing(
    collection: Path, annotate: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = annotate(f"input={collection}", "model=codes", "limit=5")
    before = {path: path.stat().st_mtime_ns for path in first.rglob("part-*")}
    monkeypatch.setattr(
        "pipeline.models.formats.builder.TorchvisionBuilder.load",
        lambda self: pytest.fail("weights were loaded"),
    )
    assert (
        annotate(f"input={collection}", "model=codes", "limit=5", "batch_size=3", "workers=2")
        == first
    )
    assert {path: path.stat().st_mtime_ns for path in first.rglob("part-*")} == before


@pytest.mark.long
def test_new_files_become_appended_shards(collection: Path, annotate: Callable[..., Path]) -> None:
    run = annotate(f"input={collection}", "model=codes", "shard_size=25", "overlays=false")
    first = {path.name: path.read_bytes() for path in (run / "images").iterdir()}
    shutil.copy(SAMPLES / "coins.png", collection / "0" / "a first name.png")
    assert annotate(f"input={collection}", "model=codes", "shard_size=10", "overlays=false") == run
    again = {path.name: path.read_bytes() for path in (run / "images").iterdir()}
    assert {name: again[name] for name in first} == first
    assert sorted(set(again) - set(first)) == ["part-00000003.parquet"]
    assert read(run, "images")["key"].to_pylist()[-1] == "0/a first name.png"


@pytest.mark.long
def test_changed_settings_get_their_own_folder(annotate: Callable[..., Path]) -> None:
    runs = [
        annotate("limit=1", *more)
        for more in ([], ["min_score=0.6"], ["classes=[barcode]"], ["max_pixels=1_000_000"])
    ]
    assert len(set(runs)) == 4
    annotate("limit=1", "overlays=false")
    assert len(list(runs[0].parent.glob("detect-*"))) == 4, "pictures determine no row"
    assert all(read(run, "images").num_rows == 1 for run in runs)


@pytest.mark.long
def test_changed_files_are_named_and_refused_until_accepted(
    collection: Path, annotate: Callable[..., Path]
) -> None:
    settings = [f"input={collection}", "model=codes", "overlays=false"]
    run = annotate(*settings)
    before = read(run, "images")
    (collection / "1" / "coins.png").write_bytes(b"other")
    (collection / "2" / "camera.webp").unlink()
    with pytest.raises(
        InputChanged, match=r"1/coins\.png(.|\n)*2/camera\.webp(.|\n)*changed=accept"
    ):
        annotate(*settings)
    annotate(*settings, "changed=accept")
    assert read(run, "images").equals(before)
