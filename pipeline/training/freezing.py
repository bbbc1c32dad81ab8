"""Which part of a network does not learn: the first stages of its backbone, where a stage ends as its maps are halved."""

import copy
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.core.errors import ConfigError
from pipeline.models.networks.classifier import find_logits_layer

STAGES = 5  # maps of 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's side
_NOT_BACKBONE = ("fpn", "extra")  # what torchvision's detectors add to theirs
_SIDES = (224, 256, 320)  # of the image that is tried; some networks take but one


class FrozenLayers:
    """Holds a part of a network as it is: its parameters get no gradients, its batch norms keep their statistics, its
    dropout is off. `hold` again after each `network.train()`."""

    def __init__(self, network: nn.Module, stages: int, keep_statistics: bool = False) -> None:
        """Freezes at once. `keep_statistics`: of every batch norm of the backbone, as torchvision's detectors do with one
        that was trained before: their batches are too small to count them anew. Raises ConfigError for a number of stages
        that the backbone does not have."""
        if not 0 <= stages <= STAGES:
            raise ConfigError(
                f"train.frozen_stages={stages}: expected 0 (all of it learns) to {STAGES} (none of the backbone)."
            )
        found = find_stages(network) if stages else {}
        if stages and min(found.values(), default=STAGES + 1) > stages:
            raise ConfigError(
                f"train.frozen_stages={stages}: this network's maps are never that large, so nothing would be frozen. "
                f"Its first stage is {min(found.values(), default=STAGES)}; say that, or 0."
            )
        self.network, self.stages = network, stages
        self.modules = [module for module, stage in found.items() if stage <= stages]
        for module in self.modules:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        if keep_statistics:
            self.modules += [
                one for one in _find_backbone(network)[0].modules() if isinstance(one, _BatchNorm)
            ]
        self.apply()

    def apply(self) -> None:
        for module in self.modules:
            module.training = False


def default_frozen_stages(network: nn.Module) -> int:
    """How many are frozen of a network that was trained before, if nobody says it: 2; none of one whose maps are never that
    large, such as a ViT."""
    return 2 if min(find_stages(network).values(), default=STAGES) <= 2 else 0


def find_stages(network: nn.Module) -> dict[nn.Module, int]:
    """The modules of the backbone with values of their own, earlier stages first, and the stage of each: 1 until its maps
    are half as large as the image, 2 for a quarter ... Found by running it without data."""
    backbone, head = _find_backbone(network)
    stage_of: dict[str, int] = {}
    reached = 1
    for name, shape, side in _trace_outputs(backbone):
        if name.split(".")[0] in _NOT_BACKBONE or name == head:
            continue
        if (
            len(shape) == 4 and shape[-1] > 0
        ):  # others, such as tokens, are as far as those before them
            smaller = (
                min(shape[2], shape[3]) if shape[2] == shape[3] else min(shape[1], shape[2])
            )  # Swin's are (B, H, W, C)
            reached = max(
                reached, min(STAGES, math.ceil(math.log2(max(1.0, side / smaller)) - 0.2))
            )
        stage_of[name] = reached
    found = {
        module: _find_stage(name, stage_of)
        for name, module in backbone.named_modules()
        if name != head and _has_values(module)
    }
    return {
        module: stage
        for module, stage in sorted(found.items(), key=lambda one: one[1] or 0)
        if stage
    }


def _find_stage(name: str, stage_of: dict[str, int]) -> int | None:
    """That of the module, or where only its weights are used and it is not called, of the one around it."""
    while name and name not in stage_of:
        name = name.rpartition(".")[0]
    return stage_of.get(name) if name else None


def _has_values(module: nn.Module) -> bool:
    return any(
        next(values(recurse=False), None) is not None
        for values in (module.parameters, module.buffers)
    )


def _find_backbone(network: nn.Module) -> tuple[nn.Module, str]:
    """And the name of the head below it: a classifier is its own backbone."""
    if isinstance(backbone := getattr(network, "backbone", None), nn.Module):
        return backbone, ""
    head = find_logits_layer(network)
    return network, next(name for name, module in network.named_modules() if module is head)


def _trace_outputs(backbone: nn.Module) -> list[tuple[str, tuple[int, ...], int]]:
    """(name, shape of its output, side of the image) of each module, as they are done."""
    hollow = copy.deepcopy(backbone).to("meta").eval()
    for side in _SIDES:
        order: list[tuple[str, tuple[int, ...], int]] = []
        handles = [
            module.register_forward_hook(partial(_record_output, order, name, side))
            for name, module in hollow.named_modules()
            if name
        ]
        try:
            with torch.no_grad():
                hollow(torch.empty(1, 3, side, side, device="meta"))
            return order
        except (RuntimeError, ValueError, AssertionError):
            continue
        finally:
            for handle in handles:
                handle.remove()
    raise ConfigError(
        "train.frozen_stages: this network's stages cannot be found. Say train.frozen_stages=0."
    )


def _record_output(
    order: list, name: str, side: int, module: nn.Module, inputs: object, output: object
) -> None:
    if isinstance(output, Tensor):
        order.append((name, tuple(output.shape), side))
