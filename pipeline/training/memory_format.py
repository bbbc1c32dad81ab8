"""How convolutions learn fastest: in channels-last, and on CPUs not every one of them in bfloat16."""

import torch
from torch import Tensor, nn
from torchvision.models.detection import KeypointRCNN


def optimize_memory_format(network: nn.Module) -> nn.Module:
    """The same network with the same parameters; changed in place."""
    if isinstance(
        network, KeypointRCNN
    ):  # torchvision's loss of keypoints takes their maps apart by `view`
        network.roi_heads.keypoint_predictor.register_forward_hook(
            lambda module, inputs, maps: maps.contiguous()
        )
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_slow_in_bfloat16(module):
            module.__class__ = Float32OnCpu
    return network.to(memory_format=torch.channels_last)


def _is_slow_in_bfloat16(module: nn.Conv2d) -> bool:
    """Depthwise with a stride or a large kernel: its gradient takes oneDNN 2 to 10 times as long as in float32, see
    docs/performance.md."""
    depthwise = 1 < module.groups == module.in_channels == module.out_channels
    return depthwise and (max(module.stride) > 1 or max(module.kernel_size) > 3)


class Float32OnCpu(nn.Conv2d):
    """Computes in float32 under autocast on a CPU, and gives what it was given."""

    def forward(self, input: Tensor) -> Tensor:
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(input.dtype)
