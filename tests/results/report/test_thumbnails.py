import base64
import io
import os
from pathlib import Path

import pytest
from PIL import Image

from pipeline.results.report.thumbnails import (
    BLOCK_SIZE,
    SIDE,
    find_overlays,
    make_thumbnail_blocks,
    prepare_from_input,
    prepare_from_overlay,
)
from pipeline.runs.run_folder import RunFolder
from tests.helpers.pictures import picture


def opened(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (SIDE, 168)), ((100, 400), (56, SIDE)), ((30, 20), (30, 20)), ((1, 1), (1, 1))],
)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
def test_it_is_small_and_in_proportion(
    size: tuple[int, int], expected: tuple[int, int], name: str, tmp_path: Path
) -> None:
    picture(*size).save(tmp_path / name)
    for make in (
        prepare_from_overlay(tmp_path / name),
        prepare_from_input(tmp_path / name, 10**6, {}),
    ):
        ((number, (text,)),) = make_thumbnail_blocks([make])
        assert number == 0 and opened(text).format == "WEBP" and opened(text).size == expected


def test_blocks_are_in_order_and_those_without_any_are_left_out(tmp_path: Path) -> None:
    for i in (1, 2):
        picture(20 * i, 20).save(tmp_path / f"{i}.png")
    one, two = (prepare_from_overlay(tmp_path / f"{i}.png") for i in (1, 2))
    found = dict(
        make_thumbnail_blocks([None] * BLOCK_SIZE + [one, None, two] + [None] * BLOCK_SIZE)
    )
    assert list(found) == [1] and len(found[1]) == BLOCK_SIZE
    assert [opened(text).width if text else 0 for text in found[1][:4]] == [20, 0, 40, 0]
    assert list(make_thumbnail_blocks([])) == []


@pytest.mark.parametrize("harm", ["gone", "empty", "text", "large", "folder"])
def test_what_cannot_be_read_has_none(harm: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    if harm == "folder":
        path.mkdir()
    elif harm == "large":
        Image.new("1", (3000, 3000)).save(path)
    elif harm != "gone":
        path.write_bytes(b"" if harm == "empty" else b"<svg onload=alert(1)>")
    assert (
        list(make_thumbnail_blocks([prepare_from_overlay(path)])) == []
        and list(make_thumbnail_blocks([prepare_from_input(path, 1000, {})])) == []
    )


def test_an_input_is_upright_and_carries_nothing_of_its_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "secret place"  # turned by a quarter; a description
    picture(60, 40).save(tmp_path / "a.jpg", exif=exif)
    ((_, (text,)),) = make_thumbnail_blocks([prepare_from_input(tmp_path / "a.jpg", 10**6, {})])
    assert opened(text).size == (40, 60) and b"secret" not in base64.b64decode(text)


def test_overlays_are_found_under_their_names(tmp_path: Path) -> None:
    (tmp_path / "overlays" / "sub").mkdir(parents=True)
    for name in ("a.jpg", "b.gif.overlay.jpg", "sub/c.png"):
        (tmp_path / "overlays" / name).touch()
    os.mkfifo(tmp_path / "overlays" / "pipe.jpg")
    keys = ("a.jpg", "b.gif", "sub/c.png", "none.jpg", "sub", "pipe.jpg")
    found = dict(zip(keys, find_overlays(RunFolder(tmp_path), keys), strict=True))
    assert found == {
        "a.jpg": "a.jpg",
        "b.gif": "b.gif.overlay.jpg",
        "sub/c.png": "sub/c.png",
    } | dict.fromkeys(("none.jpg", "sub", "pipe.jpg"))


@pytest.mark.parametrize("key", ["../a.jpg", r"\x2e\x2e/a.jpg", r"\x2fetc/passwd"])
def test_no_overlay_is_outside_of_its_folder(key: str, tmp_path: Path) -> None:
    (tmp_path / "run" / "overlays").mkdir(parents=True)
    (tmp_path / "run" / "a.jpg").touch()
    assert find_overlays(RunFolder(tmp_path / "run"), [key]) == [None]
