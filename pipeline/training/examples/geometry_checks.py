"""Check that objects lie inside their image.

Coordinates that are outside by a rounding error are clipped; others are problems.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.annotations.coco_shapes import is_valid_run_length
from pipeline.annotations.dataset_listing import ListedImage, Mask, ProblemList

TOLERANCE = 1.0  # pixels outside the image; other programs may round by this much
_SLACK = 1e-3  # pixels; smaller lengths are errors of float rounding


@dataclass(frozen=True)
class ImageFrame:
    """An image, the rows of its objects that are learned, and the list of problems."""

    image: ListedImage
    size_hw: tuple[int, int]
    rows: np.ndarray
    problems: ProblemList

    @property
    def scale(self) -> np.ndarray:
        """Factors from the listed x and y to pixels, (2,)."""
        return np.array(self.size_hw[::-1] if self.image.fractions else (1.0, 1.0))

    def add_problem(self, row: int, text: str) -> None:
        self.problems.add(f"{self.image.describe_object(row)}: {text}")

    def pixels_outside(self, points: np.ndarray) -> np.ndarray:
        """Return how many pixels each point lies outside the image; infinity if it is not finite.

        (..., 2) xy in pixels -> (...).
        """
        beyond = np.maximum(-points, points - np.array(self.size_hw[::-1])).max(axis=-1)
        return np.where(np.isfinite(points).all(axis=-1), np.maximum(beyond, 0.0), np.inf)


def check_boxes(frame: ImageFrame) -> np.ndarray:
    """Check the boxes and return them clipped, (N, 4) float32 xyxy in pixels."""
    if not len(frame.image.boxes_xyxy):
        return np.zeros((0, 4), np.float32)
    corners = frame.image.boxes_xyxy[frame.rows].reshape(-1, 2, 2) * frame.scale
    outside = frame.pixels_outside(corners).max(axis=1)
    clipped = corners.clip(0, frame.size_hw[::-1]).astype(np.float32)
    # torchvision's detectors raise an error for a box that is empty after resizing.
    empty = ~(clipped[:, 1] - clipped[:, 0] > _SLACK).all(axis=1)
    # An empty box is reported as empty, even if it also lies outside.
    no_extent = ~(corners[:, 1] - corners[:, 0] > _SLACK).all(axis=1)
    for i in np.flatnonzero(empty | (outside > TOLERANCE + _SLACK)).tolist():
        text = " ".join(f"{value:.6g}" for value in corners[i].ravel())
        if no_extent[i]:
            problem = "is empty"
        else:
            problem = (
                f"lies outside of the image of {frame.size_hw[1]}x{frame.size_hw[0]} "
                f"by {outside[i]:.1f} pixels"
            )
        frame.add_problem(int(frame.rows[i]), f"the box {text} (x_min y_min x_max y_max) {problem}")
    return clipped.reshape(-1, 4)


def check_keypoints(frame: ImageFrame, keypoints: np.ndarray) -> np.ndarray:
    """Check keypoints (N, K, 3) and return them clipped, in pixels, as float32.

    Keypoints that are not labelled become 0 0 0.
    """
    # An object whose keypoints are not annotated has none that are labelled.
    keypoints = np.where(np.isnan(keypoints).all((1, 2), keepdims=True), 0.0, keypoints)
    points, visibility = keypoints[..., :2] * frame.scale, keypoints[..., 2]
    labelled = visibility > 0
    outside = np.where(labelled, frame.pixels_outside(points), 0.0)
    for row, k in np.argwhere(~np.isin(visibility, (0, 1, 2))).tolist():
        frame.add_problem(
            int(frame.rows[row]),
            f"keypoint {k + 1} has the visibility {visibility[row, k]:g}; expected 0, 1 or 2",
        )
    for row, k in np.argwhere(outside > TOLERANCE + _SLACK).tolist():
        x, y = points[row, k]
        frame.add_problem(
            int(frame.rows[row]), f"keypoint {k + 1}, at {x:.6g} {y:.6g}, lies outside of the image"
        )
    clipped = np.where(labelled[..., None], points, 0.0).clip(0, frame.size_hw[::-1])
    return np.concatenate([clipped, visibility[..., None]], axis=-1).astype(np.float32)


def check_mask(frame: ImageFrame, row: int, mask: Mask | None) -> Mask:
    """Check a mask and return it in pixels. Run lengths must fit the image's size."""
    if mask is None:
        frame.add_problem(row, "it has no segmentation (polygons or a mask), which this task needs")
        return ()
    if isinstance(mask, tuple):
        polygons = tuple(
            (polygon.reshape(-1, 2) * frame.scale).astype(np.float32) for polygon in mask
        )
        worst = max(float(frame.pixels_outside(polygon).max()) for polygon in polygons)
        if worst > TOLERANCE + _SLACK:
            frame.add_problem(row, f"a polygon lies outside of the image by {worst:.1f} pixels")
        return tuple(polygon.clip(0, frame.size_hw[::-1]).ravel() for polygon in polygons)
    height, width = frame.size_hw
    if tuple(mask["size"]) != frame.size_hw:
        frame.add_problem(
            row,
            f"its mask has the size {mask['size']}; "
            f"expected that of its image, [{height}, {width}]",
        )
    elif not is_valid_run_length(mask["counts"], height * width):
        frame.add_problem(row, "the counts of its mask do not make a mask of its image")
    return mask
