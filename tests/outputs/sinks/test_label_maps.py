"""Label maps: the classes of pixels as indexed PNG files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from pipeline.core.errors import ConfigError
from pipeline.ops.masks import encode_rle, make_label_map
from tests.helpers.paths import SAMPLES
from tests.helpers.runs import read


def test_nothing_found_is_zeros() -> None:
    rows = pa.table(
        {
            "score": pa.array([], pa.float32()),
            "class_id": pa.array([], pa.int32()),
            "mask_rle": pa.array([], pa.string()),
        }
    )
    assert make_label_map(rows, (2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_the_better_score_is_on_top() -> None:
    left, all_of_it = np.zeros((2, 3), dtype=bool), np.ones((2, 3), dtype=bool)
    left[:, 0] = True
    rows = pa.table(
        {
            "score": [0.9, 0.5],
            "class_id": [7, 2],
            "mask_rle": [encode_rle(left), encode_rle(all_of_it)],
        }
    )
    assert make_label_map(rows, (2, 3)).tolist() == [[7, 2, 2], [7, 2, 2]]


def test_a_map_for_each_image_agrees_with_the_rows(annotate: Callable[..., Path]) -> None:
    images = f"input={SAMPLES / 'yard'}"
    run = annotate(
        "task=segment",
        "model=lraspp_mobilenet_v3_large",
        "weights=random",
        images,
        "sink=[parquet,label_maps]",
        "limit=2",
    )
    rows = read(run, "predictions").to_pylist()
    for image in read(run, "images").to_pylist():
        with Image.open(run / "label_maps" / (image["key"] + ".png")) as found:
            assert found.mode == "P" and found.size == (image["width"], image["height"])
            ids, pixels = np.unique(np.asarray(found), return_counts=True)
        expected = {row["class_id"]: row["pixels"] for row in rows if row["key"] == image["key"]}
        assert (
            {i: n for i, n in zip(ids.tolist(), pixels.tolist(), strict=True) if i}
            == expected
            != {}
        )


def test_a_task_without_masks_is_refused(annotate: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="a task with masks"):
        annotate("task=detect", "sink=[parquet,label_maps]", "limit=1")
