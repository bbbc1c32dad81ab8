"""The pipeline's rows equal those of a plain one-image torchvision loop, at every batch size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torchvision.models import get_model_weights, list_models

from pipeline.models.torchvision_builders import get_builder_tasks, is_quantized
from pipeline.ops.boxes import read_boxes_xyxy
from tests.helpers.reference import (
    CLASSES,
    build,
    decoded,
    plain_classification,
    plain_detections,
    save_model,
    wake,
)
from tests.helpers.runs import read

SCORE, BOX = 2e-4, 0.05  # absolute; pixels of the original
# Part of the rows. Random detectors have hundreds of boxes of nearly one place and score, and where
# two overlap just by the threshold of the non-maximum suppression, rounding decides which stays:
# seen on one CPU, 1 to 3 of 600 rows.
TIES = 0.01
BATCH_SIZES = (1, 3, 8)
SMALL = {"min_size": 96, "max_size": 160}
SMALL_RCNN = SMALL | {"rpn_post_nms_top_n_test": 100}
DETECTORS: dict[str, dict[str, Any]] = {
    "fasterrcnn_resnet50_fpn": SMALL_RCNN,
    "fasterrcnn_resnet50_fpn_v2": SMALL_RCNN,
    "fasterrcnn_mobilenet_v3_large_fpn": SMALL_RCNN,
    "fasterrcnn_mobilenet_v3_large_320_fpn": SMALL_RCNN,
    "retinanet_resnet50_fpn": SMALL,
    "retinanet_resnet50_fpn_v2": SMALL,
    "fcos_resnet50_fpn": SMALL,
    "ssd300_vgg16": {},
    "ssdlite320_mobilenet_v3_large": {},
}
# the smallest of each architecture that torchvision has; the others differ in width and depth only
CLASSIFIERS = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0",
    "swin_t", "swin_v2_t",
    "vgg11", "vit_b_32", "wide_resnet50_2",
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("load_once")


@pytest.mark.long
@pytest.mark.parametrize("name", DETECTORS)
def test_detector_rows_equal_the_plain_loop(
    name: str, mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    images = _files(mixed_images)
    model = build(name, detector=True, **DETECTORS[name])
    _wake_detector(model, name, images)
    file = save_model(model, tmp_path / "m.safetensors", detector=True)
    expected = plain_detections(model, name, images)
    assert sum(len(one["scores"]) for one in expected) >= 40, (
        "a model that finds nothing proves nothing"
    )
    assert np.concatenate([one["scores"] for one in expected]).std() > 0.02

    for batch_size in BATCH_SIZES:
        rows = read(
            _run(annotate, "detect", name, mixed_images, file, batch_size, DETECTORS[name]),
            "predictions",
        )
        every = sum(len(one["scores"]) for one in expected)
        differing = sum(
            _differing(_rows_of(rows, path, mixed_images), one)
            for path, one in zip(images, expected, strict=True)
        )
        assert differing <= TIES * every, f"{differing} of {every} rows at batch size {batch_size}"


@pytest.mark.long
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_rows_equal_the_plain_loop(
    name: str, mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    for path in _files(mixed_images)[
        4:
    ]:  # four are enough: what a classifier sees has one size anyway
        path.unlink()
    images = _files(mixed_images)
    model = build(name, detector=False)
    transform = get_model_weights(name).DEFAULT.transforms()
    batch = torch.stack([transform(decoded(path)) for path in images])
    head = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    wake(model, lambda: model(batch), [head], spread=2.0)
    file = save_model(model, tmp_path / "m.safetensors", detector=False)
    expected = plain_classification(model, name, images, top_k=CLASSES)
    assert np.stack([scores for scores, _ in expected]).std(axis=1).min() > 0.02, (
        "equal scores prove nothing"
    )

    for batch_size in BATCH_SIZES:
        rows = read(
            _run(
                annotate, "classify", name, mixed_images, file, batch_size, {}, f"top_k={CLASSES}"
            ),
            "predictions",
        )
        for path, (scores, ids) in zip(images, expected, strict=True):
            one = _rows_of(rows, path, mixed_images)
            assert one["rank"].to_pylist() == list(range(1, CLASSES + 1))
            by_id = dict(zip(one["class_id"].to_pylist(), one["score"].to_pylist(), strict=True))
            assert sorted(by_id) == sorted(ids.tolist())
            np.testing.assert_allclose([by_id[i] for i in ids.tolist()], scores, atol=SCORE)


def test_every_architecture_of_torchvision_is_compared() -> None:
    detectors = {name for name in list_models() if "detect" in get_builder_tasks(name)}
    assert detectors - set(DETECTORS) == {
        "maskrcnn_resnet50_fpn",
        "maskrcnn_resnet50_fpn_v2",
        "keypointrcnn_resnet50_fpn",
    }
    modules = {
        get_model_weights(name).__module__
        for name in list_models()
        if "classify" in get_builder_tasks(name) and not is_quantized(name)
    }
    assert modules == {get_model_weights(name).__module__ for name in CLASSIFIERS}


def test_a_naive_batch_would_fail_this_comparison(mixed_images: Path) -> None:
    """Padding a batch changes the results of an R-CNN, so the tests above can fail."""
    images = _files(mixed_images)
    name = "fasterrcnn_mobilenet_v3_large_fpn"
    model = build(name, detector=True, **SMALL)
    _wake_detector(model, name, images)
    transform = get_model_weights(name).DEFAULT.transforms()
    with torch.inference_mode():
        together = model([transform(decoded(path)) for path in images])
    alone = plain_detections(model, name, images)
    differing = sum(
        len(a["scores"]) != len(b["scores"])
        or float(np.abs(a["scores"].numpy() - b["scores"]).max(initial=0)) > SCORE
        for a, b in zip(together, alone, strict=True)
    )
    assert differing >= 3


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _run(
    annotate: Callable[..., Path],
    task: str,
    name: str,
    images: Path,
    file: Path,
    batch_size: int,
    model_args: dict,
    *more: str,
) -> Path:
    arguments = "{" + ",".join(f"{k}:{v}" for k, v in model_args.items()) + "}"
    # another output each time: the batch size is not part of a run's identity, and the second run
    # would find it complete
    output = f"output={images.parent / f'batch-{batch_size}'}"
    base = [
        f"task={task}",
        f"model={name}",
        f"weights={file}",
        f"input={images}",
        "overlays=false",
        "min_score=0",
        output,
    ]
    annotate(*base, f"batch_size={batch_size}", f"model_args={arguments}", *more)
    return (images.parent / f"batch-{batch_size}" / "latest").resolve()


def _wake_detector(model: nn.Module, name: str, images: list[Path]) -> None:
    transform = get_model_weights(name).DEFAULT.transforms()
    inputs = [transform(decoded(path)) for path in images[:3]]
    heads = [
        m
        for n, m in model.named_modules()
        if n.endswith(("cls_logits", "cls_score", "bbox_ctrness"))
    ]
    if "ssd" in name:  # one score layer per feature map
        heads = [_last_convolution(m) for m in model.head.classification_head.module_list]  # type: ignore[union-attr]
    # A random SSDlite amplifies rounding so much that torchvision's own float32 loop is up to 2e-4
    # from the same network in float64: scores of half the spread keep that noise below the bound.
    wake(model, lambda: model(inputs), heads, spread=0.75 if "ssdlite" in name else 1.5)


def _last_convolution(module: nn.Module) -> nn.Module:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1]


def _rows_of(rows: pa.Table, path: Path, root: Path) -> pa.Table:
    return rows.filter(
        pa.array([key == path.relative_to(root).as_posix() for key in rows["key"].to_pylist()])
    )


def _differing(rows: pa.Table, expected: dict[str, np.ndarray]) -> int:
    """Count the rows that only one of the two has.

    Each expected row takes one row of its class within the tolerances, in any order.
    """
    scores, ids, boxes = (
        rows["score"].to_numpy(),
        rows["class_id"].to_numpy(),
        read_boxes_xyxy(rows),
    )
    assert (np.diff(scores) <= 0).all()
    free = np.ones(len(scores), dtype=bool)
    for score, label, box in zip(
        expected["scores"], expected["labels"], expected["boxes"], strict=True
    ):
        near = (
            free
            & (ids == label)
            & (np.abs(scores - score) <= SCORE)
            & (np.abs(boxes - box).max(axis=1) <= BOX)
        )
        free[np.flatnonzero(near)[:1]] = False
    return max(int(free.sum()), len(expected["scores"]) - int((~free).sum()))
