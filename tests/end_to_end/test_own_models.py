"""A user's model file of any format gives the rows of the same network run by torchvision."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.transforms._presets import SemanticSegmentation

from pipeline.cli import main
from pipeline.core.hashing import hash_file
from pipeline.ops.boxes import read_boxes_xyxy
from pipeline.ops.masks import argmax_at_full_size, decode_rle
from pipeline.run import run
from tests.helpers.own_files import FORMATS, SEGMENTER, Regions, save
from tests.helpers.paths import shared
from tests.helpers.reference import CLASSES, build, decoded, save_model, wake
from tests.helpers.runs import read, settings_for

TRUSTED = ["trust_code=true", "overlays=false", "log_level=error"]
IMAGENET = ["task=classify", "categories=imagenet"]
PREPARED = "preprocess=MobileNet_V2_Weights.IMAGENET1K_V2"  # what the builder's DEFAULT is


@pytest.fixture(scope="session")
def real_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Export a real ImageNet classifier with a dynamic batch: traced, torch.export and ONNX.

    The ONNX file has its weights in a file beside it.
    """
    weights, folder = (
        shared("weights/mobilenet_v2_imagenet.pth"),
        tmp_path_factory.mktemp("exported"),
    )
    model = mobilenet_v2()
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    files = {kind: folder / f"mobilenet{suffix}" for kind, suffix in FORMATS.items()}
    example = (torch.rand(2, 3, 224, 224),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own
        torch.jit.trace(model, example).save(files["torchscript"])
        exported = torch.export.export(
            model, example, dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(exported, files["pt2"])
        torch.onnx.export(exported, example, files["onnx"], verbose=False)
    return files


@pytest.fixture(scope="session")
def top5(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The rows of the torchvision builder with the same weights."""
    weights, output = (
        shared("weights/mobilenet_v2_imagenet.pth"),
        tmp_path_factory.mktemp("builder"),
    )
    images = f"input={shared('data/coco128') / 'images'}"
    run(
        settings_for(
            "model=mobilenet_v2",
            f"weights={weights}",
            images,
            f"output={output}",
            *IMAGENET,
            *TRUSTED,
        )
    )
    return read((output / "latest").resolve(), "predictions")


@pytest.mark.long
@pytest.mark.parametrize("kind", FORMATS)
def test_an_exported_classifier_has_the_builders_top_5_on_128_photographs(
    kind: str, real_files: dict[str, Path], top5: pa.Table, annotate: Callable[..., Path]
) -> None:
    images = f"input={shared('data/coco128') / 'images'}"
    folder = annotate(
        f"model={kind}", f"weights={real_files[kind]}", images, PREPARED, *IMAGENET, *TRUSTED
    )
    rows, recorded = read(folder, "predictions"), json.loads((folder / "run.json").read_text())
    assert rows.num_rows == 128 * 5
    file = real_files[kind]
    assert recorded["weights_sha256"] == hash_file(file, *file.parent.glob(f"{file.name}.data"))
    assert kind != "onnx" or recorded["libraries"]["onnxruntime"]
    assert rows["key"].equals(top5["key"]) and rows["class_id"].equals(top5["class_id"])
    np.testing.assert_allclose(rows["score"].to_numpy(), top5["score"].to_numpy(), atol=2e-5)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_regions_are_those_of_the_plain_loop(
    kind: str, batch_size: int, mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    """Pictures of several sizes, of which only those of one size share a batch."""
    module = Regions()
    file = save(
        module, kind, tmp_path, torch.rand(2, 3, 64, 96), {0: "batch", 2: "height", 3: "width"}
    )
    (tmp_path / "names.txt").write_text("background\na\nb\nc\n")
    settings = [
        "task=segment",
        f"model={kind}",
        f"weights={file}",
        f"categories={tmp_path / 'names.txt'}",
        SEGMENTER,
    ]
    folder = annotate(*settings, f"input={mixed_images}", f"batch_size={batch_size}", *TRUSTED)
    rows = read(folder, "predictions")
    transform = SemanticSegmentation(resize_size=520)
    for i, path in enumerate(sorted(path for path in mixed_images.rglob("*") if path.is_file())):
        image = decoded(path)
        with torch.inference_mode():
            probabilities = module(transform(image)[None])["out"].softmax(dim=1)[0]
        size_hw = (image.shape[1], image.shape[2])
        ids, _ = argmax_at_full_size(probabilities, size_hw)
        assert len(np.unique(ids)) > 1, "one class everywhere proves nothing"
        found = np.zeros(size_hw, dtype=np.int64)
        for row in rows.filter(pa.array(rows["image_id"].to_numpy() == i)).to_pylist():
            found[decode_rle(row["mask_rle"], size_hw)] = row["class_id"]
        assert (found != ids).mean() < 1e-3


def last_convolution(module: nn.Module) -> nn.Module:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)][-1]


@pytest.mark.long
def test_an_exported_torchvision_detector_has_the_builders_rows(
    mixed_images: Path, annotate: Callable[..., Path], tmp_path: Path
) -> None:
    name = "ssdlite320_mobilenet_v3_large"
    model: Any = build(name, detector=True)
    inputs = [decoded(path).float() / 255 for path in sorted(mixed_images.glob("*.*"))[:2]]
    heads = [last_convolution(m) for m in model.head.classification_head.module_list]
    wake(model, lambda: model(inputs), heads, spread=1.5)
    weights, file = (
        save_model(model, tmp_path / "m.safetensors", detector=True),
        tmp_path / "m.onnx",
    )
    (tmp_path / "names.txt").write_text("".join(f"class {i}\n" for i in range(1, CLASSES)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        names, sizes = list(model(inputs[:1])[0]), {"image": {1: "height", 2: "width"}}
        example = ([inputs[0]],)
        torch.onnx.export(
            model,
            example,
            file,
            dynamo=False,
            input_names=["image"],
            output_names=names,
            dynamic_axes=sizes,
        )
    common = ["task=detect", f"input={mixed_images}", "min_score=0", *TRUSTED]
    expected = read(annotate(f"model={name}", f"weights={weights}", *common), "predictions")
    folder = annotate(
        "model=onnx", f"weights={file}", f"categories={tmp_path / 'names.txt'}", *common
    )
    found = read(folder, "predictions")
    assert (
        expected.num_rows == found.num_rows == 6 * 300
    )  # the most it reports; which tie is the 300th is chance
    assert np.ptp(expected["score"].to_numpy()) > 0.1, "equal scores prove nothing"
    boxes, scores = read_boxes_xyxy(found), found["score"].to_numpy()
    free = np.ones(len(scores), dtype=bool)
    for i in range(expected.num_rows):
        if i % 300 >= 200:
            continue
        one = expected.slice(i, 1)
        near = free & (
            np.abs(scores - one["score"].to_numpy()) <= 2e-4
        )  # as sets: near-ties may change places
        near &= np.abs(boxes - read_boxes_xyxy(one)).max(axis=1) <= 0.05
        near &= found["image_id"].to_numpy() == one["image_id"].to_numpy()
        near &= found["class_id"].to_numpy() == one["class_id"].to_numpy()
        assert near.any(), one.to_pylist()
        free[np.flatnonzero(near)[0]] = False


@pytest.mark.long
def test_inspect_knows_a_file(
    real_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("onnx", "pt2"):
        words = [
            "inspect",
            f"model={kind}",
            f"weights={real_files[kind]}",
            "task=classify",
            PREPARED,
            "trust_code=true",
        ]
        assert main(words) == 2
        assert (
            "has 1000 outputs and no class names: say categories=imagenet"
            in capsys.readouterr().err
        )
        assert main([*words, "categories=imagenet", "classes=[tench]"]) == 0
        said = capsys.readouterr().out
        assert (
            "any x 3 x 224 x 224" in said
            and ": any x 1000)" in said
            and "crop_size=[224]" in said
            and "tench (id 0)" in said
        )
