"""The batched SSD keeps the same boxes as torchvision's loop over images and classes."""

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from pipeline.models.networks.detector import DetectorNetwork

CLASSES, IMAGES = 5, 3
SIZES_HW = [(200, 300), (320, 320), (50, 700)]


class FixedHead(nn.Module):
    """An SSD's head that returns fixed outputs."""

    def __init__(self, offsets: Tensor, logits: Tensor) -> None:
        super().__init__()
        self.outputs = {"bbox_regression": offsets, "cls_logits": logits}

    def forward(self, features: list[Tensor]) -> dict[str, Tensor]:
        return self.outputs


def run_both(
    shift: float, **settings: float
) -> tuple[list[dict[str, Tensor]], list[dict[str, Tensor]]]:
    """Return our outputs and torchvision's for the same images and the same head.

    `shift` is added to the logit of the background.
    """
    network = ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES, **settings
    ).eval()
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(IMAGES, 3234, CLASSES, generator=random) * 3
    logits[..., 0] += shift
    network.head = FixedHead(torch.randn(IMAGES, 3234, 4, generator=random), logits)
    images = [
        torch.randint(0, 256, (3, *size_hw), dtype=torch.uint8, generator=random)
        for size_hw in SIZES_HW
    ]
    detector = DetectorNetwork(network).eval()
    with torch.inference_mode():
        here = detector([detector.preprocess(image) for image in images], SIZES_HW)
        return here, detector.unwrap()([image / 255 for image in images])


@pytest.mark.parametrize(
    ("shift", "settings", "expected"),
    [
        (4.0, {}, range(200, 301)),
        (
            0.0,
            {"topk_candidates": 7},
            range(10, 29),
        ),  # more candidates than the limit, in every class
        (8.0, {"topk_candidates": 150, "score_thresh": 0.05}, range(20, 301)),
        (4.0, {"detections_per_img": 11, "nms_thresh": 0.2}, range(11, 12)),
        (60.0, {}, range(1)),  # no score is above the threshold
    ],
)
def test_the_same_boxes_as_torchvisions_loops(
    shift: float, settings: dict[str, float], expected: range
) -> None:
    here, published = run_both(shift, **settings)
    assert len(here) == len(published) == IMAGES
    for one, other in zip(here, published, strict=True):
        assert len(other["scores"]) in expected and set(one) == set(other)
        for name, values in other.items():
            torch.testing.assert_close(one[name], values)


def test_an_image_without_a_detection_beside_others() -> None:
    detector = DetectorNetwork(
        ssdlite320_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=CLASSES
        ).eval()
    ).eval()
    scores = torch.zeros(3, 3234, CLASSES)
    scores[0, 17, 2], scores[2, 5, 1], scores[2, 900, 4] = 0.9, 0.3, 0.8
    boxes = detector.network.body.anchors.expand(3, -1, -1)
    with torch.inference_mode():
        found = detector.network._select(boxes, scores)
    assert [one["labels"].tolist() for one in found] == [[2], [], [4, 1]]
    assert torch.equal(found[2]["boxes"], boxes[0][[900, 5]])


def test_the_anchors_are_torchvisions() -> None:
    network = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    detector, seen = DetectorNetwork(network), []
    network.anchor_generator.register_forward_hook(
        lambda module, inputs, outputs: seen.append(outputs[0])
    )
    with torch.inference_mode():
        detector.unwrap()([torch.rand(3, 60, 90)])
    assert torch.equal(detector.network.body.anchors, seen[0])
