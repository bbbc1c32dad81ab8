"""Every verb answers garbage with a documented exit code: no unexpected error reaches the top."""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

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
GONE = object()  # the value is left out
ODD_JSON: Sequence[Any] = (GONE, None, True, -1, 1e300, "", "x", [], [None], {}, {"a": 1})
ODD_BYTES = (b"", b"\0", b"{", b"[]", b"null", b"\xff\xfe{}", b"PAR1", b"PAR1" * 9, b"[" * 100_000)
FOLDER = "a folder"
Damage: TypeAlias = tuple[str, bytes | pa.Table | str | None]  # None: the file is missing
# Damages that were unexpected once.
ALWAYS: Sequence[Damage] = [
    ("run.json", b'{"task": "detect", "config": {}, "fingerprint_of": {}}'),
    ("run.json", b"[" * 100_000),
]


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
    unexpected.clear()
    code = cli.main([name, *words, *rest])
    shutil.rmtree(run.parent / "out", ignore_errors=True)
    if unexpected:
        raise AssertionError(f"{name} did not expect {unexpected[0]!r}") from unexpected[0]
    assert code in DOCUMENTED


@pytest.mark.parametrize(
    "amount",
    [pytest.param(16, marks=pytest.mark.long), pytest.param(240, marks=pytest.mark.faults)],
)
@pytest.mark.parametrize("verb", READERS, ids="-".join)
def test_a_damaged_run(verb, amount, whole, unexpected, tmp_path):
    """Each verb gets another sample of the damages, always the same one."""
    damages = [*list_bytes(), *list_values(whole / "run"), *list_tables(whole / "run")]
    chosen = random.Random("-".join(verb)).sample(damages, min(amount, len(damages)))
    for name, content in [*chosen, *ALWAYS]:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(whole / "run", tmp_path / "run")
        write_damage(tmp_path / "run" / name, content)
        call(verb, tmp_path / "run", whole, unexpected)


def list_bytes() -> Iterator[Damage]:
    """Yield files that are empty, cut, of another format, missing, or folders."""
    for name in JSON_FILES + PARQUET_FILES:
        yield from ((name, content) for content in (*ODD_BYTES, None, FOLDER))


def list_values(run: Path) -> Iterator[Damage]:
    """Yield JSON files with another value at one place, or without it."""
    for name in JSON_FILES:
        content = json.loads((run / name).read_text())
        for place in list_places(content):
            for value in ODD_JSON:
                yield name, json.dumps(replace_value(content, place, value)).encode()


def list_tables(run: Path) -> Iterator[Damage]:
    """Yield tables without rows or columns, or with a column of another type."""
    for name in PARQUET_FILES:
        table = pq.read_table(run / name, partitioning=None)
        yield from (
            (name, one) for one in (table.slice(0, 0), table.select([]), pa.table({"x": [1]}))
        )
        for place, column in enumerate(table.column_names):
            yield name, table.drop_columns([column])
            yield name, table.set_column(place, column, pa.nulls(len(table)))
            yield name, table.set_column(place, column, pa.array([[1]] * len(table)))


def write_damage(path: Path, content: bytes | pa.Table | str | None) -> None:
    path.unlink()
    if isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    elif content == FOLDER:
        path.mkdir()


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
    if place[1:] == () and value is GONE:
        del copy[place[0]]
        return copy
    copy[place[0]] = replace_value(content[place[0]], place[1:], value)
    return copy
