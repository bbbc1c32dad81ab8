"""The SSD loss counts images without objects."""

import pytest
import torch
from torch.nn.functional import cross_entropy
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from pipeline.training.ssd_loss import compute_mined_loss, mine_backgrounds_over_batch

LOGITS = torch.tensor(
    [
        [[2.0, 0.0], [0.0, 2.0], [1.0, 1.0], [3.0, 0.0]],
        [[0.0, 5.0], [0.0, 4.0], [0.0, 3.0], [0.0, 2.0]],
    ]
)


@pytest.mark.parametrize(
    ("labels", "hard"),
    [
        # one object: its three backgrounds are the batch's hardest, all of them in the image
        # without objects
        ([[1, 0, 0, 0], [0, 0, 0, 0]], [(1, 0), (1, 1), (1, 2), (1, 3), (0, 1), (0, 2)]),
        # no object at all: as for one in each image
        ([[0, 0, 0, 0], [0, 0, 0, 0]], [(1, 0), (1, 1), (1, 2), (1, 3), (0, 1), (0, 2)]),
        # every anchor has an object: no backgrounds
        ([[1, 1, 1, 1], [1, 1, 1, 1]], []),
    ],
)
def test_the_hardest_backgrounds_of_the_batch_count(labels, hard):
    labels = torch.tensor(labels)
    each = cross_entropy(LOGITS.flatten(0, 1), labels.flatten(), reduction="none").view(2, 4)
    expected = sum((each[at] for at in hard), torch.tensor(0.0)) + each[labels > 0].sum()
    assert compute_mined_loss(LOGITS, labels, 3.0).item() == pytest.approx(
        (expected / max(1, int((labels > 0).sum()))).item()
    )


def test_an_image_without_objects_changes_the_weights_which_torchvision_leaves_as_they_are():
    def gradient(changed):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = ssdlite320_mobilenet_v3_large(
                weights=None, weights_backbone=None, num_classes=3
            )
            if changed:
                mine_backgrounds_over_batch(network)
            empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
            losses = network([torch.rand(3, 64, 64)] * 2, [empty] * 2)
            sum(losses.values()).backward()
        return max(
            float(one.grad.abs().max()) for one in network.parameters() if one.grad is not None
        )

    assert gradient(changed=False) == 0
    assert gradient(changed=True) > 0
