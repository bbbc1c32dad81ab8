"""source=manifest: what a list names, whatever it is written in and wherever its paths lead."""

import datetime
import errno
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import ConfigError, InputChanged
from pipeline.core.types import Entry, InputError, Status
from pipeline.inputs.sources.manifest import Manifest
from pipeline.results.commands.verify import Options as VerifyOptions
from pipeline.results.commands.verify import run_command as verify
from pipeline.runs.components import build_components
from pipeline.runs.fingerprint import collect_determinants, make_run_name
from pipeline.runs.plan_freezing import freeze_plan
from pipeline.runs.run_folder import RunFolder
from pipeline.storage.external_sort import SortedRows
from pipeline.storage.prefetch import Prefetcher
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read, settings_for


@pytest.fixture
def listed(tmp_path: Path) -> Iterator[Callable[..., Manifest]]:
    """Return listed("a.csv", content, ...), which makes a source over a manifest.

    The content is bytes, text, or columns of Parquet.
    """
    made: list[Manifest] = []

    def make(
        name: str,
        content: bytes | str | dict,
        column: str = "path",
        root: str | None = None,
        carry: list | None = None,
    ) -> Manifest:
        file = tmp_path / name
        if isinstance(content, dict):
            pq.write_table(pa.table(content), file)
        else:
            file.write_bytes(content.encode() if isinstance(content, str) else content)
        made.append(Manifest(str(file), column, root, carry))
        return made[-1]

    yield make
    for source in made:
        source.close()


def keys(source: Manifest) -> list[str]:
    return [entry.key for entry in source.entries()]


# --- paths in other spellings


WAYS = [  # to write sub/a b.jpg of the root HERE
    "sub/a b.jpg",
    "./sub//a b.jpg",
    "sub\\a b.jpg",
    "C:\\set\\sub\\a b.jpg",
    "sub/a%20b.jpg",
    "HERE/sub/a b.jpg",
    "/gone/sub/a b.jpg",
    "../gone/sub/a b.jpg",
    "file://HERE/sub/a%20b.jpg",
    "file://HERE/sub/a b.jpg",
    "file://localhostHERE/sub/a%20b.jpg",
    "FILE:HERE/sub/a%20b.jpg",
    "file:///gone/sub/a%20b.jpg",
    "Sub/A b.JPG",
]


