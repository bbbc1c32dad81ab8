"""source=hf_parquet: images in the rows of Parquet files."""

import io
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torch import Tensor

from pipeline.core.errors import ConfigError, InputChanged
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs import parquet_images, row_groups
from pipeline.inputs.parquet_images import ParquetImages
from pipeline.inputs.sources.hf_parquet import HfParquet
from pipeline.runs.plan_freezing import freeze_plan
from pipeline.runs.run_folder import RunFolder
from tests.helpers.paths import SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.runs import read

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(number: int, size: tuple[int, int] = (20, 10)) -> bytes:
    file = io.BytesIO()
    picture(*size, seed=number).save(file, "PNG")
    return file.getvalue()


def table_of(
    path: Path, images: list, rows_of_a_group: int = 3, kind: pa.DataType = IMAGE, **more: Any
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": pa.array(images, kind), **more})
    pq.write_table(table, path, row_group_size=rows_of_a_group)
    return path


def rows(count: int) -> list[dict]:
    return [{"bytes": png(i), "path": f"{i}.png"} for i in range(count)]


def source_of(root: Path, column: str = "image", carry: list[str] | None = None) -> HfParquet:
    return HfParquet(str(root), column, carry)


def contents(source: HfParquet) -> list[bytes | str]:
    """Each input's bytes, or its status."""
    return [content(source, entry) for entry in source.entries()]


def content(source: HfParquet, entry: Entry) -> bytes | str:
    try:
        with source.open(entry) as file:
            return file.read()
    except InputError as error:
        return error.status


# --- listing


def test_a_row_is_an_input(tmp_path: Path) -> None:
    table_of(tmp_path / "b.parquet", rows(2))
    table_of(tmp_path / "a" / "x.parquet", rows(1))
    table_of(tmp_path / "a.parquet", rows(1))
    (tmp_path / "README.md").touch()
    source = source_of(tmp_path)
    entries = list(source.entries())
    assert [(entry.key, entry.offset, entry.size) for entry in entries] == [
        ("a.parquet/00000000.png", 0, None),
        ("a/x.parquet/00000000.png", 0, None),
        ("b.parquet/00000000.png", 0, None),
        ("b.parquet/00000001.png", 1, None),
    ]
    assert entries[3].mtime_ns == (tmp_path / "b.parquet").stat().st_mtime_ns
    assert contents(source) == [png(0), png(0), png(0), png(1)]
    assert [entry.key for entry in source_of(tmp_path / "b.parquet").entries()] == [
        "b.parquet/00000000.png",
        "b.parquet/00000001.png",
    ]


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("a.JPG", ".jpg"),
        ("dir/a.webp", ".webp"),
        ("a.tar.png", ".png"),
        ("a", ""),
        (None, ""),
        ("a.txt", ""),
        ("a.jpg/../../../x", ""),
        (".png", ""),
    ],
)
def test_a_key_ends_as_the_images_name_does(path: str | None, suffix: str, tmp_path: Path) -> None:
    table_of(tmp_path / "a.parquet", [{"bytes": b"x", "path": path}])
    assert [entry.key for entry in source_of(tmp_path).entries()] == [f"a.parquet/00000000{suffix}"]


@pytest.mark.parametrize(
    ("kind", "wrap"),
    [
        (pa.binary(), lambda data: data),
        (pa.large_binary(), lambda data: data),
        (pa.struct([("bytes", pa.large_binary())]), lambda data: {"bytes": data}),
        (
            pa.struct([("path", pa.large_string()), ("bytes", pa.binary())]),
            lambda data: {"bytes": data, "path": None},
        ),
    ],
)
def test_images_may_be_kept_in_several_ways(
    kind: pa.DataType, wrap: Callable[[bytes], Any], tmp_path: Path
) -> None:
    table_of(tmp_path / "a.parquet", [wrap(png(i)) for i in range(7)], kind=kind)
    assert contents(source_of(tmp_path)) == [png(i) for i in range(7)]


def test_planning_reads_no_image(tmp_path: Path) -> None:
    images = [{"bytes": os.urandom(1 << 20), "path": "a.png"} for _ in range(8)]
    file = table_of(tmp_path / "a.parquet", images, label=[7] * 8)
    seen: list[int] = []

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            seen.append(len(data))
            return data

    source = source_of(tmp_path)
    source.images.open_file = lambda key: Counting(file.read_bytes())  # type: ignore[assignment,return-value]
    assert len(list(source.entries())) == 8 and sum(seen) < 1 << 18


# --- columns


def test_other_columns_are_carried(tmp_path: Path) -> None:
    table_of(tmp_path / "a.parquet", rows(2), label=pa.array([3, None], pa.int8()), site=["x", "y"])
    source = source_of(tmp_path)
    assert [str(field.type) for field in source.columns] == ["int8", "string"]
    assert [entry.carried for entry in source.entries()] == [(3, "x"), (None, "y")]
    assert [entry.carried for entry in source_of(tmp_path, carry=["site"]).entries()] == [
        ("x",),
        ("y",),
    ]
    assert [entry.carried for entry in source_of(tmp_path, carry=[]).entries()] == [(), ()]


