"""Masks, keypoints, segments and embeddings equal those of plain one-image torchvision calls."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torchvision.models import get_model_weights
from torchvision.transforms._presets import SemanticSegmentation

from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.ops.masks import argmax_at_full_size, decode_rle
from tests.helpers.reference import build, decoded, plain_detections, save_model, wake
from tests.helpers.runs import read

BATCH_SIZES = (1, 4)
SMALL = {
    "min_size": 96,
    "max_size": 160,
    "rpn_post_nms_top_n_test": 30,
    "box_detections_per_img": 10,
}
pytestmark = pytest.mark.usefixtures("load_once")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def rows_by_image(
    annotate: Callable[..., Path], images: Path, batch_size: int, *settings: str
) -> list[pa.Table]:
    output = images.parent / f"batch-{batch_size}"
    annotate(
        f"input={images}",
        "min_score=0",
        "overlays=false",
        f"batch_size={batch_size}",
        *settings,
        f"output={output}",
    )
    rows = read((output / "latest").resolve(), "predictions")
    ids = rows["image_id"].to_numpy()
    return [rows.filter(pa.array(ids == i)) for i in range(len(files(images)))]


def awake_detector(name: str, images: list[Path]) -> nn.Module:
    model = build(name, detector=True, **SMALL)
    transform = get_model_weights(name).DEFAULT.transforms()
    inputs = [transform(decoded(path)) for path in images[:3]]
    heads = [
        m
        for n, m in model.named_modules()
        if n.endswith(("cls_logits", "cls_score", "mask_fcn_logits"))
    ]
    wake(model, lambda: model(inputs), heads, spread=1.5)
    return model


def match(rows: pa.Table, expected: dict[str, np.ndarray]) -> list[int]:
    """Return the matching row of each expected detection."""
    assert rows.num_rows == len(expected["scores"])
    scores, ids, boxes = (
        rows["score"].to_numpy(),
        rows["class_id"].to_numpy(),
        read_boxes_xyxy(rows),
    )
    found: list[int] = []
    for score, label, box in zip(
        expected["scores"], expected["labels"], expected["boxes"], strict=True
    ):
        near = (
            (ids == label)
            & (np.abs(scores - score) <= 2e-4)
            & (np.abs(boxes - box).max(axis=1) <= 0.05)
        )
        near[found] = False
        assert near.any()
        found.append(int(np.flatnonzero(near)[0]))
    return found


def arguments() -> str:
    return "model_args={" + ",".join(f"{k}:{v}" for k, v in SMALL.items()) + "}"


@pytest.mark.long
@pytest.mark.parametrize("name", ["maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2"])
def test_masks_equal_torchvisions_thresholded_pixel_for_pixel(
    name: str, mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    images = files(mixed_images)
    model = awake_detector(name, images)
    file = save_model(model, tmp_path / "m.safetensors", detector=True)
    expected = plain_detections(model, name, images)
    assert sum(len(one["scores"]) for one in expected) >= 20
    compared = differing = 0
    for batch_size in BATCH_SIZES:
        settings = ["task=instances", f"model={name}", f"weights={file}", arguments()]
        for rows, one in zip(
            rows_by_image(annotate, mixed_images, batch_size, *settings), expected, strict=True
        ):
            counts, size_hw = rows["mask_rle"].to_pylist(), one["masks"].shape[-2:]
            for i, mask in zip(match(rows, one), one["masks"][:, 0] > 0.5, strict=True):
                compared += mask.size
                differing += int((decode_rle(counts[i], size_hw) != mask).sum())
    # a probability of 0.5 exactly may fall on either side when another batch size rounds another
    # way
    assert differing <= compared * 1e-5


@pytest.mark.long
def test_points_equal_torchvisions(
    mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    name = "keypointrcnn_resnet50_fpn"
    images = files(mixed_images)
    model = awake_detector(name, images)
    file = save_model(model, tmp_path / "m.safetensors", detector=True)
    expected = plain_detections(model, name, images)
    assert sum(len(one["scores"]) for one in expected) >= 20
    for batch_size in BATCH_SIZES:
        settings = ["task=keypoints", f"model={name}", f"weights={file}", arguments()]
        for rows, one in zip(
            rows_by_image(annotate, mixed_images, batch_size, *settings), expected, strict=True
        ):
            points = rows["keypoints"].to_pylist()
            for i, xyv, scores in zip(
                match(rows, one), one["keypoints"], one["keypoints_scores"], strict=True
            ):
                found = np.array([[p["x"], p["y"], p["visibility"], p["score"]] for p in points[i]])
                wanted = np.concatenate([xyv, scores[:, None]], axis=1)
                np.testing.assert_allclose(found[:, 3], wanted[:, 3], atol=1e-3)
                assert np.isclose(found, wanted, atol=0.05).all(axis=1).mean() >= 16 / 17, (
                    "a heat map may have a tie"
                )


@pytest.mark.long
@pytest.mark.parametrize(
    "name", ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]
)
def test_regions_equal_torchvisions(
    name: str,
    mixed_images: Path,
    annotate: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    published = get_model_weights(name).DEFAULT.value
    monkeypatch.setattr(
        published, "transforms", partial(SemanticSegmentation, resize_size=128)
    )  # 520 takes minutes here
    images = files(mixed_images)
    model: Any = build(name, detector=True)
    transform = get_model_weights(name).DEFAULT.transforms()
    inputs = [transform(decoded(path))[None] for path in images]
    heads = [
        m
        for n, m in model.named_modules()
        if n.endswith(("classifier.4", "high_classifier", "low_classifier"))
    ]
    assert heads
    wake(model, lambda: model(torch.cat([inputs[0], inputs[0].flip(3)])), heads, spread=1.0)
    file = save_model(model, tmp_path / "m.safetensors", detector=True)
    for batch_size in BATCH_SIZES:
        settings = ["task=segment", f"model={name}", f"weights={file}"]
        for rows, one, path in zip(
            rows_by_image(annotate, mixed_images, batch_size, *settings),
            inputs,
            images,
            strict=True,
        ):
            with torch.inference_mode():
                probabilities = model(one)["out"].softmax(dim=1)[0]
            size_hw = tuple(decoded(path).shape[-2:])
            ids, _ = argmax_at_full_size(probabilities, size_hw)
            found = np.zeros(size_hw, dtype=np.int64)
            for class_id, counts in zip(
                rows["class_id"].to_pylist(), rows["mask_rle"].to_pylist(), strict=True
            ):
                found[decode_rle(counts, size_hw)] = class_id
            assert len(np.unique(ids)) > 1, "one class everywhere proves nothing"
            assert (found != ids).mean() < 1e-3
            assert rows["pixels"].to_pylist() == [
                int((found == i).sum()) for i in rows["class_id"].to_pylist()
            ]


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "vit_b_32"])
def test_vectors_equal_those_of_the_plain_loop(
    name: str, mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    images = files(mixed_images)
    model = build(name, detector=False)
    transform = get_model_weights(name).DEFAULT.transforms()
    head = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    batch = torch.stack([transform(decoded(path)) for path in images])
    wake(model, lambda: model(batch), [head], spread=2.0)
    file = save_model(model, tmp_path / "m.safetensors", detector=False)
    seen: list[torch.Tensor] = []
    head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        for path in images:
            model(transform(decoded(path))[None])
    expected = torch.cat([one.mean(dim=(2, 3)) if one.dim() == 4 else one for one in seen])
    for batch_size in BATCH_SIZES:
        settings = ["task=embed", f"model={name}", f"weights={file}", "task.normalize=false"]
        found = [
            rows["embedding"].to_pylist()[0]
            for rows in rows_by_image(annotate, mixed_images, batch_size, *settings)
        ]
        np.testing.assert_allclose(found, expected.numpy(), atol=2e-4, rtol=2e-4)
    assert expected.std(dim=0).max() > 1e-3, "equal vectors prove nothing"
