"""Masks as COCO run-length encoding, in the frame of the upright original."""

from __future__ import annotations  # readers of finished runs need masks too, and not torch

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pycocotools import mask as coco_mask

if TYPE_CHECKING:
    from torch import Tensor

IGNORED_LABEL = 255  # in a label map, the value of a pixel that does not count, as in Pascal VOC
MASK_FIELDS = [
    pa.field("mask_rle", pa.string(), nullable=False),  # COCO's compressed counts
    pa.field("mask_height", pa.int32(), nullable=False),  # pixels of the upright original
    pa.field("mask_width", pa.int32(), nullable=False),
]


def paste_mask(mask: Tensor, box_xyxy: Tensor, size_hw: tuple[int, int]) -> np.ndarray:
    """A (1, 28, 28) mask of probabilities, which fills its box, -> (H, W) bool: torchvision's own pasting, thresholded at
    0.5 as its documentation does. One at a time, so that memory does not grow with the number of instances."""
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    pasted: Tensor = paste_masks_in_image(mask[None], box_xyxy[None], size_hw)[0, 0]
    return (pasted > 0.5).numpy()


def encode_rle(mask: np.ndarray) -> str:
    """(H, W) bool -> counts."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode("ascii")


def decode_rle(counts: str, size_hw: tuple[int, int]) -> np.ndarray:
    """counts -> (H, W) bool."""
    return coco_mask.decode({"size": list(size_hw), "counts": counts.encode("ascii")}).astype(bool)


def make_label_map(rows: pa.Table, size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 class ids, 0 where there is no mask; `rows` are one image's. Where masks overlap, the better score is on
    top."""
    labels = np.zeros(size_hw, dtype=np.uint8)
    order = np.argsort(rows["score"].to_numpy(), kind="stable")
    ids, counts = rows["class_id"].to_numpy(), rows["mask_rle"].to_pylist()
    for i in order.tolist():
        labels[decode_rle(counts[i], size_hw)] = ids[i]
    return labels


def make_mask_columns(
    counts: Iterable[str], sizes_hw: Iterable[tuple[int, int]]
) -> dict[str, pa.Array]:
    sizes = list(sizes_hw)
    return {
        "mask_rle": pa.array(list(counts), pa.string()),
        "mask_height": pa.array([height for height, _ in sizes], pa.int32()),
        "mask_width": pa.array([width for _, width in sizes], pa.int32()),
    }


def read_masks(rows: pa.Table) -> Tensor:
    """The table's masks as (N, H, W) bool; all rows belong to one image."""
    import torch

    sizes = zip(rows["mask_height"].to_pylist(), rows["mask_width"].to_pylist(), strict=True)
    found = [
        decode_rle(counts, size)
        for counts, size in zip(rows["mask_rle"].to_pylist(), sizes, strict=True)
    ]
    return torch.from_numpy(np.stack(found)) if found else torch.zeros(0, 1, 1, dtype=torch.bool)


def argmax_at_full_size(
    probabilities: Tensor, size_hw: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(C, h, w) class probabilities at the network's size -> (class ids (H, W) int64, their probability (H, W) float32) at
    the original's size: probabilities are interpolated (bilinear), then compared.

    Only classes that win somewhere at the network's size take part, one at a time: 21 maps of a 50-megapixel photograph
    would take 4 GB.
    """
    import torch

    present = probabilities.argmax(dim=0).unique()
    best = torch.full(size_hw, -1.0)
    ids = torch.zeros(size_hw, dtype=torch.int64)
    for class_id in present.tolist():
        scaled = torch.nn.functional.interpolate(
            probabilities[None, class_id : class_id + 1],
            size=size_hw,
            mode="bilinear",
            align_corners=False,
        )[0, 0]
        better = scaled > best
        best = torch.where(better, scaled, best)
        ids[better] = class_id
    return ids.numpy(), best.numpy()
