"""A run over an archive of photographs gives the rows of a run over their folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.packed import pack_folder, same_rows
from tests.helpers.paths import shared


@pytest.mark.faults
def test_archives_and_the_folder_give_the_same_rows(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    photographs = shared("data/coco128/images")
    # With equal shards the batches are equal. Results of other batches may differ by rounding.
    same = ["model=codes", "overlays=false", "shard_size=50"]
    folder = annotate(*same, f"input={photographs}")
    for kind in ("tar", "zip"):
        archive = pack_folder(kind, photographs, tmp_path / f"coco.{kind}")
        packed = annotate(*same, f"source={kind}", f"input={archive}")
        same_rows(packed, folder, archive.name)
