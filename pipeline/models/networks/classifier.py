"""Network of a classifier: logits and an embedding for each image or clip."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.ao.nn import quantized

from pipeline.core.types import Outputs

_LOGITS_LAYERS = (nn.Linear, nn.Conv2d, nn.Conv3d, quantized.Linear)


class ClassifierNetwork(nn.Module):
    """Run a classifier on a batch: {logits: (C,), embedding: (D,)} for each input.

    The embedding is the input of the layer that gives the logits.

    Args:
        network: (B, 3, H, W) or (B, 3, T, H, W) -> logits (B, C).
        normalize: The part of the preprocessing that runs on whole batches.
    """

    compilable = ("body",)

    def __init__(self, network: nn.Module, normalize: nn.Module | None = None) -> None:
        super().__init__()
        self.body = _LogitsAndFeatures(network, normalize or nn.Identity())

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        logits, features = self.body(torch.stack(list(inputs)))
        if features.dim() > 2:  # SqueezeNet gives its logits by a convolution
            features = features.flatten(2).mean(dim=2)  # (B, D, h, w) -> (B, D)
        return [
            {"logits": image_logits, "embedding": embedding}
            for image_logits, embedding in zip(logits, features, strict=True)
        ]

    def compute_bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """Return the one shape bucket of all images: preprocessing crops them to one size."""
        return None


class _LogitsAndFeatures(nn.Module):
    """(B, 3, H, W) or (B, 3, T, H, W) -> logits (B, C), and the input of the layer behind them."""

    def __init__(self, network: nn.Module, normalize: nn.Module) -> None:
        super().__init__()
        self.network, self.normalize = network, normalize
        self._features: Tensor | None = None
        find_logits_layer(network).register_forward_pre_hook(self._keep_features)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.normalize(images))
        features, self._features = self._features, None
        if features is None:
            raise RuntimeError("the network did not call its classifying layer")
        return logits, features

    def _keep_features(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features = inputs[0]
        self._features = features.dequantize() if features.is_quantized else features


def find_logits_layer(
    network: nn.Module,
) -> nn.Linear | nn.Conv2d | nn.Conv3d | quantized.Linear:
    """Return the layer that gives the logits.

    It is the last linear or convolutional layer outside the auxiliary heads.

    Raises:
        ValueError: There is no such layer.
    """
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, _LOGITS_LAYERS) and not name.casefold().startswith("aux")
    ]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no linear or convolutional layer")
    return layers[-1]
