"""Whole runs over real files.

The inputs are the embedded samples, COCO photographs with real models, and odd and broken images.
"""

import contextlib
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

from pipeline.core.errors import ConfigError
from pipeline.core.schema import IMAGES_SCHEMA
from pipeline.core.types import Status
from pipeline.run import run
from tests.helpers.paths import SAMPLES, shared
from tests.helpers.reference import decoded
from tests.helpers.runs import read, settings_for

D2GO = [
    "task=detect",
    "model=torchscript",
    "categories=coco",
    "channels=bgr",
    "trust_code=true",
    "min_score=0.05",
]


def average_precision(run_folder: Path, truth: Path) -> tuple[float, float]:
    """(AP @[.50:.95], AP50) by pycocotools, from the run's Parquet."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        ids = {image["file_name"]: image["id"] for image in coco.dataset["images"]}
        found = [
            {
                "image_id": ids[row["key"]],
                "category_id": row["class_id"],
                "score": row["score"],
                "bbox": [
                    row["x_min"],
                    row["y_min"],
                    row["x_max"] - row["x_min"],
                    row["y_max"] - row["y_min"],
                ],
            }
            for row in read(run_folder, "predictions").to_pylist()
        ]
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0]), float(evaluation.stats[1])


def test_the_embedded_detector_finds_the_codes_in_the_samples(
    annotate: Callable[..., Path],
) -> None:
    folder = annotate("task=detect", "min_score=0.05")
    assert int((read(folder, "predictions")["score"].to_numpy() >= 0.5).sum()) == 19
    assert average_precision(folder, SAMPLES / "annotations.json")[1] >= 0.98
    assert Counter(read(folder, "images")["status"].to_pylist()) == {"ok": 12}
    overlays = sorted(
        str(path.relative_to(folder / "overlays")) for path in (folder / "overlays").rglob("*.*")
    )
    assert overlays == read(folder, "images")["key"].to_pylist()


@pytest.mark.long
@pytest.mark.parametrize(
    ("images", "ap", "rows", "rows_at_half"),
    [("coco128", 0.2194, 3583, 881), ("coco50", 0.1664, 1803, 393)],
)
def test_a_real_detector_reaches_its_reference_figures(
    images: str, ap: float, rows: int, rows_at_half: int, annotate: Callable[..., Path]
) -> None:
    data, weights = shared(f"data/{images}"), shared("weights/d2go_coco.pt")
    folder = annotate(*D2GO, f"weights={weights}", f"input={data / 'images'}", "overlays=false")
    predictions = read(folder, "predictions")
    assert predictions.num_rows == rows
    assert int((predictions["score"].to_numpy() >= 0.5).sum()) == rows_at_half
    assert average_precision(folder, _only_boxes(data / "instances.json", predictions))[
        0
    ] == pytest.approx(ap, abs=0.001)


def _only_boxes(truth: Path, predictions: pa.Table) -> Path:
    """The annotations of coco50 have COCO's own ids, which torchvision uses too.

    The test fails if the ids would need conversion.
    """
    names = {c["id"]: c["name"] for c in json.loads(truth.read_text())["categories"]}
    ours = dict(
        zip(predictions["class_id"].to_pylist(), predictions["class_name"].to_pylist(), strict=True)
    )
    assert all(names[i] == name for i, name in ours.items() if i in names)
    return truth


@pytest.mark.long
def test_a_real_classifier_gives_the_plain_loops_five_best(annotate: Callable[..., Path]) -> None:
    data, weights = shared("data/coco128/images"), shared("weights/mobilenet_v2_imagenet.pth")
    folder = annotate(
        "task=classify",
        "model=mobilenet_v2",
        f"weights={weights}",
        "categories=imagenet",
        f"input={data}",
        "overlays=false",
    )
    rows = read(folder, "predictions")
    model = mobilenet_v2()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    transform, names = (
        MobileNet_V2_Weights.DEFAULT.transforms(),
        MobileNet_V2_Weights.DEFAULT.meta["categories"],
    )
    for i, path in enumerate(sorted(data.iterdir())):
        with torch.inference_mode():
            scores, ids = model(transform(decoded(path)).unsqueeze(0)).squeeze(0).softmax(0).topk(5)
        one = rows.slice(5 * i, 5)
        assert set(one["key"].to_pylist()) == {path.name}
        assert one["rank"].to_pylist() == [1, 2, 3, 4, 5]
        np.testing.assert_allclose(one["score"].to_numpy(), scores.numpy(), atol=2e-4)
        near_tie = bool((scores[:-1] - scores[1:] < 2e-4).any())
        assert near_tie or one["class_id"].to_pylist() == ids.tolist()
        assert one["class_name"].to_pylist() == [names[j] for j in one["class_id"].to_pylist()]


@pytest.mark.long
def test_odd_and_broken_images_are_a_row_each(annotate: Callable[..., Path]) -> None:
    data = shared("data/odd_images")
    images = read(annotate(f"input={data}", "model=codes"), "images")
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file())
    assert images["key"].to_pylist() == names
    assert len(names) == 687
    for row in images.to_pylist():
        good = row["status"] == Status.OK
        assert (row["error"] is None) == good == (row["n_predictions"] is not None)
    fine = {row["key"] for row in images.to_pylist() if row["status"] == Status.OK}
    # PngSuite's own convention: exactly the files whose names begin with x are damaged. Of one only
    # a checksum is wrong, and Pillow decodes it.
    suite = {name for name in names if name.startswith("pngsuite/")}
    assert suite - fine == {name for name in suite if name.startswith("pngsuite/x")} - {
        "pngsuite/xcsn0g01.png"
    }
    assert {name for name in names if name.startswith("exif_orientation/")} <= fine
    sizes = {
        (r["width"], r["height"])
        for r in images.to_pylist()
        if r["key"].startswith("exif_orientation/Landscape")
    }
    assert sizes == {(1800, 1200)}


def test_the_files_open_as_they_are_in_pandas_duckdb_and_polars(
    annotate: Callable[..., Path],
) -> None:
    folder = annotate("task=detect", "overlays=false")
    images = read(folder, "images")
    assert images.schema.remove_metadata().equals(IMAGES_SCHEMA)
    metadata = read(folder, "predictions").schema.metadata
    assert metadata[b"task"] == b"detect" and json.loads(metadata[b"categories"])[1] == "qr code"
    parts = str(folder / "predictions" / "*.parquet")
    found = duckdb.read_parquet(parts).aggregate("class_name, count(*)").fetchall()
    expected = {"qr code": 8, "fiducial marker": 5, "data matrix": 4, "barcode": 2}
    assert dict(found) == expected
    assert (
        pd.read_parquet(folder / "predictions")["class_name"]
        .value_counts()
        .loc[list(expected)]
        .to_dict()
        == expected
    )
    assert (
        dict(pl.read_parquet(parts).get_column("class_name").value_counts().iter_rows()) == expected
    )


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    text = run(settings_for("dry_run=true", f"output={tmp_path / 'out'}", "shard_size=5")).text
    assert not (tmp_path / "out").exists()
    for expected in (
        "12",
        "3 of at most 5",
        "codes",
        "qr code, barcode, data matrix, fiducial marker",
        str(tmp_path / "out"),
    ):
        assert expected in text


def test_dry_run_needs_no_weights_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "torch.hub.download_url_to_file", lambda *a: pytest.fail("something was downloaded")
    )
    text = run(
        settings_for(
            "dry_run=true", f"input={SAMPLES}", f"output={tmp_path}", "classes=[dog,Traffic Light]"
        )
    ).text
    assert "fasterrcnn_resnet50_fpn_v2" in text
    assert "2 of 80: traffic light, dog" in text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["classes=[barcod]"], r"no class 'barcod'.*'barcode'"),
        (["min_score={default: 0.5, QRcode: 0.3}"], r"no class 'QRcode'.*'qr code'"),
        (["model=resnet5O"], r"no builder of this name.*"),
        (["model=resnet50"], r"resnet50 cannot do task=detect; it does classify"),
        (["model=ssd300_vgg16", "weights=COCO_V2"], r"weights=COCO_V2.*'COCO_V1'"),
        (["model=ssd300_vgg16", "weights=absent.pth"], r"there is no such file"),
        (["top_k=5"], r"top_k means nothing to task=detect"),
        (["task=classify", "nms_iou=0.5"], r"nms_iou means nothing to task=classify"),
        (["input=/no/such/folder"], r"/no/such/folder does not exist"),
        (["device=cuda:99"], r"this machine has \d+ such devices"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_weights_are_loaded(
    overrides: list[str], message: str, refuse_early: Callable[[list[str], str], None]
) -> None:
    refuse_early(overrides, message)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match="No inputs found"):
        run(settings_for("model=codes", f"input={tmp_path / 'in'}", f"output={tmp_path / 'out'}"))


def test_a_torchscript_program_needs_trust(tmp_path: Path) -> None:
    weights = shared("weights/d2go_coco.pt")
    with pytest.raises(ConfigError, match="trust_code=true"):
        run(
            settings_for(
                "model=torchscript", f"weights={weights}", "categories=coco", f"output={tmp_path}"
            )
        )


def test_an_image_that_the_model_refuses_is_a_row_and_its_batch_mates_survive(
    annotate: Callable[..., Path], mixed_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.models.networks.detector import DetectorNetwork

    forward = DetectorNetwork.forward

    def picky(self: DetectorNetwork, inputs: list, sizes_hw: list) -> list:
        if (50, 200) in sizes_hw:
            raise torch.OutOfMemoryError("too wide for this device")
        return forward(self, inputs, sizes_hw)

    monkeypatch.setattr(DetectorNetwork, "forward", picky)
    images = read(
        annotate(f"input={mixed_images}", "model=codes", "batch_size=8"), "images"
    ).to_pylist()
    failed = [
        (row["width"], row["status"], row["n_predictions"])
        for row in images
        if row["status"] != "ok"
    ]
    assert failed == [(200, "out_of_memory", None)]
    assert len(images) == 6


def test_a_model_that_fails_on_everything_stops_the_run(
    annotate: Callable[..., Path], mixed_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.core.errors import PipelineError
    from pipeline.models.networks.detector import DetectorNetwork

    def broken(self: DetectorNetwork, inputs: list, sizes_hw: list) -> list:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(DetectorNetwork, "forward", broken)
    with pytest.raises(PipelineError, match=r"fails on every image.*no kernel image"):
        annotate(f"input={mixed_images}", "model=codes")
