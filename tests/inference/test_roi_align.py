"""Threaded RoIAlign gives the same values as torchvision's."""

from collections import OrderedDict

import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn
from torchvision.ops import MultiScaleRoIAlign

from pipeline.inference.roi_align import ThreadedRoIAlign, use_threaded_roi_align


def features(images: int) -> OrderedDict:
    return OrderedDict({"0": torch.rand(images, 8, 40, 60), "1": torch.rand(images, 8, 20, 30)})


def boxes(*counts: int) -> list[torch.Tensor]:
    made = [torch.rand(n, 4) * torch.tensor([100.0, 60.0, 100.0, 60.0]) for n in counts]
    return [torch.cat([one[:, :2], one[:, :2] + one[:, 2:] + 1], dim=1) for one in made]


def test_the_same_bits_for_every_number_of_boxes() -> None:
    shapes = [(160, 240)] * 4
    plain, threaded = (MultiScaleRoIAlign(["0", "1"], 7, 2) for _ in range(2))
    mine = ThreadedRoIAlign(threaded)
    with torch.inference_mode():
        for counts in (
            (5, 0, 30, 1),
            (0, 0, 0, 0),
            (200, 3, 7, 9),
        ):  # the first call finds the scales
            maps, found = features(4), boxes(*counts)
            assert torch.equal(mine(maps, found, shapes), plain(maps, found, shapes))


def test_autocasts_halves_are_pooled_in_float() -> None:
    shapes = [(160, 240)] * 2
    mine = ThreadedRoIAlign(MultiScaleRoIAlign(["0", "1"], 7, 2))
    maps, found = features(2), boxes(4, 4)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        exact = mine(maps, found, shapes)
        half = mine({name: one.bfloat16() for name, one in maps.items()}, found, shapes)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0.01, rtol=0.01)


def test_an_rcnns_heads_get_it() -> None:
    network = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None)
    use_threaded_roi_align(network)
    assert isinstance(network.roi_heads.box_roi_pool, ThreadedRoIAlign)
    use_threaded_roi_align(network)  # once is enough
    assert isinstance(network.roi_heads.box_roi_pool.pool, MultiScaleRoIAlign)
