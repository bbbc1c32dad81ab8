"""Project prints into the frame of a camera and measure what the frame shows of their codes."""

import cv2
import numpy as np

from pipeline.training.synthetic.print_layer import PrintLayer


def project_points(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Project points by a homography (3, 3): (N, 2) -> (N, 2) float32."""
    return cv2.perspectiveTransform(points.reshape(1, -1, 2).astype(np.float32), matrix)[0]


def rectangle_corners(size_hw: tuple[int, int]) -> np.ndarray:
    height, width = size_hw
    return np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)


def random_pose(
    rng: np.random.Generator, size_hw: tuple[int, int], turn: float, tilt: float
) -> np.ndarray:
    """Draw the homography (3, 3) from a print's pixels to its picture by a pinhole camera.

    The print is turned by `turn` and tilted by `tilt` about a random axis through its centre, both
    in radians. The distance of the camera is about two to five times the size of the print. The
    picture is centred on the origin and about as large as the print.
    """
    height, width = size_hw
    size = float(np.hypot(height, width)) / 2
    axis = rng.uniform(0, 2 * np.pi)
    rotation = _rotation_about(np.array([np.cos(axis), np.sin(axis), 0]), tilt) @ _rotation_about(
        np.array([0, 0, 1.0]), turn
    )
    away = rng.uniform(1.8, 5)
    to_unit = np.array(
        [[1 / size, 0, -width / 2 / size], [0, 1 / size, -height / 2 / size], [0, 0, 1]]
    )
    plane = np.stack([rotation[:, 0], rotation[:, 1], np.array([0, 0, away])], 1)
    camera = np.diag([away * size, away * size, 1.0])
    return camera @ plane @ to_unit


def _rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return a rotation matrix (3, 3) by Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def scale_and_center(
    matrix: np.ndarray, box: np.ndarray, scale: float, centre: tuple[float, float]
) -> np.ndarray:
    """Add a scale to a homography, and a shift that moves the centre of `box` to `centre`.

    `box` is xyxy in the plane that the homography projects to."""
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    after = np.array(
        [[scale, 0, centre[0] - scale * x], [0, scale, centre[1] - scale * y], [0, 0, 1]]
    )
    return after @ matrix


def bounding_box(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points.min(0), points.max(0)])


def box_of_codes(thing: PrintLayer, matrix: np.ndarray) -> np.ndarray:
    """Return the xyxy box around all codes of a print, or around the print if it has no codes."""
    points = [points for _, points in thing.codes] or [rectangle_corners(thing.size_hw)]
    return bounding_box(project_points(np.concatenate(points), matrix))


def visible_share(points: np.ndarray, frame_wh: tuple[int, int]) -> float:
    """Return the share of the outlined area that is inside the frame, 0 to 1."""
    hull = cv2.convexHull(points.astype(np.float32))
    area = cv2.contourArea(hull)
    if area < 1e-3:
        return 0.0
    inside, _ = cv2.intersectConvexConvex(hull, rectangle_corners((frame_wh[1], frame_wh[0])))
    return float(inside / area)


def clip_box(box: np.ndarray, frame_wh: tuple[int, int]) -> np.ndarray:
    return np.clip(box, 0, (*frame_wh, *frame_wh))