@pytest.mark.parametrize(
    ("more", "column", "carry", "said"),
    [
        (
            {},
            "picture",
            None,
            r"a.parquet: no column 'picture' of images .*; it has image "
            r"\(struct.*source.column=NAME",
        ),
        ({"label": [1]}, "label", None, r"no column 'label' of images"),
        (
            {"objects": [[1]]},
            "image",
            None,
            r"column 'objects' .* cannot go into a row. Say what to carry: source.carry=\[\]",
        ),
        ({"width": [1]}, "image", None, "column 'width' has a name"),
        ({"label": [1]}, "image", ["lable"], "Did you mean 'label'"),
    ],
)
def test_columns_that_do_not_fit_are_refused(
    more: dict, column: str, carry: list | None, said: str, tmp_path: Path
) -> None:
    table_of(tmp_path / "a.parquet", rows(1), **more)
    with pytest.raises(ConfigError, match=said):
        source_of(tmp_path, column, carry)


# --- what cannot be read


def test_a_broken_file_is_one_row_and_the_others_are_read(tmp_path: Path) -> None:
    whole = table_of(tmp_path / "b.parquet", rows(2), label=[1, 2])
    (tmp_path / "a.parquet").write_bytes(b"no Parquet")
    (tmp_path / "c.parquet").write_bytes(whole.read_bytes()[:-20])
    (tmp_path / "d.parquet").touch()
    table_of(tmp_path / "e.parquet", rows(2))  # without the label
    table_of(tmp_path / "f.parquet", rows(2), label=["one", "two"])
    table_of(tmp_path / "g.parquet", [1], kind=pa.int64(), label=[1])
    source = source_of(tmp_path)
    assert [(entry.key, entry.carried) for entry in source.entries()] == [
        ("a.parquet/", (None,)),
        ("b.parquet/00000000.png", (1,)),
        ("b.parquet/00000001.png", (2,)),
        *((f"{name}.parquet/", (None,)) for name in "cdefg"),
    ]
    broken, other = Status.CORRUPT, Status.UNSUPPORTED
    assert contents(source) == [broken, png(0), png(1), broken, broken, other, broken, other]


def test_a_folder_with_the_name_of_a_file_is_listed(tmp_path: Path) -> None:
    table_of(tmp_path / "spark.parquet" / "part-0.parquet", rows(1))
    (tmp_path / "spark.parquet" / "_SUCCESS").touch()
    os.mkfifo(tmp_path / "fifo.parquet")
    source = source_of(tmp_path)
    assert [entry.key for entry in source.entries()] == [
        "fifo.parquet/",
        "spark.parquet/part-0.parquet/00000000.png",
    ]
    assert contents(source) == [Status.NOT_A_FILE, png(0)]


def test_a_file_that_could_not_be_read_and_can_be_now_has_changed(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no Parquet")
    source = source_of(tmp_path)
    (entry,) = source.entries()
    table_of(tmp_path / "a.parquet", rows(1))
    assert content(source, entry) is Status.CHANGED


def test_damaged_images_cost_their_row_group(tmp_path: Path) -> None:
    file = table_of(tmp_path / "a.parquet", rows(9))
    chunk = pq.ParquetFile(file).metadata.row_group(1).column(0)
    data = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 12] = b"\xff" * 12
    file.write_bytes(data)
    source = source_of(tmp_path)
    found = contents(source)
    assert (
        found[:3] + found[6:] == [png(i) for i in (0, 1, 2, 6, 7, 8)]
        and found[3:6] == [Status.CORRUPT] * 3
    )


@pytest.mark.parametrize(
    ("image", "said"),
    [(None, "no bytes"), ({"bytes": None, "path": "x/a.jpg"}, "only the path 'x/a.jpg'")],
)
def test_a_row_without_bytes_says_so(image: dict | None, said: str, tmp_path: Path) -> None:
    table_of(tmp_path / "a.parquet", [image])
    source = source_of(tmp_path)
    (entry,) = source.entries()
    with pytest.raises(InputError, match=said) as caught:
        source.open(entry)
    assert caught.value.status is Status.EMPTY


def test_a_row_group_too_large_for_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_images, "_MAX_GROUP_BYTES", 1000)
    table_of(tmp_path / "a.parquet", [{"bytes": os.urandom(2000), "path": None}])
    source = source_of(tmp_path)
    (entry,) = source.entries()
    with pytest.raises(InputError, match=r"a row group of .* bytes; up to 1,000") as caught:
        source.open(entry)
    assert entry.key == "a.parquet/" and caught.value.status is Status.TOO_LARGE