@pytest.mark.parametrize("written", WAYS)
def test_a_file_is_found_however_its_path_is_written(
    written: str, listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub/a b.jpg").write_bytes(b"12345")
    source = listed("a.txt", written.replace("HERE", str(root)), root=str(root))
    [entry] = source.entries()
    assert entry.size == 5
    with source.open(entry) as file:
        assert file.read() == b"12345"


@pytest.mark.parametrize("written", ["old/a.jpg", "file:///a", "x\\old", "%61.png"])
def test_a_relative_path_is_not_cut(
    written: str, listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    """The list says that the file is in `old`. Another file of this name is another picture."""
    (tmp_path / "a.jpg").write_bytes(b"1")
    source = listed("a.txt", written)
    [entry] = source.entries()
    with pytest.raises(InputError) as caught:
        source.open(entry)
    assert caught.value.status is Status.MISSING


def test_two_paths_that_lead_to_one_file_are_refused(
    listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"1")
    with pytest.raises(ConfigError, match="both lead to"):
        keys(listed("a.txt", "C:\\one\\a.jpg\nC:\\two\\a.jpg\n"))


def test_a_web_address_stays_as_it_is_written(listed: Callable[..., Manifest]) -> None:
    address = "https://host/a%20b//c.jpg?x=%2F"
    source = listed("a.txt", address)
    [entry] = source.entries()
    assert source.files.locations.resolve(entry.key) == address


# --- formats


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "b.jpg\na.jpg\n", ["a.jpg", "b.jpg"]),
        ("a.txt", "b.jpg\r\n\r\na.jpg", ["a.jpg", "b.jpg"]),
        ("a.txt", b"\xef\xbb\xbfa.jpg\n", ["a.jpg"]),
        ("a.txt", 'a, "b".jpg\n# no comment.jpg\n', ["# no comment.jpg", 'a, "b".jpg']),
        ("a.TXT", "a b.jpg\n c.jpg \n", [" c.jpg ", "a b.jpg"]),
        ("a.csv", "path\na.jpg\n", ["a.jpg"]),
        ("a.csv", b"\xef\xbb\xbfpath,x\r\na.jpg,1\r\n", ["a.jpg"]),
        ("a.csv", 'x,path\n1,"a, ""b"".jpg"\n2,"new\nline.jpg"\n', ['a, "b".jpg', "new\nline.jpg"]),
        ("a.csv", "path\n2024\n1999\n", ["1999", "2024"]),  # names are no numbers
        ("a.tsv", "path\tx\na,b.jpg\t1\n", ["a,b.jpg"]),
        ("a.parquet", {"path": ["é.jpg", "a.jpg"]}, ["a.jpg", "é.jpg"]),
        (
            "a.parquet",
            {"path": pa.array(["b.jpg", "a.jpg"], pa.large_string())},
            ["a.jpg", "b.jpg"],
        ),
        ("a.parquet", {"path": pa.array(["b.jpg", "a.jpg"], pa.string_view())}, ["a.jpg", "b.jpg"]),
        (
            "a.parquet",
            {"path": pa.array(["b.jpg", "a.jpg"]).dictionary_encode()},
            ["a.jpg", "b.jpg"],
        ),
    ],
)
def test_paths_are_read_as_they_stand_there(
    name: str, content: bytes | str | dict, expected: list[str], listed: Callable[..., Manifest]
) -> None:
    source = listed(name, content)
    assert keys(source) == expected == keys(source)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", b"a.jpg\n\xe9.jpg\n", "line 2 is not UTF-8"),
        ("a.txt", "a.jpg\n".encode("utf-16"), "UTF-16"),
        ("a.csv", "path\na.jpg\n".encode("utf-16"), "UTF-16"),
        ("a.csv", b"path,x\na.jpg,1\n\xe9.jpg,1\n", "Row #3.*invalid UTF8"),
        ("a.csv", "", "Empty CSV"),
        ("a.csv", "path,x\na.jpg,1,2\n", "Expected 2 columns, got 3"),
        ("a.csv", "path,x\na.jpg,1\n,2\n", "line 3 has no path in column 'path'"),
        ("a.csv", "file\na.jpg\n", r"no column 'path'.* The columns are file. Say source.column="),
        ("a.csv", "paths,x\na.jpg,1\n", "Did you mean 'paths'"),
        ("a.csv", "path,path\na.jpg,b.jpg\n", "2 columns are called 'path'"),
        ("a.csv", "path,size\n" + "a.jpg,1\n" * 200_000 + "b.jpg,large\n", "invalid value 'large'"),
        ("a.csv", "path,size\na.jpg,-1\n", "'size' has -1; expected bytes"),
        ("a.parquet", {"path": ["a.jpg", None]}, "row 2 has no path"),
        ("a.parquet", {"path": ["a.jpg", ""]}, "row 2 has no path"),
        ("a.parquet", {"path": [1, 2]}, "source.column=path is int64; expected paths as text"),
        ("a.parquet", {"path": pa.nulls(2)}, "is null; expected paths as text"),
        ("a.parquet", "path\na.jpg\n", "cannot be read: .*Expected a Parquet file"),
    ],
)
def test_what_is_no_manifest_is_refused(
    name: str, content: bytes | str | dict, said: str, listed: Callable[..., Manifest]
) -> None:
    with pytest.raises(ConfigError, match=f"^input=.*{name}: .*{said}"):
        keys(listed(name, content))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (pa.array([1], pa.timestamp("ns")), "would lose data"),
        (pa.array([3_000_000], pa.date32()), "years 1 to 9999"),
        (pa.array([10**18], pa.timestamp("us")), "years 1 to 9999"),
    ],
)
def test_times_that_cannot_be_carried_are_refused(
    values: pa.Array, said: str, listed: Callable[..., Manifest]
) -> None:
    with pytest.raises(ConfigError, match=said):
        keys(listed("a.parquet", {"path": ["a.jpg"], "taken": values}))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_manifest_has_no_inputs(
    content: str, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(ConfigError, match=r"No inputs found in .*a.txt \(source=manifest\)"):
        annotate("model=codes", "source=manifest", f"input={tmp_path / 'a.txt'}")


def test_an_input_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    for name, said in (
        ("absent", "does not exist"),
        ("a.jpg", "a file ending in .csv .parquet .tsv .txt"),
        ("", "found none"),
    ):
        (tmp_path / "a.jpg").touch()
        with pytest.raises(ConfigError, match=f"^input=.*{said}"):
            Manifest(str(tmp_path / name), "path", None, None)
    (tmp_path / "a.txt").touch()
    with closing(Manifest(str(tmp_path), "path", None, None)) as source:
        assert keys(source) == []
    (tmp_path / "b.txt").touch()
    with pytest.raises(ConfigError, match=r"expected one manifest, .*; found several"):
        Manifest(str(tmp_path), "path", None, None)


# --- where paths lead


def test_paths_lead_to_their_files(tmp_path: Path, listed: Callable[..., Manifest]) -> None:
    places = {
        "lists/a.jpg": "a.jpg",
        "b.jpg": "../b.jpg",
        "c.jpg": str(tmp_path / "c.jpg"),
        "lists/d/e.jpg": "./d//e.jpg",
    }
    (tmp_path / "lists" / "d").mkdir(parents=True)
    for place in places:
        (tmp_path / place).write_text(place)
    source = listed("lists/a.txt", "\n".join(places.values()))
    found = {}
    for entry in source.entries():
        with source.open(entry) as file:
            found[entry.key] = file.read().decode()
        assert entry.size == len(found[entry.key]) and entry.mtime_ns > 0
    assert len(found) == 4 and set(found.values()) == set(places)
    assert found["a.jpg"] == "lists/a.jpg" and found["%2E./b.jpg"] == "b.jpg"


@pytest.mark.parametrize("absolute", [True, False])
def test_relative_paths_begin_at_the_root(
    absolute: bool, tmp_path: Path, listed: Callable[..., Manifest]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("there")
    source = listed("a.txt", "a.jpg", root=str(tmp_path / "photos") if absolute else "photos")
    (entry,) = source.entries()
    assert entry.size == 5
    with pytest.raises(
        ConfigError, match=r"source.root=elsewhere: .*elsewhere is no folder. Expected"
    ):
        listed("a.txt", "a.jpg", root="elsewhere")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("absent.jpg", Status.MISSING),
        ("folder", Status.NOT_A_FILE),
        ("s3://bucket/a.jpg", Status.UNREADABLE),
    ],
)
def test_what_cannot_be_read_has_its_row(
    path: str, status: Status, tmp_path: Path, listed: Callable[..., Manifest]
) -> None:
    (tmp_path / "folder").mkdir()
    source = listed("a.txt", path)
    (entry,) = source.entries()
    assert entry.size == (None if "://" in path else 0)
    with pytest.raises(InputError) as caught:
        source.open(entry)
    assert caught.value.status is status


