"""File names that other programs accept."""

from contextlib import closing
from pathlib import Path

import pytest

from pipeline.outputs.file_names import (
    ImageNames,
    make_safe_name,
    replace_invalid_xml,
    reserve_label_file,
)


@pytest.mark.parametrize("key", ["line\nbreak.jpg", "\x1b.png", "sub/\u2028.jpg", "\x85"])
def test_a_name_with_control_characters_is_a_hash(key: str) -> None:
    assert (
        make_safe_name(key).startswith("image-")
        and make_safe_name(key).isprintable()
        and make_safe_name(key) != make_safe_name(key + "x")
    )
    assert Path(make_safe_name(key)).suffix == Path(key).suffix


@pytest.mark.parametrize("key", ["a.jpg", "sub/a b.jpg", "<é>.png", r"\xff.jpg"])
def test_any_other_is_as_it_was(key: str) -> None:
    assert make_safe_name(key) == key


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["a.jpg", "a.png", "a.png.jpg"], ["a", "a.png", "a.png.jpg"]),
        (["a", "a.jpg"], ["a", "a.jpg"]),
        (["..jpg"], ["."]),
        (["../a.jpg"], ["image-"]),
        (["/etc/a.jpg"], ["image-"]),
        (["a.txt/b.jpg", "a.jpg"], ["a.txt/b", "a.jpg"]),
        (["a.jpg", "a.txt/b.jpg"], ["a", "image-"]),
        (["l" * 251 + ".jpg", "l" * 251 + ".png"], ["l" * 251, "image-"]),
    ],
)
def test_no_two_images_share_a_file(keys: list[str], names: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    claimed = [reserve_label_file(folder, key, ".txt") for key in keys]
    assert [
        name if expected != "image-" else name[:6]
        for (name, _), expected in zip(claimed, names, strict=True)
    ] == names
    assert len({file for _, file in claimed}) == len(keys) and all(
        file.is_file() for _, file in claimed
    )
    assert [path.name for path in tmp_path.iterdir()] == ["labels"]


def test_xml_has_no_control_characters() -> None:
    assert replace_invalid_xml("a\x00b\x1f<&\n\t\ufffe") == "a\ufffdb\ufffd<&\n\t\ufffd"


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["a.jpg", "b.jpg", "sub/a.jpg"], ["a.jpg", "b.jpg", "sub/a.jpg"]),
        (["a.jpg", "a.png", "a.png.jpg"], ["a.jpg", "a.png.png", "a.png.jpg.jpg"]),
        (["a.jpg", "A.png"], ["a.jpg", "A.png"]),
        (["a", "a.jpg"], ["a", "a.jpg.jpg"]),
    ],
)
def test_no_two_images_share_a_name_without_suffix(keys: list[str], names: list[str]) -> None:
    with closing(ImageNames()) as reserved:
        assert [reserved.reserve(key) for key in keys] == names
        long = reserved.reserve("l" * 251 + ".jpg"), reserved.reserve("l" * 251 + ".png")
    assert long[0] == "l" * 251 + ".jpg" and long[1].startswith("image-")
