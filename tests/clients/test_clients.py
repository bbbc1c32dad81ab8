"""Exports opened by the programs that they are for."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.command_options import read_options
from pipeline.results.commands.crops import Options as CropsOptions
from pipeline.results.commands.crops import run_command as crop
from tests.clients.conftest import NAMES, POINTS

# The libraries warn of their own dependencies.
pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("default")]
Export = Callable[[str, str], Path]
N_OBJECTS = 2 * (len(NAMES) - 1)
BOX = (16, 12, 48, 36)  # x_min, y_min, x_max, y_max


def list_items(dataset: Any) -> list[Any]:
    items = list(dataset)
    assert len(items) == len({(item.id, item.subset) for item in items}) == len(NAMES)
    return items


@pytest.mark.parametrize("to", ["coco", "cvat", "voc"])
def test_datumaro_reads_boxes(to: str, export: Export) -> None:
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    folder = export("detect", to)
    items = list_items(Dataset.import_from(str(folder), to))
    boxes = [one for item in items for one in item.annotations if one.type is AnnotationType.bbox]
    assert len(boxes) == N_OBJECTS
    for one in boxes:
        # datumaro keeps VOC's corners as they are written, counted from 1.
        first = 1 if to == "voc" else 0
        expected = (BOX[0] + first, BOX[1] + first, *BOX[2:])
        assert np.allclose(one.points, expected, atol=0.01)


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints"])
def test_datumaro_streams_coco(task: str, export: Export) -> None:
    from datumaro.components.dataset import StreamDataset

    folder = export(task, "coco")
    items = list_items(StreamDataset.import_from(str(folder), "coco"))
    assert sum(len(item.annotations) > 0 for item in items) == len(NAMES) - 1


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints"])
def test_label_studio_reads_the_tasks(task: str, export: Export, tmp_path: Path) -> None:
    from label_studio_sdk.converter import Converter
    from label_studio_sdk.label_interface import LabelInterface

    folder = export(task, "labelstudio")
    config = (folder / "labeling_config.xml").read_text()
    tasks = json.loads((folder / "tasks-000.json").read_text())
    interface = LabelInterface(config)
    interface.validate()
    for one in tasks:
        assert interface.validate_prediction(one["predictions"][0], return_errors=True) == []
        path = one["data"]["image"].partition("?d=labelstudio/")[2]
        assert path.startswith("images/")
    assert [one["data"]["key"] for one in tasks] == list(NAMES)
    if task == "keypoints":
        # A user accepts the predictions, which makes them annotations.
        for i, one in enumerate(tasks):
            one |= {"id": i, "annotations": [{"id": i, "result": one["predictions"][0]["result"]}]}
        accepted = tmp_path / "accepted.json"
        accepted.write_text(json.dumps(tasks))
        converter = Converter(config=config, project_dir=None, download_resources=False)
        converter.convert_to_coco(str(accepted), str(tmp_path / "coco"), is_dir=False)
        read = json.loads((tmp_path / "coco" / "result.json").read_text())
        # It writes the points of one object for each image.
        points = [one["keypoints"] for one in read["annotations"] if "keypoints" in one]
        assert points == [[20, 15, 2, 25, 20, 2, 30, 25, 2]] * (len(NAMES) - 1)


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints"])
def test_ultralytics_reads_labels(task: str, export: Export) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    folder = export(task, "yolo")
    data = check_det_dataset(str(folder / "data.yaml"))
    kind = {"detect": "detect", "instances": "segment", "keypoints": "pose"}[task]
    labels = [
        label
        for part in ("train", "val")
        for label in YOLODataset(
            img_path=data[part], data=data, task=kind, augment=False, imgsz=64
        ).labels
    ]
    assert len(labels) == len({label["im_file"] for label in labels}) == len(NAMES)
    boxes = np.concatenate([label["bboxes"] for label in labels])
    assert len(boxes) == N_OBJECTS
    assert np.allclose(boxes, [0.4, 0.4, 0.4, 0.4], atol=1e-6)
    if task == "instances":
        assert sum(len(label["segments"]) for label in labels) == N_OBJECTS
    if task == "keypoints":
        points = np.concatenate([label["keypoints"] for label in labels])
        assert points.shape == (N_OBJECTS, len(POINTS), 3)


@pytest.mark.parametrize("task", ["detect", "instances", "keypoints"])
def test_torchvision_and_pycocotools_read_coco(task: str, export: Export) -> None:
    from torchvision.datasets import CocoDetection

    folder = export(task, "coco")
    read = CocoDetection(str(folder / "images"), str(folder / "annotations.json"))
    assert len(read) == len(NAMES)
    for image, target in read:
        assert image.size == (80, 60)
        assert all(one["bbox"] == [16, 12, 32, 24] for one in target)
    if task == "instances":
        masks = [read.coco.annToMask(one) for one in read.coco.anns.values()]
        assert len(masks) == N_OBJECTS and {int(mask.sum()) for mask in masks} == {720}


def test_megadetectors_validator_accepts_the_results(export: Export) -> None:
    from megadetector.postprocessing.validate_batch_results import (
        ValidateBatchResultsOptions,
        validate_batch_results,
    )

    folder = export("detect", "megadetector")
    options = ValidateBatchResultsOptions()
    options.check_image_existence = True
    options.relative_path_base = str(folder / "images")
    read = validate_batch_results(str(folder / "detections.json"), options)
    assert read["validation_results"]["errors"] == []


def list_samples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict]:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    cache = folder.parent / "cache"
    read = datasets.load_dataset(str(folder), cache_dir=str(cache))
    assert list(read) == ["train"]
    yield from read["train"]


def test_hugging_face_reads_crops(
    make_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"run={make_run('detect')}", f"output={tmp_path / 'crops'}"]
    crop(read_options("crops", words, CropsOptions))
    (tmp_path / "crops" / "dog").rename(tmp_path / "crops" / "train")
    # The label is that of the table, whatever the folder is called.
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(tmp_path / "crops" / "metadata.parquet")
    names = [name.replace("dog/", "train/") for name in table["file_name"].to_pylist()]
    table = table.set_column(0, "file_name", pa.array(names))
    pq.write_table(table, tmp_path / "crops" / "metadata.parquet")
    samples = list(list_samples(tmp_path / "crops", monkeypatch))
    assert Counter(one["label"] for one in samples) == dict.fromkeys(
        ("dog", "stop sign"), N_OBJECTS // 2
    )
    assert {one["image"].size for one in samples} == {(32, 24)}
