"""Windows of boxes, and names that never meet."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.keys import key_to_path, path_to_key
from pipeline.core.types import InputError
from pipeline.ops.crops import compute_crop_window, make_crop_key, name_class_folders


@pytest.mark.parametrize(
    ("box", "margin", "window"),
    [
        ([2, 3, 10, 20], 0, (2, 3, 10, 20)),
        ([2.9, 3.1, 9.2, 19.5], 0, (2, 3, 10, 20)),  # every pixel that it touches
        (
            [20, 20, 30, 40],
            0.5,
            (10, 10, 40, 48),
        ),  # half of the longer side, as far as there is an image
        ([2, 3, 10, 20], 1, (0, 0, 27, 37)),
        ([-9, -9, 900, 900], 0, (0, 0, 64, 48)),
        ([5.2, 5.2, 5.2, 5.2], 0, (5, 5, 6, 6)),
    ],
)
def test_a_window(box: list[float], margin: float, window: tuple[int, ...]) -> None:
    assert compute_crop_window(np.array(box), margin, (48, 64)) == window


@pytest.mark.parametrize(
    "box", [[70, 0, 80, 10], [-20, 0, -10, 10], [0, 50, 9, 60], [30, 30, 10, 10]]
)
def test_a_box_that_shows_nothing_is_refused(box: list[float]) -> None:
    with pytest.raises(InputError, match="lies outside"):
        compute_crop_window(np.array(box), 0, (48, 64))


@pytest.mark.parametrize(
    ("key", "number", "name"),
    [
        ("a.jpg", 0, "a.jpg-000.jpg"),
        ("sub/dir/a.png", 12, "sub/dir/a.png-012.jpg"),
        ("v.mp4/00000030", 1234, "v.mp4/00000030-1234.jpg"),
    ],
)
def test_a_name(key: str, number: int, name: str) -> None:
    assert make_crop_key(key, number) == name


@pytest.mark.parametrize("letter", ["x", "é", "漢", os.fsdecode(b"\xff")])
def test_a_long_name_fits_and_stays_its_own(letter: str) -> None:
    width = len(os.fsencode(letter))
    one, other = (
        path_to_key(letter * (250 // width) + ending)
        for ending in ("a.jp"[: 255 % width or 4], "b.jp"[: 255 % width or 4])
    )
    names = {make_crop_key(f"sub/{key}", number) for key in (one, other) for number in (0, 1)}
    assert len(names) == 4 and all(
        len(os.fsencode(key_to_path(name.partition("/")[2]))) <= 255 for name in names
    )


def test_class_folders() -> None:
    names = [
        "__background__",
        "stop sign",
        "a/b",
        "a\\b",
        "..",
        ".",
        "",
        "crane",
        "crane",
        "Cup",
        "cup",
        "../../etc",
    ]
    folders = name_class_folders(names)
    assert folders[:2] == ["__background__", "stop sign"] and folders[7:9] == ["crane-7", "crane-8"]
    assert folders[9:11] == ["Cup-9", "cup-10"] and folders[2:4] == ["a_b-2", "a_b-3"]


def test_class_folders_of_long_names_fit() -> None:
    names = ["c" * 300, "c" * 299 + "d", "é" * 200, "C" * 300, "d" * 254, "D" * 254, "d" * 254]
    folders = name_class_folders(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert all(
        len(folder.encode()) <= 255 and folder[:9].casefold() == name[:9].casefold()
        for folder, name in zip(folders, names, strict=True)
    )


@given(st.lists(st.text(max_size=5) | st.text("aA-1.", max_size=4), min_size=1, max_size=8))
def test_no_class_leaves_the_folder_or_meets_another(names: list[str]) -> None:
    folders = name_class_folders(names)
    assert len(folders) == len(names)
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert not any("/" in folder or folder in ("", ".", "..") for folder in folders)
