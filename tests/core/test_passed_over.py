"""The names that every listing passes over, and those that it must not pass over."""

import pytest

from pipeline.core.passed_over import (
    OWN_MARKER,
    PassedOver,
    find_generated_folder,
    is_generated_folder,
    is_passed_over,
    is_passed_over_name,
    is_run_folder,
    strip_unfinished_ending,
)


@pytest.mark.parametrize(
    "path",
    [
        "._a.jpg",
        ".a.jpg",
        "d/.hidden/a.jpg",
        "__MACOSX/d/._a.jpg",
        "__MACOSX/a.jpg",
        "__macosx/a.jpg",
        ".Spotlight-V100/a.jpg",
        ".Trashes/501/a.jpg",
        ".AppleDouble/a.jpg",
        ".fseventsd/a.jpg",
        "$RECYCLE.BIN/S-1-5/$R1.jpg",
        "System Volume Information/a.png",
        "Thumbs.db",
        "d/desktop.ini",
        "~$a.jpg",
        "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg",
        "#recycle/a.jpg",
        ".@__thumb/a.jpg",
        "@Recycle/a.jpg",
        ".Trash-1000/files/a.jpg",
        ".thumbnails/a.png",
        "lost+found/a.jpg",
        "a.jpg~",
        "#a.jpg#",
        ".a.jpg.swp",
        "a.jpg.swp",
        ".ipynb_checkpoints/a-checkpoint.png",
        ".git/a.png",
        ".venv/lib/a.png",
        "__pycache__/a.png",
        "a.jpg.part",
        "a.jpg.crdownload",
        "./d/../.x/a.jpg",
    ],
)
def test_companions_and_incomplete_files_are_passed_over(path):
    assert is_passed_over(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "a.jpg",
        ".jpg",
        "./a.jpg",
        "../a.jpg",
        "d.old/a.jpg",
        "d.part/a.jpg",
        "d~/a.jpg",
        "#1.jpg",
        "~a.jpg",
        "$a.jpg",
        "@a/b.jpg",
        "thumbs/a.jpg",
        "recycled/a.jpg",
        "plan/a.jpg",
        "images/a.jpg",
        "venv/a.jpg",
        "a (conflicted copy).jpg",
        "partial.jpg",
        "tmp/a.jpg",
        "…/a.jpg",
    ],
)
def test_ordinary_names_are_kept(path):
    assert not is_passed_over(path)


def test_a_folder_is_judged_by_the_names_of_folders():
    assert is_passed_over_name("@eaDir", is_folder=True)
    assert not is_passed_over_name("@eaDir")
    assert not is_passed_over_name("a.bak", is_folder=True)
    assert is_passed_over_name("a.bak")


def test_the_suffix_of_an_incomplete_file_is_that_of_the_complete_one():
    assert strip_unfinished_ending("a.JPG.Part") == "a.JPG"
    assert strip_unfinished_ending("a.jpg") == "a.jpg"


def test_run_folders_and_generated_folders_are_found_by_their_contents(tmp_path):
    path = str(tmp_path)
    assert not is_run_folder(path, ["plan", "images"])  # a user's own folders
    assert is_run_folder(path, ["plan", "images", "_committed"])
    assert is_generated_folder(path, ["lib"], ["pyvenv.cfg"])
    assert is_generated_folder(path, [], [OWN_MARKER])
    assert not is_generated_folder(path, ["images"], ["a.jpg"])

    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "plan.json").write_text("{}")
    assert is_run_folder(path, ["plan", "overlays"])  # killed before its first commit


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("a.jpg", None),
        ("images/a.jpg", None),
        (OWN_MARKER, None),  # the root is what the user named
        (f"d/{OWN_MARKER}", "d/"),
        ("d/e/pyvenv.cfg", "d/e/"),
        ("d/_committed/00000000.json", "d/"),
        ("d/_committed/a.json", None),
        ("_committed/00000.json", ""),
        ("d/.lease-alone", "d/"),
        ("plan/plan.json", ""),
        ("d/plan/plan.json", "d/"),
    ],
)
def test_a_path_shows_a_generated_folder(path, folder):
    assert find_generated_folder(path) == folder


def test_what_was_passed_over_is_counted_and_named():
    passed_over = PassedOver()
    assert passed_over.describe() == ""

    passed_over.add("._a.jpg")
    assert passed_over.describe() == "1 file (._a.jpg)"
    for name in ("__MACOSX/", "._b.jpg", "._c.jpg"):
        passed_over.add(name)
    assert passed_over.describe() == "3 files and 1 folder (._a.jpg, __MACOSX/, ._b.jpg ...)"

    passed_over.clear()
    assert passed_over.describe() == ""