def test_no_file_has_a_nul_in_its_name(listed: Callable[..., Manifest]) -> None:
    source = listed("a.parquet", {"path": ["a\0.jpg"]})
    (entry,) = source.entries()
    with pytest.raises(InputError, match="NUL") as caught:
        source.open(entry)
    assert entry.key == "a%00.jpg" and caught.value.status is Status.MISSING


# --- columns


def test_sizes_and_times_of_the_manifest_save_a_look_at_each_file(
    listed: Callable[..., Manifest],
) -> None:
    when = datetime.datetime(2024, 5, 1, 12, tzinfo=datetime.UTC)
    source = listed(
        "a.parquet",
        {
            "path": ["s3://b/a.jpg", "b.jpg", "c.jpg"],
            "size": [7, 8, None],
            "mtime": [when, None, when],
        },
    )
    assert list(source.columns) == []
    assert list(source.entries()) == [
        Entry("b.jpg", 8, 0),
        Entry("c.jpg", 0, 0),  # looked at: it is not there
        Entry("s3:/%2Fb/a.jpg", 7, int(when.timestamp()) * 10**9),
    ]
    assert next(listed("a.csv", "path,mtime,size\na.jpg,5,7\n").entries()) == Entry("a.jpg", 7, 5)
    (other,) = listed(
        "a.csv", "path,size\na.jpg,large\n"
    ).entries()  # no number: a column as any other
    assert other == Entry("a.jpg", 0, 0, ("large",))


COLUMNS = {
    "path": ["b.jpg", "a.jpg"],
    "name": ["x", None],
    "n": pa.array([1, -2], pa.int8()),
    "share_of": pa.array([0.5, float("nan")], pa.float32()),
    "half": pa.array([0.5, None], pa.float16()),
    "big": pa.array(["x", "y"], pa.large_string()),
    "kind": pa.array(["p", "q"]).dictionary_encode(),
    "flag": [True, None],
    "day": [datetime.date(2024, 5, 1), None],
    "taken": pa.array([1, None], pa.timestamp("ns", "UTC"))
    .cast(pa.int64())
    .cast(pa.timestamp("ms", "UTC")),
    "nothing": pa.nulls(2),
}


def test_other_columns_are_carried_with_their_types(
    listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    source = listed("a.parquet", COLUMNS)
    first, second = source.entries()
    assert [(field.name, str(field.type)) for field in source.columns] == [
        ("name", "string"), ("n", "int8"), ("share_of", "float"), ("half", "float"),
        ("big", "string"), ("kind", "string"),
        ("flag", "bool"), ("day", "date32[day]"), ("taken", "timestamp[us, tz=UTC]"),
        ("nothing", "string"),
    ]  # fmt: skip
    assert first.carried == (None, -2, None, None, "y", "q", None, None, None, None)
    taken = datetime.datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=datetime.UTC)
    assert second.carried == (
        "x",
        1,
        0.5,
        0.5,
        "x",
        "p",
        True,
        datetime.date(2024, 5, 1),
        taken,
        None,
    )
    folder = RunFolder(tmp_path / "run")
    with folder.lock():
        assert list(freeze_plan(folder, source, 1, None, False).entries_by_key()) == list(
            source.entries()
        )
        freeze_plan(folder, source, 1, None, False)  # finds nothing changed


def test_columns_of_text_files_stay_text(listed: Callable[..., Manifest]) -> None:
    (entry,) = listed("a.csv", 'path,id,empty,quoted\na.jpg,007,,""\n').entries()
    assert entry.carried == ("007", None, "")


@pytest.mark.parametrize(
    ("carry", "expected"),
    [([], ()), (["n"], (-2,)), (["kind", "path"], ("q", "a.jpg")), ("n", (-2,))],
)
def test_columns_can_be_chosen(
    carry: list[str], expected: tuple, listed: Callable[..., Manifest]
) -> None:
    assert next(listed("a.parquet", COLUMNS, carry=carry).entries()).carried == expected


@pytest.mark.parametrize(
    ("name", "values", "carry", "said"),
    [
        (
            "key",
            ["x"],
            None,
            "column 'key' has a name that a run's tables use themselves. Say what to carry: "
            "source.carry=",
        ),
        ("score", [0.5], None, "column 'score' has a name"),
        (
            "x_min",
            [0.5],
            ["x_min"],
            "column 'x_min' has a name",
        ),  # readers would take the run for one with boxes
        ("embedding", [[0.5]], None, "column 'embedding' has a name"),
        (
            "vector",
            [[0.5]],
            None,
            r"column 'vector' \(list<.*double>\) cannot go into a row. Say what to carry",
        ),
        ("data", [b"x"], None, r"column 'data' \(binary\) cannot go into a row"),
        ("n", [1], ["m"], "source.carry has 'm'.* The columns are path, n"),
    ],
)
def test_a_column_that_has_no_place_in_a_row_is_refused(
    name: str, values: list, carry: list[str] | None, said: str, listed: Callable[..., Manifest]
) -> None:
    with pytest.raises(ConfigError, match=said):
        listed("a.parquet", {"path": ["a.jpg"], name: values}, carry=carry)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"carry": {"a": 1}}, r"source.carry=.*expected names of columns, such as \[label,site\]"),
        ({"carry": 0.5}, "source.carry=0.5: expected names"),
        ({"column": None}, "source.column=None: expected a text"),
        ({"root": ["a"]}, "source.root=.*expected a text"),
        ({"root": 5}, "source.root=5: .*/5 is no folder"),
    ],
)
def test_settings_of_another_kind_are_refused(settings: dict, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a.jpg")
    with pytest.raises(ConfigError, match=said):
        Manifest(
            str(tmp_path / "a.txt"), **{"column": "path", "root": None, "carry": None} | settings
        )


def test_the_columns_that_could_be_carried_are_proposed(listed: Callable[..., Manifest]) -> None:
    with pytest.raises(ConfigError, match=r"'width' has a name .*source.carry=\[label,site\]\."):
        listed("a.csv", "path,label,width,site\na.jpg,1,2,3\n")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_not_the_manifests_fault(
    number: int, listed: Callable[..., Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = listed("a.txt", "a.jpg")

    def fail(*_: object) -> None:
        raise OSError(number, "full")

    monkeypatch.setattr(SortedRows, "_write_run", fail)
    with pytest.raises(OSError, match="full"):
        keys(source)


# --- the same path again


def test_equal_rows_are_one_input(
    listed: Callable[..., Manifest], caplog: pytest.LogCaptureFixture
) -> None:
    source = listed("a.csv", "path,x\na.jpg,1\nb.jpg,2\na.jpg,1\na.jpg,1\n")
    with caplog.at_level(logging.WARNING):
        assert [(entry.key, entry.carried) for entry in source.entries()] == [
            ("a.jpg", ("1",)),
            ("b.jpg", ("2",)),
        ]
        assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
            "2 rows came again, equal to one before; each path is one input."
        ]
        list(source.entries())
        assert len(caplog.records) == 1, "said once"


@pytest.mark.parametrize(
    ("header", "one", "other", "said"),
    [("x", "1", "2", "with 1 and with 2"), ("size", "1", "2", "another size")],
)
def test_rows_of_one_path_that_differ_are_refused(
    header: str, one: str, other: str, said: str, listed: Callable[..., Manifest]
) -> None:
    source = listed("a.csv", f"path,{header}\na.jpg,{one}\nb.jpg,{one}\na.jpg,{other}\n")
    with pytest.raises(ConfigError, match=f"'a.jpg' comes twice, .*{said}.*source.carry="):
        list(source.entries())


# --- a manifest that changes


def test_what_came_went_and_changed_is_noticed(
    listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    def frozen(content: str, **more: bool) -> list[tuple[str, str]]:
        with folder.lock():
            plan = freeze_plan(
                folder, listed("a.csv", "path,x\n" + content), 2, None, more.get("accept", False)
            )
        return [(entry.key, entry.carried[0]) for entry in plan.entries_by_id()]

    folder = RunFolder(tmp_path / "run")
    assert frozen("a,1\nc,1\n") == [("a", "1"), ("c", "1")]
    assert frozen("d,1\nc,1\nb,1\na,1\n") == [("a", "1"), ("c", "1"), ("b", "1"), ("d", "1")], (
        "appended, nothing moved"
    )
    for content, said in (
        ("a,1\nb,1\nc,1\n", r"removed \(1\): d"),
        ("a,2\nb,1\nc,1\nd,1\n", r"changed \(1\): a"),
    ):
        with pytest.raises(InputChanged, match=said):
            frozen(content)
    assert frozen("a,2\nb,1\nc,1\nd,1\n", accept=True)[0] == ("a", "2")


def test_a_manifest_is_read_again_when_it_has_changed(
    listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    source = listed("a.txt", "a.jpg\n")
    assert keys(source) == ["a.jpg"]
    (tmp_path / "a.txt").write_text("a.jpg\nb.jpg\n")
    assert keys(source) == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("gone", ["path", "size", "site"])
def test_a_column_that_went_since_is_missed(
    gone: str, listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    source = listed("a.csv", "path,size,site\na,1,x\n")
    (tmp_path / "a.csv").write_text("path,size,site\na,1,x\n".replace(gone, "other"))
    with pytest.raises(ConfigError, match=f"there is no column '{gone}'"):
        keys(source)


# --- runs


@pytest.mark.long
def test_a_run_over_a_manifest_is_that_over_the_folder(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    desk = SAMPLES / "desk"
    files = sorted(desk.iterdir())
    lines = [f"{path.name},{number:03d}" for number, path in enumerate(files)]
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "path,video\n" + "\n".join(reversed(lines))
    )  # a column that frames of videos have, too
    plain = annotate("model=codes", f"input={desk}", "overlays=false")
    given = ("model=codes", "source=manifest", f"input={manifest}", f"source.root={desk}")
    carried = annotate(*given, "overlays=2")
    for kind in ("images", "predictions"):
        rows = read(carried, kind)
        assert rows.drop_columns(["video"]).equals(read(plain, kind))
        numbers = {key: number for key, _, number in (line.partition(",") for line in lines)}
        assert rows["video"].to_pylist() == [numbers[key] for key in rows["key"].to_pylist()]
    assert len(list((carried / "overlays").iterdir())) == 2
    assert '"file"' not in (carried / "report.html").read_text(), (
        "no image is a part of another file"
    )
    assert "damaged" not in verify(VerifyOptions(run=carried))
    manifest.write_text(manifest.read_text() + f"\n{tmp_path / 'new.jpg'},x\n")
    (tmp_path / "new.jpg").write_bytes(files[0].read_bytes())
    again = annotate(*given, "overlays=2")
    assert again == carried and read(again, "images")["key"].to_pylist()[-1].startswith("%2F"), (
        "an appended shard"
    )


def test_settings_of_the_source_are_part_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,x\na.jpg,1\n")
    names = set()
    for words in ((), ("source.carry=[]",), ("source.column=x",), (f"source.root={tmp_path}",)):
        settings = settings_for(
            "model=codes", "source=manifest", f"input={tmp_path / 'a.csv'}", *words
        )
        parts = build_components(settings)
        names.add(
            make_run_name(collect_determinants(settings, parts.spec, parts.source, parts.engine))
        )
    assert len(names) == 4


def test_an_unsorted_manifest_keeps_its_temporary_file_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "a.txt").write_text("b\na\n")
    with closing(Manifest(str(tmp_path / "a.txt"), "path", None, None)) as source:
        assert keys(source) == ["a", "b"] and list((tmp_path / "tmp").iterdir()) == []


def test_reading_a_changed_manifest_again_does_not_stop_fetching(
    listed: Callable[..., Manifest], tmp_path: Path
) -> None:
    source = listed("a.txt", "a.jpg\n")
    assert keys(source) == ["a.jpg"]
    source.prefetcher = Prefetcher(lambda key, seconds: key.encode())
    (tmp_path / "a.txt").write_text("a.jpg\nb.jpg\n")
    assert keys(source) == ["a.jpg", "b.jpg"]
    source.prefetcher.enqueue([Entry("b.jpg", 5, 0)], 100)
    assert source.prefetcher.fetch(Entry("b.jpg", 5, 0)) == b"b.jpg"
