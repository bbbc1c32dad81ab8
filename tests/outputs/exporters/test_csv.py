"""Tables that pandas and DuckDB read, and that a spreadsheet may open."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from pipeline.ops.masks import encode_rle
from tests.helpers.made_runs import Row, box, made_run

Export = Callable[..., Path]


def test_no_predictions_are_a_header(tmp_path: Path, export: Export) -> None:
    folder = export(made_run(tmp_path / "run", [Row("a.jpg", (3, 4))]), "csv")
    assert (folder / "predictions.csv").read_text() == (
        '"image_id","key","class_id","class_name","score","x_min","y_min","x_max","y_max"\n'
    )
    assert (folder / "images.csv").read_text().splitlines()[1] == '0,"a.jpg",4,3,"ok",,0'


def test_failed_images_have_their_rows(tmp_path: Path, export: Export) -> None:
    rows = [
        Row("a.jpg", found=[box(1, 0.9, 0.1, 0, 9, 9)]),
        Row("b.jpg", None, status="empty", error='zero, "bytes"'),
    ]
    folder = export(made_run(tmp_path / "run", rows), "csv")
    images = pd.read_csv(folder / "images.csv")
    assert (
        images["status"].tolist() == ["ok", "empty"]
        and images["error"].tolist()[1] == 'zero, "bytes"'
    )
    assert images["n_predictions"].isna().tolist() == [False, True]
    (row,) = duckdb.read_csv(str(folder / "predictions.csv")).fetchall()
    assert row == (0, "a.jpg", 1, "dog", 0.9, 0.1, 0, 9, 9)


@pytest.mark.parametrize(
    "key", ["=HYPERLINK(1).jpg", "+1.jpg", "-1.jpg", "@eaDir/a.jpg", "\ta.jpg"]
)
def test_no_text_is_a_formula(key: str, tmp_path: Path, export: Export) -> None:
    folder = export(made_run(tmp_path / "run", [Row(key, found=[box(1, 0.9, 0, 0, 9, 9)])]), "csv")
    for name in ("images", "predictions"):
        assert pd.read_csv(folder / f"{name}.csv")["key"].tolist() == ["'" + key]


def test_an_equals_sign_elsewhere_is_left_alone(tmp_path: Path, export: Export) -> None:
    folder = export(made_run(tmp_path / "run", [Row("a=b.jpg"), Row("c\n=d.jpg")]), "csv")
    assert pd.read_csv(folder / "images.csv")["key"].tolist() == ["a=b.jpg", "c\n=d.jpg"]


def test_points_have_columns_and_masks_their_counts(tmp_path: Path, export: Export) -> None:
    points = [
        {"x": 3.5, "y": 4.5, "visibility": 1.0, "score": 2.0},
        {"x": 5.0, "y": 6.0, "visibility": 1.0, "score": -1.0},
    ]
    rows = [Row("a.jpg", found=[box(1, 0.5, 0, 0, 9, 9, keypoints=points)])]
    folder = export(
        made_run(tmp_path / "run", rows, "keypoints", keypoint_names=("nose", "left_eye")), "csv"
    )
    row = pd.read_csv(folder / "predictions.csv").iloc[0]
    assert (row["nose_x"], row["nose_score"], row["left_eye_y"]) == (3.5, 2.0, 6.0)

    counts = encode_rle(pd.DataFrame([[1, 0], [1, 1]]).to_numpy(dtype=bool))
    mask = box(1, 0.5, 0, 0, 2, 2, mask_rle=counts, mask_height=2, mask_width=2)
    folder = export(
        made_run(tmp_path / "masks", [Row("a.jpg", (2, 2), [mask])], "instances"), "csv"
    )
    assert pd.read_csv(folder / "predictions.csv")["mask_rle"].tolist() == [counts]
