"""The user's own ONNX file."""

import sys
from pathlib import Path

import pytest
import torch
from onnx import TensorProto

from pipeline.core.errors import ConfigError
from pipeline.core.hashing import hash_file
from pipeline.models.formats.onnx import Onnx
from pipeline.models.registry import find_format
from tests.helpers.own_files import CLASSIFIER, SEGMENTER, tiny_onnx
from tests.helpers.runs import settings_for

ANY = ["batch", 3, "height", "width"]


@pytest.fixture
def names(tmp_path: Path) -> str:
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    return f"categories={tmp_path / 'names.txt'}"


def find_onnx(file: Path, *more: str) -> Onnx:
    made = find_format(
        settings_for("task=classify", "model=onnx", f"weights={file}", "input=.", CLASSIFIER, *more)
    )
    assert isinstance(made, Onnx)
    return made


@pytest.mark.parametrize("batch", ["batch", 1, 4])
def test_the_logits_are_the_files_whatever_batch_it_takes(
    batch: int | str, names: str, tmp_path: Path
) -> None:
    made = find_onnx(tiny_onnx(tmp_path / "a.onnx", [batch, 3, 224, 224]), names)
    assert made.describe().categories == ("red", "green", "blue")
    model = made.load()
    assert (
        model.weights_sha256 == hash_file(made.file)
        and model.cpu_only
        and model.full_precision_only
    )
    images = [torch.rand(3, 224, 224) for _ in range(6)]
    outputs = model.network(images, [(224, 224)] * 6)
    for image, one in zip(images, outputs, strict=True):
        torch.testing.assert_close(
            one["logits"], image.mean(dim=(1, 2)) * torch.tensor([1.0, 2.0, 3.0])
        )


def test_trust_is_not_asked_for_data(names: str, tmp_path: Path) -> None:
    assert find_onnx(tiny_onnx(tmp_path / "a.onnx", ANY), names, "trust_code=false").describe()


def test_weights_in_a_file_beside_it_count(names: str, tmp_path: Path) -> None:
    file = tiny_onnx(tmp_path / "a.onnx", ANY, external=True)
    made, beside = find_onnx(file, names), tmp_path / "a.weights"
    assert made.list_files() == [file, beside]
    assert made.load().network([torch.ones(3, 4, 4)], [(4, 4)])[0]["logits"].tolist() == [1, 2, 3]
    before = made.describe().weights_id
    beside.write_bytes(torch.tensor([1.0, 2.0, 4.0]).numpy().tobytes())
    assert find_onnx(file, names).describe().weights_id != before
    beside.unlink()
    with pytest.raises(ConfigError, match=r"cannot be opened.*does not exist"):
        find_onnx(file, names).describe()


def test_inspect_tells_sizes(names: str, tmp_path: Path) -> None:
    details = find_onnx(
        tiny_onnx(tmp_path / "a.onnx", ["batch", 3, 224, 224], outputs=2), names
    ).details()
    assert details["input"] == "any x 3 x 224 x 224"
    assert details["outputs"] == "2 (logits0: any x 3; logits1: any x 3)"


@pytest.mark.parametrize(
    ("shape", "override", "message"),
    [
        (ANY, "categories=null", "has 3 outputs and no class names: say categories=imagenet"),
        (ANY, "categories=imagenet", r"has 3 outputs, but categories=imagenet has 1000 names"),
        (["batch", 3, 299, 299], "seed=0", "takes 299 x 299 pixels .* makes 224 x 224"),
        (
            ["batch", 1, 224, 224],
            "seed=0",
            r"takes any x 1 x 224 x 224; task=classify gives batch x 3",
        ),
        (
            ["batch", 3, 224],
            "seed=0",
            r"takes any x 3 x 224; task=classify gives batch x 3 x height x width",
        ),
        (
            ANY,
            "task=detect preprocess=DEFAULT",
            "gives logits0 any x 3; task=detect expects boxes, labels, scores",
        ),
        (ANY, f"task=segment {SEGMENTER}", "task=segment expects batch x classes x height x width"),
    ],
)
def test_what_does_not_fit_is_said_before_the_run(
    shape: list, override: str, message: str, names: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        find_onnx(tiny_onnx(tmp_path / "a.onnx", shape), names, *override.split()).describe()


def test_another_type_of_input_is_refused(names: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"takes images tensor\(uint8\); expected one input, tensor\(float\)"
    ):
        find_onnx(tiny_onnx(tmp_path / "a.onnx", ANY, TensorProto.UINT8), names).describe()


@pytest.mark.parametrize("content", [b"", b"not a graph"])
def test_a_file_that_is_no_graph_is_refused(content: bytes, names: str, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be opened by onnxruntime"):
        find_onnx(tmp_path / "a.onnx", names).describe()


def test_without_onnxruntime_the_way_to_it_is_told(
    names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'visionbatch\[onnx\]'"):
        find_onnx(tiny_onnx(tmp_path / "a.onnx", ANY), names).describe()
