"""Region features on several cores. torchvision's `roi_align` for CPUs uses one."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from pipeline.core.cpu import map_in_threads


class ThreadedRoIAlign(nn.Module):
    """What the `MultiScaleRoIAlign` gives, bit for bit: a CPU's images are pooled one by one, each in a thread."""

    def __init__(self, pool: MultiScaleRoIAlign) -> None:
        super().__init__()
        self.pool = pool
        self.output_size = pool.output_size

    def forward(
        self,
        features: Mapping[str, Tensor],
        boxes_xyxy: Sequence[Tensor],
        image_shapes: Sequence[tuple[int, int]],
    ) -> Tensor:
        """features: name -> (B, C, h, w); B boxes (N, 4) in pixels of the network's input -> (sum of N, C, *output_size)."""
        on_cpu = next(iter(features.values())).device.type == "cpu"
        # its first call finds the scales, which depend on the features' sizes only
        if not on_cpu or len(boxes_xyxy) < 2 or self.pool.scales is None:
            return self.pool(dict(features), list(boxes_xyxy), list(image_shapes))
        in_float = {
            name: maps.float() for name, maps in features.items()
        }  # as autocast, which is not on in other threads

        def one(i: int) -> Tensor:
            alone = {name: maps[i : i + 1] for name, maps in in_float.items()}
            return self.pool(alone, [boxes_xyxy[i].float()], [image_shapes[i]])

        return torch.cat(map_in_threads(one, range(len(boxes_xyxy))))


def use_threaded_roi_align(network: nn.Module) -> None:
    """Give an R-CNN's heads threaded pooling, in place."""
    pools = [
        name for name, module in network.named_modules() if isinstance(module, MultiScaleRoIAlign)
    ]
    for name in pools:
        pool = network.get_submodule(name)
        if not name.endswith(".pool"):  # else it has one already
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, ThreadedRoIAlign(pool))
