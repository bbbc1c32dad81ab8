"""skip_duplicates= keeps a row for each duplicate. The `duplicates` command lists them."""

from collections.abc import Callable
from pathlib import Path
from shutil import copy

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.inputs.decoding.image import decode_image
from pipeline.results.commands.verify import verify_run
from tests.helpers.pictures import picture
from tests.helpers.runs import read

pytestmark = pytest.mark.usefixtures("load_once")
Annotate = Callable[..., Path]


@pytest.fixture
def doubled(photos: Path) -> Path:
    """Return a folder of twelve photographs and two copies: one of equal bytes, one saved again."""
    from PIL import Image

    copy(photos / "03.jpg", photos / "03b.jpg")
    Image.open(photos / "07.jpg").save(photos / "sub.png")
    return photos


def statuses(run: Path) -> dict[str, tuple[str, str | None]]:
    return {
        row["key"]: (row["status"], row["error"])
        for row in read(run, "images").to_pylist()
        if row["status"] != "ok"
    }


@pytest.mark.long
@pytest.mark.parametrize(
    ("which", "expected"),
    [
        ("bytes", {"03b.jpg": ("duplicate", "the same bytes as 03.jpg")}),
        (
            "near",
            {
                "03b.jpg": ("duplicate", "the same bytes as 03.jpg"),
                "sub.png": ("duplicate", "looks like 07.jpg"),
            },
        ),
    ],
)
def test_a_twin_is_a_row_that_names_the_first(
    which: str, expected: dict, doubled: Path, annotate: Annotate
) -> None:
    settings = (
        "model=codes",
        f"input={doubled}",
        "shard_size=4",
        "min_score=0.05",
        "overlays=false",
    )
    plain, skipping = annotate(*settings), annotate(*settings, f"skip_duplicates={which}")
    assert statuses(plain) == {} and statuses(skipping) == expected and plain != skipping
    left = [row for row in read(plain, "predictions").to_pylist() if row["key"] not in expected]
    assert read(skipping, "predictions").to_pylist() == left
    assert "14 images with one row each" in verify_run(skipping)


def test_twins_are_no_failures(
    doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "run",
        "model=codes",
        f"input={doubled}",
        f"output={tmp_path}",
        "overlays=false",
        "skip_duplicates=near",
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert (
        "Complete: 14 images" in said and "images not usable" not in said and "duplicate  2" in said
    )
    assert main([*words, "retry=errors"]) == 0


@pytest.mark.long
def test_new_files_that_are_twins_of_old_ones(doubled: Path, annotate: Annotate) -> None:
    settings = ("model=codes", f"input={doubled}", "overlays=false", "skip_duplicates=bytes")
    run = annotate(*settings)
    copy(doubled / "11.jpg", doubled / "00a.jpg")
    assert annotate(*settings) == run
    assert statuses(run) == {
        "03b.jpg": ("duplicate", "the same bytes as 03.jpg"),
        "00a.jpg": ("duplicate", "the same bytes as 11.jpg"),
    }


@pytest.mark.long
def test_a_twin_that_is_another_picture_now_is_looked_at(doubled: Path, annotate: Annotate) -> None:
    settings = (
        "model=codes",
        f"input={doubled}",
        "overlays=false",
        "skip_duplicates=near",
        "shard_size=1",
    )
    run = annotate(*settings)
    copy(doubled / "00.jpg", doubled / "tmp.jpg")
    (doubled / "tmp.jpg").replace(doubled / "03b.jpg")
    picture(90, 70, seed=77).save(doubled / "03b.jpg")
    for marker in (run / "_committed").iterdir():
        marker.unlink()
    annotate(*settings, "changed=accept")
    assert list(statuses(run)) == ["sub.png"]


def test_a_resumed_run_skips_what_it_began_to_skip(
    doubled: Path, annotate: Annotate, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (
        "model=codes",
        f"input={doubled}",
        "overlays=false",
        "skip_duplicates=near",
        "shard_size=4",
    )
    run = annotate(*settings)
    whole = read(run, "images")
    (run / "_committed" / "00000001.json").unlink()
    decoded = []
    monkeypatch.setattr(
        "pipeline.inputs.decoding.image.decode_image",
        lambda data, *more: decoded.append(data) or decode_image(data, *more),
    )
    assert read(annotate(*settings), "images").equals(whole)
    assert len(decoded) <= 4, "they are not looked for again"


def test_the_verb_lists_them_and_skips_none(
    doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["duplicates", f"input={doubled}", f"output={tmp_path / 'out'}"]) == 0
    said = capsys.readouterr().out
    assert "images                        14" in said and "that look like one before     1" in said
    (file,) = (tmp_path / "out").glob("duplicates/*/duplicates.parquet")
    rows = pq.read_table(file).to_pylist()
    assert [(row["key"], row["first_key"], row["same_bytes"]) for row in rows] == [
        ("03b.jpg", "03.jpg", True), ("sub.png", "07.jpg", False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["skip_duplicates=all"], "expected bytes or near"),
        (["source=video", "skip_duplicates=near"], "among image files"),
    ],
)
def test_what_cannot_be_is_refused(
    words: list[str], said: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["duplicates", f"input={photos}", *words]) == 2
    assert said in capsys.readouterr().err
