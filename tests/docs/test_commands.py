"""Run the commands, queries and programs of README and docs, each block in a folder of its own.

A block that cannot run here has the line `<!-- not run: REASON -->` above it. Where a command would
download weights, random ones are used; everything else runs as written.
"""

import shutil
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import cli
from tests.docs.blocks import BLOCKS, PAGES, Block
from tests.helpers.packed import image, tar_of, zip_of
from tests.helpers.paths import REPOSITORY, SAMPLES
from tests.helpers.pictures import picture
from tests.helpers.tiffs import BLACK_IS_ZERO, write_tiff
from tests.helpers.videos import make_video, steady

MAKE_ONLY = {"check", "test", "test-all", "test-faults"}  # run by .ci/run, not from inside a test
SHELL = [block for block in BLOCKS if block.language == "sh" and not block.not_run]
QUERIES = [block for block in BLOCKS if block.language == "sql"]
PROGRAMS = [block for block in BLOCKS if block.language == "python"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the inputs that the pages name, and two runs of the samples, once."""
    folder = tmp_path_factory.mktemp("docs")
    for name, size in {"photos": (160, 120), "aerial": (700, 500)}.items():
        (folder / name).mkdir()
        for number, letter in enumerate("ab" if name == "photos" else "a"):
            picture(*size, seed=number).save(folder / name / f"{letter}.jpg")
    (folder / "satellite").mkdir()
    bands = np.full((60, 80, 4), 4000, np.uint16)
    tiff = write_tiff({"samples": bands, "photometric": BLACK_IS_ZERO})
    (folder / "satellite" / "a.tif").write_bytes(tiff)
    rows = "".join(f"photos/{letter}.jpg,{number}\n" for number, letter in enumerate("ab"))
    (folder / "photos.csv").write_text(f"path,site\n{rows}")
    for name in ("beans", "shards", "clips"):
        (folder / name).mkdir()
    members = [(f"{number}.jpg", image(number)) for number in range(2)]
    tar_of(folder / "shards" / "shard-000.tar", members)
    zip_of(folder / "photos.zip", members)
    table = pa.table({"image": [{"bytes": data, "path": name} for name, data in members]})
    pq.write_table(table, folder / "beans" / "train.parquet")
    make_video(folder / "clips" / "a.mp4", steady(40))
    shutil.copy(SAMPLES / "annotations.json", folder / "instances.json")
    for name, min_score in {"a": "0.3", "b": "0.5"}.items():
        words = ["task=detect", f"min_score={min_score}", f"output={folder / 'made'}"]
        assert cli.main(["run", *words, "log_level=error"]) == 0
        made = (folder / "made" / "latest").resolve()
        shutil.copytree(made, folder / "outputs" / name)
    (folder / "outputs" / "latest").symlink_to("b")
    return folder


@pytest.fixture
def here(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a copy of the prepared folder, which is also the home folder."""
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def arguments_of(command: list[str]) -> list[str]:
    """Translate a documented command to the program's arguments.

    The result is empty for a command that only make runs.
    """
    program, *words = command
    if program == "python" and words[:2] == ["-m", "pipeline"]:
        words = words[2:]
    elif program not in ("make", "visionbatch"):
        pytest.fail(
            f"{command}: neither make nor visionbatch. Mark the block as not run, or teach the "
            "test."
        )
    if program == "make" and words[0] in MAKE_ONLY:
        return []
    return words


def downloads(words: list[str]) -> bool:
    """Say whether a command would load weights that are not here."""
    settings = dict(word.partition("=")[::2] for word in words[1:])
    own = settings.get("model") == "codes" or "weights" in settings
    samples = (
        "input" not in settings and "model" not in settings and settings.get("task") == "detect"
    )
    return words[0] in ("run", "sweep", "bench", "export-model") and not own and not samples


def test_every_page_has_its_commands_checked() -> None:
    assert len(PAGES) > 10 and len(SHELL) > 15 and QUERIES and PROGRAMS
    known = set((REPOSITORY / "Makefile").read_text().split(".PHONY:")[1].split("\n\n")[0].split())
    verbs = {
        words[1]
        for block in BLOCKS
        if block.language == "sh"
        for words in block.commands()
        if words[0] == "make"
    }
    assert verbs <= known


@pytest.mark.long
@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_run(block: Block, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in block.commands():
        words = arguments_of(command)
        if not words:
            continue
        random = ["weights=random"] if downloads(words) else []
        code = cli.main([*words, *random])
        text = capsys.readouterr()
        expected = (0, 7) if words[0] == "drift" else (0,)
        assert code in expected, f"{' '.join(command)}\n{text.out}\n{text.err}"


@pytest.mark.long
@pytest.mark.parametrize("block", QUERIES, ids=str)
def test_queries_run(block: Block, here: Path) -> None:
    if "repeats/" in block.text:
        assert cli.main(["repeats", "run=outputs/latest", "images=2"]) == 0
    for query in filter(str.strip, block.text.split(";")):
        duckdb.sql(query).fetchall()


@pytest.mark.long
@pytest.mark.parametrize("block", PROGRAMS, ids=str)
def test_programs_run(block: Block, here: Path) -> None:
    exec(compile(block.text, str(block), "exec"), {"__name__": "__docs__"})  # noqa: S102
    assert sys.modules.get("pandas")
