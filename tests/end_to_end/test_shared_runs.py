"""Several processes that share a run: each does a part of the shards, and the last one reports."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.settings import Settings
from pipeline.core.errors import ConfigError, RunLocked
from pipeline.core.types import Writer
from pipeline.inputs.sources.folder import Folder
from pipeline.run import run
from pipeline.runs.run_folder import RunFolder
from tests.faults.everywhere import contents
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read, settings_for

pytestmark = pytest.mark.long

COMMON = ("model=codes", "overlays=false", "shard_size=5", "log_level=error")


@pytest.fixture
def part(tmp_path: Path) -> Callable[..., str]:
    """part(index, count, more settings): what that process says at its end."""

    def call(index: int, count: int, *more: str) -> str:
        shard = (f"shard.index={index}", f"shard.count={count}")
        return run(settings_for(*COMMON, *shard, f"output={tmp_path / 'parts'}", *more)).text

    return call


@pytest.mark.long
def test_two_parts_are_the_whole_to_the_byte(
    part: Callable[..., str], annotate: Callable[..., Path], tmp_path: Path
) -> None:
    annotate(*COMMON)
    first = part(0, 2).splitlines()[0]
    run_folder = (tmp_path / "parts" / "latest").resolve()
    assert (
        first.startswith("Part 0 of 2 is complete: 7 images")
        and "1 of all 3 shards are not done yet" in first
    )
    assert not (run_folder / "report.html").exists()
    second = part(1, 2).splitlines()[0]
    assert second.startswith("Part 1 of 2 is complete: 5 images") and second.endswith(
        "so is the run"
    )
    assert (run_folder / "report.html").is_file()
    whole, parts = contents(tmp_path / "outputs"), contents(tmp_path / "parts")
    assert {name: data for name, data in parts.items() if not name.startswith(".locks")} == whole
    assert part(1, 2).splitlines()[0].endswith("(nothing was left to do); so is the run")


@pytest.mark.long
def test_another_number_of_parts_goes_on_with_what_is_missing(
    part: Callable[..., str], tmp_path: Path
) -> None:
    part(1, 3)
    assert "Part 0 of 2 is complete" in part(0, 2)
    run_folder = (tmp_path / "parts" / "latest").resolve()
    assert read(run_folder, "images")["image_id"].to_pylist() == list(range(12))


def test_what_others_write_is_left_alone(part: Callable[..., str], tmp_path: Path) -> None:
    part(0, 2)
    run_folder = (tmp_path / "parts" / "latest").resolve()
    other = RunFolder(run_folder, Writer.for_shards(1, 2))
    with other.lock():
        stage = other.create_stage(1)
        (stage / "half.parquet").write_bytes(b"half")
        unmarked = run_folder / "images" / "part-00000001.parquet"
        unmarked.write_bytes(b"half")
        assert "nothing was left to do" in part(0, 2)
        assert (stage / "half.parquet").exists() and unmarked.exists()
        with pytest.raises(RunLocked, match="1-of-2: process"):
            part(1, 3)
    part(0, 2)
    assert not unmarked.exists() and not stage.exists(), "nobody is there who could want them"


def test_a_trusted_plan_is_not_compared_with_the_input(
    part: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(SAMPLES, tmp_path / "in")
    given = f"input={tmp_path / 'in'}"
    with pytest.raises(ConfigError, match="has no plan to trust yet"):
        part(0, 2, given, "changed=trust")
    assert not (tmp_path / "parts").exists()
    part(0, 2, given)
    monkeypatch.setattr(Folder, "entries", lambda self: pytest.fail("the input was listed"))
    shutil.copy(SAMPLES / "coins.png", tmp_path / "in" / "another.png")
    assert "so is the run" in part(1, 2, given, "changed=trust")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["shard.index=2", "shard.count=2"], "shard.index=2: expected from 0 to 1"),
        (["shard.index=-1"], "shard.index=-1: expected a whole number, 0 or more"),
        (["shard.count=0"], "shard.count=0: expected a whole number, 1 or more"),
        (["shard.count=null"], "shard.count=None: expected a whole number"),
        (["shard=3"], "shard=3: expected a mapping.*shard.index=3"),
        (["executor=slurm", "shard.count=2"], "shard= and retry= are for executor=local"),
        (["executor=ray", "retry=errors"], "shard= and retry= are for executor=local"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    given: list[str], message: str, refuse_early: Callable[[list[str], str], None]
) -> None:
    refuse_early(given, message)


def test_settings_come_through_json_as_they_were() -> None:
    more = [
        "classes=[barcode,qr code]",
        "min_score={default: 0.5, barcode: 0.7}",
        "tiles.size=640",
        "batch_size=auto",
    ]
    settings = settings_for("model=codes", *more, "limit=3")
    again = Settings.from_plain(json.loads(json.dumps(settings.to_plain())))
    assert again == settings and again.classes == ("barcode", "qr code")
