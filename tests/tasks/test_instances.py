"""Masks as rows."""

import numpy as np
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from pipeline.core.types import Item
from pipeline.ops.masks import decode_rle
from pipeline.tasks.instances import Instances
from tests.helpers.pictures import spec_of

SPEC = spec_of("__background__", "dog")


def outputs(n: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(n)
    corner = torch.rand(n, 2) * 30
    return {
        "boxes": torch.cat([corner, corner + 5 + torch.rand(n, 2) * 20], dim=1),
        "labels": torch.ones(n, dtype=torch.int64),
        "scores": torch.rand(n),
        "masks": torch.rand(n, 1, 28, 28),
    }


def test_no_instances_are_an_empty_table_of_the_schema() -> None:
    task = Instances(SPEC)
    rows = task.make_rows([outputs(0)], [Item(0, "a", (40, 50))])
    assert rows.num_rows == 0 and rows.schema.equals(task.schema, check_metadata=True)


def test_each_mask_is_torchvisions_own_thresholded_and_stays_with_its_box() -> None:
    one, size_hw = outputs(6), (45, 50)
    rows = (
        Instances(SPEC)
        .make_rows([outputs(2), one], [Item(0, "a", (40, 60)), Item(1, "b", size_hw)])
        .slice(2)
    )
    order = torch.argsort(one["scores"], descending=True)
    expected = paste_masks_in_image(one["masks"], one["boxes"], size_hw)[order, 0] > 0.5
    assert (
        rows["mask_height"].to_pylist() == [45] * 6 and rows["mask_width"].to_pylist() == [50] * 6
    )
    for counts, mask in zip(rows["mask_rle"].to_pylist(), expected.numpy(), strict=True):
        assert np.array_equal(decode_rle(counts, size_hw), mask) and mask.any()


def test_the_overlay_tints_the_mask_of_a_picture_of_any_size() -> None:
    task = Instances(SPEC)
    rows = task.make_rows([outputs(1)], [Item(0, "a", (45, 50))])
    drawn = task.draw(torch.full((3, 45, 50), 90, dtype=torch.uint8), rows)
    assert drawn.shape[2] >= 256 and (drawn != 90).any()
