"""Files are found by the names that other systems and programs give them."""

from pathlib import Path
from unicodedata import normalize

import pytest

from pipeline.core.errors import ConfigError
from pipeline.storage.named_files import NamedFiles


def make_files(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.mark.parametrize(
    "name",
    [
        "sub/a b.jpg",
        "./sub/a b.jpg",
        "sub//a b.jpg",
        "sub\\a b.jpg",
        "C:\\set\\sub\\a b.jpg",
        "/gone/sub/a b.jpg",
        "../images/sub/a b.jpg",
        "sub/a%20b.jpg",
        "file:///gone/sub/a%20b.jpg",
        "SUB/A b.JPG",
        "HERE/sub/a b.jpg",
        "file://HERE/sub/a%20b.jpg",
        "file://localhostHERE/sub/a b.jpg",
    ],
)
def test_a_file_is_found(name: str, tmp_path: Path) -> None:
    root = make_files(tmp_path, "sub/a b.jpg", "c.jpg")
    files = NamedFiles([tmp_path / "absent", root])
    assert files.find(name.replace("HERE", str(root))) == root / "sub/a b.jpg"


def test_an_accent_is_found_in_either_form(tmp_path: Path) -> None:
    for on_disk, asked in (("NFC", "NFD"), ("NFD", "NFC")):
        root = make_files(tmp_path / on_disk, normalize(on_disk, "été/café.jpg"))
        found = NamedFiles([root]).find(normalize(asked, "été/café.jpg"))
        assert found == root / normalize(on_disk, "été/café.jpg")


@pytest.mark.parametrize("name", ["", "absent.jpg", "sub", "a\0b", "x" * 300, "\udce9.jpg", "."])
def test_what_is_not_there_is_not_found(name: str, tmp_path: Path) -> None:
    assert NamedFiles([make_files(tmp_path, "sub/a.jpg")]).find(name) is None


def test_the_name_as_it_is_written_comes_first(tmp_path: Path) -> None:
    make_files(tmp_path, "a%20b.jpg", "a b.jpg", "A.jpg", "a.jpg", "x\\y.jpg", "x/y.jpg")
    files = NamedFiles([tmp_path])
    for name in ("a%20b.jpg", "a b.jpg", "A.jpg", "a.jpg", "x\\y.jpg", "x/y.jpg"):
        assert files.find(name) == tmp_path / name


def test_two_names_of_one_file_are_refused(tmp_path: Path) -> None:
    files = NamedFiles([make_files(tmp_path, "a.jpg")])
    assert files.find_own("train\\a.jpg") == files.find_own("train/a.jpg") == tmp_path / "a.jpg"
    with pytest.raises(ConfigError, match=r"'val/a.jpg' and 'train.*a.jpg' both lead to"):
        files.find_own("val/a.jpg")


def test_a_name_that_differs_from_two_files_by_case_is_not_found(tmp_path: Path) -> None:
    files = NamedFiles([make_files(tmp_path, "B.jpg", "b.jpg", "C.jpg")])
    assert files.find("b.JPG") is None and files.find("c.JPG") == tmp_path / "C.jpg"
