"""The `export` command: target folders, output and errors.

Each format has its own tests.
"""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.outputs.exporters.coco import Coco
from pipeline.results.commands.export import Options, run_command
from pipeline.storage import durable_files
from pipeline.tasks.detect import Detect
from tests.helpers.listed_runs import manifest_run, table_run
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.pictures import picture


@pytest.fixture
def run(tmp_path: Path) -> Path:
    images = tmp_path / "photos"
    (images / "sub").mkdir(parents=True)
    for name in ("a.jpg", "sub/b.jpg"):
        picture(40, 30).save(images / name)
    rows = [
        Row("a.jpg", (30, 40), [box(1, 0.5, 0, 0, 9, 9)]),
        Row("gone.jpg", None, status="missing", error="gone"),
    ]
    return made_run(tmp_path / "run", [*rows, Row("sub/b.jpg", (30, 40))], input=images)


def said(run: Path, *words: str) -> str:
    return run_command(read_options("export", [f"run={run}", "to=coco", *words], Options))


def test_it_goes_into_the_run_and_is_made_anew(run: Path) -> None:
    text = said(run)
    assert (
        f"{run}/exports/coco: 2 images, 1 predictions." in text and "1 images that failed" in text
    )
    (run / "exports" / "coco" / "old.txt").write_text("")
    said(run)
    assert [path.name for path in (run / "exports").iterdir()] == ["coco"]
    names = sorted(path.name for path in (run / "exports" / "coco").glob("[!.]*"))
    assert names == ["annotations", "annotations.json"]


def test_a_folder_of_the_users_is_never_replaced(run: Path, tmp_path: Path) -> None:
    said(run, f"output={tmp_path / 'new'}")
    for taken in (tmp_path / "new", tmp_path / "photos", tmp_path / "photos" / "a.jpg"):
        with pytest.raises(ConfigError, match="there is something already"):
            said(run, f"output={taken}")
    assert (tmp_path / "photos" / "a.jpg").is_file()


@pytest.mark.parametrize("how", ["link", "copy"])
def test_images_go_along(how: str, run: Path, tmp_path: Path) -> None:
    said(run, f"images={how}", f"output={tmp_path / 'new'}")
    for key in ("a.jpg", "sub/b.jpg"):
        placed = tmp_path / "new" / "images" / key
        assert placed.read_bytes() == (
            tmp_path / "photos" / key
        ).read_bytes() and placed.is_symlink() is (how == "link")


@pytest.mark.parametrize("how", ["link", "copy"])
def test_no_image_is_put_over_another(how: str, run: Path, tmp_path: Path) -> None:
    rows = [
        Row("sub/b.jpg"),
        Row(r"sub\x2fb.jpg"),
    ]  # the second is in no run: a slash is never written so
    made = made_run(tmp_path / "made", rows, input=tmp_path / "photos")
    before = (tmp_path / "photos" / "sub" / "b.jpg").read_bytes()
    with pytest.raises(ConfigError, match=r"two images would be images/sub/b\.jpg, one of them"):
        said(made, f"images={how}")
    assert (
        list((made / "exports").iterdir()) == []
        and (tmp_path / "photos" / "sub" / "b.jpg").read_bytes() == before
    )


def test_an_image_that_is_gone_is_named_and_nothing_is_left(run: Path, tmp_path: Path) -> None:
    (tmp_path / "photos" / "a.jpg").unlink()
    with pytest.raises(ConfigError, match=r"a\.jpg is not there any more"):
        said(run, "images=copy")
    assert list((run / "exports").iterdir()) == []


