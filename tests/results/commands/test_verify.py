"""A run folder is what its markers say, or the damaged shard is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.cli import main
from pipeline.core.errors import ConfigError, RunDamaged
from pipeline.core.hashing import hash_file
from pipeline.core.shard_names import make_marker_name, make_part_name
from pipeline.results.commands.verify import verify_run


@pytest.fixture
def run(annotate: Callable[..., Path]) -> Path:
    """Twelve samples in shards of five."""
    return annotate("model=codes", "shard_size=5", "overlays=false", "min_score=0.1")


def rewrite(run: Path, kind: str, shard: int, change: Callable, honest: bool = True) -> None:
    """Another table in a part, with a marker that says so when `honest`."""
    path = run / kind / make_part_name(shard)
    pq.write_table(change(pq.read_table(path, partitioning=None)), path)
    if honest:
        marker = run / make_marker_name(shard)
        said = json.loads(marker.read_text())
        said["parts"][f"{kind}/{path.name}"] |= {
            "bytes": path.stat().st_size,
            "sha256": hash_file(path),
        }
        marker.write_text(json.dumps(said))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_whole_run_and_one_that_is_not_complete(run: Path) -> None:
    said = verify_run(run)
    assert "shards: 3, 12 images with one row each" in said and "to come" not in said
    (run / "_committed" / "00000002.json").unlink()
    assert "shards: 2, 10 images" in verify_run(run) and "1 of 3 shards are to come" in verify_run(
        run
    )


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            lambda run: flip(run / "predictions" / "part-00000001.parquet"),
            "shard 1: predictions/part-00000001.parquet is not what",
        ),
        (
            lambda run: (run / "images" / "part-00000000.parquet").unlink(),
            "shard 0: images/part-00000000.parquet is missing",
        ),
        (
            lambda run: (run / "images" / "part-00000002.parquet").write_bytes(b"PAR1"),
            "shard 2: .* has 4 bytes; committed were",
        ),
        (lambda run: (run / "_committed" / "00000001.json").write_text("{"), "shard 1: "),
        (
            lambda run: (run / "_committed" / "00000007.json").write_text("{}"),
            "00000007.json: the plan has no such shard",
        ),
        (
            lambda run: rewrite(run, "images", 1, lambda t: t.slice(1)),
            "shard 1: images has not one row for each input",
        ),
        (
            lambda run: rewrite(run, "images", 0, lambda t: t.take([1, 0, 2, 3, 4])),
            "shard 0: images has not one row",
        ),
        (
            lambda run: rewrite(run, "predictions", 0, lambda t: t.slice(1)),
            "shard 0: predictions has not as many rows",
        ),
    ],
)
def test_damage_is_named(harm: Callable[[Path], object], message: str, run: Path) -> None:
    harm(run)
    with pytest.raises(RunDamaged, match=message):
        verify_run(run)


def test_every_damaged_shard_is_named(run: Path) -> None:
    for shard in (0, 2):
        flip(run / "images" / make_part_name(shard))
    with pytest.raises(
        RunDamaged, match=r"(?s)shard 0: .*shard 2: .*run again: they are computed anew"
    ):
        verify_run(run)


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", f"run={run}"]) == 0 and "all as committed" in capsys.readouterr().out
    flip(run / "images" / "part-00000001.parquet")
    assert main(["verify", f"run={run}"]) == 6 and "shard 1" in capsys.readouterr().err
    assert main(["verify", f"run={tmp_path}"]) == 2 and main(["verify", "fun=x"]) == 2


def test_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected the folder of a run"):
        verify_run(tmp_path)
