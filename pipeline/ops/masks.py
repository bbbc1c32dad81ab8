"""Masks as COCO run-length encoding (RLE), in pixels of the upright original."""

from __future__ import annotations  # readers of finished runs lack torch

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from torch import Tensor

IGNORED_LABEL = 255  # label map value of a pixel to ignore, as in Pascal VOC
MASK_FIELDS = [
    pa.field("mask_rle", pa.string(), nullable=False),  # COCO's compressed counts
    pa.field("mask_height", pa.int32(), nullable=False),  # pixels of the upright original
    pa.field("mask_width", pa.int32(), nullable=False),
]


def paste_mask(mask: Tensor, box_xyxy: Tensor, size_hw: tuple[int, int]) -> np.ndarray:
    """Paste one mask into an image-sized mask, as torchvision does, and threshold it at 0.5.

    Masks are pasted one at a time, so that memory does not grow with the number of instances.

    Args:
        mask: (1, 28, 28) float probabilities, which fill the box.
        box_xyxy: (4,), pixels of the upright original.
        size_hw: Height and width of the upright original.

    Returns:
        (H, W) bool.
    """
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    pasted: Tensor = paste_masks_in_image(mask[None], box_xyxy[None], size_hw)[0, 0]
    return (pasted > 0.5).numpy()


def encode_rle(mask: np.ndarray) -> str:
    """Encode an (H, W) bool mask as COCO's compressed counts."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode_rle(counts: str, size_hw: tuple[int, int]) -> np.ndarray:
    """Decode COCO's compressed counts to an (H, W) bool mask."""
    return coco_mask.decode({"size": list(size_hw), "counts": counts.encode("ascii")}).astype(bool)


def make_label_map(rows: pa.Table, size_hw: tuple[int, int]) -> np.ndarray:
    """Return an (H, W) uint8 map of class ids from the mask rows of one image.

    A pixel without a mask is 0. Where masks overlap, the one with the better score wins.
    """
    labels = np.zeros(size_hw, dtype=np.uint8)
    order = np.argsort(rows["score"].to_numpy(), kind="stable")
    ids, counts = rows["class_id"].to_numpy(), rows["mask_rle"].to_pylist()
    for i in order.tolist():
        labels[decode_rle(counts[i], size_hw)] = ids[i]
    return labels


def make_mask_columns(
    counts: Iterable[str], sizes_hw: Iterable[tuple[int, int]]
) -> dict[str, pa.Array]:
    """Return the columns of `MASK_FIELDS` from RLE counts and mask sizes."""
    sizes = list(sizes_hw)
    return {
        "mask_rle": pa.array(list(counts), pa.string()),
        "mask_height": pa.array([height for height, _ in sizes], pa.int32()),
        "mask_width": pa.array([width for _, width in sizes], pa.int32()),
    }


def read_masks(rows: pa.Table) -> Tensor:
    """Return the masks of a table as (N, H, W) bool. All rows must belong to one image."""
    import torch

    sizes = zip(rows["mask_height"].to_pylist(), rows["mask_width"].to_pylist(), strict=True)
    masks = [
        decode_rle(counts, size)
        for counts, size in zip(rows["mask_rle"].to_pylist(), sizes, strict=True)
    ]
    return torch.from_numpy(np.stack(masks)) if masks else torch.zeros(0, 1, 1, dtype=torch.bool)


def argmax_at_full_size(
    probabilities: Tensor, size_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Find the most probable class of each pixel of the original.

    Probabilities are interpolated (bilinear) to the original's size and then compared. All maps of
    a large photograph would need gigabytes. So the maps are enlarged one at a time, and only for
    classes that are the most probable ones somewhere at the network's size.

    Args:
        probabilities: (C, h, w) float, at the network's size.
        size_hw: Height and width of the upright original.

    Returns:
        Class ids (H, W) int64, and their probabilities (H, W) float32.
    """
    import torch

    candidates = probabilities.argmax(dim=0).unique()
    best = torch.full(size_hw, -1.0)
    ids = torch.zeros(size_hw, dtype=torch.int64)
    for class_id in candidates.tolist():
        scaled = torch.nn.functional.interpolate(
            probabilities[None, class_id : class_id + 1],
            size=size_hw,
            mode="bilinear",
            align_corners=False,
        )[0, 0]  # (H, W)
        is_better = scaled > best
        best = torch.where(is_better, scaled, best)
        ids[is_better] = class_id
    return ids.numpy(), best.numpy()
