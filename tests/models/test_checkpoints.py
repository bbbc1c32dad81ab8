"""The file that training leaves: written, read back, and run without further settings."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet18

from pipeline.config.overrides import prepare_overrides
from pipeline.core.errors import ConfigError
from pipeline.core.package_files import find_resource
from pipeline.models.anchors import Anchors
from pipeline.models.checkpoints import (
    CheckpointMetadata,
    read_checkpoint_metadata,
    save_checkpoint,
    serialize_checkpoint,
)
from pipeline.models.formats.builder import TorchvisionBuilder
from pipeline.models.registry import find_format
from pipeline.models.selection import select_model
from pipeline.models.state_loading import load_matching_tensors
from tests.helpers.runs import read, settings_for

SMALL = CheckpointMetadata("resnet18", ("cat", "dog"))
EVERYTHING = CheckpointMetadata(
    architecture="fasterrcnn",
    categories=("__background__", "nut", "bolt"),
    task="detect",
    backbone="mobilenet_v3_small",
    anchors=Anchors(((8.0,), (16.0,), (32.0,), (64.0,), (128.0,)), (0.2, 1.0, 5.0)),
    model_args={"box_detections_per_img": 7, "min_size": 64, "max_size": 96},
    preprocess="FasterRCNN_ResNet50_FPN_Weights.COCO_V1",
    channels="bgr",
    metrics={"AP": 0.5},
    trained={"epochs": 3, "data": "coco"},
)
WEIGHT = {"w": torch.zeros(1)}


def find_builder(*overrides: str) -> TorchvisionBuilder:
    made = find_format(settings_for("input=.", *overrides))
    assert isinstance(made, TorchvisionBuilder)
    return made


def write_metadata(folder: Path, metadata: dict[str, str]) -> Path:
    save_file(WEIGHT, folder / "one.safetensors", metadata=metadata)
    return folder / "one.safetensors"


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with every kind of metadata, and random weights."""
    path = tmp_path_factory.mktemp("trained") / "my nuts.safetensors"
    settings = settings_for(
        *("task=detect", "model=fasterrcnn", "backbone=mobilenet_v3_small", "channels=bgr"),
        *("anchors.sizes=[8,16,32,64,128]", "anchors.ratios=[0.2,1,5]"),
        "model_args={box_detections_per_img: 7, min_size: 64, max_size: 96}",
    )
    made = TorchvisionBuilder(settings)
    network = made.build_for_training(3)
    facts = made.build_metadata(
        EVERYTHING.categories, metrics=EVERYTHING.metrics, facts=EVERYTHING.trained
    )
    save_checkpoint(path, network.state_dict(), facts)
    return path


# --- the file


@pytest.mark.parametrize(
    "trained",
    [
        SMALL,
        EVERYTHING,
        CheckpointMetadata("keypointrcnn_resnet50_fpn", ("a",), keypoint_names=("x", "y")),
    ],
)
def test_what_is_written_is_read_back(trained: CheckpointMetadata, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "new" / "a.safetensors", WEIGHT, trained)
    assert read_checkpoint_metadata(tmp_path / "new" / "a.safetensors") == trained


def test_only_what_was_set_is_written() -> None:
    assert set(SMALL.to_text_metadata()) == {"architecture", "categories", "preprocess", "channels"}
    assert (
        EVERYTHING.to_text_metadata()["anchors"]
        == '{"ratios": [0.2, 1.0, 5.0], "sizes": [[8.0], [16.0], [32.0], [64.0], [128.0]]}'
    )


def test_figures_that_json_has_not_are_null() -> None:
    told = CheckpointMetadata(
        "resnet18", ("a",), metrics={"AP": float("nan"), "by class": [1.0, float("inf")]}
    ).to_text_metadata()
    assert json.loads(told["metrics"]) == {"AP": None, "by class": [1.0, None]}


