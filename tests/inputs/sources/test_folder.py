import os
import socket
import stat
import subprocess
from pathlib import Path
from threading import Thread

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.keys import path_to_key
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.sources.folder import Folder


def tree(root, *names):
    """Files below `root`, each with its own name as content."""
    for name in names:
        path = os.path.join(os.fsencode(root), name if isinstance(name, bytes) else name.encode())  # noqa: PTH118
        Path(os.fsdecode(path)).parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:  # noqa: PTH123 - a name in bytes
            file.write(os.fsencode(name))
    return Folder(str(root))


def keys(source):
    return [entry.key for entry in source.entries()]


def refusal(source, key):
    with pytest.raises(InputError) as caught:
        source.open(Entry(key, 0, 0))
    return caught.value.status


# --- the root


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent", "does not exist"),
        ("fifo", "is not a folder"),
        ("file.txt", r"images, or a file ending in .*\.png"),
    ],
)
def test_a_root_that_is_no_folder_and_no_image_is_refused(tmp_path, name, said):
    (tmp_path / "file.txt").touch()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ConfigError, match=f"^input=.*{name}.*{said}"):
        Folder(str(tmp_path / name))


def test_one_image_is_a_collection_too(tmp_path):
    tree(tmp_path, "a.jpg", "b.jpg")
    source = Folder(str(tmp_path / "b.jpg"))
    (entry,) = source.entries()
    assert (entry.key, entry.size) == (
        "b.jpg",
        5,
    ) and source.identity == f"folder:{tmp_path.resolve() / 'b.jpg'}"
    with source.open(Entry("b.jpg", 0, 0)) as file:
        assert file.read() == b"b.jpg"


def test_the_identity_is_the_resolved_path(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("a")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    identities = {
        Folder(given).identity for given in ("a", "./a/", "link", "~/a", str(tmp_path / "a"))
    }
    assert identities == {f"folder:{tmp_path.resolve() / 'a'}"}


def test_an_empty_folder_has_no_entries(tmp_path):
    assert keys(Folder(str(tmp_path))) == []


# --- listing


@pytest.mark.parametrize(
    "names",
    [
        ["b.jpg", "a.jpg"],
        ["a/b.jpg", "a.jpg", "a-b.jpg", "a0.jpg"],  # "-" and "." sort before "/", "0" behind it
        ["a/c/x.jpg", "a/b.jpg", "a/d.jpg", "a/c.jpg", "a/c-.jpg"],
        ["Z.jpg", "a.jpg", "é.jpg", "日.jpg"],
        ["10.jpg", "9.jpg", "1/0.jpg"],
        ["x.jpg/inside.jpg", "x.jpg.jpg", "x.jp.jpg"],
        [b"\xff.jpg", b"a.jpg", b"\\z.jpg", b"\\x41.jpg", "\u0100.jpg".encode()],
        [b"\xe9/a.jpg", b"\xe9-.jpg", b"z/a.jpg"],
    ],
)
def test_everything_is_listed_once_in_the_order_of_the_keys(tmp_path, names):
    found = keys(tree(tmp_path, *names))
    expected = {path_to_key(os.fsdecode(name)) for name in names}
    extra = {"x.jpg"} if names[0] == "x.jpg/inside.jpg" else set()  # a folder with an image's name
    assert found == sorted(expected | extra)


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("a.jpg", True),
        ("a.JPG", True),
        ("a.JpEg", True),
        ("a.png", True),
        ("a.tif", True),
        ("a.HEIC", True),  # is not decoded, but its owner must be told
        ("a.txt", False),
        ("a.jpg.txt", False),
        ("a.jpg~", False),
        ("jpg", False),
        (".jpg", True),
        (".hidden.jpg", False),
        ("a", False),
        ("a..jpg", True),
        ("a .jpg", True),
        ("a.jpg ", False),
    ],
)
def test_an_image_is_known_by_its_suffix_whatever_its_case(tmp_path, name, listed):
    assert keys(tree(tmp_path, name)) == ([name] if listed else [])


def test_an_entry_tells_size_and_time(tmp_path):
    source = tree(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(5, 1_234_567_890_123_456_789))
    assert list(source.entries()) == [Entry("a.jpg", 5, 1_234_567_890_123_456_789)]


NAMES = [
    b"\xff\xfe.jpg",
    b"two\nlines.jpg",
    b"\\x41.jpg",
    "\u202egpj.jpg".encode(),
    b"n" * 251 + b".jpg",
    b"<img onerror>.jpg",
]


