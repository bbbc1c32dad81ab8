"""The network of a classifier."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn
from torch.ao.nn import quantized

from pipeline.core.types import Outputs

_HEADS = (nn.Linear, nn.Conv2d, nn.Conv3d, quantized.Linear)


class ClassifierNetwork(nn.Module):
    """{logits: (C,), embedding: (D,)} for each image; the embedding is what the classifying layer gets."""

    compilable = ("body",)

    def __init__(self, network: nn.Module, normalize: nn.Module | None = None) -> None:
        """`normalize`: what is left of the preprocessing, for a whole batch."""
        super().__init__()
        self.body = _Classifying(network, normalize or nn.Identity())

    def forward(self, inputs: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]]) -> Outputs:
        logits, before = self.body(torch.stack(list(inputs)))
        embeddings = (
            before.flatten(2).mean(dim=2) if before.dim() > 2 else before
        )  # some classify by a convolution
        return [
            {"logits": one, "embedding": vector}
            for one, vector in zip(logits, embeddings, strict=True)
        ]

    def bucket(self, size_hw: tuple[int, int]) -> Hashable:
        """One for all: preprocessing crops to one size."""
        return None


class _Classifying(nn.Module):
    """(B, 3, H, W), or (B, 3, T, H, W) -> logits (B, C), and what the layer that gave them got."""

    def __init__(self, network: nn.Module, normalize: nn.Module) -> None:
        super().__init__()
        self.network, self.normalize = network, normalize
        self._before_head: Tensor | None = None
        find_logits_layer(network).register_forward_pre_hook(self._keep_input)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.network(self.normalize(images))
        before, self._before_head = self._before_head, None
        if before is None:
            raise RuntimeError("the network did not call its classifying layer")
        return logits, before

    def _keep_input(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        before = inputs[0]
        self._before_head = before.dequantize() if before.is_quantized else before


def find_logits_layer(network: nn.Module) -> nn.Linear | nn.Conv2d | nn.Conv3d | quantized.Linear:
    """The layer that gives the logits: the last linear or convolutional one that is no auxiliary head."""
    layers = [
        module
        for name, module in network.named_modules()
        if isinstance(module, _HEADS) and not name.casefold().startswith("aux")
    ]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no linear or convolutional layer")
    return layers[-1]
