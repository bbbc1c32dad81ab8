"""Check that the files of a run are undamaged: verify run=outputs/latest.

The command checks sizes, SHA-256 and row counts, and that each input has exactly one row.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.declare import setting
from pipeline.config.validators import check_path
from pipeline.core.errors import ConfigError, RunDamaged
from pipeline.core.hashing import hash_file
from pipeline.core.locations import Location, Uri
from pipeline.core.types import Shard
from pipeline.runs.plan import load_plan
from pipeline.runs.run_folder import RunFolder
from pipeline.storage.object_publish import resolve_latest

_MOST_TOLD = 20


@dataclass(frozen=True)
class Options:
    run: Location = setting(check_path, Path("outputs/latest"), "the run's folder")


def run_command(options: Options) -> str:
    """Verify a run and return the command's output text."""
    return verify_run(options.run)


class _Wrong(Exception):
    """A shard differs from what was committed."""


# What reading a damaged shard may raise.
_DAMAGE = (
    _Wrong,
    RunDamaged,
    OSError,
    IndexError,
    pa.ArrowException,
    ValueError,
    KeyError,
    TypeError,
)


def verify_run(run: Location) -> str:
    """Verify a run and return a sentence that sums up what was checked.

    Raises:
        RunDamaged: some shards differ from what was committed. The message names them.
        ConfigError: `run` is not the folder of a run.
    """
    folder = RunFolder(resolve_latest(run) if isinstance(run, Uri) else run)
    plan = load_plan(folder)
    if not folder.has_begun() or not plan.parts:
        raise ConfigError(
            f"run={run}: expected the folder of a run, with plan/ and _committed/ in it. Say "
            "run=outputs/latest."
        )
    strays = folder.committed_shards() - set(range(plan.n_shards))
    found = [
        f"{folder.marker_name(shard_id)}: the plan has no such shard" for shard_id in sorted(strays)
    ]
    images = predictions = 0
    for shard_id in sorted(folder.committed_shards() & set(range(plan.n_shards))):
        try:
            counts = _check_shard(folder, plan.read_shard(shard_id))
            images, predictions = images + counts[0], predictions + counts[1]
        except (
            _Wrong,
            RunDamaged,
            OSError,
            IndexError,
            pa.ArrowException,
            ValueError,
            KeyError,
            TypeError,
        ) as error:
            found.append(f"shard {shard_id}: {error}")
    if found:
        more = f"\n  ... and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
        listed = "".join(f"\n  {one}" for one in found[:_MOST_TOLD])
        raise RunDamaged(
            f"{run} is damaged:{listed}{more}\nRestore the named files, or delete the markers of "
            "these shards in "
            f"{folder.path / '_committed'} and run again: they are computed anew."
        )
    complete = len(folder.committed_shards())
    left = (
        ""
        if complete == plan.n_shards
        else f"; {plan.n_shards - complete:,} of {plan.n_shards:,} shards are to come"
    )
    checked = (
        f"shards: {complete:,}, {images:,} images with one row each, {predictions:,} predictions"
    )
    return f"{run}: {checked}: all as committed{left}."


def _check_shard(folder: RunFolder, shard: Shard) -> tuple[int, int]:
    """Check a shard and return its numbers of images and predictions.

    Raises:
        _Wrong: the shard differs from what was committed. The message names the first difference.
    """
    for name, part in folder.read_marker(shard.shard_id)["parts"].items():
        _check_part(folder.local(name), name, part)
    images, predictions = (
        pq.read_table(folder.local(folder.part_name(kind, shard.shard_id)), partitioning=None)
        for kind in ("images", "predictions")
    )
    if images["image_id"].to_pylist() != list(
        range(shard.first_image_id, shard.first_image_id + len(shard))
    ):
        raise _Wrong("images has not one row for each input of the plan, in its order")
    if images["key"].to_pylist() != [entry.key for entry in shard.entries]:
        raise _Wrong("images names other inputs than the plan")
    counted = {
        one["values"]: one["counts"] for one in predictions["image_id"].value_counts().to_pylist()
    }
    recorded = dict(
        zip(
            images["image_id"].to_pylist(),
            images["n_predictions"].fill_null(0).to_pylist(),
            strict=True,
        )
    )
    if counted != {image_id: count for image_id, count in recorded.items() if count}:
        raise _Wrong("predictions has not as many rows for each image as images says")
    if pc.any(
        pc.and_(
            pc.not_equal(images["status"].cast(pa.string()), "ok"),
            pc.is_valid(images["n_predictions"]),
        )
    ).as_py():
        raise _Wrong("an image that failed has predictions")
    return len(images), len(predictions)


def _check_part(path: Path, name: str, marker: dict[str, Any]) -> None:
    """Check one file's presence, size and hash against the shard's marker."""
    if not path.is_file():
        raise _Wrong(f"{name} is missing")
    if path.stat().st_size != marker["bytes"]:
        raise _Wrong(f"{name} has {path.stat().st_size} bytes; committed were {marker['bytes']}")
    if hash_file(path) != marker["sha256"]:
        raise _Wrong(f"{name} is not what was committed: its SHA-256 differs")
