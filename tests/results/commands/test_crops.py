"""Boxes as pictures of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.results.commands.crops import Options, run_command
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.paths import SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.runs import read


def cropped(run: Path, *words: str) -> str:
    return run_command(read_options("crops", [f"run={run}", *words], Options))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Write two pictures whose names differ in the suffix (one turned) and one in a folder."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    picture(40, 30).save(folder / "a.jpg", exif=exif, quality=95)
    picture(40, 30).save(folder / "a.png")
    picture(40, 30).save(folder / "sub" / "b.png")
    return folder


def run_over(photos: Path, rows: list[Row]) -> Path:
    sizes = [
        (photos / row.key).stat().st_size if (photos / row.key).is_file() else 10 for row in rows
    ]
    return made_run(photos.parent / "run", rows, input=photos, sizes=sizes, shard_size=2)


def pictures(folder: Path) -> dict[str, tuple[int, int]]:
    """Name -> (width, height)."""
    found = {}
    for path in sorted(folder.rglob("*.jpg")):
        with Image.open(path) as image:
            found[str(path.relative_to(folder))] = image.size
            assert not image.getexif()
    return found


def test_no_boxes_are_no_crops(photos: Path) -> None:
    run = run_over(photos, [Row("a.jpg"), Row("gone.jpg", None, status="missing", error="x")])
    assert ": 0 crops in 0 folders." in cropped(run)
    assert pq.read_table(run / "crops" / "crops.parquet").num_rows == 0


def test_each_box_is_a_picture_in_its_classs_folder(photos: Path) -> None:
    rows = [
        Row("a.jpg", (40, 30), [box(1, 0.9, 0, 0, 10, 20), box(3, 0.5, 5.5, 5, 25, 35)]),
        Row("a.png", (30, 40), [box(1, 0.8, 10, 10, 20, 20)]),
        Row("sub/b.png", (30, 40), [box(1, 0.7, 35, 25, 99, 99)]),
    ]
    run = run_over(photos, rows)
    assert f"{run}/crops: 4 crops in 2 folders." in cropped(run)
    expected = {
        "dog/a.jpg-000.jpg": (10, 20), "dog/a.png-000.jpg": (10, 10),
        "dog/sub/b.png-000.jpg": (5, 5),
        "stop sign/a.jpg-001.jpg": (20, 30),
    }  # fmt: skip
    assert pictures(run / "crops") == expected
    rows = pq.read_table(run / "crops" / "crops.parquet").to_pylist()
    assert {row["file"] for row in rows} == set(expected)
    columns = ("key", "number", "window_x_min", "window_x_max")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("a.jpg", 0, 0, 10), ("a.jpg", 1, 5, 25), ("a.png", 0, 10, 20), ("sub/b.png", 0, 35, 40)
    ]  # fmt: skip
    with (
        Image.open(photos / "a.png") as image,
        Image.open(run / "crops" / "dog" / "a.png-000.jpg") as crop,
    ):
        assert (
            np.abs(np.asarray(image.crop((10, 10, 20, 20)), int) - np.asarray(crop, int)).mean() < 6
        )
    cropped(run, "margin=0.5", f"output={photos.parent / 'wide'}")
    assert pictures(photos.parent / "wide")["dog/a.png-000.jpg"] == (20, 20)


def test_what_cannot_be_cut_is_said_and_the_others_are_there(photos: Path) -> None:
    rows = [Row("a.png", (30, 40), [box(1, 0.9, 0, 0, 9, 9), box(1, 0.5, 90, 0, 99, 9)])]
    rows += [Row(f"b{i}.jpg", (30, 40), [box(1, 0.9, 0, 0, 9, 9)]) for i in range(6)]
    said = cropped(run_over(photos, rows))
    assert (
        "1 crops in 1 folders" in said
        and "'a.png': the box 90 0 99 9 lies outside the image; 'b0.jpg': the file is gone" in said
    )
    assert "; and 2 more." in said


OUTSIDE = ["../out/x.jpg", r"\x2e\x2e/out/x.jpg", r"..\x2fout\x2fx.jpg", r"a/\x2e./../../out/x.jpg"]


@pytest.mark.parametrize("key", OUTSIDE)
def test_nothing_is_read_or_written_outside(key: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (photos / "a").mkdir()
    picture(40, 30).save(tmp_path / "out" / "x.jpg")
    rows = [Row(key, (30, 40), [box(1, 0.9, 0, 0, 9, 9)])]
    size = (tmp_path / "out" / "x.jpg").stat().st_size
    run = made_run(tmp_path / "run", rows, input=photos, sizes=[size])
    said = cropped(run)
    assert "0 crops in 0 folders" in said and "its name leads out of the input" in said
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["x.jpg"]
    assert not list(run.rglob("*.jpg"))


def test_old_boxes_are_not_cut_out_of_a_new_picture(photos: Path) -> None:
    """After changed=accept the plan lists the new file, and the row has the old file's boxes."""
    rows = [
        Row("a.jpg", (30, 40), [box(1, 0.9, 0, 0, 9, 9)]),
        Row("a.png", (30, 40), [box(1, 0.9, 0, 0, 9, 9)]),
    ]
    said = cropped(run_over(photos, rows))
    assert (
        "1 crops in 1 folders" in said
        and "'a.jpg': the run has it as 40x30 pixels, the file has 30x40 now" in said
    )