def test_no_damage_ends_a_listing_or_a_run(tmp_path: Path) -> None:
    rng = random.Random(0)
    whole = table_of(
        tmp_path / "whole" / "a.parquet", rows(7), label=list(range(7)), site=["x"] * 7
    ).read_bytes()
    footer = int.from_bytes(whole[-8:-4], "little")
    file, found = tmp_path / "a.parquet", []
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(rng.choice((1, 1, 3))):
            first = len(data) - 8 - footer if rng.random() < 0.7 else 0
            data[rng.randrange(first, len(data))] = rng.randrange(256)
        file.write_bytes(data)
        try:
            found += contents(source_of(file))
        except ConfigError:  # the column's name was hit
            continue
    read = [one for one in found if isinstance(one, bytes)]
    assert len(read) > 100 and Status.CORRUPT in found


# --- changes


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    file = table_of(tmp_path / "in" / "a.parquet", rows(3))
    folder, source = RunFolder(tmp_path / "run"), source_of(tmp_path / "in")
    planned = list(source.entries())
    with folder.lock():
        freeze_plan(folder, source, 2, None, False)
        table_of(file, rows(4))
        os.utime(file, ns=(0, 7))
        assert [content(source, entry) for entry in planned] == [Status.CHANGED] * 3
        with pytest.raises(InputChanged, match=r"changed \(3\): a.parquet/00000000"):
            freeze_plan(folder, source_of(tmp_path / "in"), 2, None, False)
        table_of(tmp_path / "in" / "b.parquet", rows(1))
        plan = freeze_plan(folder, source_of(tmp_path / "in"), 2, None, True)
    assert [entry.key for entry in plan.entries_by_id()][3:] == [
        "a.parquet/00000003.png",
        "b.parquet/00000000.png",
    ]


@pytest.mark.parametrize("at", [-1, 3, 10**12])
def test_a_row_that_is_not_there_is_not_read(at: int, tmp_path: Path) -> None:
    table_of(tmp_path / "a.parquet", rows(3))
    with pytest.raises(InputError, match="3 rows now, not this one"):
        source_of(tmp_path).open(Entry("a.parquet/00000000", None, 0, (), at))


# --- reading


def test_threads_read_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table_of(tmp_path / "a.parquet", rows(30), rows_of_a_group=5)
    source, read_groups = source_of(tmp_path), []
    real = source.images.groups._read
    monkeypatch.setattr(
        source.images.groups, "_read", lambda where: read_groups.append(where.number) or real(where)
    )
    entries = list(source.entries())
    with ThreadPoolExecutor(8) as pool:
        assert (
            list(pool.map(lambda entry: content(source, entry), entries * 3))
            == [png(i) for i in range(30)] * 3
        )
    assert sorted(read_groups) == [0, 1, 2, 3, 4, 5]


def test_what_is_held_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_groups, "_MAX_CACHED_BYTES", 5000)
    table_of(
        tmp_path / "a.parquet",
        [{"bytes": os.urandom(1000), "path": None} for _ in range(20)],
        rows_of_a_group=2,
    )
    source = source_of(tmp_path)
    for entry in source.entries():
        source.open(entry)
        held = source.images.groups._groups
        assert sum(one.result().nbytes for one in held.values()) <= 5000
    assert [where.number for where in held] == [8, 9]


def test_a_failed_reading_is_tried_again(tmp_path: Path) -> None:
    file = table_of(tmp_path / "a.parquet", rows(1))
    failures = iter([True, True, False, False])

    def open_file(key: str) -> Any:
        if next(failures):
            raise InputError(Status.UNREADABLE, "not now")
        return file.open("rb")

    tables, entry = ParquetImages(open_file, "image"), Entry("a.parquet/00000000", None, 0)
    for _ in range(2):
        with pytest.raises(InputError, match="not now"):
            tables.open(entry)
    assert tables.open(entry).read() == png(0)


# --- runs


def test_a_run_over_a_table_finds_what_that_over_its_files_does(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    files = sorted((SAMPLES / "desk").iterdir())
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in files]
    table_of(
        tmp_path / "in" / "train.parquet",
        [*images, {"bytes": None, "path": "gone.jpg"}],
        2,
        label=[0, 1, 2, 3],
    )
    plain = read(
        annotate("model=codes", f"input={SAMPLES / 'desk'}", "overlays=false"), "predictions"
    )
    found = annotate("model=codes", "source=hf_parquet", f"input={tmp_path / 'in'}")
    own = read(found, "predictions")
    assert own.drop_columns(["key", "label"]).equals(plain.drop_columns(["key"]))
    assert own["label"].to_pylist() == own["image_id"].to_pylist()
    images_table = read(found, "images")
    assert images_table["status"].to_pylist() == ["ok", "ok", "ok", "empty"]
    overlays = sorted(path.name for path in (found / "overlays" / "train.parquet").iterdir())
    assert overlays == [f"{i:08d}.jpg" for i in range(3)]


def test_pixels_are_decoded(tmp_path: Path) -> None:
    table_of(tmp_path / "a.parquet", rows(2))
    source = source_of(tmp_path)
    entries = list(source.entries())
    found = list(source.read(entries, 10**6, lambda stage: nullcontext()))
    assert all(isinstance(one, Tensor) and tuple(one.shape) == (3, 10, 20) for one in found)
