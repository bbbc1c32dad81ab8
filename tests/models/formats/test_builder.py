"""torchvision builders with published weights, random weights, and the user's file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from pipeline.core.errors import ConfigError
from pipeline.models.formats.builder import TorchvisionBuilder
from pipeline.models.registry import find_format
from pipeline.models.weights import get_cache_path, hash_file
from tests.helpers.runs import read, settings_for


def find_builder(*overrides: str) -> TorchvisionBuilder:
    made = find_format(settings_for("input=.", *overrides))
    assert isinstance(made, TorchvisionBuilder)
    return made


def save_weights(folder: Path, classes: int, metadata: dict[str, str] | None = None) -> Path:
    path = folder / "own.safetensors"
    save_file(resnet18(num_classes=classes).state_dict(), path, metadata=metadata)
    return path


def test_published_weights_bring_names_and_preprocessing() -> None:
    spec = find_builder("task=classify", "model=resnet18").describe()
    assert spec.categories[:2] == ("tench", "goldfish") and len(spec.categories) == 1000
    assert "crop_size=[224]" in spec.preprocessing and spec.weights == "IMAGENET1K_V1"
    assert spec.weights_id == "resnet18-f37072fd.pth"


def test_random_weights_depend_on_the_seed_alone() -> None:
    def first(seed: int) -> torch.Tensor:
        network = (
            find_builder("task=classify", "model=resnet18", "weights=random", f"seed={seed}")
            .load()
            .network
        )
        return network.body.network.fc.weight  # type: ignore[union-attr, return-value]

    torch.rand(3)
    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("given", ["text", "json", "metadata"])
def test_an_own_file_with_three_classes(given: str, tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    file = save_weights(
        tmp_path, 3, {"categories": json.dumps(names)} if given == "metadata" else None
    )
    (tmp_path / "text.txt").write_text("a\nb\n\nc\n")
    (tmp_path / "json.json").write_text(
        json.dumps({str(i): ["n0", name] for i, name in enumerate(names)})
    )
    more = {
        "text": [f"categories={tmp_path / 'text.txt'}"],
        "json": [f"categories={tmp_path / 'json.json'}"],
        "metadata": [],
    }
    made = find_builder("task=classify", "model=resnet18", f"weights={file}", *more[given])
    assert made.describe().categories == ("a", "b", "c")
    model = made.load()
    assert model.weights_sha256 == hash_file(file)
    assert model.network([model.preprocess(torch.zeros(3, 50, 40, dtype=torch.uint8))], [(50, 40)])[
        0
    ]["logits"].shape == (3,)


def test_a_file_without_names_asks_for_them(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="categories=imagenet"):
        find_builder(
            "task=classify", "model=resnet18", f"weights={save_weights(tmp_path, 3)}"
        ).describe()


def test_a_file_that_does_not_fit_is_named_with_the_layer(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"do not fit resnet18 with 1000 classes(.|\n)*fc\.weight"
    ):
        find_builder(
            "task=classify",
            "model=resnet18",
            f"weights={save_weights(tmp_path, 3)}",
            "categories=imagenet",
        ).load()


def test_torchvisions_own_file_under_a_path_is_sent_to_the_cache(tmp_path: Path) -> None:
    made = find_builder("task=classify", "model=resnet18")
    assert made.member
    (tmp_path / get_cache_path(made.member).name).write_bytes(b"x")
    with pytest.raises(ConfigError, match="weights=IMAGENET1K_V1"):
        find_builder(
            "task=classify",
            "model=resnet18",
            f"weights={tmp_path / get_cache_path(made.member).name}",
            "categories=imagenet",
        )


def test_bgr_turns_the_channels_before_everything_else() -> None:
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    image[0] = 255
    rgb = (
        find_builder("model=ssdlite320_mobilenet_v3_large", "weights=random")
        .load()
        .preprocess(image)
    )
    bgr = (
        find_builder("model=ssdlite320_mobilenet_v3_large", "weights=random", "channels=bgr")
        .load()
        .preprocess(image.flip(0))
    )
    assert torch.equal(rgb, bgr)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{num_classes: 3}", "set by model=, weights= and categories="),
        ("{box_treshold: 1}", "box_treshold"),
    ],
)
def test_wrong_model_args_are_refused(arguments: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_builder(
            "model=fasterrcnn_mobilenet_v3_large_fpn", "weights=random", f"model_args={arguments}"
        ).load()


def test_a_default_below_the_models_own_threshold_gives_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    builder = find_builder(
        "model=fasterrcnn_mobilenet_v3_large_fpn", "weights=random", "min_score=0.01"
    )
    task: Any = builder.settings.components["task"]
    task["presets"]["min_score"] = 0.01
    builder.load()
    assert caplog.text == ""


def test_a_score_filter_below_the_models_own_threshold_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    find_builder(
        "model=fasterrcnn_mobilenet_v3_large_fpn", "weights=random", "min_score=0.01"
    ).load()
    assert "reports nothing below 0.05" in caplog.text and "box_score_thresh: 0.01" in caplog.text
    caplog.clear()
    find_builder(
        "model=fasterrcnn_mobilenet_v3_large_fpn", "weights=random", "min_score=0.05"
    ).load()
    assert caplog.text == ""


def test_the_embedded_detector_has_one_file() -> None:
    assert find_builder("model=codes").describe().categories[1:] == (
        "qr code",
        "barcode",
        "data matrix",
        "fiducial marker",
    )
    with pytest.raises(ConfigError, match="leave weights= out"):
        find_builder("model=codes", "weights=random")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model=fasterrcnn"], "needs a backbone: say backbone=mobilenet_v2"),
        (
            ["model=fasterrcnn_resnet50_fpn", "backbone=resnet18"],
            "is for model=fasterrcnn; fasterrcnn_resnet50_fpn has its own",
        ),
        (["model=fasterrcnn", "backbone=vit_b_16"], "one size only"),
        (
            ["model=fasterrcnn", "backbone=resnet18", "weights=COCO_V2"],
            "fasterrcnn has no weights of this name",
        ),
        (["task=instances", "model=fasterrcnn", "backbone=resnet18"], "cannot do task=instances"),
        (["task=classify", "model=resnet18", "anchors.ratios=[1]"], "resnet18 finds no boxes"),
        (["model=onnx", "weights=x.onnx", "backbone=resnet18"], "leave backbone= and anchors= out"),
        (
            ["model=onnx", "weights=x.onnx", "anchors.ratios=[1]"],
            "leave backbone= and anchors= out",
        ),
    ],
)
def test_a_backbone_or_anchors_where_there_is_no_place_for_them(
    overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_builder(*overrides)


def test_a_backbone_of_ones_own_is_to_be_trained_first() -> None:
    made = find_builder("model=fasterrcnn", "backbone=mobilenet_v2")
    for call in (made.describe, made.load):
        with pytest.raises(
            ConfigError,
            match=r"no published weights: train it .*backbone=mobilenet_v2.*weights=random",
        ):
            call()


@pytest.mark.long
def test_a_backbone_of_ones_own_finds_boxes(
    annotate: Callable[..., Path], mixed_images: Path
) -> None:
    small = "model_args={min_size: 64, max_size: 96}"
    run = annotate(
        "model=fasterrcnn",
        "backbone=mobilenet_v2",
        "weights=random",
        f"input={mixed_images}",
        small,
        "min_score=0",
    )
    assert set(read(run, "images")["status"].to_pylist()) == {"ok"}


def test_other_anchors_for_published_weights_keep_their_number() -> None:
    assert (
        find_builder("model=fasterrcnn_mobilenet_v3_large_fpn", "anchors.ratios=[0.2,1,5]")
        .describe()
        .weights
        == "COCO_V1"
    )
    with pytest.raises(
        ConfigError, match=r"another number of anchors at a place; rpn.head.cls_logits.*make train"
    ):
        find_builder("model=fasterrcnn_mobilenet_v3_large_fpn", "anchors.ratios=[1]").describe()
    with pytest.raises(ConfigError, match="maps of 3 levels"):
        find_builder("model=fasterrcnn_mobilenet_v3_large_fpn", "anchors.sizes=[8,16]").describe()


def test_random_weights_take_any_anchors() -> None:
    made = find_builder(
        "model=ssdlite320_mobilenet_v3_large", "weights=random", "anchors.ratios=[1,5]"
    )
    assert made.load().network.network.body.anchors.shape == (
        4 * (20**2 + 10**2 + 5**2 + 3**2 + 2**2 + 1),
        4,
    )  # type: ignore[union-attr]
