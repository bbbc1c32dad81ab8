"""Boxes that come again and again: what is flagged, of which camera, and the pages of examples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.results.commands.repeats import Options, run_command
from pipeline.results.commands.verify import verify_run
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read
from tests.helpers.videos import make_video, steady

DOG, CAT = 1, 2


def flagged(run: Path, *words: str) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """(text, places, detections at them)."""
    text = run_command(read_options("repeats", [f"run={run}", "images=3", *words], Options))
    folder = Path(text.rpartition("files: ")[2])
    places, detections = (
        pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("places", "predictions")
    )
    return text, places, detections


def test_nothing_is_nothing(tmp_path: Path) -> None:
    text, places, detections = flagged(
        made_run(tmp_path / "run", [Row("a.jpg"), Row("b.jpg", None, status="empty")])
    )
    assert (
        "0 places, with 0 of 0 boxes; 1 usable images of 1 cameras" in text
        and places == detections == []
    )


def test_of_one_camera_and_one_class(tmp_path: Path) -> None:
    stone, elsewhere = (10, 20, 110, 220), (300, 200, 400, 420)
    rows = [
        Row(
            f"a/{i}.jpg",
            found=[box(DOG, 0.5 + i / 16, *stone), box(CAT, 0.5, 5 * i, 0, 5 * i + 50, 50)],
        )
        for i in range(4)
    ]
    rows += [Row("a/9.jpg", None, status="corrupt", error="x")]
    rows += [
        Row(f"b/{i}.jpg", found=[box(DOG, 0.5, *stone)]) for i in range(2)
    ]  # another camera's, too few
    rows += [
        Row(f"c/{i}.jpg", found=[box(DOG if i % 2 else CAT, 0.5, *stone)]) for i in range(4)
    ]  # two of each class
    rows += [Row("d/e/0.jpg", found=[box(CAT, 0.5, *elsewhere)])]
    rows += [
        Row("d/e/1.jpg", (240, 320), [box(CAT, 0.5, *(one / 2 for one in elsewhere))])
    ]  # half the resolution
    rows += [Row("d/e/2.jpg", found=[box(CAT, 0.5, *elsewhere)])]
    run = made_run(tmp_path / "run", rows)
    before = read(run, "predictions")
    text, places, detections = flagged(run, "shown=0")
    columns = ("camera", "class_name", "images", "images_of_camera")
    assert [tuple(place[name] for name in columns) for place in places] == [
        ("a", "dog", 4, 4), ("d/e", "cat", 3, 3)
    ]  # fmt: skip
    first = places[0]
    assert [
        first[name] * size
        for name, size in zip(("left", "top", "right", "bottom"), (640, 480) * 2, strict=True)
    ] == (pytest.approx(stone))
    assert (first["mean_score"], first["max_score"], first["detections"]) == (0.59375, 0.6875, 4)
    assert first["examples"] == [f"a/{i}.jpg" for i in range(4)]
    assert [(one["place"], one["key"], one["x_max"]) for one in detections] == [
        *((0, f"a/{i}.jpg", 110) for i in range(4)),
        (1, "d/e/0.jpg", 400), (1, "d/e/1.jpg", 200), (1, "d/e/2.jpg", 400)
    ]  # fmt: skip
    assert (
        "2 places, with 7 of 17 boxes; 13 usable images of 4 cameras" in text
        and "dog in 4 of 4 images of 'a'" in text
    )
    assert read(run, "predictions").equals(before) and "all as committed" in verify_run(run)


def test_examples_are_spread_over_all_images(tmp_path: Path) -> None:
    run = made_run(
        tmp_path / "run",
        [Row(f"{i:03d}.jpg", found=[box(DOG, 0.5, 0, 0, 9, 9)] * 2) for i in range(51)],
    )
    _, (place,), _ = flagged(run, "shown=0")
    assert (
        place["examples"] == [f"{i:03d}.jpg" for i in (0, 10, 20, 30, 40, 50)]
        and place["detections"] == 102
    )


def test_pages_of_examples(
    annotate: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    with Image.open(SAMPLES / "bricks.jpg") as image:
        for i in range(4):
            image.save(folder / f"{i}.jpg", quality=90 - 10 * i)
    run = annotate("model=codes", f"input={folder}", "overlays=false")
    (folder / "3.jpg").unlink()
    text, (place,), _ = flagged(run)
    assert (
        place["class_name"] == "data matrix"
        and caplog.text == ""
        and "4 of 4 images of the input folder" in text
    )
    with Image.open(run / "repeats" / "sheet-000.jpg") as sheet:
        tiles = [sheet.getpixel((8 + 208 * i + 100, 8 + 22 + 100)) for i in range(4)]
        assert sheet.width == 6 * 208 + 8
    assert all(max(tile) - min(tile) < 12 for tile in tiles) and tiles[3] == pytest.approx(
        (228, 228, 228), abs=4
    )
    assert not any(tile == pytest.approx((228, 228, 228), abs=4) for tile in tiles[:3])
    folder.rename(tmp_path / "moved")
    flagged(run)
    assert (
        "no pages of examples: " in caplog.text and not (run / "repeats" / "sheet-000.jpg").exists()
    )


def test_a_video_is_a_camera(tmp_path: Path) -> None:
    make_video(tmp_path / "v.mp4", steady(6))
    made = made_run(
        tmp_path / "made",
        [Row(f"v.mp4/{i:08d}", (32, 128), [box(DOG, 0.5, 0, 0, 100, 16)]) for i in (0, 2, 4)],
        sizes=[(tmp_path / "v.mp4").stat().st_size] * 3,
        source="video",
        input=tmp_path,
    )
    _, (place,), _ = flagged(made)
    with Image.open(made / "repeats" / "sheet-000.jpg") as sheet:
        tiles = [sheet.crop((8 + 208 * i, 30, 208 + 208 * i, 230)).tobytes() for i in range(3)]
    assert place["camera"] == "v.mp4" and place["images"] == 3 and len(set(tiles)) == 3, (
        "frames that carry their numbers"
    )


def test_what_cannot_be_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = made_run(tmp_path / "labels", [Row("a.jpg")], "classify")
    with pytest.raises(ConfigError, match="classify has no boxes"):
        flagged(labels)
    run = made_run(tmp_path / "run", [Row("a.jpg")])
    for word in ("iou=0", "iou=1.5", "images=1", "shown=-1"):
        assert (
            main(["repeats", f"run={run}", word]) == 2
            and word.partition("=")[0] in capsys.readouterr().err
        )
    assert main(["repeats", f"run={run}"]) == 0 and (run / "repeats" / "places.parquet").is_file()
