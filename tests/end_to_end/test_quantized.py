"""torchvision's int8 builders, by name."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model_builder, get_model_weights, list_models
from torchvision.models.quantization.utils import quantize_model

from pipeline.core.errors import ConfigError
from pipeline.models.registry import find_format
from pipeline.models.torchvision_builders import get_builder_tasks, is_quantized
from pipeline.models.weights import get_cache_path
from pipeline.run import run
from tests.helpers.paths import shared
from tests.helpers.reference import decoded
from tests.helpers.runs import read, settings_for

pytestmark = pytest.mark.filterwarnings(
    "ignore:(.|\n)*torch.ao.quantization is deprecated:DeprecationWarning",
    "ignore:must run observer before calling calculate_qparams:UserWarning",
    "ignore:TypedStorage is deprecated:UserWarning",
)
BUILDERS = [name for name in list_models() if name.startswith("quantized_")]


@pytest.fixture(autouse=True)
def engine_of_the_process() -> Iterator[None]:
    before = torch.backends.quantized.engine
    yield
    torch.backends.quantized.engine = before


def plain(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return get_model_builder(name)(weights=None, quantize=True).eval()


def two_images(folder: Path) -> list[Path]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file())[2:]:
        path.unlink()
    return sorted(path for path in folder.rglob("*") if path.is_file())


def seen(
    module: nn.Module, name: str, images: list[Path], head: str
) -> tuple[np.ndarray, np.ndarray]:
    """The logits (N, C) and what the layer `head` gets (N, D), one image at a time."""
    inputs: list[torch.Tensor] = []
    hook = module.get_submodule(head).register_forward_pre_hook(
        lambda layer, given: inputs.append(given[0].dequantize())
    )
    transform = get_model_weights(name).DEFAULT.transforms()
    with torch.inference_mode():
        logits = torch.cat([module(transform(decoded(path))[None]) for path in images])
    hook.remove()
    return logits.numpy(), torch.cat(inputs).numpy()


def test_all_twelve_are_known() -> None:
    assert len(BUILDERS) == 12 and all(
        get_builder_tasks(name) == {"classify", "embed"} for name in BUILDERS
    )
    assert [name for name in list_models() if is_quantized(name)] == BUILDERS


@pytest.mark.long
@pytest.mark.parametrize("name", BUILDERS)
def test_each_is_described_like_its_float_builder(name: str) -> None:
    """No calibration data is needed: the float network has as many parameters."""
    made = [
        find_format(settings_for("task=embed", f"model={one}", "weights=random", "input=."))
        for one in (name, name.removeprefix("quantized_"))
    ]
    dims = [one.describe().embedding_dim for one in made]
    assert all(dims) and len({dim() for dim in dims if dim}) == 1
    assert made[0].details() == made[1].details()


def test_random_weights_give_the_plain_calls_rows(
    mixed_images: Path, annotate: Callable[..., Path]
) -> None:
    name, head = "quantized_resnet18", "fc"
    logits, vectors = seen(plain(name, 5), name, two_images(mixed_images), head)
    assert vectors.std(axis=0).max() > 1e-3 and logits.std() > 0.1, "equal values prove nothing"
    torch.backends.quantized.engine = "onednn"  # loading sets the right one
    common = [
        f"model={name}",
        "weights=random",
        "seed=5",
        f"input={mixed_images}",
        "overlays=false",
    ]
    rows = read(annotate("task=embed", "task.normalize=false", *common), "predictions")
    np.testing.assert_allclose(rows["embedding"].to_pylist(), vectors, atol=1e-6)
    rows = read(annotate("task=classify", "top_k=1000", *common), "predictions")
    scores = np.zeros_like(logits)
    scores[rows["image_id"].to_numpy(), rows["class_id"].to_numpy()] = rows["score"].to_numpy()
    np.testing.assert_allclose(scores, torch.from_numpy(logits).softmax(dim=1).numpy(), atol=1e-6)


def test_published_weights_are_loaded_into_the_quantized_network(
    mixed_images: Path,
    annotate: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run with a file of the published kind in the cache, made here from real float weights.

    The SHA-256 in its name belongs to another file.
    """
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("pipeline.models.weights._check_hash", lambda path: None)
    name = "quantized_mobilenet_v2"
    module = get_model_builder(name)(weights=None, quantize=False)
    module.load_state_dict(
        torch.load(shared("weights/mobilenet_v2_imagenet.pth"), weights_only=True)
    )
    quantize_model(module, "qnnpack")
    file = get_cache_path(get_model_weights(name).DEFAULT)
    file.parent.mkdir(parents=True)
    torch.save(module.state_dict(), file)
    logits, _ = seen(module, name, two_images(mixed_images), "classifier.1")
    torch.backends.quantized.engine = "fbgemm"  # loading sets the right one
    rows = read(
        annotate("task=classify", f"model={name}", f"input={mixed_images}", "overlays=false"),
        "predictions",
    )
    best = torch.from_numpy(logits).softmax(dim=1).topk(5)
    assert best.values.std() > 0.01, "equal scores prove nothing"
    np.testing.assert_allclose(
        rows["score"].to_numpy().reshape(2, 5), best.values.numpy(), atol=1e-6
    )
    assert rows["class_id"].to_pylist() == best.indices.flatten().tolist()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("weights=own.pth", "quantized builders keep their weights packed"),
        ("model_args={quantize: false}", "set by model=, weights= and categories="),
        ("weights=IMAGENET1K_V1", "Did you mean 'IMAGENET1K_FBGEMM_V1'"),
        ("precision=bf16", "leave that out"),
        ("engine=fast", "engine=fast has nothing to offer"),
    ],
)
def test_what_cannot_be_is_said(
    override: str, message: str, mixed_images: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.pth").write_bytes(b"never opened")
    with pytest.raises(ConfigError, match=message):
        run(
            settings_for(
                *[
                    "task=classify",
                    "model=quantized_resnet18",
                    "weights=random",
                    f"input={mixed_images}",
                ],
                *[
                    f"output={tmp_path / 'out'}",
                    override.replace("own.pth", str(tmp_path / "own.pth")),
                ],
            )
        )


def test_an_engine_that_is_not_here_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(torch.backends.quantized), "supported_engines", ["onednn"])
    with pytest.raises(
        ConfigError, match="needs torch's int8 engine qnnpack; on this machine it has onednn"
    ):
        find_format(
            settings_for(
                "task=classify", "model=quantized_mobilenet_v2", "weights=random", "input=."
            )
        )
