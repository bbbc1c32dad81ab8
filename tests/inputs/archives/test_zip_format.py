"""Members of zip archives, compared with zipfile: members that are refused, damage, zip bombs."""

import random
import re
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import pytest

from pipeline.core.types import Entry, Status
from pipeline.inputs.archives import zip_contents
from tests.helpers.packed import image, listed, verdict, verdicts, zip_of

METHODS = {"stored": zipfile.ZIP_STORED, "deflated": zipfile.ZIP_DEFLATED}
NOISE = random.Random(1).randbytes(5000)


class Unseekable:
    """What makes zipfile write sizes behind the contents, as programs do that write to a pipe."""

    def __init__(self, file) -> None:
        self.write, self.flush = file.write, file.flush


def one_byte(path: Path, at: int, value: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] = value
    path.write_bytes(data)


def raw(*records: tuple[bytes, bytes, int, int, int], overlap: bool = False) -> bytes:
    """Make an archive of (name, packed bytes, method, size, CRC).

    With `overlap` all members share the bytes of the first.
    """
    body, directory = b"", b""
    for i, (name, packed, method, size, crc) in enumerate(records):
        at = 0 if overlap else len(body)
        fields = (20, 0, method, 0, 33, crc, len(packed), size, len(name), 0)
        if not (overlap and i):
            body += struct.pack("<4s5H3L2H", b"PK\3\4", *fields) + name + packed
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *fields, 0, 0, 0, 0, at) + name
    end = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, len(records), len(records), len(directory), len(body), 0
    )
    return body + directory + end


