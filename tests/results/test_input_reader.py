"""Read the inputs of a finished run again."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.core.types import InputError
from pipeline.results.commands import crops, export, report
from pipeline.results.input_reader import InputReader, iterate_entries
from pipeline.runs.finished_run import FinishedRun
from tests.helpers.listed_runs import manifest_run, pixels, table_run
from tests.helpers.made_runs import Row, made_run
from tests.helpers.packed import pack_folder
from tests.helpers.paths import SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.videos import make_video, number_of, steady


def test_an_image_is_read_upright(tmp_path: Path, annotate: Callable[..., Path]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by a quarter
    picture(40, 30).save(folder / "turned.jpg", exif=exif, quality=95)
    picture(40, 30).save(folder / "straight.jpg", quality=95)
    run = FinishedRun.open(annotate("model=codes", f"input={folder}", "overlays=false"))
    with closing(InputReader(run)) as inputs:
        straight, turned = (
            inputs.read(entry, size_hw) for _, entry, size_hw in iterate_entries(run, [0, 1])
        )
    assert straight.shape == (30, 40, 3) and straight.dtype == np.uint8
    assert np.abs(np.rot90(straight, -1).astype(int) - turned).mean() < 2


def test_frames_are_those_of_their_numbers_in_any_order(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        make_video(tmp_path / name, steady(30))
    keys = [f"{name}/{number:08d}" for name in ("a.mp4", "b.mp4") for number in (0, 7, 29, 30)]
    size = [(tmp_path / key.partition("/")[0]).stat().st_size for key in keys]
    run = FinishedRun.open(
        made_run(
            tmp_path / "run",
            [Row(key, (32, 128)) for key in keys],
            source="video",
            input=tmp_path,
            sizes=size,
        )
    )
    entries = [(entry, size_hw) for _, entry, size_hw in iterate_entries(run, range(8))]
    with closing(InputReader(run)) as inputs:
        import torch

        found = [
            number_of(torch.from_numpy(inputs.read(*entries[i]).copy()).permute(2, 0, 1))
            for i in (0, 2, 1, 6, 4)
        ]
        assert found == [0, 29, 7, 29, 0] and inputs.in_order
        with pytest.raises(InputError, match="not there any more"):
            inputs.read(*entries[3])
        inputs.close()
        (tmp_path / "a.mp4").write_bytes(b"another")
        with pytest.raises(InputError, match="the plan lists"):
            inputs.read(*entries[0])


def test_what_is_not_there_any_more_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    run = FinishedRun.open(made_run(tmp_path / "run", [Row("a.jpg"), Row("b.jpg")], input=folder))
    (folder / "a.jpg").write_bytes(b"longer than it was")
    inputs = InputReader(run)
    for (_, entry, size_hw), said in zip(
        iterate_entries(run, [0, 1]), ("the plan lists 10 bytes", "is gone since"), strict=True
    ):
        with pytest.raises(InputError, match=said):
            inputs.read(entry, size_hw)
    with pytest.raises(ConfigError, match=r"the input of .* is not there any more"):
        InputReader(
            FinishedRun.open(made_run(tmp_path / "gone", [Row("a.jpg")], input=tmp_path / "absent"))
        )
    with pytest.raises(ConfigError, match="source=clips, which has no images"):
        InputReader(FinishedRun.open(made_run(tmp_path / "clips", [Row("a.jpg")], source="clips")))


@pytest.mark.parametrize("wanted", [[], [0], [6, 1, 6], [0, 1, 2, 3, 4, 5, 6]])
def test_entries_of_images(wanted: list[int], tmp_path: Path) -> None:
    run = FinishedRun.open(
        made_run(tmp_path / "run", [Row(f"{i}.jpg") for i in range(7)], shard_size=2)
    )
    assert [(i, entry.key) for i, entry, _ in iterate_entries(run, wanted)] == [
        (i, f"{i}.jpg") for i in sorted(set(wanted))
    ]


@pytest.mark.parametrize(
    "key", ["../a.mp4/00000000", r"\x2e\x2e/a.mp4/00000000", "a.mp4/-1", "a.mp4/x"]
)
def test_a_frame_that_no_run_names_is_not_read(key: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for place in (tmp_path, tmp_path / "in"):
        make_video(place / "a.mp4", steady(2))
    size = [(tmp_path / "a.mp4").stat().st_size]
    run = FinishedRun.open(
        made_run(
            tmp_path / "run",
            [Row(key, (32, 128))],
            source="video",
            input=tmp_path / "in",
            sizes=size,
        )
    )
    ((_, entry, size_hw),) = iterate_entries(run, [0])
    with closing(InputReader(run)) as inputs, pytest.raises(InputError, match="no run made it"):
        inputs.read(entry, size_hw)


def test_an_image_of_another_size_than_its_rows_is_not_read(tmp_path: Path) -> None:
    picture(40, 30).save(tmp_path / "a.png")
    sizes = [(tmp_path / "a.png").stat().st_size]
    run = FinishedRun.open(
        made_run(tmp_path / "run", [Row("a.png", (40, 30))], input=tmp_path, sizes=sizes)
    )
    ((_, entry, size_hw),) = iterate_entries(run, [0])
    with (
        closing(InputReader(run)) as inputs,
        pytest.raises(InputError, match="as 30x40 pixels, the file has 40x30 now"),
    ):
        inputs.read(entry, size_hw)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_members_of_archives_are_read_by_every_verb(
    kind: str, tmp_path: Path, annotate: Callable[..., Path]
) -> None:
    archive = pack_folder(kind, SAMPLES / "desk", tmp_path / f"desk.{kind}")
    made = annotate("model=codes", f"source={kind}", f"input={archive}", "overlays=false")
    run = FinishedRun.open(made)
    with closing(InputReader(run)) as inputs:
        for _, entry, size_hw in iterate_entries(run, range(3)):
            assert inputs.read(entry, size_hw).shape == (*size_hw, 3)
            plain = SAMPLES / "desk" / entry.carried[1]
            with inputs.open(entry) as file:
                assert file.read() == plain.read_bytes()
    assert "crops in" in crops.run_command(read_options("crops", [f"run={made}"], crops.Options))
    assert list((made / "crops").glob(f"*/desk.{kind}/*.jpg-000.jpg"))
    report.run_command(read_options("report", [f"run={made}"], report.Options))
    page = (made / "report.html").read_text()
    assert 'id="thumbnails-0"' in page and f'"file":["desk.{kind}"' in page
    said = export.run_command(read_options("export", [f"run={made}", "to=coco"], export.Options))
    assert "images=copy puts them beside it" in said
    export.run_command(
        read_options("export", [f"run={made}", "to=coco", "images=copy"], export.Options)
    )
    for plain in (SAMPLES / "desk").glob("*.jpg"):
        copy = made / "exports" / "coco" / "images" / f"desk.{kind}" / plain.name
        assert copy.read_bytes() == plain.read_bytes()
    with pytest.raises(ConfigError, match="Say images=copy"):
        export.run_command(
            read_options("export", [f"run={made}", "to=coco", "images=link"], export.Options)
        )
    pack_folder(kind, SAMPLES / "yard", archive)
    with pytest.raises(ConfigError, match="the archive has"):
        export.run_command(
            read_options("export", [f"run={made}", "to=coco", "images=copy"], export.Options)
        )
    archive.unlink()
    with pytest.raises(ConfigError, match="not there any more"):
        InputReader(run)


@pytest.mark.parametrize("make", [manifest_run, table_run])
def test_images_that_are_no_files_below_a_folder(make: Callable, tmp_path: Path) -> None:
    path, images = make(tmp_path / "in")
    run = FinishedRun.open(path)
    with closing(InputReader(run)) as inputs:
        found = [
            inputs.read(entry, size_hw).tobytes()
            for _, entry, size_hw in iterate_entries(run, [0, 1])
        ]
        assert found == [pixels(image) for image in images] and not inputs.in_order
    images[0].unlink()
    (tmp_path / "in" / ("a.parquet" if make is table_run else "lists/a.txt")).unlink()
    with pytest.raises(ConfigError, match="is not there any more"):
        InputReader(run)


def test_addresses_for_a_browser(tmp_path: Path) -> None:
    run, images = manifest_run(tmp_path / "in")
    inputs = InputReader(FinishedRun.open(run))
    keys = [
        "near.png",
        "%2Fa b/%2E./c.png",
        "https:/%2Fhost/a.png",
        "s3:/%2Fbucket/a.png",
        "javascript:/%2Falert(1)",
    ]
    assert [inputs.link(key) for key in keys] == [
        images[1].as_uri(),
        "file:///a%20b/../c.png",
        "https://host/a.png",
        None,
        None,
    ]
    assert (
        InputReader(FinishedRun.open(table_run(tmp_path / "tables")[0])).link(
            "a.parquet/00000000.png"
        )
        is None
    )
