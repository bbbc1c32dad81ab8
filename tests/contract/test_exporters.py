"""Every exporter, found by its configuration file: what it writes, where, and of which images."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from defusedxml import ElementTree

from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.core.keys import key_to_path
from pipeline.results.commands.export import Options, build_exporter, list_formats, run_command
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture

FAILED = "failed-image.jpg"
KEYS = (
    'a b&<img onerror=1>"é.jpg',
    "new\nline.jpg",
    "\x01control.jpg",
    r"\xff not UTF-8.jpg",
    r"\x5cx00 a backslash.jpg",
    "=formula.jpg",
    "-dash.jpg",
    "..jpg",
    "same.jpg",
    "same.png",
    "same/same.jpg",
    "images/same.jpg",
    "\u202eright to left.jpg",
    "l" * 251 + ".jpg",
    "l" * 251 + ".png",
    "]]>.jpg",
)
WORDS = {
    "boxes",
    "masks",
    "keypoints",
    "labels",
    "further classes",
    "scores",
    "embeddings",
    "failures",
}


def export(run: Path, to: str, folder: Path, *words: str) -> Path:
    run_command(
        read_options("export", [f"run={run}", f"to={to}", f"output={folder}", *words], Options)
    )
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def awkward(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a run over images with hard names and one failed image."""
    for key in KEYS:
        file = tmp_path / "in" / key_to_path(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(16, 12).save(file, "PNG" if key.endswith("png") else "JPEG")
    rows = [Row(key, (12, 16), [box(1, 0.5, i / 4, 0, 16, 12)]) for i, key in enumerate(KEYS)]
    rows.insert(3, Row(FAILED, None, status="empty", error="zero bytes"))

    def make(shard_size: int) -> Path:
        return made_run(
            tmp_path / "run" / str(shard_size) / "run",
            rows,
            input=tmp_path / "in",
            shard_size=shard_size,
        )

    return make


@pytest.mark.parametrize("to", list_formats())
def test_what_it_holds_is_named_by_the_houses_words(to: str) -> None:
    exporter = build_exporter(to)
    assert exporter.holds <= WORDS and exporter.holds - {"scores", "failures"}


@pytest.mark.parametrize("to", list_formats())
def test_every_image_that_is_ok_is_there_once_whatever_it_is_called(
    to: str, awkward: Callable[..., Path], tmp_path: Path
) -> None:
    folder = export(awkward(4), to, tmp_path / "out", "images=link")
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert sorted(str(path.resolve()) for path in links) == sorted(
        str(tmp_path / "in" / key_to_path(key)) for key in KEYS
    )
    assert all(path.is_relative_to(folder / build_exporter(to).image_folder) for path in links)
    written = b"".join(
        path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()
    )
    assert (FAILED.encode() in written) is ("failures" in build_exporter(to).holds)
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("in", "run")] == ["out"]


@pytest.mark.parametrize("to", list_formats())
def test_the_same_bytes_however_the_run_was_cut(
    to: str, awkward: Callable[..., Path], tmp_path: Path
) -> None:
    first, second = (
        files_of(export(awkward(size), to, tmp_path / f"out{size}")) for size in (1, 100)
    )
    assert first == second != {}


@pytest.mark.parametrize("to", list_formats())
def test_every_file_is_what_its_ending_says(
    to: str, awkward: Callable[..., Path], tmp_path: Path
) -> None:
    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    for path in export(awkward(4), to, tmp_path / "out").rglob("[!.]*.*"):
        if path.is_symlink():  # an image
            continue
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if path.suffix == ".json":
            assert json.loads(text, parse_constant=no_constant)
        elif path.suffix == ".jsonl":
            assert (
                len(
                    [
                        json.loads(line, parse_constant=no_constant)
                        for line in text.split("\n")
                        if line
                    ]
                )
                == len(KEYS) + 1
            )
        elif path.suffix == ".xml":
            ElementTree.fromstring(text)
        elif path.suffix == ".yaml":
            assert yaml.safe_load(text)
        elif path.suffix == ".csv":
            assert len(list(csv.reader(text.splitlines(keepends=True)))) == 1 + len(KEYS) + (
                path.stem == "images"
            )
        else:
            assert path.is_dir() or path.suffix == ".txt"


@pytest.mark.parametrize("to", list_formats())
@pytest.mark.parametrize(
    "key",
    [
        "../secret.jpg",
        "a/../../secret.jpg",
        "/etc/hostname",
        r"\x2e\x2e/secret.jpg",
        r"..\x2fsecret.jpg",
        r"\x2e\x2e/\x2e\x2e/secret.jpg",
        r"\x2fetc\x2fhostname",
    ],
)
def test_a_run_that_names_files_outside_of_its_input_is_refused(
    key: str, to: str, tmp_path: Path
) -> None:
    (tmp_path / "secret.jpg").write_text("")
    (tmp_path / "in" / "a").mkdir(parents=True)
    run = made_run(tmp_path / "run", [Row(key)], input=tmp_path / "in")
    with pytest.raises(ConfigError, match="leads out of its folder"):
        export(run, to, tmp_path / "out", "images=copy")
    assert {path.name for path in tmp_path.iterdir()} == {"secret.jpg", "run", "in"}


def test_exporting_does_without_torch() -> None:
    code = "import sys; from pipeline.results.commands.export import *"
    code += "; [build_exporter(name) for name in list_formats()]; print('torch' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )
