"""Every verb answers garbage with a documented exit code: no unexpected error reaches the top."""

import json
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import cli
from pipeline.results.commands.export import list_formats
from tests.helpers.made_runs import Row, box, made_run

DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7}
EXPORTS = [("export", f"to={name}") for name in list_formats()]
READERS: list[tuple[str, ...]] = [
    ("report",), ("evaluate", "truth={truth}"), ("compare",), ("drift",), ("crops",), ("verify",),
    ("repeats",), ("refilter", "min_score=0.7"), *EXPORTS,
]  # fmt: skip
JSON_FILES = ("run.json", "plan/plan.json", "_committed/00000000.json")
PARQUET_FILES = (
    "plan/part-00000000.parquet",
    "images/part-00000000.parquet",
    "predictions/part-00000000.parquet",
)
TRUTH = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}],
    "categories": [{"id": 1, "name": "dog"}],
}
ODD_JSON: Sequence[Any] = (None, True, -1, 1e300, "", "x", [], [None], {}, {"a": 1})
ODD_BYTES = (b"", b"\0", b"{", b"[]", b"null", b"\xff\xfe{}", b"PAR1", b"PAR1" * 9, b"[" * 100_000)


@pytest.fixture
def unexpected(monkeypatch: pytest.MonkeyPatch) -> list[Exception]:
    """Collect the errors that no part of the program expected."""
    errors: list[Exception] = []

    def note(error: Exception, arguments: Sequence[str]) -> int:
        errors.append(error)
        return 1

    monkeypatch.setattr(cli, "report_unexpected", note)
    return errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a sound run and its truth."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "in").mkdir()
    rows = [Row("a.jpg", found=[box(1, 0.9, 1, 2, 30, 40)]), Row("b.jpg", (20, 30))]
    made_run(folder / "run", rows, input=folder / "in", min_score=0.5)
    (folder / "truth.json").write_text(json.dumps(TRUTH))
    return folder


def call(verb: Sequence[str], run: Path, whole: Path, unexpected: list[Exception]) -> None:
    """Run a verb on a damaged run, and compare it with the sound one where it takes two."""
    name, *rest = (word.format(truth=whole / "truth.json") for word in verb)
    words = [f"run={run}", f"output={run.parent / 'out'}"]
    if name == "compare":
        words[0] = f"runs=[{run},{whole / 'run'}]"
    if name == "drift":
        words.append(f"reference={whole / 'run'}")
    if name in ("verify", "report"):
        del words[1]
    code = cli.main([name, *words, *rest])
    shutil.rmtree(run.parent / "out", ignore_errors=True)
    if unexpected:
        raise AssertionError(f"{name} did not expect {unexpected[0]!r}") from unexpected[0]
    assert code in DOCUMENTED


@pytest.fixture
def damage(tmp_path: Path, whole: Path) -> Callable[[str], Path]:
    """Return a function that copies the sound run and returns the path of one of its files."""

    def copy(name: str) -> Path:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(whole / "run", tmp_path / "run")
        return tmp_path / "run" / name

    return copy


@pytest.mark.long
@pytest.mark.parametrize("verb", READERS, ids="-".join)
@pytest.mark.parametrize("name", JSON_FILES + PARQUET_FILES)
def test_a_damaged_file_of_a_run(verb, name, damage, whole, unexpected, tmp_path):
    for content in (*ODD_BYTES, None):
        path = damage(name)
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        call(verb, tmp_path / "run", whole, unexpected)
    path = damage(name)
    path.unlink()
    path.mkdir()
    call(verb, tmp_path / "run", whole, unexpected)


@pytest.mark.long
@pytest.mark.parametrize("verb", READERS, ids="-".join)
def test_a_value_of_a_run_is_another(verb, damage, whole, unexpected, tmp_path):
    for name in JSON_FILES:
        content = json.loads((whole / "run" / name).read_text())
        places = list(list_places(content))
        for seed, place in enumerate(places):
            for value in random.Random(seed).sample(ODD_JSON, 3):
                damage(name).write_text(json.dumps(replace_value(content, place, value)))
                call(verb, tmp_path / "run", whole, unexpected)


@pytest.mark.long
@pytest.mark.parametrize("verb", READERS, ids="-".join)
@pytest.mark.parametrize("name", PARQUET_FILES)
def test_a_table_of_a_run_has_other_columns(verb, name, damage, whole, unexpected, tmp_path):
    table = pq.read_table(whole / "run" / name, partitioning=None)
    tables = [table.slice(0, 0), table.select([]), pa.table({"x": [1]})]
    for column in table.column_names:
        place = table.column_names.index(column)
        tables += [
            table.drop_columns([column]),
            table.set_column(place, column, pa.nulls(len(table))),
            table.set_column(place, column, pa.array([[1]] * len(table))),
        ]
    for other in tables:
        pq.write_table(other, damage(name))
        call(verb, tmp_path / "run", whole, unexpected)


@pytest.mark.long
def test_settings_and_tables_of_every_kind(unexpected, tmp_path, monkeypatch):
    """Settings that no verb can use, and lists that are no lists: refused, with exit code 2."""
    monkeypatch.chdir(tmp_path)
    tables = {
        "empty.csv": b"",
        "bom.csv": b"\xef\xbb\xbf",
        "nameless.csv": b",,\n1,2,3\n",
        "twice.csv": b"path,path\na,b\n",
        "carried.csv": b"path,site,site\na.jpg,1,2\n",
        "reserved.csv": b"path,key\na.jpg,1\n",
        "planned.csv": b"path,at\na.jpg,1\n",
        "ragged.csv": b"path,site\na.jpg\n",
        "utf16.csv": "path\na.jpg".encode("utf-16"),
        "binary.csv": bytes(range(256)),
        "header.csv": b"path\n",
        "empty.parquet": b"",
        "text.parquet": b"path\na.jpg\n",
        "empty.txt": b"",
        "binary.txt": bytes(range(128, 256)),
    }
    for name, content in tables.items():
        (tmp_path / name).write_bytes(content)
        for source in ("manifest", "hf_parquet", "zip", "tar"):
            code = cli.main(
                ["run", "task=detect", "model=codes", f"source={source}", f"input={name}",
                 "output=out", "dry_run=true"]
            )  # fmt: skip
            assert (code in (0, 2), unexpected) == (True, []), (name, source)
    for verb in cli._VERBS:
        for word in (
            "",
            "=",
            "run=",
            "x=1",
            "task={",
            "input=[]",
            "task=null",
            "output=\0",
            "🙂=1",
        ):
            code = cli.main([verb, word])
            assert (code in DOCUMENTED - {0}, unexpected) == (True, []), (verb, word)


def list_places(value: Any, place: tuple = ()):
    """Yield the place of each value below a JSON value."""
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, below in items:
        yield (*place, key)
        yield from list_places(below, (*place, key))


def replace_value(content: Any, place: tuple, value: Any) -> Any:
    """Return a copy with another value at a place."""
    if not place:
        return value
    copy = dict(content) if isinstance(content, dict) else list(content)
    copy[place[0]] = replace_value(content[place[0]], place[1:], value)
    return copy