def test_tensors_are_float32_whole_and_their_own(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    state = {"b": base.t(), "a": base.half(), "shared": base, "n": torch.tensor(3)}
    save_checkpoint(tmp_path / "a.safetensors", state, SMALL)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {name: one.dtype for name, one in found.items()} == {
        "a": torch.float32,
        "b": torch.float32,
        "n": torch.int64,
        "shared": torch.float32,
    }
    assert all(torch.equal(found[name], state[name].to(found[name].dtype)) for name in state)


def test_the_same_weights_give_the_same_bytes() -> None:
    one, other = torch.rand(2), torch.rand(3)
    assert serialize_checkpoint({"a": one, "b": other}, SMALL) == serialize_checkpoint(
        {"b": other, "a": one}, SMALL
    )


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "does not say what its architecture is"),
        ({"architecture": "resnet19", "categories": "[]"}, "architecture='resnet19'.*Did you mean"),
        ({"architecture": "os.system", "categories": '["a"]'}, "no builder of this name"),
        ({"architecture": "resnet18"}, "has no categories"),
        ({"architecture": "resnet18", "categories": "cat"}, "expected a JSON list of names"),
        (
            {"architecture": "resnet18", "categories": '["a"]', "model_args": "[1]"},
            "not a JSON mapping",
        ),
        ({"architecture": "resnet18", "categories": '["a"]', "model_args": "{"}, "cannot be used"),
        (
            {"architecture": "resnet18", "categories": '["a"]', "metrics": "[" * 100_000},
            "cannot be used",
        ),
        (
            {"architecture": "resnet18", "categories": '["a"]', "anchors": '{"sizes": [32]}'},
            "expected a list",
        ),
        (
            {"architecture": "resnet18", "categories": '["a"]', "anchors": '{"ratios": [-1]}'},
            "above 0",
        ),
        (
            {"architecture": "resnet18", "categories": '["a"]', "keypoint_names": "[1]"},
            "list of names",
        ),
        (
            {"architecture": "resnet18", "categories": '["a"]', "channels": "cmyk"},
            "channels='cmyk'",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    metadata: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = write_metadata(tmp_path, metadata)
    with pytest.raises(ConfigError, match=f"one.safetensors.*{message}|{message}"):
        read_checkpoint_metadata(path)


def test_the_embedded_detector_is_such_a_file() -> None:
    found = read_checkpoint_metadata(find_resource("data") / "codes.safetensors")
    assert (
        found.architecture == "ssdlite320_mobilenet_v3_large"
        and found.categories[0] == "__background__"
    )


# --- settings that contradict the file


def test_a_file_is_a_model_with_all_that_it_was_trained_with(detector: Path) -> None:
    settings = settings_for(f"model={detector}")
    assert settings.task == "detect"
    assert read_checkpoint_metadata(detector) == EVERYTHING
    made = find_builder(f"model={detector}")
    spec = made.describe()
    assert (spec.name, spec.categories, spec.weights) == (
        "my nuts",
        EVERYTHING.categories,
        str(detector),
    )
    assert spec.weights_id.startswith("sha256:") and spec.preprocessing.endswith("channels=bgr")
    network = made.load().network
    assert network.network.rpn.anchor_generator.sizes[0] == (8.0,)  # type: ignore[union-attr]
    assert network.network.roi_heads.detections_per_img == 7  # type: ignore[union-attr]
    assert (
        made.details()["measured"] == "AP 0.5"
        and made.details()["trained"] == "data coco, epochs 3"
    )


def test_model_args_may_be_added(detector: Path) -> None:
    made = select_model(
        settings_for(f"model={detector}", "model_args={box_score_thresh: 0.3, min_size: 80}")
    )
    assert made.model_args == {
        "box_detections_per_img": 7,
        "min_size": 80,
        "max_size": 96,
        "box_score_thresh": 0.3,
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("weights=random", "brings its weights with it; leave weights= out"),
        ("categories=coco", "brings its categories"),
        ("backbone=resnet18", "trained with backbone=mobilenet_v3_small; leave backbone= out"),
        ("anchors.ratios=[1]", "trained with other anchors, .*0.2,1,5"),
        (
            "preprocess=FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1",
            "trained with preprocess=FasterRCNN_ResNet50_FPN_Weights",
        ),
        ("task=classify", "does detect, not task=classify"),
        ("model_args={colour: 1}", "has no argument 'colour'"),
    ],
)
def test_what_says_otherwise_is_refused(override: str, message: str, detector: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        find_builder(f"model={detector}", override)


@pytest.mark.parametrize(
    "override", ["channels=bgr", "backbone=mobilenet_v3_small", "anchors.sizes=[8,16,32,64,128]"]
)
def test_what_says_the_same_is_not(override: str, detector: Path) -> None:
    more = ["anchors.ratios=[0.2,1,5]"] if override.startswith("anchors") else []
    assert find_builder(f"model={detector}", override, *more).name == "fasterrcnn"


def test_the_architecture_may_be_named_with_the_file_as_weights(detector: Path) -> None:
    made = select_model(
        settings_for("model=fasterrcnn", "backbone=mobilenet_v3_small", f"weights={detector}")
    )
    assert made.anchors == EVERYTHING.anchors and made.channels == "bgr"
    with pytest.raises(ConfigError, match=r"are of fasterrcnn, not ssd300_vgg16. Say model="):
        select_model(settings_for("model=ssd300_vgg16", f"weights={detector}"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("nowhere.safetensors", "model=nowhere.safetensors: there is no such file"),
        ("nowhere.pth", "model=nowhere.pth: there is no such file"),
    ],
)
def test_a_missing_file_is_said(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        find_builder(f"model={given}")


def test_a_file_that_says_nothing_asks_for_its_architecture(tmp_path: Path) -> None:
    torch.save(resnet18(num_classes=2).state_dict(), tmp_path / "own.pth")
    with pytest.raises(ConfigError, match="model=ARCHITECTURE weights=FILE"):
        find_builder(f"model={tmp_path / 'own.pth'}")


def test_the_home_folder_has_its_short_name(
    detector: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(detector.parent))
    assert prepare_overrides([f"model=~/{detector.name}"], sweep=False) == [
        f"model='{detector}'",
        "task=detect",
    ]


@pytest.mark.long
def test_a_run_needs_the_file_and_the_images_only(
    detector: Path, annotate: Callable[..., Path], mixed_images: Path, tmp_path: Path
) -> None:
    run = annotate(f"model={detector}", f"input={mixed_images}", "min_score=0", "overlays=false")
    assert run.name.startswith("detect-my_nuts-")
    rows = read(run, "predictions")
    assert len(rows) and set(rows["class_name"].to_pylist()) <= {"nut", "bolt"}
    moved = tmp_path / "elsewhere" / detector.name
    moved.parent.mkdir()
    moved.write_bytes(detector.read_bytes())
    assert (
        annotate(f"model={moved}", f"input={mixed_images}", "min_score=0", "overlays=false").name
        == run.name
    )


# --- networks to train


@pytest.mark.parametrize(
    ("overrides", "head", "outputs"),
    [
        (["task=classify", "model=resnet18"], "fc", 5),
        (["task=classify", "model=mobilenet_v2", "weights=random"], "classifier.1", 5),
        (
            ["task=detect", "model=fasterrcnn_mobilenet_v3_large_fpn"],
            "roi_heads.box_predictor.cls_score",
            5,
        ),
        (["task=segment", "model=lraspp_mobilenet_v3_large"], "classifier.high_classifier", 5),
        (["task=segment", "model=deeplabv3_mobilenet_v3_large"], "aux_classifier.4", 5),
    ],
)
def test_a_fresh_network_has_the_classes_asked_for(
    overrides: list[str], head: str, outputs: int
) -> None:
    made = find_builder(*overrides)
    first, again = made.build_for_training(5), made.build_for_training(5)
    layer: Any = first.get_submodule(head)
    assert layer.weight.shape[0] == outputs and all(one.requires_grad for one in first.parameters())
    assert torch.equal(layer.weight, again.get_submodule(head).weight)  # type: ignore[arg-type]


def test_a_fresh_network_has_as_many_points_as_asked_for() -> None:
    network: Any = find_builder(
        "task=keypoints", "model=keypointrcnn_resnet50_fpn"
    ).build_for_training(2, num_keypoints=5)
    assert network.roi_heads.keypoint_predictor.kps_score_lowres.out_channels == 5


def test_int8_is_not_trained() -> None:
    with pytest.raises(ConfigError, match="int8 program and cannot be trained"):
        find_builder(
            "task=classify", "model=quantized_resnet18", "weights=random"
        ).build_for_training(2)


def test_training_begins_with_the_files_weights(detector: Path) -> None:
    made = find_builder(f"model={detector}")
    state = made.load_pretrained_state()
    assert state is not None
    network = made.build_for_training(9)
    new = load_matching_tensors(network, state)
    assert new == [
        f"roi_heads.box_predictor.{layer}.{kind}"
        for layer in ("cls_score", "bbox_pred")
        for kind in ("weight", "bias")
    ]
    assert torch.equal(
        network.state_dict()["backbone.body.features.0.0.weight"],
        state["backbone.body.features.0.0.weight"],
    )
    assert made.build_metadata(["__background__", *"abcdefgh"]).anchors == EVERYTHING.anchors


@pytest.mark.parametrize(
    "overrides",
    [
        ["model=ssdlite320_mobilenet_v3_large", "weights=random"],
        ["model=fasterrcnn", "backbone=resnet18"],
    ],
)
def test_random_weights_have_no_state(overrides: list[str]) -> None:
    assert find_builder("task=detect", *overrides).load_pretrained_state() is None


# --- weights of which a part fits


def build_small(classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, classes))


def test_a_head_for_other_classes_stays_new() -> None:
    state, network = build_small(4).state_dict(), build_small(5)
    head = network.state_dict()["2.weight"].clone()
    assert load_matching_tensors(network, state) == ["2.weight", "2.bias"]
    assert torch.equal(network.state_dict()["0.weight"], state["0.weight"]) and torch.equal(
        network.state_dict()["2.weight"], head
    )


def test_everything_may_fit() -> None:
    assert load_matching_tensors(build_small(4), build_small(4).state_dict()) == []


def test_plain_names_and_others_besides_are_enough() -> None:
    state: dict[str, Tensor] = {**build_small(4).state_dict(), "aux.weight": torch.zeros(1)}
    assert load_matching_tensors(build_small(4), state) == []


def test_what_fits_nowhere_is_refused() -> None:
    with pytest.raises(
        ConfigError,
        match=r"None of these weights fit Sequential: they have 'x', the network has '0.weight'",
    ):
        load_matching_tensors(build_small(2), {"x": torch.zeros(1)})


def test_older_namings_are_known() -> None:
    """Before torchvision 0.13 the name of the RPN's convolution had no number."""
    made = find_builder("task=detect", "model=fasterrcnn_mobilenet_v3_large_fpn", "weights=random")
    state = dict(made.build_for_training(3).state_dict())
    state["rpn.head.conv.weight"] = state.pop("rpn.head.conv.0.0.weight")
    state["rpn.head.conv.bias"] = state.pop("rpn.head.conv.0.0.bias")
    assert load_matching_tensors(made.build_for_training(3), state) == []
