"""Speed up convolutions in training: channels-last, and float32 on CPUs if bfloat16 is slow."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN


def optimize_memory_format(network: nn.Module) -> nn.Module:
    """Make a network train faster, in place and with the same parameters, and return it."""
    if isinstance(network, KeypointRCNN):
        # torchvision's keypoint loss calls `view`, which channels-last maps do not allow.
        network.roi_heads.keypoint_predictor.register_forward_hook(
            lambda module, inputs, maps: maps.contiguous()
        )
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_slow_in_bfloat16(module):
            module.__class__ = Float32OnCpu
    return network.to(memory_format=torch.channels_last)


def _is_slow_in_bfloat16(module: nn.Conv2d) -> bool:
    """Return whether a convolution is depthwise with a stride or a large kernel.

    oneDNN computes the gradient of such convolutions more slowly in bfloat16 than in float32 (see
    docs/performance.md).
    """
    depthwise = 1 < module.groups == module.in_channels == module.out_channels
    return depthwise and (max(module.stride) > 1 or max(module.kernel_size) > 3)


class Float32OnCpu(nn.Conv2d):
    """A convolution that computes in float32 under CPU autocast and returns its input's dtype."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(input.dtype)
