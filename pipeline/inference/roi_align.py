"""RoIAlign on several CPU cores. torchvision's `roi_align` uses one core."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign

from pipeline.core.cpu import map_in_threads


class ThreadedRoIAlign(nn.Module):
    """A `MultiScaleRoIAlign` that pools each image of a batch in its own thread.

    Its results equal those of the wrapped module bit for bit. On a GPU it only calls that module.
    """

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
        """Pool the features inside each box.

        Args:
            features: name -> feature map (B, C, h, w).
            boxes_xyxy: B tensors (N, 4), in pixels of the network's input.
            image_shapes: B sizes (h, w) of the network's input.

        Returns:
            (sum of N, C, *output_size).
        """
        on_cpu = next(iter(features.values())).device.type == "cpu"
        # The first call finds the scales, which depend on the sizes of the feature maps only.
        if not on_cpu or len(boxes_xyxy) < 2 or self.pool.scales is None:
            return self.pool(dict(features), list(boxes_xyxy), list(image_shapes))
        # Autocast would pool in float32, but it is not active in other threads.
        in_float = {name: maps.float() for name, maps in features.items()}

        def pool_image(i: int) -> Tensor:
            of_image = {name: maps[i : i + 1] for name, maps in in_float.items()}
            return self.pool(of_image, [boxes_xyxy[i].float()], [image_shapes[i]])

        return torch.cat(map_in_threads(pool_image, range(len(boxes_xyxy))))


def use_threaded_roi_align(network: nn.Module) -> None:
    """Replace every `MultiScaleRoIAlign` of a network by a threaded one, in place."""
    pools = [
        name for name, module in network.named_modules() if isinstance(module, MultiScaleRoIAlign)
    ]
    for name in pools:
        pool = network.get_submodule(name)
        if not name.endswith(".pool"):  # otherwise it is already inside a ThreadedRoIAlign
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, ThreadedRoIAlign(pool))
