"""How it learns: the settings `train.*` with their nulls replaced, and the optimizer that they make."""

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Recipe:
    """`rate`: the highest; `warmup`: the part of all steps in which it rises; `ema`: the decay of the averaged weights."""

    epochs: int
    batch_size: int
    rate: float
    weight_decay: float
    warmup: float
    ema: float
    seed: int
    precision: str
    device: str
    workers: int


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW; weight decay on what multiplies, not on biases and norms."""
    learning = [one for one in network.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in learning if one.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [one for one in learning if one.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.rate)
