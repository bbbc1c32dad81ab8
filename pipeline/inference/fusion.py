"""Rewrite a network so that inference takes fewer and faster steps.

A batch norm after a convolution is folded into it, because in inference both are one affine map:

    w' = w * g / sqrt(v + eps) for each output channel, b' = (b - m) * g / sqrt(v + eps) + beta

(Jacob et al. 2018, arXiv:1712.05877, section 3.2; torch.nn.utils.fusion uses the same arithmetic).
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import fx, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from pipeline.inference.roi_align import use_threaded_roi_align

_NORMS = (nn.BatchNorm2d, nn.BatchNorm3d, FrozenBatchNorm2d)
_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)


def optimize_network(network: nn.Module) -> nn.Module:
    """Optimize a network in place for faster inference, and return it.

    Outputs differ only by rounding. Networks run channels-last, except those with 3-D convolutions:
    this memory format is for tensors of four dimensions.
    """
    with torch.no_grad():
        fold_batch_norms(network)
    use_threaded_roi_align(network)
    kinds = {type(module) for module in network.modules()}
    if nn.Conv2d in kinds and nn.Conv3d not in kinds:
        network.to(memory_format=torch.channels_last)
    return network


def convert_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Convert in place the weights that autocast would convert in every call.

    Autocast caches converted weights only if they require gradients, and these do not.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
            module.to(dtype)


def fold_batch_norms(network: nn.Module) -> int:
    """Fold batch norms into the convolutions before them, in place. Return how many were folded.

    A batch norm is folded if its input is a convolution's output that nothing else uses. Where
    torch.fx cannot trace a module's Python code, its children are traced one by one.
    """
    folded = 0
    for conv_name, norm_name in list(_find_foldable_pairs(network)):
        conv, norm = network.get_submodule(conv_name), network.get_submodule(norm_name)
        if not conv.training and not norm.training and _fold(conv, norm):
            parent, _, attribute = norm_name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, nn.Identity())
            folded += 1
    return folded


def _find_foldable_pairs(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the names of a convolution and of the batch norm that follows it."""
    if not any(isinstance(module, _NORMS) for module in network.modules()):
        return
    try:
        graph = _Tracer().trace(network)
    except Exception:  # noqa: BLE001 - a network's code may raise anything
        for name, child in network.named_children():
            yield from _find_foldable_pairs(child, f"{prefix}{name}.")
        return

    called = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    modules = dict(network.named_modules())
    for node in graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], _NORMS):
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        conv_name, norm_name = str(before.target), str(node.target)
        # A module that is called twice cannot be folded: another layer may precede it elsewhere.
        is_called_once = called.count(conv_name) == called.count(norm_name) == 1
        if isinstance(modules[conv_name], _CONVOLUTIONS) and is_called_once:
            yield prefix + conv_name, prefix + norm_name


class _Tracer(fx.Tracer):
    """A tracer that does not look inside torchvision's frozen batch norms."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, FrozenBatchNorm2d) or super().is_leaf_module(m, module_qualified_name)


def _fold(conv: Any, norm: Any) -> bool:
    """Fold one batch norm, in place. Return False if it has no running statistics."""
    if norm.running_mean is None or norm.running_var is None:
        return False
    mean, variance = norm.running_mean.double(), norm.running_var.double()
    gain = 1.0 if norm.weight is None else norm.weight.double()
    scale = gain * torch.rsqrt(variance + norm.eps)
    bias = (0.0 if conv.bias is None else conv.bias.double()) - mean
    shift = bias * scale + (0.0 if norm.bias is None else norm.bias.double())
    weight = conv.weight.double() * scale.reshape(-1, *[1] * (conv.weight.dim() - 1))
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight.dtype), requires_grad=False)
    return True