def deflated(data: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    return squeeze.compress(data) + squeeze.flush()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seekable", [True, False])
@pytest.mark.parametrize(
    "before", [b"", b"#!/bin/sh, as in archives that extract themselves\n" * 3]
)
def test_it_is_read_as_zipfile_reads_it(
    method: str, seekable: bool, before: bytes, tmp_path: Path
) -> None:
    contents = {
        "a.jpg": image(),
        "b/c.png": NOISE,
        "é.gif": b"\0" * 300_000,
        "empty.jpg": b"",
        "n" * 300 + ".jpg": b"n",
    }
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.write(before)
        with zipfile.ZipFile(
            file if seekable else Unseekable(file), "w", METHODS[method]
        ) as packed:  # type: ignore[arg-type]
            for name, data in contents.items():
                packed.writestr(name, data)
            packed.comment = b"a comment behind the end"
    archives, entries = listed("zip", tmp_path)
    assert {entry.carried[1] for entry in entries} == set(contents)
    for entry in entries:
        expected = contents[entry.carried[1]]
        with archives.open(entry) as file:
            assert file.read() == expected and entry.size == len(expected)
            file.seek(len(expected) // 2)
            assert file.read(100) == expected[len(expected) // 2 :][:100]


def test_sizes_of_64_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as packed:
        with packed.open("a.jpg", "w", force_zip64=True) as file:
            file.write(NOISE)
        packed.writestr("z.jpg", image())
    data = path.read_bytes()
    end = data.index(b"PK\5\6")
    length, offset = struct.unpack_from("<2L", data, end + 12)
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, length, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    last = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(data[:end] + record + locator + last)
    assert len(zipfile.ZipFile(path).infolist()) == 2, "zipfile agrees that it is one"
    assert verdicts("zip", tmp_path) == {"a.jpg": "ok", "z.jpg": "ok"}


@pytest.mark.parametrize("name", ["café.jpg".encode(), "café.jpg".encode("cp437")])
def test_names_in_old_code_pages(name: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(raw((name, b"x", 0, 1, zlib.crc32(b"x"))))
    assert verdicts("zip", tmp_path) == {"café.jpg": "ok"}, "without the flag for UTF-8"


def test_what_is_no_plain_file_says_so(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        packed.writestr(link, "/etc/passwd")
        packed.writestr("folder.jpg/", b"")
        packed.writestr("folder/", b"")
        packed.writestr("ok.jpg", b"ok")
    told = verdicts("zip", tmp_path)
    expected = "not_a_file: a link, folder or device, not a regular file"
    assert told == {"link.jpg": expected, "folder.jpg": expected, "ok.jpg": "ok"}


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression_is_a_row(method: int, tmp_path: Path) -> None:
    zip_of(tmp_path / "a.zip", [("a.jpg", NOISE)], method)
    (said,) = verdicts("zip", tmp_path).values()
    assert said.startswith("unsupported: compressed by ") and "pack it with deflate" in said


def test_an_encrypted_member_is_a_row(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", [("a.jpg", NOISE), ("b.jpg", NOISE)])
    one_byte(path, 6, path.read_bytes()[6] | 1)
    told = verdicts("zip", tmp_path)
    assert told == {"a.jpg": "unreadable: encrypted; pack it without a password", "b.jpg": "ok"}


@pytest.mark.parametrize(
    "name", ["/etc/a.jpg", "../a.jpg", "a/../../b.jpg", "..\\a.jpg", "C:\\a.jpg"]
)
def test_a_name_that_leads_out_is_a_row(name: str, tmp_path: Path) -> None:
    zip_of(tmp_path / "a.zip", [(name, image()), ("ok.jpg", image())])
    told = verdicts("zip", tmp_path)
    assert told.pop("ok.jpg") == "ok"
    assert [
        said.startswith("unreadable: its name") and "leads out" in said for said in told.values()
    ] == [True]


def test_members_of_one_name_are_rows_of_their_own(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        zip_of(tmp_path / "a.zip", [("a.jpg", b"first"), ("a.jpg", b"second")])
    archives, entries = listed("zip", tmp_path)
    assert [(entry.key, archives.open(entry).read()) for entry in entries] == [
        ("a.zip/a.jpg", b"first"),
        ("a.zip/a~2.jpg", b"second"),
    ]


BIG = deflated(bytes(3_000_000))
OK = (b"ok.jpg", b"x", 0, 1, zlib.crc32(b"x"))


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ((b"x.jpg", BIG, 8, 100, 0), "corrupt: it holds more than the 100 bytes"),
        ((b"x.jpg", BIG, 8, 3_000_001, 0), "truncated: it ends after 3000000 of 3000001"),
        ((b"x.jpg", BIG, 8, 3_000_000, 0), "corrupt: its CRC is wrong"),
        ((b"x.jpg", BIG, 8, 4_000_000_000, 0), "corrupt: .* cannot become the 4000000000"),
        ((b"x.jpg", b"\xff" * 90, 8, 90, 0), "corrupt: its compressed bytes are damaged"),
        ((b"x.jpg", NOISE, 0, 4_000_000_000, 0), "truncated: its header says"),
        ((b"x.jpg", NOISE, 0, 4_999, 0), "corrupt: stored as it is"),
        ((b"x.jpg", NOISE, 0, 5_000, 1), "corrupt: its CRC is wrong"),
        ((b"x.jpg", NOISE, 77, 5_000, 1), "unsupported: compressed by method 77"),
        ((b"x.jpg", b"", 8, 5, 0), "truncated: it ends after 0 of 5"),
    ],
)
def test_a_member_that_lies_costs_itself_and_no_memory(
    record: tuple, said: str, tmp_path: Path
) -> None:
    (tmp_path / "a.zip").write_bytes(raw(OK, record))
    archives, entries = listed("zip", tmp_path)
    told = {entry.key: entry for entry in entries}
    tracemalloc.start()
    found = verdict(archives, told["a.zip/x.jpg"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert re.match(said, found) and peak < 10_000_000
    assert verdict(archives, told["a.zip/ok.jpg"]) == "ok"


def test_a_header_is_read_without_inflating_the_rest(tmp_path: Path) -> None:
    """Of a member that claims 64 MB the first bytes are made, and its end is known."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(squeeze.compress(bytes(1 << 20)) for _ in range(1 << 6)) + squeeze.flush()
    (tmp_path / "a.zip").write_bytes(raw((b"bomb.bmp", packed, 8, 1 << 26, 0)))
    archives, (entry,) = listed("zip", tmp_path)
    tracemalloc.start()
    with archives.open(entry) as file:
        assert file.seek(0, 2) == 1 << 26
        file.seek(0)
        assert file.read(54) == bytes(54)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("kept", [True, False])
def test_seeking_to_and_fro(kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_contents, "_MAX_CACHED_BYTES", 1 << 26 if kept else 0)
    data = random.Random(3).randbytes(1000) * 3000
    zip_of(tmp_path / "a.zip", [("a.tiff", data)])
    archives, (entry,) = listed("zip", tmp_path)
    begun: list[int] = []
    begin = zip_contents.ZipContents._restart
    monkeypatch.setattr(
        zip_contents.ZipContents, "_restart", lambda self: (begun.append(1), begin(self))
    )
    with archives.open(entry) as file:
        for at in (2_999_000, 8, 1_500_000, 0, 2_999_999, 3_000_005, 700_000):
            file.seek(at)
            assert file.read(900) == data[at : at + 900]
        file.seek(0)
        assert file.read() == data
    assert (len(begun) == 1) is kept


def test_members_that_overlap_are_not_read(tmp_path: Path) -> None:
    bomb = [(b"%d.jpg" % i, BIG, 8, 3_000_000, 0) for i in range(100)]
    (tmp_path / "a.zip").write_bytes(raw(*bomb, overlap=True))
    ((key, said),) = verdicts("zip", tmp_path).items()
    assert key == "" and said.startswith("corrupt: its members overlap")


@pytest.mark.long
@pytest.mark.parametrize("cut", [1, 30, 100, 6000, 12_000, 22_000, 25_300])
def test_an_archive_without_its_end(cut: int, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", [(f"{i}.jpg", NOISE) for i in range(5)])
    begins = [
        i
        for i in range(path.stat().st_size)
        if path.read_bytes()[i : i + 4] in (b"PK\3\4", b"PK\1\2")
    ][:6]
    readable = sum(end <= path.stat().st_size - cut for end in begins[1:])
    path.write_bytes(path.read_bytes()[:-cut])
    told = verdicts("zip", tmp_path)
    assert told.pop("").startswith("truncated: its end is missing")
    assert list(told.values()).count("ok") == readable
    assert [said.partition(":")[0] for said in told.values() if said != "ok"] == ["truncated"] * (
        len(told) - readable
    )


def test_a_damaged_directory_costs_what_follows(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "a.zip", [(f"{i}.jpg", NOISE) for i in range(5)])
    third = [i for i in range(path.stat().st_size) if path.read_bytes()[i : i + 4] == b"PK\1\2"][2]
    one_byte(path, third, 0)
    told = verdicts("zip", tmp_path)
    assert told.pop("").startswith("corrupt: its directory is damaged at byte") and told == {
        "0.jpg": "ok",
        "1.jpg": "ok",
    }


def test_mutated_archives_are_listed_or_end_in_an_input_error(tmp_path: Path) -> None:
    whole = zip_of(
        tmp_path / "w", [("a.jpg", image()), ("b/é.jpg", b"b" * 400), ("c.jpg", b"")]
    ).read_bytes()
    ends, random_ = [whole.index(b"PK\1\2"), len(whole)], random.Random(7)
    told: set[str] = set()
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            at = random_.choice(
                [random_.randrange(60), random_.randrange(*ends), random_.randrange(len(data))]
            )
            data[at] = random_.choice([0, 1, 0x80, 0xFF, random_.randrange(256)])
        (tmp_path / "a.zip").write_bytes(data)
        archives, entries = listed("zip", tmp_path / "a.zip")
        told |= {verdict(archives, entry).partition(":")[0] for entry in entries}
        assert all(
            isinstance(entry, Entry) and abs(entry.offset) < 2**63 and (entry.size or 0) < 2**63
            for entry in entries
        )
    assert {"ok", "truncated", "corrupt", "changed"} <= told <= {status.value for status in Status}
