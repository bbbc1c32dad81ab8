"""Parse the lines of YOLO's label files."""

from collections.abc import Set

import numpy as np

from pipeline.annotations.yolo_layout import YoloLayout

_BOX = 4  # number of values: centre x, centre y, width, height


class LabelParser:
    """Parses a line: a class, then a box, a polygon, or a box and keypoints."""

    def __init__(self, layout: YoloLayout, shapes: Set[str]) -> None:
        self.layout, self.shapes = layout, shapes
        self.labels = {number: label for label, number in enumerate(layout.names)}

    def parse_line(self, line: str) -> tuple[int, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Return (label, box xyxy, polygon, keypoints (K, 3)).

        Raises:
            ValueError: The line is not valid.
        """
        values = np.array(line.split(), np.float64)
        names = self.layout.names
        if values[0] not in self.labels:
            raise ValueError(
                f"the class {values[0]:g} is none of {self.layout.file.name}'s names, "
                f"{min(names)} to {max(names)}"
            )
        return self.labels[int(values[0])], *self._parse_values(values[1:])

    def _parse_values(
        self, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        if self.layout.point_shape:
            return self._parse_keypoints(values)
        if len(values) == _BOX:
            return _box_to_xyxy(values), None, None
        if len(values) < 6 or len(values) % 2:
            raise ValueError(
                f"{len(values)} values after the class; "
                "expected a box's four, or x and y of three points or more"
            )
        points = values.reshape(-1, 2)
        return np.concatenate([points.min(axis=0), points.max(axis=0)]), values, None

    def _parse_keypoints(self, values: np.ndarray) -> tuple[np.ndarray, None, np.ndarray | None]:
        count, dimensions = self.layout.point_shape
        box = _box_to_xyxy(values[:_BOX])
        if "keypoints" not in self.shapes and len(values) >= _BOX:
            return box, None, None
        if len(values) != _BOX + count * dimensions:
            raise ValueError(
                f"{len(values)} values after the class; "
                f"kpt_shape asks for {_BOX + count * dimensions}"
            )
        return box, None, _add_visibility(values[_BOX:].reshape(count, dimensions))


def _box_to_xyxy(box: np.ndarray) -> np.ndarray:
    if len(box) != _BOX:
        raise ValueError(f"{len(box)} values after the class; expected a box's four or more")
    return np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])


def _add_visibility(points: np.ndarray) -> np.ndarray:
    """Add a missing visibility, (K, 2 or 3) -> (K, 3). A point at 0 0 is not labelled."""
    if points.shape[1] == 3:
        return points
    return np.concatenate([points, 2.0 * (points != 0).any(axis=1, keepdims=True)], axis=1)
