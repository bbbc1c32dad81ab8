"""Parse the boxes, masks and keypoints of annotations in COCO's format."""

from typing import Any

import numpy as np

from pipeline.annotations.dataset_listing import Mask


def parse_box(bbox: Any, mask: Mask | None, needed: bool) -> list[float] | None:
    """Parse [x, y, width, height] to [x_min, y_min, x_max, y_max].

    Args:
        bbox: The box. If it is null or empty, the box of the mask is returned.
        mask: The annotation's mask.
        needed: Whether an annotation without box and mask is an error; otherwise it gives None.

    Raises:
        ValueError: It is no box.
    """
    if bbox in (None, []) and (mask is not None or not needed):
        return None if mask is None else _box_of_mask(mask)
    if not isinstance(bbox, list) or len(bbox) != 4:
        raise ValueError(f"expected bbox=[x, y, width, height], got {bbox!r}")
    x, y, width, height = (float(value) for value in bbox)
    return [x, y, x + width, y + height]


def parse_mask(given: Any) -> Mask | None:
    """Parse polygons or run lengths. Return None if there are none.

    Raises:
        ValueError: A polygon is no polygon.
    """
    if isinstance(given, dict) and {"size", "counts"} <= set(given):
        return {"size": [int(side) for side in given["size"]], "counts": given["counts"]}
    if not isinstance(given, list):
        return None
    polygons = tuple(np.array(polygon, np.float64) for polygon in given if polygon != [])
    if any(polygon.ndim != 1 or len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError(
            "a polygon of its segmentation has fewer than three points, or half a point"
        )
    return polygons or None


def parse_keypoints(given: Any, count: int) -> np.ndarray:
    """Parse x, y, v of each point to (K, 3); NaN if the annotation has none.

    Raises:
        ValueError: They are not as many as the category names.
    """
    if not given:
        return np.full((count, 3), np.nan)
    points = np.array(given, np.float64)
    if points.shape != (3 * count,):
        raise ValueError(
            f"it has {len(given)} keypoint values; expected x, y, v of the category's {count}"
        )
    return points.reshape(count, 3)


def is_valid_run_length(counts: object, pixels: int) -> bool:
    """Return whether run lengths make a mask of `pixels` pixels.

    Only the area of compressed run lengths is checked here; pycocotools checks them when it
    decodes them.
    """
    from pycocotools import mask as coco_mask

    if isinstance(counts, list):
        return (
            all(isinstance(count, int) and count >= 0 for count in counts) and sum(counts) == pixels
        )
    if not isinstance(counts, str | bytes) or not counts:
        return False
    area = int(coco_mask.area({"size": [1, pixels], "counts": counts}))
    return 0 <= area <= pixels


def _box_of_mask(mask: Mask) -> list[float]:
    if isinstance(mask, tuple):
        points = np.concatenate(mask).reshape(-1, 2)
        return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
    from pycocotools import mask as coco_mask

    height, width = mask["size"]
    runs = coco_mask.frPyObjects(mask, height, width) if isinstance(mask["counts"], list) else mask
    x, y, width, height = coco_mask.toBbox(runs).tolist()
    return [x, y, x + width, y + height]
