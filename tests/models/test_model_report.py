"""The catalogue of models, and the report on one model."""

from pathlib import Path

import pytest
from safetensors.torch import save_file
from torchvision.models import get_model_weights, list_models, resnet18

from pipeline.cli import main
from pipeline.config.overrides import add_task_of_model
from pipeline.core.errors import ConfigError
from pipeline.models.backbones import get_builder
from pipeline.models.model_cards import list_model_cards
from pipeline.models.model_report import find_builder_tasks, format_catalogue, format_model_report
from pipeline.models.networks.meta_device import use_meta_device
from pipeline.models.torchvision_builders import get_builder_tasks
from tests.helpers.paths import shared
from tests.helpers.runs import settings_for


@pytest.mark.parametrize(
    ("task", "builders"),
    [
        ("detect", 12),
        ("instances", 2),
        ("keypoints", 1),
        ("segment", 6),
        ("classify", 92),
        ("embed", 92),
        ("video", 9),
        (None, 119),
    ],
)
def test_the_catalogue_has_every_builder_of_a_task(task: str | None, builders: int) -> None:
    cards = list_model_cards(task)
    assert len({card.name for card in cards}) == len(cards) == builders
    assert len(format_catalogue(task).splitlines()) == builders + 1


@pytest.mark.parametrize(
    ("sort", "first"),
    [("accuracy", "deeplabv3_resnet101"), ("gflops", "lraspp_mobilenet_v3_large")],
)
def test_the_best_or_the_cheapest_comes_first(sort: str, first: str) -> None:
    assert list_model_cards("segment", sort)[0].name == first


@pytest.mark.parametrize(
    ("task", "sort", "said"),
    [("segmnt", "name", "'segment'"), ("segment", "acuracy", "'accuracy'")],
)
def test_a_typo_gets_the_nearest(task: str, sort: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        list_model_cards(task, sort)


def test_a_card_has_what_torchvision_publishes() -> None:
    meta = get_model_weights("ssd300_vgg16").DEFAULT.meta
    text = format_model_report(
        settings_for("task=detect", "model=ssd300_vgg16", "input=.", "classes=[dog,Cat]")
    )
    for expected in (
        "80: person, bicycle",
        "35.64 M",
        "34.86",
        "box_map 25.1",
        "ssd300_vgg16_coco-b556d3b4.pth",
        "dog (id 18)",
    ):
        assert expected in text
    assert meta["num_params"] == pytest.approx(35.64e6, rel=1e-3)


def test_a_class_that_is_not_in_it_gets_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no class 'dgo'.*'dog'"):
        format_model_report(
            settings_for("task=detect", "model=ssd300_vgg16", "input=.", "classes=[dgo]")
        )


def test_weights_without_names_tell_their_number_of_outputs(tmp_path: Path) -> None:
    save_file(resnet18(num_classes=7).state_dict(), tmp_path / "own.safetensors")
    with pytest.raises(ConfigError, match=r"head fc has out_features=7.*categories=FILE"):
        format_model_report(
            settings_for(
                "task=classify",
                "model=resnet18",
                f"weights={tmp_path / 'own.safetensors'}",
                "input=.",
            )
        )


def test_real_weights_without_names_do_too() -> None:
    weights = shared("weights/mobilenet_v2_imagenet.pth")
    with pytest.raises(
        ConfigError, match=r"classifier\.1 has out_features=1000.*categories=imagenet"
    ):
        format_model_report(
            settings_for("task=classify", "model=mobilenet_v2", f"weights={weights}", "input=.")
        )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["model=resnet18"], ["model=resnet18", "task=classify"]),
        (["model=resnet18", "task=embed"], ["model=resnet18", "task=embed"]),
        (["model=codes"], ["model=codes"]),
        ([], []),
    ],
)
def test_inspect_finds_the_models_task(words: list[str], expected: list[str]) -> None:
    assert add_task_of_model(words, find_builder_tasks) == expected


def test_both_verbs_answer_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "task=keypoints"]) == 0
    assert main(["inspect", "model=r3d_18", "classes=[bowling]"]) == 0
    assert main(["inspect", "model=deeplabv3_resnet50"]) == 0
    said = capsys.readouterr().out
    assert "keypointrcnn_resnet50_fpn" in said and "miou 66.4" in said
    assert main(["models", "tsk=segment"]) == 2


@pytest.mark.parametrize("name", [name for name in list_models() if get_builder_tasks(name)])
def test_every_builder_builds(name: str) -> None:
    """Networks are built on the meta device: the largest would not fit into memory."""
    arguments = (
        {"weights_backbone": None} if not get_builder_tasks(name) & {"classify", "video"} else {}
    )
    if name.endswith(("googlenet", "inception_v3")):
        arguments = {"init_weights": False}
    with use_meta_device():
        network = get_builder(name)(weights=None, **arguments)
    published = get_model_weights(name).DEFAULT.meta["num_params"]
    every = sum(p.numel() for p in network.parameters())
    used = sum(
        p.numel() for n, p in network.named_parameters() if not n.casefold().startswith("aux")
    )
    auxiliary = (
        0 if every != used else 0.08 * published
    )  # the published counts include auxiliary heads, except GoogLeNet's
    assert min(abs(every - published), abs(used - published)) <= max(auxiliary, 0.02 * published)
    assert all(p.is_meta for p in network.parameters())
