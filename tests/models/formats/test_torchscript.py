"""The user's own TorchScript program."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.errors import ConfigError, PipelineError
from pipeline.models.formats.torchscript import TorchScript
from pipeline.models.registry import find_format
from tests.helpers.own_files import CLASSIFIER, Classifier, save
from tests.helpers.runs import settings_for

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*torch.jit.*:DeprecationWarning", "ignore:.*torch.jit.*:FutureWarning"
)


class WholeImage(nn.Module):
    """Return the whole image as a box, and its mean red as the score."""

    def forward(self, images: list[Tensor]) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
        height, width = images[0].shape[-2], images[0].shape[-1]
        boxes = torch.tensor([[0.0, 0.0, float(width), float(height)]])
        found = {
            "boxes": boxes,
            "labels": torch.tensor([1]),
            "scores": images[0][0].mean().reshape(1),
        }
        losses: dict[str, Tensor] = {}
        return losses, [found]


class Logits(nn.Module):
    def forward(self, images: list[Tensor]) -> Tensor:
        return images[0].mean().reshape(1)


def save_program(module: nn.Module, folder: Path) -> Path:
    torch.jit.script(module).save(folder / "program.pt")
    return folder / "program.pt"


def list_overrides(file: Path, *more: str) -> list[str]:
    return [
        "model=torchscript",
        f"weights={file}",
        "categories=coco",
        "trust_code=true",
        "input=.",
        *more,
    ]


def find_torchscript(*overrides: str) -> TorchScript:
    made = find_format(settings_for(*overrides))
    assert isinstance(made, TorchScript)
    return made


@pytest.mark.parametrize(("channels", "score"), [("rgb", 1.0), ("bgr", 0.0)])
def test_images_go_in_one_by_one_in_the_programs_channel_order(
    channels: str, score: float, tmp_path: Path
) -> None:
    model = find_torchscript(
        *list_overrides(save_program(WholeImage(), tmp_path), f"channels={channels}")
    ).load()
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[0] = 255
    outputs = model.network(
        [model.preprocess(image), model.preprocess(image[:, :10])], [(20, 30), (10, 30)]
    )
    assert [one["boxes"].tolist() for one in outputs] == [[[0, 0, 30, 20]], [[0, 0, 30, 10]]]
    assert [one["scores"].tolist() for one in outputs] == [[score], [score]]


def test_what_changes_results_is_in_the_description(tmp_path: Path) -> None:
    """The engine is part of the run's fingerprint."""
    file = save_program(WholeImage(), tmp_path)
    described = [
        find_torchscript(*list_overrides(file, *more)).describe().preprocessing
        for more in [(), ("channels=bgr",)]
    ]
    described += [
        find_torchscript(*list_overrides(file, "model_args={quantized_engine:fbgemm}"))
        .describe()
        .preprocessing
    ]
    more = ["task=classify", "categories=imagenet"]
    described += [
        find_torchscript(*list_overrides(file, *more, CLASSIFIER)).describe().preprocessing
    ]
    described += [
        find_torchscript(*list_overrides(file, *more, CLASSIFIER.replace("V1", "V2")))
        .describe()
        .preprocessing
    ]
    assert len(set(described)) == 5
    assert described[1] == '{"range": "0..1", "channels": "bgr", "quantized_engine": "qnnpack"}'


def test_a_program_with_another_interface_is_refused(tmp_path: Path) -> None:
    model = find_torchscript(*list_overrides(save_program(Logits(), tmp_path))).load()
    with pytest.raises(PipelineError, match="interface of a torchvision detector"):
        model.network([torch.zeros(3, 8, 8)], [(8, 8)])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trust_code=false", "trust_code=true"),
        ("categories=null", "carries no class names"),
        ("weights=DEFAULT", "weights=FILE"),
        ("weights=README.md", r"expected a file ending in \.pt"),
        ("weights=absent.pt", "there is no such file"),
        ("task=embed", "model=torchscript can do classify, detect or segment, not task=embed"),
        (
            "task=classify",
            "Name the torchvision weights whose preprocessing it expects: "
            "preprocess=MobileNet_V2_Weights",
        ),
        (
            "task=classify preprocess=MobileNetV2_Weights.IMAGENET1K_V1",
            "Did you mean 'MobileNet_V2_Weights.IMAGENET1K_V1'",
        ),
        (
            "task=segment preprocess=MobileNet_V2_Weights.IMAGENET1K_V1",
            "no weights of this name for task=segment",
        ),
        ("preprocess=MobileNet_V2_Weights.IMAGENET1K_V1", "a detector gets float 0..1"),
        ("model_args={quantized_engine:abacus}", "this torch has"),
        ("model_args={engine:x86}", r"takes \['quantized_engine'\]"),
    ],
)
def test_what_is_missing_is_said(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        find_torchscript(
            *list_overrides(save_program(WholeImage(), tmp_path), *override.split())
        ).describe()


def test_a_file_that_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.pt").write_bytes(b"not a program")
    with pytest.raises(ConfigError, match="not a TorchScript program"):
        find_torchscript(*list_overrides(tmp_path / "no.pt")).load()


def test_logits_of_another_number_than_the_names_stop_the_run(
    annotate: Callable[..., Path], mixed_images: Path, tmp_path: Path
) -> None:
    """A TorchScript file does not hold shapes, so the first batch fails, and with it the run."""
    file = save(Classifier(), "torchscript", tmp_path, torch.empty(0), {})
    with pytest.raises(
        PipelineError,
        match="gave 6 x 5 for a batch of 6; expected 6 x 1000: categories= has 1000 names",
    ):
        annotate(
            *list_overrides(
                file, "task=classify", "categories=imagenet", CLASSIFIER, f"input={mixed_images}"
            )
        )
    assert not list((tmp_path / "outputs").rglob("images/part-*"))
