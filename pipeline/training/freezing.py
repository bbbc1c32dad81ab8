"""Freeze the first stages of a backbone.

A stage ends where the feature maps are halved.
"""

import copy
import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.core.errors import ConfigError
from pipeline.models.networks.classifier import find_logits_layer

STAGES = 5  # feature maps of 1/2, 1/4, 1/8, 1/16 and 1/32 of the image's side
_NOT_BACKBONE = ("fpn", "extra")  # modules that torchvision's detectors add to the backbone
_SIDES = (224, 256, 320)  # image sides to try, because some networks accept only one


class FrozenLayers:
    """The frozen layers of a network.

    Their parameters get no gradients, their batch norms keep their statistics, and their dropout
    is off. Call `apply` again after each `network.train()`.
    """

    def __init__(self, network: nn.Module, stages: int, keep_statistics: bool = False) -> None:
        """Freeze the first `stages` stages of the network's backbone.

        Args:
            network: The network.
            stages: 0 to `STAGES`.
            keep_statistics: Freeze the statistics of every batch norm of the backbone, as
                torchvision's detectors do with a pretrained one. Their batches are too small to
                compute new statistics.

        Raises:
            ConfigError: The backbone does not have this number of stages.
        """
        if not 0 <= stages <= STAGES:
            raise ConfigError(
                f"train.frozen_stages={stages}: expected 0 (nothing is frozen) "
                f"to {STAGES} (the whole backbone is frozen)."
            )
        stage_of = find_stages(network) if stages else {}
        if stages and min(stage_of.values(), default=STAGES + 1) > stages:
            raise ConfigError(
                f"train.frozen_stages={stages}: this network's maps are never that large, "
                "so nothing would be frozen. "
                f"Its first stage is {min(stage_of.values(), default=STAGES)}; say that, or 0."
            )
        self.network, self.stages = network, stages
        self.modules = [module for module, stage in stage_of.items() if stage <= stages]
        for module in self.modules:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
        if keep_statistics:
            self.modules += [
                layer
                for layer in _find_backbone(network)[0].modules()
                if isinstance(layer, _BatchNorm)
            ]
        self.apply()

    def apply(self) -> None:
        for module in self.modules:
            module.training = False


def default_frozen_stages(network: nn.Module) -> int:
    """Return the number of stages to freeze in a pretrained network by default: 2.

    It is 0 for a network whose feature maps are never that large, such as a ViT.
    """
    return 2 if min(find_stages(network).values(), default=STAGES) <= 2 else 0


def find_stages(network: nn.Module) -> dict[nn.Module, int]:
    """Return the stage of each backbone module with parameters or buffers, sorted by stage.

    A module is in stage 1 if its feature map has half the image's side, in stage 2 for a quarter,
    and so on. The sizes are found by running the backbone on the meta device.
    """
    backbone, head = _find_backbone(network)
    stage_of: dict[str, int] = {}
    reached = 1
    for name, shape, side in _trace_outputs(backbone):
        if name.split(".")[0] in _NOT_BACKBONE or name == head:
            continue
        # A module whose output is not a feature map, e.g. tokens, is in the stage of the module
        # before it.
        if len(shape) == 4 and shape[-1] > 0:
            is_channels_first = shape[2] == shape[3]  # otherwise (B, H, W, C), as in Swin
            smaller = min(shape[2], shape[3]) if is_channels_first else min(shape[1], shape[2])
            reached = max(
                reached, min(STAGES, math.ceil(math.log2(max(1.0, side / smaller)) - 0.2))
            )
        stage_of[name] = reached
    stage_of_module = {
        module: _find_stage(name, stage_of)
        for name, module in backbone.named_modules()
        if name != head and _has_values(module)
    }
    return {
        module: stage
        for module, stage in sorted(stage_of_module.items(), key=lambda item: item[1] or 0)
        if stage
    }


def _find_stage(name: str, stage_of: dict[str, int]) -> int | None:
    """Return the stage of a module, or of its nearest parent if the module itself is not called."""
    while name and name not in stage_of:
        name = name.rpartition(".")[0]
    return stage_of.get(name) if name else None


def _has_values(module: nn.Module) -> bool:
    return any(
        next(values(recurse=False), None) is not None
        for values in (module.parameters, module.buffers)
    )


def _find_backbone(network: nn.Module) -> tuple[nn.Module, str]:
    """Return the backbone and the name of the head inside it.

    A detector's backbone contains no head. A classifier is its own backbone.
    """
    if isinstance(backbone := getattr(network, "backbone", None), nn.Module):
        return backbone, ""
    head = find_logits_layer(network)
    return network, next(name for name, module in network.named_modules() if module is head)


def _trace_outputs(backbone: nn.Module) -> list[tuple[str, tuple[int, ...], int]]:
    """List (name, output shape, image side) of each module in the order in which they finish."""
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
