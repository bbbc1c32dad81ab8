"""Behaviour common to tar and zip: labels, order, damaged archives, reading by several threads."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigError
from pipeline.core.keys import is_valid_name_length, key_to_path, make_overlay_key, resolve_below
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.archives import members
from pipeline.inputs.archives.member_labels import MemberLabels, is_image, leads_outside, make_label
from pipeline.inputs.archives.zip_format import ZIP
from tests.helpers.packed import KINDS, image, listed, pack, verdict, verdicts, zip_of

PARTS = st.sampled_from(
    [
        b"..",
        b".",
        b"",
        b"a",
        b"a.jpg",
        b"a.png",
        b"\xff",
        b"\\x2e\\x2e",
        b"\\..",
        b"\0",
        b"n" * 300,
        b"~2",
    ]
)
NAMES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=6).map(b"/".join),
    st.binary(max_size=60),
    st.text(max_size=40).map(lambda name: name.encode("utf-8", "surrogatepass")),
)


@settings(max_examples=100, deadline=None)
@given(
    names=st.lists(
        st.tuples(NAMES, st.sampled_from([b".jpg", b".PNG", b""])).map(b"".join), max_size=12
    )
)
def test_labels_stay_below_the_archive_and_are_never_the_same(names: list[bytes]) -> None:
    labels = MemberLabels()
    found = [labels.add(name) for name in names]
    places = {key_to_path(make_overlay_key(f"a.tar/{label}")) for label in found}
    assert len(set(found)) == len(places) == len(names)
    for label, name in zip(found, names, strict=True):
        label.encode()
        assert resolve_below(Path(), label) is not None and all(
            part not in ("", ".", "..") for part in key_to_path(label).split("/")
        )
        assert (
            all(is_valid_name_length(f"{part}-000.jpg") for part in label.split("/"))
            and len(label.encode()) < 1300
        )
        if is_image(name):  # so no picture's name is another one's folder
            assert is_image(os.fsencode(label)) and not any(
                is_image(os.fsencode(one)) for one in label.split("/")[:-1]
            )


@pytest.mark.parametrize(
    ("name", "label"),
    [
        (b"000001.jpg", "000001.jpg"),
        (b"train/cat/1.jpg", "train/cat/1.jpg"),
        (b"./a.jpg", "a.jpg"),
        (b"a//b.jpg", "a/b.jpg"),
        (b"caf\xc3\xa9.jpg", "café.jpg"),
        (b"\xff.jpg", r"\xff.jpg"),
        (b"\\x41.jpg", r"\x5cx41.jpg"),
        (b"a\\b.jpg", r"a\b.jpg"),
        (b"/etc/a.jpg", "etc/a.jpg"),
        (b"../../a.jpg", "%2E%2E/%2E%2E/a.jpg"),
        (b"a\0b.jpg", "a%00b.jpg"),
        (b"x.jpg/y.jpg", "x.jpg~/y.jpg"),
        (b"", "%"),
    ],
)
def test_usual_names_are_their_own_labels(name: bytes, label: str) -> None:
    assert make_label(name) == label


def test_a_name_that_comes_again_gets_a_number() -> None:
    labels = MemberLabels()
    names = (b"a.jpg", b"./a.jpg", b"a~2.jpg", b"a.jpg", b"a~2.jpg")
    assert [labels.add(name) for name in names] == [
        "a.jpg",
        "a~2.jpg",
        "a~2~2.jpg",
        "a~3.jpg",
        "a~2~3.jpg",
    ]


def test_long_names_are_cut_and_stay_their_own() -> None:
    names = [b"n" * 5000 + b"%d.jpg" % i for i in range(2)] + [
        b"d/" * 2000 + b"%d.jpg" % i for i in range(2)
    ]
    found = [make_label(name) for name in names]
    assert len(set(found)) == 4 and all(
        label.endswith(".jpg") and len(label) < 300 for label in found
    )


@pytest.mark.parametrize(
    "name",
    [b"/a.jpg", b"../a.jpg", b"a/../../b.jpg", b"\\a.jpg", b"..\\a.jpg", b"C:\\a.jpg", b"c:/a"],
)
def test_names_that_lead_out(name: bytes) -> None:
    assert leads_outside(name)


@pytest.mark.parametrize(
    "name", [b"a.jpg", b"./a.jpg", b"..a/b.jpg", b"a..jpg", b"a:b.jpg", b"...", b"a\\b.jpg"]
)
def test_names_that_do_not(name: bytes) -> None:
    assert not leads_outside(name)


# --- both kinds

kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_entries_are_sorted_whatever_the_order_in_the_archive(kind: str, tmp_path: Path) -> None:
    names = [
        "b/2.jpg",
        "a.jpg",
        "b/1.png",
        "b-1.jpg",
        "b.jpg",
        "readme.txt",
        "Z.JPG",
        "b.jpg.json",
        "0/x.jpg/y.gif",
    ]
    for archive in ("m.x", "m", "m-"):
        pack(kind, tmp_path / f"{archive}.{kind}", [(name, name.encode()) for name in names])
    (tmp_path / "m").mkdir()
    pack(kind, tmp_path / "m" / f"n.{kind}", [("q.jpg", b"q.jpg")])
    archives, entries = listed(kind, tmp_path)
    assert len(entries) == 3 * 7 + 1
    for entry in entries:
        archive, member = entry.carried
        assert entry.key.startswith(f"{archive}/") and entry.size == len(member)
        assert entry.mtime_ns == 1_600_000_000 * 10**9
        with archives.open(entry) as file:
            assert file.read() == member.encode()


@kinds
def test_several_threads_read_at_once_and_leave_no_file_open(kind: str, tmp_path: Path) -> None:
    contents = {f"{i:03d}.jpg": os.urandom(3000 + i) for i in range(60)}
    pack(kind, tmp_path / f"a.{kind}", contents.items())
    archives, entries = listed(kind, tmp_path)
    before = len(list(Path("/proc/self/fd").iterdir()))

    def read(entry: Entry) -> bytes:
        with archives.open(entry) as file:
            file.seek(0, 2)
            assert file.tell() == entry.size
            file.seek(1000)
            tail = file.read()
            file.seek(0)
            return file.read(1000) + tail

    with ThreadPoolExecutor(8) as pool:
        assert (
            list(pool.map(read, entries * 3))
            == [contents[entry.carried[1]] for entry in entries] * 3
        )
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@kinds
def test_a_member_of_a_changed_archive_is_not_read(kind: str, tmp_path: Path) -> None:
    path = pack(kind, tmp_path / f"a.{kind}", [("a.jpg", b"1234"), ("b.jpg", b"5678")])
    archives, (a, b) = listed(kind, tmp_path)
    for contents in (
        [("a.jpg", b"1" * 600), ("b.jpg", b"5678")],
        [("b.jpg", b"1234")],
        [("longer name.jpg", b"12"), ("c.jpg", b"")],
    ):
        pack(kind, path, contents)
        assert verdict(archives, b).startswith("changed: "), contents
    assert verdict(archives, a).startswith("changed: "), "another name"
    path.unlink()
    assert verdict(archives, a).startswith("missing: ")


@kinds
def test_appended_members_leave_the_others_as_they_were(kind: str, tmp_path: Path) -> None:
    import tarfile
    import zipfile

    path = pack(kind, tmp_path / f"a.{kind}", [("a.jpg", b"1234"), ("c.jpg", b"5678")])
    _, before = listed(kind, tmp_path)
    (tmp_path / "b.jpg").write_bytes(b"new")
    with tarfile.open(path, "a") if kind == "tar" else zipfile.ZipFile(path, "a") as packed:
        (packed.add if kind == "tar" else packed.write)(tmp_path / "b.jpg", "b.jpg")
    _, after = listed(kind, tmp_path)
    assert [entry for entry in after if entry in before] == before and len(after) == 3


@kinds
def test_what_no_archive_is_has_its_row(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"empty.{kind}").touch()
    (tmp_path / f"text.{kind}").write_text("no archive, but long enough for a header or two" * 100)
    (tmp_path / f"short.{kind}").write_text("no")
    (tmp_path / f"folder.{kind}").mkdir()
    (tmp_path / f"gone.{kind}").symlink_to("nowhere")
    os.mkfifo(tmp_path / f"fifo.{kind}")
    pack(kind, tmp_path / f"nothing.{kind}", [])
    pack(kind, tmp_path / f"whole.{kind}", [("a.jpg", b"a")])
    archives, entries = listed(kind, tmp_path)
    found = {entry.key: verdict(archives, entry).partition(":")[0] for entry in entries}
    short = "truncated" if kind == "tar" else "unsupported"
    statuses = {
        "empty": "empty",
        "text": "unsupported",
        "short": short,
        "folder": "not_a_file",
        "gone": "missing",
    }
    expected = {
        f"{name}.{kind}/": status for name, status in (statuses | {"fifo": "not_a_file"}).items()
    }
    assert found == expected | {f"whole.{kind}/a.jpg": "ok"}
    again = members.ArchiveMembers(
        str(tmp_path), KINDS[kind]
    )  # another process, which has not listed them
    assert {entry.key: verdict(again, entry).partition(":")[0] for entry in entries} == found


@kinds
def test_more_members_than_can_be_sorted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_MAX_SORTED_BYTES", 4200)
    pack(kind, tmp_path / f"a.{kind}", [(f"{i:02d}.jpg", b"x") for i in range(20)])
    found = verdicts(kind, tmp_path)
    assert (
        len(found) == 11 and found[""].startswith("too_large: ") and "first 10 images" in found[""]
    )


@kinds
def test_a_plan_that_no_run_made_opens_nothing(kind: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for folder in (tmp_path, tmp_path / "in"):
        pack(kind, folder / f"a.{kind}", [("a.jpg", b"a")])
    archives, (entry,) = listed(kind, tmp_path / "in")
    for made_up in (
        replace(entry, carried=(f"../a.{kind}", "a.jpg")),
        replace(entry, carried=()),
        replace(entry, carried=(3, 4)),
        replace(entry, offset=-7),
    ):
        with pytest.raises(InputError, match="no run made it") as caught:
            archives.open(made_up)
        assert caught.value.status is Status.UNREADABLE


@kinds
def test_a_file_of_another_kind_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ConfigError, match=rf"a folder of {kind} archives, or a file"):
        members.ArchiveMembers(str(tmp_path / "a.txt"), KINDS[kind])
    only = pack(kind, tmp_path / f"a.{kind}", [("x.jpg", image())])
    pack(kind, tmp_path / f"b.{kind}", [("x.jpg", image())])
    archives, (entry,) = listed(kind, only)
    assert entry.key == f"a.{kind}/x.jpg" and verdict(archives, entry) == "ok"


def test_companions_and_output_folders_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    names = ["a.jpg", "__MACOSX/._a.jpg", "d/._b.jpg", "d\\.c.jpg", "d/b.jpg"]
    names += ["run/overlays/a.jpg", "run/plan/plan.json"]
    path = zip_of(tmp_path / "in.zip", dict.fromkeys(names, b"x").items())
    listing = members.ArchiveMembers(str(path), ZIP)
    assert [entry.key for entry in listing.entries()] == ["in.zip/a.jpg", "in.zip/d/b.jpg"]
    assert (listing.passed_over.n_files, listing.passed_over.n_folders) == (3, 1)
