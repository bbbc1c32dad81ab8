"""Models that can be exported, and errors for others before weights are loaded."""

import shlex
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigError
from pipeline.models.formats.builder import TorchvisionBuilder
from pipeline.runs.components import build_components
from pipeline.training.export_model.request import (
    check_request,
    find_preprocessing_weights,
    format_run_command,
    settings_for_program,
    write_categories,
)
from tests.helpers.own_files import CLASSIFIER, tiny_onnx
from tests.helpers.runs import settings_for

MOBILENET = ["task=classify", "model=mobilenet_v2", "weights=random"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*MOBILENET, "to=null"], "say to=onnx, to=pt2, to=torchscript"),
        (
            ["task=embed", "model=mobilenet_v2"],
            "program files do classify, detect, segment. Say task=classify",
        ),
        (["task=instances"], "Say task=detect for its boxes without their masks"),
        (["task=keypoints"], "Say task=detect for its boxes without their points"),
        (["task=video", "input=."], "No program format takes clips"),
        (
            ["task=detect", "model=codes", "to=pt2"],
            "torch.export cannot follow.*Say to=onnx or to=torchscript",
        ),
        (
            ["task=classify", "model=quantized_resnet18", "weights=random"],
            "int8 networks are not exported. Export resnet18",
        ),
        ([*MOBILENET, "output=s3://bucket/x"], "export-model writes to a disk"),
    ],
)
def test_refusals(words: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchvisionBuilder, "load", lambda self: pytest.fail("weights were loaded"))
    with pytest.raises(ConfigError, match=message):
        settings = check_request(settings_for("to=onnx", *words))
        find_preprocessing_weights(settings, build_components(settings))


def test_a_program_is_one_already(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    file = tiny_onnx(tmp_path / "a.onnx", ["batch", 3, 224, 224])
    words = [
        "task=classify",
        "model=onnx",
        f"weights={file}",
        f"categories={tmp_path / 'names.txt'}",
        CLASSIFIER,
    ]
    settings = check_request(settings_for("to=torchscript", *words))
    with pytest.raises(ConfigError, match="model=onnx is a program already"):
        find_preprocessing_weights(settings, build_components(settings))


@pytest.mark.parametrize("library", ["onnx", "onnxruntime"])
def test_without_a_library_the_way_to_it_is_told(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=rf"to=onnx needs {library}.*visionbatch\[train\]"):
        check_request(settings_for("to=onnx", *MOBILENET))
    assert check_request(settings_for("to=pt2", *MOBILENET))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (MOBILENET, "MobileNet_V2_Weights.IMAGENET1K_V2"),
        ([*MOBILENET, "preprocess=IMAGENET1K_V1"], "MobileNet_V2_Weights.IMAGENET1K_V1"),
        (
            ["task=segment", "model=lraspp_mobilenet_v3_large", "weights=random"],
            "LRASPP_MobileNet_V3_Large_Weights.COCO_WITH_VOC_LABELS_V1",
        ),
        (["task=detect", "model=codes"], None),
    ],
)
def test_the_preprocessing_has_a_full_name(words: list[str], name: str | None) -> None:
    settings = check_request(settings_for("to=torchscript", *words))
    assert find_preprocessing_weights(settings, build_components(settings)) == name


def test_a_preprocessing_of_its_own_has_no_name() -> None:
    settings = check_request(settings_for("to=torchscript", *MOBILENET))
    parts = build_components(settings)
    parts.format.transform.resize_size = [100]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="prepared in a way of its own"):
        find_preprocessing_weights(settings, parts)


def test_programs_are_compared_on_the_cpu_in_fp32() -> None:
    settings = check_request(
        settings_for("to=torchscript", *MOBILENET, "engine=fast", "precision=bf16")
    )
    engine = build_components(settings).engine
    assert (engine.device, engine.precision, engine.is_exact) == ("cpu", "fp32", True)


@pytest.mark.parametrize(
    ("names", "detector"),
    [(("a", "b b", "crane", "crane"), False), (("__background__", "qr code", "N/A"), True)],
)
def test_names_come_back_as_they_were(
    names: tuple[str, ...], detector: bool, tmp_path: Path
) -> None:
    write_categories(names, tmp_path / "categories.txt", detector)
    assert (tmp_path / "categories.txt").read_text().splitlines() == list(names)


@pytest.mark.parametrize(
    ("names", "detector", "odd"),
    [
        (("a", ""), False, r"\[''\]"),
        (("a", " b"), False, r"\[' b'\]"),
        (("a", "b\nc"), False, "b.nc"),
        (("a",), True, "'a'"),
    ],
)
def test_names_that_are_no_lines_are_refused(
    names: tuple[str, ...], detector: bool, odd: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=f"cannot stand on a line of their own: .*{odd}"):
        write_categories(names, tmp_path / "categories.txt", detector)


@pytest.mark.parametrize(
    ("words", "preprocess", "alone", "expected"),
    [
        (
            ["to=onnx", *MOBILENET],
            "A.B",
            False,
            [
                "task=classify",
                "model=onnx",
                "weights=my out/model.onnx",
                "categories=my out/categories.txt",
                "preprocess=A.B",
            ],
        ),
        (
            ["to=torchscript", "task=detect", "model=codes", "channels=bgr"],
            None,
            True,
            [
                *(
                    "task=detect",
                    "model=torchscript",
                    "weights=my out/model.pt",
                    "categories=my out/categories.txt",
                ),
                *("channels=bgr", "trust_code=true", "batch_size=1"),
            ],
        ),
    ],
)
def test_the_command_that_runs_it(
    words: list[str], preprocess: str | None, alone: bool, expected: list[str]
) -> None:
    said = format_run_command(
        settings_for_program(settings_for(*words), Path("my out"), preprocess, alone)
    )
    assert shlex.split(said) == ["make", "run", *expected, "input=DIR"]
