"""The training targets and the validation figures of each task."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.detection import (
    KeypointRCNN_ResNet50_FPN_Weights,
    keypointrcnn_resnet50_fpn,
    maskrcnn_resnet50_fpn,
    ssdlite320_mobilenet_v3_large,
)

from pipeline.models.preprocessing import Normalize
from pipeline.training.learners.classification_learner import (
    ClassificationLearner,
)
from pipeline.training.learners.detection_learner import DetectionLearner
from pipeline.training.learners.segmentation_learner import SegmentationLearner, compute_pixel_loss
from pipeline.training.memory_format import optimize_memory_format
from pipeline.training.task_registry import build_learner
from tests.training.squares import CATEGORIES, Squares

NORMALIZE = Normalize((0.5,) * 3, (0.5,) * 3)


def make_data(categories, keypoint_names=()):
    return SimpleNamespace(categories=categories, keypoint_names=keypoint_names)


def make_batch(task, n=5, side=64):
    return [Squares(n, task, side).example(number, 0) for number in range(n)]


class FakeNetwork(nn.Module):
    """Predicts the truth in the order of the examples; those in `wrong` get the other class."""

    def __init__(self, answers, wrong=()):
        super().__init__()
        self.answers, self.wrong, self.at = answers, wrong, 0

    def forward(self, images, targets=None):
        found = []
        for _ in images:
            found.append(self.answers(self.at, self.at in self.wrong))
            self.at += 1
        return found


def make_answers(examples):
    def answer(number, wrong):
        target = examples[number].target
        labels = 3 - target["labels"] if wrong else target["labels"]
        found = {
            "boxes": target["boxes"],
            "labels": labels,
            "scores": torch.full((len(labels),), 0.9),
        }
        found |= {"masks": target["masks"][:, None].float()} if "masks" in target else {}
        return found | ({"keypoints": target["keypoints"]} if "keypoints" in target else {})

    return answer


def test_boxes_that_are_right_have_an_ap_of_1_and_each_class_a_row():
    examples = make_batch("detect")
    figures, rows = DetectionLearner(CATEGORIES, ["boxes"]).compute_figures(
        FakeNetwork(make_answers(examples)), [examples[:3], examples[3:]], "cpu"
    )
    assert figures["boxes_ap"] == figures["boxes_ap50"] == pytest.approx(1.0)
    assert [(row["class"], row["truth"], row["ap"], row["best_f1"]) for row in rows] == [
        ("red", 2, 1.0, 1.0),
        ("green", 2, 1.0, 1.0),
    ]


def test_boxes_of_the_other_class_are_wrong():
    examples = make_batch("detect")
    network = FakeNetwork(make_answers(examples), wrong=(0, 1, 2, 3))
    figures, rows = DetectionLearner(CATEGORIES, ["boxes"]).compute_figures(
        network, [examples], "cpu"
    )
    assert figures["boxes_ap"] == 0.0
    assert [row["best_f1"] for row in rows] == [None, None]


def test_masks_are_measured_beside_boxes():
    examples = make_batch("instances")
    learner = DetectionLearner(CATEGORIES, ["masks", "boxes"])
    figures, rows = learner.compute_figures(FakeNetwork(make_answers(examples)), [examples], "cpu")
    assert learner.figure == "masks_ap"
    assert figures["masks_ap"] == figures["boxes_ap"] == pytest.approx(1.0)
    assert [row["kind"] for row in rows] == ["masks", "masks", "boxes", "boxes"]


COCO = KeypointRCNN_ResNet50_FPN_Weights.DEFAULT.meta["keypoint_names"]


# OKS is defined for COCO's 17
@pytest.mark.parametrize(
    ("points", "figure"),
    [(COCO, "keypoints_ap"), (COCO[::-1], "boxes_ap"), (["a", "b"], "boxes_ap")],
)
def test_keypoints_are_measured_where_they_are_cocos(points, figure):
    examples = make_batch("keypoints")
    learner = build_learner("keypoints", make_data(CATEGORIES, points), NORMALIZE)
    figures, _ = learner.compute_figures(FakeNetwork(make_answers(examples)), [examples], "cpu")
    assert learner.figure == figure
    assert figures[figure] == pytest.approx(1.0)


def test_without_a_single_object_nothing_is_defined():
    examples = [Squares(5).example(4, 0)]
    figures, _ = DetectionLearner(CATEGORIES, ["boxes"]).compute_figures(
        FakeNetwork(make_answers(examples)), [examples], "cpu"
    )
    assert figures["boxes_ap"] is None


@pytest.mark.parametrize(("hits", "top1"), [(4, 1.0), (3, 0.75), (0, 0.0)])
def test_classes_are_counted(hits, top1):
    examples = make_batch("classify", 4)

    class Fixed(nn.Module):
        def forward(self, images):
            labels = torch.tensor([int(one.target["label"]) for one in examples])
            labels[hits:] = 1 - labels[hits:]
            return nn.functional.one_hot(labels, 2).float()

    figures, rows = ClassificationLearner(("red", "green"), NORMALIZE).compute_figures(
        Fixed(), [examples], "cpu"
    )
    assert figures["top1"] == top1
    assert "top5" not in figures  # of two classes
    assert [row["truth"] for row in rows] == [2, 2]


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_network_that_says_nothing_is_not_right(value):
    network = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    network(torch.zeros(1, 3, 64, 64))
    nn.init.constant_(network[1].weight, value)
    nn.init.constant_(network[1].bias, value)
    figures, _ = ClassificationLearner(("red", "green"), NORMALIZE).compute_figures(
        network, [make_batch("classify", 4)], "cpu"
    )
    assert figures["top1"] == 0.0


def test_images_in_which_no_pixel_counts_have_no_loss():
    logits, truth = torch.randn(2, 3, 4, 4, requires_grad=True), torch.full((2, 4, 4), 255)
    compute_pixel_loss(logits, truth).backward()
    assert logits.grad.abs().sum() == 0
    truth[0, 0, 0] = 1
    assert compute_pixel_loss(logits, truth).item() == pytest.approx(
        -logits[0, :, 0, 0].log_softmax(0)[1].item()
    )


def test_regions_are_counted_and_255_is_not():
    examples = make_batch("segment", 2, side=32)
    examples[0].target["mask"][:8] = 255

    class Fixed(nn.Module):
        def forward(self, images):
            truth = torch.stack([one.target["mask"] for one in examples]).clamp(max=2)
            truth[1][truth[1] == 2] = 0  # the green square is not found
            return {"out": nn.functional.one_hot(truth, 3).permute(0, 3, 1, 2).float()}

    figures, rows = SegmentationLearner(CATEGORIES, NORMALIZE).compute_figures(
        Fixed(), [examples], "cpu"
    )
    assert [row["iou"] for row in rows][1:] == [1.0, 0.0]
    assert 0.5 < figures["miou"] < 0.7


NO_WEIGHTS = {"weights": None, "weights_backbone": None, "num_classes": 3}
SMALL = {
    "min_size": 64,
    "max_size": 64,
    "box_batch_size_per_image": 16,
    "rpn_post_nms_top_n_train": 50,
}
RCNN = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("task", "network", "parts"),
    [
        (
            "detect",
            lambda: ssdlite320_mobilenet_v3_large(**NO_WEIGHTS),
            {"bbox_regression", "classification"},
        ),
        ("instances", lambda: maskrcnn_resnet50_fpn(**NO_WEIGHTS, **SMALL), RCNN | {"loss_mask"}),
        (
            "keypoints",
            lambda: keypointrcnn_resnet50_fpn(**NO_WEIGHTS, **SMALL),
            RCNN | {"loss_keypoint"},
        ),
        (
            "classify",
            lambda: get_model("googlenet", weights=None, num_classes=2, init_weights=False),
            {"classification", "auxiliary_0", "auxiliary_1"},
        ),
        ("segment", lambda: get_model("lraspp_mobilenet_v3_large", **NO_WEIGHTS), {"pixels"}),
    ],
)
def test_losses_come_by_part_and_have_gradients(task, network, parts):
    made = optimize_memory_format(network()).train()
    categories = CATEGORIES[1:] if task == "classify" else CATEGORIES
    losses = build_learner(task, make_data(categories), NORMALIZE).compute_losses(
        made, make_batch(task), "cpu"
    )
    assert set(losses) == parts
    sum(losses.values()).backward()
    assert any(one.grad is not None and bool(one.grad.abs().sum() > 0) for one in made.parameters())