@pytest.mark.parametrize("name", [*NAMES, *(b"\xe9t\xe9/" + name for name in NAMES)])
def test_a_file_of_any_name_is_listed_and_opened(tmp_path, name):
    source = tree(tmp_path, name)
    (key,) = keys(source)
    with source.open(Entry(key, 0, 0)) as file:
        assert file.read() == name


def test_listing_streams(tmp_path):
    source = tree(tmp_path, "a/1.jpg", "b/1.jpg")
    entries = source.entries()
    assert next(entries).key == "a/1.jpg"
    (tmp_path / "b" / "2.jpg").touch()  # not listed yet
    assert [entry.key for entry in entries] == ["b/1.jpg", "b/2.jpg"]


# --- links


def test_a_link_loop_is_not_followed_twice(tmp_path):
    source = tree(tmp_path, "a/1.jpg", "a/b/2.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to("..")
    (tmp_path / "a" / "self").symlink_to(".")
    (tmp_path / "root").symlink_to(tmp_path)
    assert keys(source) == ["a/1.jpg", "a/b/2.jpg"]


def test_a_link_to_a_folder_or_a_file_is_followed(tmp_path):
    tree(tmp_path / "elsewhere", "1.jpg", "sub/2.jpg")
    source = tree(tmp_path / "photos", "0.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "one.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    assert keys(source) == ["0.jpg", "more/1.jpg", "more/sub/2.jpg", "one.jpg"]
    with source.open(Entry("more/sub/2.jpg", 0, 0)) as file:
        assert file.read() == b"sub/2.jpg"
    assert {entry.key: entry.size for entry in source.entries()}["one.jpg"] == 5


def test_a_broken_link_is_listed_and_missing(tmp_path):
    source = tree(tmp_path, "a.jpg")
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    assert list(source.entries())[1] == Entry("broken.jpg", 0, 0)
    assert refusal(source, "broken.jpg") is Status.MISSING


def test_a_link_to_itself_is_listed_and_unreadable(tmp_path):
    source = tree(tmp_path)
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    assert keys(source) == ["self.jpg"]
    assert refusal(source, "self.jpg") is Status.UNREADABLE


# --- what is no file


def make_folder(path):
    path.mkdir()


def make_fifo(path):
    os.mkfifo(path)


def make_socket(path):
    os.chdir(path.parent)  # a socket's path may have 108 bytes only
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


def make_link_to_fifo(path):
    os.mkfifo(path.with_suffix(".fifo"))
    path.symlink_to(path.with_suffix(".fifo"))


def make_link_to_device(path):
    path.symlink_to("/dev/null")


@pytest.mark.parametrize(
    "make", [make_folder, make_fifo, make_socket, make_link_to_fifo, make_link_to_device]
)
def test_what_is_no_file_has_a_row_and_opening_it_does_not_hang(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # and back again
    source = tree(tmp_path, "a.jpg", "z.jpg")
    make(tmp_path / "odd.jpg")
    assert not stat.S_ISREG((tmp_path / "odd.jpg").stat().st_mode)
    assert list(source.entries())[1] == Entry("odd.jpg", 0, 0)
    assert keys(source) == ["a.jpg", "odd.jpg", "z.jpg"]
    found = []
    opening = Thread(target=lambda: found.append(refusal(source, "odd.jpg")), daemon=True)
    opening.start()
    opening.join(5)
    assert found == [Status.NOT_A_FILE], "opening it hangs or gives another answer"


def test_refusing_leaves_no_descriptor_open(tmp_path):
    source = tree(tmp_path)
    (tmp_path / "folder.jpg").mkdir()
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    before = len(list(descriptors.iterdir()))
    for _ in range(20):
        refusal(source, "folder.jpg")
    assert len(list(descriptors.iterdir())) == before


def test_a_file_that_is_gone_is_missing(tmp_path):
    source = tree(tmp_path, "sub/a.jpg")
    (key,) = keys(source)
    (tmp_path / "sub" / "a.jpg").unlink()
    assert refusal(source, key) is Status.MISSING
    (tmp_path / "sub").rmdir()
    assert refusal(source, key) is Status.MISSING


# --- permissions

NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


@NOT_ROOT
def test_a_file_without_permission_is_unreadable(tmp_path):
    source = tree(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").chmod(0)
    assert refusal(source, "a.jpg") is Status.UNREADABLE


@NOT_ROOT
def test_a_folder_without_permission_ends_the_listing_with_its_name(tmp_path):
    source = tree(tmp_path, "a.jpg", "secret/b.jpg")
    (tmp_path / "secret").chmod(0)
    try:
        with pytest.raises(ConfigError, match=r"Cannot list .*secret"):
            keys(source)
    finally:
        (tmp_path / "secret").chmod(0o700)


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")]
)
def test_a_file_that_the_system_refuses_is_unreadable(tmp_path, monkeypatch, error):
    source = tree(tmp_path, "a.jpg")

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=error.strerror) as caught:
        source.open(Entry("a.jpg", 0, 0))
    assert caught.value.status is Status.UNREADABLE


def unlistable(monkeypatch, folder):
    real = os.scandir

    def scandir(path):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_an_input_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    source = tree(tmp_path, "a.jpg", "secret/b.jpg")
    unlistable(monkeypatch, tmp_path)
    with pytest.raises(ConfigError, match=rf"Cannot list {tmp_path}: Permission denied"):
        keys(source)


def test_a_sub_folder_that_cannot_be_listed_is_a_row(tmp_path, monkeypatch):
    source = tree(tmp_path, "a.jpg", "secret/b.jpg", "z.jpg")
    unlistable(monkeypatch, tmp_path / "secret")
    assert keys(source) == ["a.jpg", "secret/", "z.jpg"]
    with pytest.raises(InputError, match="cannot be listed") as caught:
        source.open(Entry("secret/", 0, 0))
    assert caught.value.status is Status.UNREADABLE


def test_a_run_folder_below_the_input_is_no_input(tmp_path):
    source = tree(tmp_path, "a.jpg", "outputs/run/overlays/a.jpg", "outputs/other/images/b.jpg")
    for name in ("_committed", "plan", "images"):
        (tmp_path / "outputs" / "run" / name).mkdir()
    (tmp_path / "outputs" / "latest").symlink_to("run")
    assert keys(source) == ["a.jpg", "outputs/other/images/b.jpg"]


def test_folders_nested_deeper_than_pythons_frames(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.jpg").write_bytes(b"x")
    try:
        assert keys(Folder(str(tmp_path))) == ["d/" * 1200 + "a.jpg"]
    finally:
        monkeypatch.chdir(tmp_path)
        subprocess.run(
            ["rm", "-rf", "d"], check=True
        )  # pytest's own removal is recursive and would fail on it


def test_folders_that_link_to_each_other_are_followed_once(tmp_path):
    names = [f"f{i}" for i in range(6)]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jpg").write_bytes(b"x")
    for name in names:
        for other in names:
            (tmp_path / name / f"to {other}").symlink_to(tmp_path / other)
    assert len(keys(Folder(str(tmp_path)))) <= 2 * len(names)


# --- what is passed over


def test_companions_are_passed_over_and_counted(tmp_path):
    source = tree(
        tmp_path, "a.jpg", "._a.jpg", "__MACOSX/._a.jpg", "@eaDir/a.jpg/THUMB.jpg", "b.jpg.part",
        "d/.ipynb_checkpoints/b-checkpoint.jpg", "d/b.jpg", "d/.b.txt",
        "env/pyvenv.cfg", "env/a.png",
    )  # fmt: skip
    for _ in range(2):  # a second listing counts anew
        assert keys(source) == ["a.jpg", "d/b.jpg"]
        passed_over = source.passed_over
        assert (passed_over.n_files, passed_over.n_folders) == (2, 4)


@pytest.mark.parametrize(
    "left",
    [
        ("plan/plan.json", "overlays/a.jpg"),  # killed before the first commit
        ("plan/plan.json", "_committed/00000000.json", "images/part-0.parquet", "overlays/a.jpg"),
        (".visionbatch", "cat/a.jpg-000.jpg"),  # crops
    ],
)
def test_what_the_program_left_is_passed_over_below_the_input(tmp_path, left):
    source = tree(tmp_path, "b.jpg", *(f"out/{name}" for name in left))
    assert keys(source) == ["b.jpg"]
    assert source.passed_over.describe() == "1 folder (out/)"


def test_a_folder_that_the_user_names_is_read_whatever_its_name(tmp_path):
    tree(tmp_path, ".hidden/a.jpg", ".hidden/._b.jpg", ".hidden/.visionbatch")
    assert keys(Folder(str(tmp_path / ".hidden"))) == ["a.jpg"]
    assert keys(Folder(str(tmp_path / ".hidden" / "._b.jpg"))) == ["._b.jpg"]