def test_a_class_with_a_long_name(photos: Path) -> None:
    size = (photos / "a.png").stat().st_size
    rows = [Row("a.png", (30, 40), [box(1, 0.9, 0, 0, 9, 9), box(2, 0.8, 0, 0, 9, 9)])]
    names = ("__background__", "n" * 300, "n" * 299 + "m")
    run = made_run(photos.parent / "run", rows, categories=names, input=photos, sizes=[size])
    assert "2 crops in 2 folders" in cropped(run)
    told = pq.read_table(run / "crops" / "crops.parquet")
    assert sorted(told["file"].to_pylist()) == sorted(pictures(run / "crops"))
    assert told["class_name"].to_pylist() == list(names[1:])


def test_a_real_run_and_the_command(
    annotate: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = annotate("model=codes", "overlays=false", "shard_size=5", f"input={SAMPLES}")
    assert main(["crops", f"run={run}"]) == 0 and "19 crops in 4 folders" in capsys.readouterr().out
    found = pictures(run / "crops")
    for row in read(run, "predictions").to_pylist():
        sizes = [
            found[name] for name in found if name.startswith(f"{row['class_name']}/{row['key']}-")
        ]
        assert any(abs(width - (row["x_max"] - row["x_min"])) <= 2 for width, _ in sizes)
    assert (
        main(["crops", f"run={run}", "margin=-1"]) == 2
        and main(["crops", f"run={run}", f"output={SAMPLES}"]) == 2
    )


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="classify has no boxes"):
        cropped(made_run(tmp_path / "labels", [Row("a.jpg")], "classify"))
    with pytest.raises(ConfigError, match="is not there any more"):
        cropped(made_run(tmp_path / "gone", [Row("a.jpg")]))
    assert not (tmp_path / "gone" / "crops").exists()


def test_labels_for_hugging_face(photos: Path) -> None:
    size = (photos / "sub" / "b.png").stat().st_size
    names = ("__background__", "train", "dog")
    found = [box(1, 0.75, 0, 0, 9, 9), box(2, 0.5, 5, 5, 20, 20)]
    rows = [Row("sub/b.png", (30, 40), found)]
    run = made_run(photos.parent / "run", rows, categories=names, input=photos, sizes=[size])
    assert f'load_dataset("{run}/crops") reads all crops' in cropped(run)
    assert pq.read_table(run / "crops" / "metadata.parquet").to_pylist() == [
        {"file_name": "train/sub/b.png-000.jpg", "label": "train", "score": 0.75},
        {"file_name": "dog/sub/b.png-001.jpg", "label": "dog", "score": 0.5},
    ]
    rows = [Row("sub/b.png", (30, 40), [found[1]])]
    plain = made_run(photos.parent / "plain", rows, categories=names, input=photos, sizes=[size])
    assert "load_dataset" not in cropped(plain)
