"""Plain reference loops, whose results the pipeline must match, and random models for them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model_builder, get_model_weights
from torchvision.transforms.functional import pil_to_tensor

CLASSES = 6


def decoded(path: Path) -> Tensor:
    """Decode an image with Pillow alone, independently of the pipeline: (3, H, W) uint8 RGB."""
    with Image.open(path) as image:
        return pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB"))


def build(name: str, detector: bool, **model_args: Any) -> nn.Module:
    """Build a torchvision model with random weights and few classes. Nothing is downloaded."""
    extra: dict[str, Any] = {"weights_backbone": None} if detector else {}
    if name in ("googlenet", "inception_v3"):
        extra = {"init_weights": False, "aux_logits": False}
    torch.manual_seed(7)
    return get_model_builder(name)(weights=None, num_classes=CLASSES, **extra, **model_args).eval()


def wake(
    model: nn.Module, run: Callable[[], object], heads: Iterable[nn.Module], spread: float
) -> None:
    """Change a random model so that its scores differ from input to input.

    Without this every score would be the same, and every comparison would pass. Batch norms get the
    statistics of real activations. The score layers are scaled until their outputs have the
    standard deviation `spread`.

    Args:
        model: The model, changed in place.
        run: Runs the model on some inputs.
        heads: The score layers.
        spread: Standard deviation of their outputs.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm3d)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
        norm.train()
    with torch.inference_mode():
        run()
    model.eval()
    heads = list(heads)
    for head in heads:
        if not head.weight.any():  # the head of a new vision transformer has only zeros
            nn.init.normal_(head.weight)
    seen: list[list[Tensor]] = [[] for _ in heads]
    hooks = [
        head.register_forward_hook(
            lambda module, inputs, output, seen=outputs: seen.append(output.flatten())
        )
        for head, outputs in zip(heads, seen, strict=True)
    ]
    with torch.inference_mode():
        run()
    for head, hook, outputs in zip(heads, hooks, seen, strict=True):
        hook.remove()
        values = torch.cat(outputs)
        with torch.no_grad():
            scale = spread / values.std().clamp_min(1e-6)
            head.weight.mul_(scale)
            if head.bias is not None:
                head.bias.sub_(values.mean()).mul_(scale)


def save_model(model: nn.Module, path: Path, detector: bool) -> Path:
    names = (["__background__"] if detector else ["first"]) + [
        f"class {i}" for i in range(1, CLASSES)
    ]
    state = {k: v.contiguous().clone() for k, v in model.state_dict().items()}
    save_file(state, path, metadata={"categories": json.dumps(names)})
    return path


def plain_detections(
    model: nn.Module, name: str, images: list[Path]
) -> list[dict[str, np.ndarray]]:
    """Detect one image at a time, as torchvision's documentation shows it."""
    transform = get_model_weights(name).DEFAULT.transforms()
    with torch.inference_mode():
        outputs = [model([transform(decoded(path))])[0] for path in images]
    return [{k: v.numpy() for k, v in output.items()} for output in outputs]


def plain_classification(
    model: nn.Module, name: str, images: list[Path], top_k: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    transform = get_model_weights(name).DEFAULT.transforms()
    results = []
    with torch.inference_mode():
        for path in images:
            scores, ids = (
                model(transform(decoded(path)).unsqueeze(0)).squeeze(0).softmax(0).topk(top_k)
            )
            results.append((scores.numpy(), ids.numpy()))
    return results
