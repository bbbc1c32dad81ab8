"""Members of tar archives: formats, members that are refused, damage, and forged headers."""

import io
import os
import random
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest

from pipeline.core.types import InputError, Status
from pipeline.inputs.archives.tar_format import list_members
from tests.helpers.packed import image, listed, special, tar_of, verdict, verdicts

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
LONG = "folder/" * 20 + "é" * 60 + ".jpg"


def header(name: str = "x.jpg", size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A block; a size that octal digits do not hold is written as GNU tar does it."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


def pax(records: bytes) -> bytes:
    return header("pax", len(records), tarfile.XHDTYPE) + records.ljust(
        -(-len(records) // 512) * 512, b"\0"
    )


def record(keyword: str, value: str) -> bytes:
    rest = f" {keyword}={value}\n".encode()
    length = next(n for n in range(len(rest), len(rest) + 9) if n == len(rest) + len(str(n)))
    return str(length).encode() + rest


def found(data: bytes) -> tuple[list[tuple[str, int]], str]:
    """((name, size) of each member, how the listing ended)."""
    listing = []
    try:
        for member in list_members(io.BytesIO(data)):
            listing.append((member.name.decode("utf-8", "replace"), member.size))
    except InputError as error:
        return listing, f"{error.status}: {error}"
    return listing, "ok"


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_read_as_tarfile_reads_it(form: str, tmp_path: Path) -> None:
    names = [
        "a.jpg",
        "b/c.png",
        "d" * 90 + ".jpg",
        "e.txt",
        *([] if form == "ustar" else [LONG, "n" * 250 + ".gif"]),
    ]
    path = tar_of(tmp_path / "a.tar", [(name, os.urandom(700)) for name in names], FORMATS[form])
    archives, entries = listed("tar", tmp_path)
    with tarfile.open(path) as tar:
        assert sorted(entry.carried[1] for entry in entries) == sorted(
            n for n in tar.getnames() if n != "e.txt"
        )
        for entry in entries:
            info = tar.getmember(entry.carried[1])
            with archives.open(entry) as file:
                assert file.read() == tar.extractfile(info).read()  # type: ignore[union-attr]
            assert (entry.size, entry.mtime_ns, entry.offset) == (
                info.size,
                info.mtime * 10**9,
                info.offset,
            )


def test_a_time_in_a_pax_header_has_its_fraction(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    os.utime(tmp_path / "a.jpg", ns=(0, 1_600_000_000_250_000_000))
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.add(tmp_path / "a.jpg", "a.jpg")
    archives, (entry,) = listed("tar", tmp_path)
    assert entry.mtime_ns == 1_600_000_000_250_000_000 and verdict(archives, entry) == "ok"


def test_what_is_no_plain_file_says_what_it_is(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "a.tar", [("ok.jpg", image())])
    odd = {
        "sym.jpg": tarfile.SYMTYPE,
        "hard.jpg": tarfile.LNKTYPE,
        "char.jpg": tarfile.CHRTYPE,
        "block.jpg": tarfile.BLKTYPE,
    }
    for name, kind in (odd | {"fifo.jpg": tarfile.FIFOTYPE, "folder.jpg": tarfile.DIRTYPE}).items():
        special(path, name, kind, "/etc/passwd")
    special(path, "plain", tarfile.DIRTYPE)
    told = verdicts("tar", tmp_path)
    words = ("symbolic link", "hard link", "character device", "block device", "FIFO", "folder")
    assert told.pop("ok.jpg") == "ok" and len(told) == 6
    for word in words:
        (said,) = [said for name, said in told.items() if said.startswith(f"not_a_file: a {word}")]
        assert "not a regular file" in said


@pytest.mark.parametrize(
    "name", ["/etc/a.jpg", "../a.jpg", "a/../../b.jpg", "..\\a.jpg", "C:/a.jpg"]
)
def test_a_name_that_leads_out_is_a_row(name: str, tmp_path: Path) -> None:
    tar_of(tmp_path / "a.tar", [(name, image()), ("ok.jpg", image())])
    told = verdicts("tar", tmp_path)
    assert told.pop("ok.jpg") == "ok"
    assert [
        said.startswith("unreadable: its name") and "leads out" in said for said in told.values()
    ] == [True]


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (header(size=10**18), {"": "truncated", "x.jpg": "truncated"}),
        (header(size=700) + b"x" * 512, {"": "truncated", "x.jpg": "truncated"}),
        (header(size=512) + b"x" * 512, {"": "truncated", "x.jpg": "ok"}),  # whole, but no end mark
        (header(size=5) + b"x" * 5, {"": "truncated", "x.jpg": "ok"}),
        (header(size=5) + b"x" * 512 + b"?" * 512, {"": "corrupt", "x.jpg": "ok"}),
        (header(size=5) + b"x" * 512 + header("y.jpg")[:300], {"": "truncated", "x.jpg": "ok"}),
        (header() + bytes(512), {"x.jpg": "ok"}),
        (
            header() + bytes(1024) + header("y.jpg"),
            {"": "corrupt", "x.jpg": "ok"},
        ),  # cat a.tar b.tar
        (
            pax(record("size", "99999999999999999999")) + header(),
            {"": "truncated", "x.jpg": "truncated"},
        ),
        (header() + pax(record("size", "-3")) + header(), {"": "corrupt", "x.jpg": "ok"}),
        (header() + pax(b"99 size=3\n") + header("y.jpg"), {"": "corrupt", "x.jpg": "ok"}),
        (
            header() + header("long", 1 << 40, tarfile.GNUTYPE_LONGNAME),
            {"": "corrupt", "x.jpg": "ok"},
        ),
        (header() + header("y.jpg", -(1 << 20)), {"": "corrupt", "x.jpg": "ok"}),
        (pax(record("path", "y.jpg")) * 3000 + header() + bytes(512), {"": "corrupt"}),
        (pax(record("GNU.sparse.major", "1")) + header() + bytes(512), {"x.jpg": "unsupported"}),
        (
            header(size=1 << 60, kind=tarfile.GNUTYPE_SPARSE),
            {"": "truncated", "x.jpg": "unsupported"},
        ),
        (pax(record("mtime", "1e999")) + header() + bytes(512), {"x.jpg": "ok"}),
        (
            header("pax", 20, tarfile.XGLTYPE)
            + b"20 comment=abcdefg\n".ljust(512, b"\0")
            + header()
            + bytes(512),
            {"x.jpg": "ok"},
        ),
    ],
)
def test_damage_costs_what_it_hit(data: bytes, statuses: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    tracemalloc.start()
    told = verdicts("tar", tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert {
        name: said.partition(":")[0] for name, said in told.items()
    } == statuses and peak < 5_000_000


@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("name", ["a.tar.{}", "a.tar"])
def test_a_compressed_archive_is_a_row_that_says_what_to_do(
    compression: str, name: str, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / name.format(compression), f"w:{compression}") as tar:
        tar.addfile(tarfile.TarInfo("a.jpg"))
    ((key, said),) = verdicts("tar", tmp_path).items()
    assert (
        key == ""
        and said.startswith("unsupported: compressed by")
        and "decompress the archive first" in said
    )
    (tmp_path / "b.json.gz").write_bytes(b"no archive by its name")
    assert len(listed("tar", tmp_path)[1]) == 1


def test_a_header_that_costs_tarfile_minutes() -> None:
    """Headers of digits, or of records of one letter, take tarfile the square of their length."""
    for hostile in (b"1" * 900_000, b"1 " * 450_000):
        began = time.monotonic()
        listing, ended = found(header("first.jpg") + pax(hostile) + header())
        assert (
            listing == [("first.jpg", 0)]
            and ended.startswith("corrupt")
            and time.monotonic() - began < 2
        )


@pytest.mark.parametrize("cut", range(0, 100, 7))
def test_an_archive_cut_short(cut: int, tmp_path: Path) -> None:
    whole = tar_of(
        tmp_path / "whole", [(f"{i}.jpg", os.urandom(900)) for i in range(5)], tarfile.PAX_FORMAT
    ).read_bytes()
    at = len(whole.rstrip(b"\0")) * cut // 100
    (tmp_path / "a.tar").write_bytes(whole[:at])
    told = verdicts("tar", tmp_path)
    readable = sum((i + 1) * 1536 - 124 <= at for i in range(5))
    assert list(told.values()).count("ok") == readable
    assert told[""].startswith("truncated" if at else "empty")


def test_mutated_archives_are_listed_or_end_in_an_input_error(tmp_path: Path) -> None:
    """Damage headers on purpose and mend their checksums, to test the code behind the checksum."""
    whole = bytearray(
        tar_of(
            tmp_path / "w", [(LONG, b"1"), ("b.jpg", image()), ("c.jpg", b"")], tarfile.PAX_FORMAT
        ).read_bytes()
    )
    random_ = random.Random(7)
    ended = set()
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(random_.randint(1, 4)):
            block = random_.randrange(0, len(data) - 512, 512)
            at = block + random_.choice([124, 130, 135, 136, 156, 257, 482, random_.randrange(512)])
            data[at] = random_.choice(
                [0, 0x80, 0xFF, 0x20, 0x35, ord("x"), ord("S"), ord("L"), random_.randrange(256)]
            )
            data[block + 148 : block + 156] = b"%06o\0 " % (
                sum(data[block : block + 512]) - sum(data[block + 148 : block + 156]) + 256
            )
        (tmp_path / "a.tar").write_bytes(data)
        archives, entries = listed("tar", tmp_path / "a.tar")
        ended |= {verdict(archives, entry).partition(":")[0] for entry in entries}
    assert {"ok", "truncated", "corrupt"} <= ended <= {status.value for status in Status}
