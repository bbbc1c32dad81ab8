"""Training hyperparameters, the optimizer and the learning-rate schedule."""

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Recipe:
    """The settings `train.*` with every null replaced by a value.

    The field names are part of a training's fingerprint: renaming one renames the output folder.
    """

    epochs: int
    batch_size: int
    rate: float  # peak learning rate
    weight_decay: float
    warmup: float  # share of all steps during which the learning rate rises
    ema: float  # decay of the averaged weights; 0: no averaging
    seed: int
    precision: str
    device: str
    workers: int


def build_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build AdamW with weight decay on matrices and kernels, but not on biases and norms."""
    trainable = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trainable if parameter.dim() > 1]
    not_decayed = [parameter for parameter in trainable if parameter.dim() <= 1]
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": not_decayed, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=recipe.rate)


def compute_learning_rate(step: int, total: int, warmup: float, highest: float) -> float:
    """Return the learning rate of a step. It rises linearly, then falls as half a cosine.

    The schedule follows Goyal et al. (2017) and Loshchilov and Hutter (2017).

    Args:
        step: From 0 to total - 1.
        total: The number of all steps.
        warmup: Share of all steps during which the rate rises.
        highest: The peak learning rate.
    """
    warmup_steps = math.ceil(warmup * total)
    if step < warmup_steps:
        return highest * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total - warmup_steps)
    return highest * 0.5 * (1 + math.cos(math.pi * progress))
