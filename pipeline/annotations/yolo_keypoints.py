"""Read the shape and the names of the keypoints of a YOLO data set."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.ops.keypoints import COCO_KEYPOINTS, find_mirrored_keypoints


def read_point_shape(data: Mapping[str, Any]) -> tuple[int, ...]:
    """Return kpt_shape: the number of points, and 2 or 3 values for each; empty without points."""
    shape = tuple(int(value) for value in data.get("kpt_shape") or ())
    if shape and (len(shape) != 2 or shape[0] < 1 or shape[1] not in (2, 3)):
        raise ValueError(f"kpt_shape is {list(shape)}; expected [points, 2 or 3]")
    return shape


def find_point_names(data: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """Return the names of the keypoints.

    They are `kpt_names` if the file has them, or COCO's names if `flip_idx` fits those. Otherwise
    they are made from `flip_idx`: two points that change places in a mirror image become left_1
    and right_1.
    """
    given = data.get("kpt_names")
    lists: Sequence[Any] = (
        list(given.values()) if isinstance(given, dict) else [given] if given else []
    )
    named = {tuple(map(str, item)) for item in lists}
    if named:
        names = named.pop()
        if named or len(names) != count or len(set(names)) != count:
            raise ValueError(f"kpt_names are not one list of {count} names")
        return names
    other = [int(item) for item in data.get("flip_idx") or range(count)]
    if sorted(other) != list(range(count)) or any(other[other[i]] != i for i in range(count)):
        raise ValueError(f"flip_idx does not exchange {count} points in pairs")
    if other == find_mirrored_keypoints(COCO_KEYPOINTS):
        return COCO_KEYPOINTS
    sides = (
        "point" if other[i] == i else "left" if i < other[i] else "right" for i in range(count)
    )
    return tuple(f"{side}_{min(i, other[i])}" for i, side in enumerate(sides))
