"""Comparison of two runs.

The runs are made from tables, or are real runs of an input and its recompressed copy.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.cli import main
from pipeline.config.command_options import read_options
from pipeline.core.errors import ConfigError
from pipeline.core.task_roles import RowComparison
from pipeline.ops.masks import encode_rle
from pipeline.results.commands.compare import Options, run_command
from pipeline.tasks.detect import Detect
from tests.helpers.made_runs import Row, box, made_run
from tests.helpers.paths import SAMPLES

DOG, CAT, SIGN = 1, 2, 3


def compared(
    before: Path, after: Path, *words: str
) -> tuple[str, dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """(text, summary, rows of images, rows of predictions)."""
    text = run_command(read_options("compare", [f"runs=[{before},{after}]", *words], Options))
    folder = Path(text.rpartition("files: ")[2])
    tables = (
        pq.read_table(folder / f"{name}.parquet").to_pylist() for name in ("images", "predictions")
    )
    return text, json.loads((folder / "summary.json").read_text()), *tables


def of_found(
    tmp_path: Path, before: Sequence[dict], after: Sequence[dict], task: str = "detect", **more: Any
) -> dict[str, Any]:
    """The predictions of the summary, of one image."""
    runs = [
        made_run(tmp_path / name, [Row("a.jpg", found=found)], task, **more)
        for name, found in (("b", before), ("a", after))
    ]
    return compared(*runs)[1]["predictions"]


def fates(**given: int) -> dict[str, int]:
    return dict.fromkeys(("same", "shifted", "another_class", "added", "lost"), 0) | given


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [], fates()),
        ([], [box(DOG, 0.5, 0, 0, 9, 9)], fates(added=1)),
        ([box(DOG, 0.5, 0, 0, 9, 9)], [], fates(lost=1)),
        ([box(DOG, 0.5, 0, 0, 9, 9)], [box(DOG, 0.5, 0, 0, 9, 9)], fates(same=1)),
        ([box(DOG, 0.5, 0, 0, 9, 9)], [box(DOG, 0.5001, 0.04, 0, 9, 9)], fates(same=1)),  # rounding
        ([box(DOG, 0.5, 0, 0, 9, 9)], [box(DOG, 0.51, 0, 0, 9, 9)], fates(shifted=1)),
        ([box(DOG, 0.5, 0, 0, 9, 9)], [box(DOG, 0.5, 0.1, 0, 9, 9)], fates(shifted=1)),
        ([box(DOG, 0.5, 0, 0, 9, 9)], [box(CAT, 0.9, 0, 0, 9, 9)], fates(another_class=1)),
        # IoU below 0.5
        ([box(DOG, 0.5, 0, 0, 9, 9)], [box(DOG, 0.5, 0, 0, 9, 4)], fates(added=1, lost=1)),
        ([box(DOG, 0.5, 0, 0, 0, 0)], [box(DOG, 0.5, 0, 0, 0, 0)], fates(same=1)),  # without area
        # one object under two names: each meets its own, though the other overlaps as much
        ([box(DOG, 0.9, 0, 0, 9, 9), box(CAT, 0.8, 0, 0, 9, 9)],
         [box(CAT, 0.9, 0, 0, 9, 9), box(DOG, 0.8, 0, 0, 9, 9)],
         fates(shifted=2)),
        # two equal boxes: by the nearest score
        ([box(DOG, 0.9, 0, 0, 9, 9), box(DOG, 0.4, 0, 0, 9, 9)],
         [box(DOG, 0.4, 0, 0, 9, 9), box(DOG, 0.9, 0, 0, 9, 9)],
         fates(same=2)),
        # one for one: of two that overlap a third the better one is it
        ([box(DOG, 0.9, 0, 0, 9, 9), box(DOG, 0.8, 0, 0, 9, 8)], [box(DOG, 0.8, 0, 0, 9, 8)],
         fates(same=1, lost=1)),
    ],
)  # fmt: skip
def test_boxes(
    before: list[dict], after: list[dict], expected: dict[str, int], tmp_path: Path
) -> None:
    assert of_found(tmp_path, before, after) == expected


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([], [(DOG, 0.5)], fates(added=1)),
        (
            [(DOG, 0.9), (CAT, 0.1)],
            [(DOG, 0.9), (CAT, 0.05)],
            fates(same=1),
        ),  # ranks behind the first do not count
        ([(DOG, 0.9), (CAT, 0.1)], [(DOG, 0.7), (CAT, 0.3)], fates(shifted=1)),
        ([(DOG, 0.6), (CAT, 0.4)], [(CAT, 0.6), (DOG, 0.4)], fates(another_class=1)),
    ],
)
def test_labels_of_whole_images(
    before: list, after: list, expected: dict[str, int], tmp_path: Path
) -> None:
    ranked = [
        [{"class_id": c, "score": s, "rank": i + 1} for i, (c, s) in enumerate(rows)]
        for rows in (before, after)
    ]
    assert of_found(tmp_path, *ranked, task="classify") == expected


def region(class_id: int, rows: slice, score: float = 0.5) -> dict[str, Any]:
    mask = np.zeros((20, 30), dtype=bool)
    mask[rows] = True
    pixels = {"pixels": int(mask.sum()), "share": float(mask.mean())}
    return {
        "class_id": class_id,
        "score": score,
        "mask_rle": encode_rle(mask),
        "mask_height": 20,
        "mask_width": 30,
    } | pixels


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([region(DOG, slice(0, 9))], [region(DOG, slice(0, 9))], fates(same=1)),
        ([region(DOG, slice(0, 9))], [region(DOG, slice(0, 10))], fates(shifted=1)),
        (
            [region(DOG, slice(0, 9)), region(CAT, slice(9, 20))],
            [region(CAT, slice(0, 20))],
            fates(lost=1, shifted=1),
        ),
        ([], [region(DOG, slice(0, 9))], fates(added=1)),
    ],
)
def test_regions(
    before: list[dict], after: list[dict], expected: dict[str, int], tmp_path: Path
) -> None:
    assert of_found(tmp_path, before, after, "segment") == expected


@pytest.mark.parametrize(
    ("vectors", "expected", "distance"),
    [
        ([[1, 0, 0, 0], [1, 0, 0, 0]], fates(same=1), 0),
        ([[1, 0, 0, 0], [2, 0, 0, 0]], fates(same=1), 0),  # the direction counts
        ([[1, 0, 0, 0], [0, 1, 0, 0]], fates(shifted=1), 1),
        ([[1, 0, 0, 0], [-1, 0, 0, 0]], fates(shifted=1), 2),
        ([[0, 0, 0, 0], [0, 0, 0, 0]], fates(same=1), 0),
    ],
)
def test_embeddings(
    vectors: list[list[float]], expected: dict[str, int], distance: float, tmp_path: Path
) -> None:
    rows = [[{"class_id": DOG, "score": 0.5, "embedding": vector}] for vector in vectors]
    assert of_found(tmp_path, *rows, task="embed") == expected
    assert compared(tmp_path / "b", tmp_path / "a")[2][0]["embedding_distance"] == pytest.approx(
        distance
    )


def test_the_tables_say_which_and_how_much(tmp_path: Path) -> None:
    before = made_run(tmp_path / "old", [
        Row("a.jpg", found=[box(DOG, 0.75, 0, 0, 10, 10), box(CAT, 0.5, 50, 50, 60, 60)]),
        Row("b.jpg", found=[box(DOG, 0.5, 0, 0, 9, 9)]), Row("c.jpg", (30, 40)), Row("d.jpg"),
        Row("gone.jpg", found=[box(DOG, 0.5, 0, 0, 9, 9)]),
    ], min_score=0.3)  # fmt: skip
    after = made_run(tmp_path / "new", [
        Row("a.jpg", found=[box(DOG, 0.5, 0, 0, 10, 8), box(SIGN, 0.75, 50, 50, 60, 60)]),
        Row("b.jpg", None, status="corrupt", error="x"), Row("c.jpg", (30, 41)), Row("d.jpg"),
        Row("new.jpg"),
    ], shard_size=2, min_score=0.5)  # fmt: skip
    text, summary, images, predictions = compared(before, after)
    assert summary["images"] == {
        "unchanged": 1,
        "changed": 3,
        "only_before": 1,
        "only_after": 1,
        "duplicate": 0,
    }
    assert summary["settings"] == {"filters.min_score": [0.3, 0.5]}
    assert summary["became"] == [{"before": "cat", "after": "stop sign", "predictions": 1}]
    columns = ("key", "change", "added", "lost", "before", "after")
    assert [tuple(row[name] for name in columns) for row in images] == [
        ("a.jpg", "changed", 0, 0, 2, 2), ("b.jpg", "changed", 0, 1, 1, 0),
        ("c.jpg", "changed", 0, 0, 0, 0),
        ("d.jpg", "unchanged", 0, 0, 0, 0), ("gone.jpg", "only_before", None, None, 1, None),
        ("new.jpg", "only_after", None, None, None, 0),
    ]  # fmt: skip
    first = images[0]
    assert (
        first["another_class"],
        first["shifted"],
        first["mean_score_shift"],
        first["max_box_shift"],
    ) == (1, 1, -0.25, 2)
    assert first["max_score_shift"] == 0.25 and first["mean_iou"] == pytest.approx(0.9)
    lost = next(row for row in predictions if row["change"] == "lost")
    assert (lost["key"], lost["class_before"], lost["class_after"], lost["x_max"]) == (
        "b.jpg",
        "dog",
        None,
        9,
    )
    assert {row["change"] for row in predictions} == {"lost", "shifted", "another_class"}
    assert [row for row in summary["classes"] if row["class"] == "dog"] == [
        {
            "class": "dog",
            "before": 2,
            "after": 1,
            "added": 0,
            "lost": 1,
            "from_another": 0,
            "to_another": 0,
        }
    ]
    assert (
        "3 of 4 images changed. 1 are in the run before only" in text
        and "filters.min_score  0.3 -> 0.5" in text
    )
    assert "cat -> stop sign: 1" in text and "'b.jpg': ok -> corrupt, 1 lost" in text


FOUND = st.lists(
    st.builds(
        lambda c, s, x, y, w, h: box(c, s / 16, x, y, x + w, y + h),
        *(st.integers(*bounds) for bounds in ((1, 3), (1, 16), (0, 6), (0, 6), (0, 9), (0, 9))),
    ),
    max_size=6,
)
MIRRORED = {"added": "lost", "lost": "added"}


@pytest.mark.long
@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(FOUND, FOUND), min_size=1, max_size=10))
def test_backwards_it_is_the_mirror_image_and_with_itself_nothing(
    found: list[tuple[list, list]],
) -> None:
    with TemporaryDirectory() as folder:
        runs = [
            made_run(
                Path(folder) / str(side),
                [Row(f"{i}.jpg", found=pair[side]) for i, pair in enumerate(found)],
                shard_size=2,
            )
            for side in (0, 1)
        ]
        there, back = compared(*runs)[1], compared(*runs[::-1])[1]
        assert there["images"] == back["images"]
        assert there["predictions"] == {
            kind: back["predictions"][MIRRORED.get(kind, kind)] for kind in there["predictions"]
        }
        assert there["score_shift"]["mean"] == pytest.approx(-back["score_shift"]["mean"])
        for row in there["classes"]:
            assert (
                row["after"] - row["before"]
                == row["added"] - row["lost"] + row["from_another"] - row["to_another"]
            )
        itself = compared(runs[0], runs[0])[1]
        assert itself["images"]["changed"] == 0 and itself["predictions"]["same"] == sum(
            len(one) for one, _ in found
        )


@pytest.mark.long
def test_a_real_run_with_itself_and_with_its_recompressed_copy(
    annotate: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(SAMPLES, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*.jpg"):
        with Image.open(path) as image:
            image.save(path, "JPEG", quality=20)
    run = annotate("model=codes", f"input={SAMPLES}", "overlays=false", "shard_size=5")
    other = annotate("model=codes", f"input={tmp_path / 'copy'}", "overlays=false")
    text, summary, *_ = compared(run, run)
    assert "0 of 12 images changed" in text and summary["settings"] == {}
    text, summary, images, _ = compared(run, other)
    assert summary["images"]["changed"] > 3 and list(summary["settings"]) == ["source"]
    assert all(row["change"] == "unchanged" for row in images if not row["key"].endswith(".jpg"))
    assert summary["score_shift"]["max"] > 0.001


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", [Row("a.jpg")])
    other = made_run(tmp_path / "other", [Row("a.png")])
    labels = made_run(tmp_path / "labels", [Row("a.jpg")], "classify")
    for words, said in [
        ([f"runs={run}"], "expected two runs"),
        ([f"runs=[{run},{tmp_path}]"], "not the folder of a run"),
        ([f"runs=[{run},{labels}]"], "detect and classify have nothing in common"),
        ([f"runs=[{run},{other}]"], r"no image is in both. .*'a.jpg' .*'a.png'"),
        ([f"runs=[{run},{run}]", "iou=2"], "from 0 to 1"),
        ([f"runs=[{run},{run}]", "tolerance={scroe: 1}"], "Did you mean 'score'"),
        ([f"runs=[{run},{run}]", "tolerance=0.1"], "expected a mapping"),
        ([f"runs=[{run},{run}]", "tolerance={box: -1}"], "a number from 0"),
    ]:
        with pytest.raises(ConfigError, match=said):
            run_command(read_options("compare", words, Options))
    assert not (other / "compare" / "run").exists()


def test_a_task_whose_rows_are_not_compared_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Detect, "comparison", RowComparison.NONE)
    run = made_run(tmp_path / "run", [Row("a.jpg")])
    with pytest.raises(ConfigError, match="rows of task=detect cannot be compared"):
        compared(run, run)


def test_the_user_says_what_is_rounding_and_where_the_files_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [
        made_run(tmp_path / str(s), [Row("a.jpg", found=[box(DOG, s, 0, 0, 9, 9)])])
        for s in (0.5, 0.55)
    ]
    words = [f"runs=[{runs[0]},{runs[1]}]", f"output={tmp_path / 'new'}"]
    assert main(["compare", *words, "tolerance={score: 0.1}"]) == 0
    assert (
        "0 of 1 images changed" in capsys.readouterr().out
        and (tmp_path / "new" / "images.parquet").is_file()
    )
    assert (
        main(["compare", *words]) == 2 and "there is something already" in capsys.readouterr().err
    )
    assert (
        main(["compare", words[0]]) == 0
        and (runs[1] / "compare" / "0.5" / "summary.json").is_file()
    )


def test_duplicates_are_counted_apart(tmp_path: Path) -> None:
    found = [box(DOG, 0.5, 0, 0, 9, 9)]
    twin = Row("b.jpg", None, status="duplicate", error="the same bytes as a.jpg")
    plain = made_run(tmp_path / "plain", [Row("a.jpg", found=found), Row("b.jpg", found=found)])
    skipping = made_run(tmp_path / "skipping", [Row("a.jpg", found=found), twin])
    for runs in ((plain, skipping), (skipping, plain)):
        text, summary, images, predictions = compared(*runs)
        assert text.startswith(
            "0 of 1 images changed. 1 are duplicates that a run has not looked at"
        )
        assert summary["predictions"] == fates(same=1) and predictions == []
        assert [row["change"] for row in images] == ["unchanged", "duplicate"]
        assert [images[1][name] for name in ("before", "after", "lost", "added")] == [None] * 4
    assert summary["images"] == {
        "unchanged": 1,
        "changed": 0,
        "only_before": 0,
        "only_after": 0,
        "duplicate": 1,
    }