def test_a_failure_leaves_the_export_before(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said(run)
    before = (run / "exports" / "coco" / "annotations.json").read_bytes()
    monkeypatch.setattr(
        Coco, "open", lambda self, context: (context.folder / "half").touch() or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        said(run)
    assert [path.name for path in (run / "exports").iterdir()] == ["coco"]
    assert (run / "exports" / "coco" / "annotations.json").read_bytes() == before


def test_what_could_not_be_flushed_is_not_published(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        if path.name == "annotations.json":
            raise OSError(errno.EIO, "cannot be written")

    monkeypatch.setattr(durable_files, "fsync_path", fail)
    with pytest.raises(OSError, match="cannot be written"):
        said(run)
    assert list((run / "exports").iterdir()) == []


def test_failed_images_go_to_those_who_hold_them(run: Path) -> None:
    text = said(run, "to=csv")
    assert text.endswith("csv: 3 images, 1 predictions.")
    assert "gone.jpg" in (run / "exports" / "csv" / "images.csv").read_text()


def test_what_the_format_cannot_hold_is_said(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Coco, "holds", frozenset({"boxes"}))
    assert "Not in it, because coco has no place for them: scores." in said(run)
    monkeypatch.setattr(Coco, "holds", frozenset({"masks", "scores"}))
    with pytest.raises(ConfigError, match="to=coco holds masks; the run has boxes"):
        said(run)


def test_rows_that_hold_nothing_but_scores_are_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detect, "contents", frozenset({"scores"}))
    with pytest.raises(ConfigError, match="task=detect hold nothing that a format can hold"):
        said(run, "to=csv")


def test_from_the_command_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", f"run={run}", "to=coco"]) == 0
    assert (
        json.loads((run / "exports/coco/annotations.json").read_text())["annotations"][0]["score"]
        == 0.5
    )
    assert (
        main(["export", f"run={run}", "to=cocoa"]) == 2
        and "Did you mean 'coco'" in capsys.readouterr().err
    )
    assert main(["export", "--help"]) == 0 and "the format:" in capsys.readouterr().out


def test_duplicates_have_not_failed(tmp_path: Path) -> None:
    twins = [
        Row(f"b{i}.jpg", None, status="duplicate", error="the same bytes as a.jpg")
        for i in range(3)
    ]
    run = made_run(tmp_path / "run", [Row("a.jpg", (30, 40), [box(1, 0.5, 0, 0, 9, 9)]), *twins])
    text = said(run)
    assert "Not in it: 3 duplicates, which were not looked at." in text and "failed" not in text
    assert said(run, "to=csv").endswith("csv: 4 images, 1 predictions.")


def test_a_place_that_cannot_be_written_to_is_a_setting_to_be_changed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "photos" / "a.jpg"
    assert main(["export", f"run={run}", "to=coco", f"output={file / 'new'}"]) == 2
    err = capsys.readouterr().err
    assert (
        f"output: cannot write to {file / 'new'}: Not a directory. Choose another output=." in err
    )
    assert "shards" not in err and "log_level" not in err


def test_interrupted_it_does_not_go_on(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: Coco, context: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Coco, "open", interrupt)
    assert main(["export", f"run={run}", "to=coco"]) == 130
    assert capsys.readouterr().err == "visionbatch: Interrupted.\n"


@pytest.mark.parametrize("make", [manifest_run, table_run])
def test_images_that_are_no_files_below_a_folder_can_be_copied(
    make: Callable, tmp_path: Path
) -> None:
    run, images = make(tmp_path / "in")
    elsewhere = 1 if make is manifest_run else 2
    assert f"{elsewhere} images are no files below {tmp_path / 'in'}" in said(run)
    assert "images=copy" not in said(run, "images=copy", f"output={tmp_path / 'new'}")
    placed = sorted(path for path in (tmp_path / "new" / "images").rglob("*.png"))
    assert [path.read_bytes() for path in placed] == [image.read_bytes() for image in images]
    names = [
        one["file_name"]
        for one in json.loads((tmp_path / "new" / "annotations.json").read_text())["images"]
    ]
    assert [str(path.relative_to(tmp_path / "new" / "images")) for path in placed] == names


def test_files_of_a_manifest_can_be_linked_rows_of_a_table_cannot(tmp_path: Path) -> None:
    run, images = manifest_run(tmp_path / "in")
    said(run, "images=link", f"output={tmp_path / 'new'}")
    assert sorted(path.resolve() for path in (tmp_path / "new").rglob("*.png")) == images
    images[0].unlink()
    for how, why in (
        ("link", "elsewhere.png is not there any more"),
        ("copy", "%2F.*elsewhere.png: there is no file"),
    ):
        with pytest.raises(ConfigError, match=f"images={how}: .*{why}"):
            said(run, f"images={how}")
    with pytest.raises(
        ConfigError, match=r"images=link: a.parquet/00000000.png is no file of its own.*images=copy"
    ):
        said(table_run(tmp_path / "tables")[0], "images=link")


def test_turned_images_are_counted_or_stored_upright(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pixels = picture(40, 30)
    for name in ("turned.jpg", "turned.png"):
        pixels.save(folder / name, exif=exif, quality=95)
    pixels.save(folder / "plain.jpg")
    sizes_hw = {"plain.jpg": (30, 40), "turned.jpg": (40, 30), "turned.png": (40, 30)}
    run = made_run(
        tmp_path / "run",
        [Row(name, size_hw) for name, size_hw in sizes_hw.items()],
        input=folder,
        sizes=[(folder / name).stat().st_size for name in sizes_hw],
    )
    for how in ("link", "copy"):
        assert "2 images are stored turned" in said(run, f"images={how}", "to=csv")
    assert "stored turned" not in said(run, "to=csv")

    assert "stored turned" not in said(run, "images=upright", "to=csv")
    placed = run / "exports" / "csv" / "images"
    assert (placed / "plain.jpg").read_bytes() == (folder / "plain.jpg").read_bytes()
    for name in ("turned.jpg", "turned.png"):
        with Image.open(placed / name) as image, Image.open(folder / name) as original:
            assert (image.height, image.width) == sizes_hw[name] and not image.getexif()
            assert image.format == original.format
            upright = np.asarray(original.convert("RGB").transpose(Image.Transpose.ROTATE_270), int)
            assert np.abs(upright - np.asarray(image, int)).mean() < 4
