"""Render a scene: draw its layout on a background, simulate a camera, and return its boxes."""

from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.training.synthetic.backgrounds import Backgrounds
from pipeline.training.synthetic.camera import compress_as_jpeg, photograph
from pipeline.training.synthetic.fonts_and_words import Typography
from pipeline.training.synthetic.materials import fill_plain, random_colour
from pipeline.training.synthetic.perspective import project_points, rectangle_corners
from pipeline.training.synthetic.scene_layout import PlacedPrint, SceneLayout, lay_out_scene

cv2.setNumThreads(0)  # scenes are small, and several worker processes draw them at once


@dataclass(frozen=True)
class SceneTruth:
    """The boxes and class ids of a scene's codes."""

    boxes: np.ndarray  # (N, 4) float32 xyxy in the scene's pixels
    labels: np.ndarray  # (N,) int64


def compute_truth(seed: tuple[int, ...], stock: Typography, size: int) -> SceneTruth:
    """Return the boxes of a scene without rendering its pixels."""
    return _scale_truth(lay_out_scene(np.random.default_rng([*seed, 0]), stock, size), size)


def render_scene(
    seed: tuple[int, ...], stock: Typography, backgrounds: Backgrounds, size: int
) -> tuple[np.ndarray, SceneTruth]:
    """Render a scene, (size, size, 3) uint8 RGB, and return it with its boxes.

    Raises:
        InputError: A background photograph cannot be decoded.
        OSError: A background photograph cannot be read.
    """
    layout = lay_out_scene(np.random.default_rng([*seed, 0]), stock, size)
    return render_layout(
        np.random.default_rng([*seed, 1]), layout, backgrounds, size
    ), _scale_truth(layout, size)


def _scale_truth(layout: SceneLayout, size: int) -> SceneTruth:
    scale = np.array([size, size] * 2) / (layout.frame_wh * 2)
    boxes = np.array(layout.boxes).reshape(-1, 4) * scale
    return SceneTruth(boxes.astype(np.float32), np.array(layout.labels, np.int64))


def render_layout(
    rng: np.random.Generator, layout: SceneLayout, backgrounds: Backgrounds, size: int
) -> np.ndarray:
    """Render the pixels of a layout.

    A sharp layout is rendered at the scene's size. Any other layout is rendered at the frame's
    size and then resized without smoothing, as the detector resizes its input.
    """
    width, height = (size, size) if layout.sharp else layout.frame_wh
    if layout.clean:
        canvas = fill_plain(
            (height, width),
            random_colour(rng, 235, 255, 0.05) if rng.random() < 0.8 else random_colour(rng),
        )
    else:
        canvas = np.ascontiguousarray(backgrounds.crop(rng, (height, width), layout.whole))
    to_canvas = np.diag([width / layout.frame_wh[0], height / layout.frame_wh[1], 1.0])
    for placed in layout.placed:
        _draw_print(rng, canvas, placed, to_canvas @ placed.matrix, 1.7 if layout.sharp else 1.25)
    if not layout.sharp and rng.random() < 0.25:
        canvas = compress_as_jpeg(rng, canvas)
    if canvas.shape[:2] != (size, size):
        canvas = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_LINEAR)
    sides = [float(((box[2:] - box[:2]) / layout.frame_wh).max()) * size for box in layout.boxes]
    return photograph(
        rng, canvas, 0.3 if layout.clean or layout.whole else 1.0, min(sides, default=float(size))
    )


def _draw_print(
    rng: np.random.Generator,
    canvas: np.ndarray,
    placed: PlacedPrint,
    matrix: np.ndarray,
    finest: float,
) -> None:
    """Draw a print into the canvas, in place.

    The print is first shrunk if it has more than `finest` pixels for each pixel of the canvas.
    """
    pixels, alpha = placed.thing.pixels, placed.thing.alpha
    size_hw = placed.thing.size_hw
    quad = project_points(rectangle_corners(size_hw), matrix)
    edges = np.linalg.norm(quad - np.roll(quad, -1, 0), axis=1)  # top, right, bottom, left
    scale = [
        min(1.0, finest * max(a, b, 1.0) / side)
        for a, b, side in ((edges[0], edges[2], size_hw[1]), (edges[1], edges[3], size_hw[0]))
    ]
    if min(scale) < 0.85:
        small = (max(2, round(size_hw[1] * scale[0])), max(2, round(size_hw[0] * scale[1])))
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
        alpha = None if alpha is None else cv2.resize(alpha, small, interpolation=cv2.INTER_AREA)
        matrix = matrix @ np.diag([size_hw[1] / small[0], size_hw[0] / small[1], 1.0])
    left, top = np.maximum(0, np.floor(quad.min(0)).astype(int) - 8)
    right, bottom = np.minimum(
        (canvas.shape[1], canvas.shape[0]), np.ceil(quad.max(0)).astype(int) + 8
    )
    if right <= left or bottom <= top:
        return
    # Pixel centres are at whole numbers in warpPerspective, but at halves in the layout.
    to_region = (
        np.array([[1, 0, -left - 0.5], [0, 1, -top - 0.5], [0, 0, 1]])
        @ matrix
        @ np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    )
    wh = (int(right - left), int(bottom - top))
    warped = cv2.warpPerspective(
        pixels, to_region, wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    mask = _coverage_mask(alpha, quad - (left, top), to_region, wh)
    region = canvas[top:bottom, left:right]
    if rng.random() < 0.5:
        warped = cv2.convertScaleAbs(warped, alpha=rng.uniform(0.65, 1.05))
    if rng.random() < 0.3:
        mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.5, 1.2))
    if placed.shadow:
        region[:] = _apply_shadow(rng, region, mask, placed.shadow)
    region[:] = cv2.blendLinear(warped, np.ascontiguousarray(region), mask, 1 - mask)


def _coverage_mask(
    alpha: np.ndarray | None, quad: np.ndarray, matrix: np.ndarray, wh: tuple[int, int]
) -> np.ndarray:
    """Return the share of each pixel that the print covers, (H, W) float32, soft at the edges."""
    if alpha is not None:
        mask = cv2.warpPerspective(alpha, matrix, wh, flags=cv2.INTER_LINEAR)
    else:
        mask = np.zeros((wh[1], wh[0]), np.uint8)
        cv2.fillConvexPoly(mask, np.round((quad - 0.5) * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) * np.float32(1 / 255)


def _apply_shadow(
    rng: np.random.Generator, region: np.ndarray, mask: np.ndarray, darkness: float
) -> np.ndarray:
    shift = np.array([[1, 0, rng.uniform(-6, 6)], [0, 1, rng.uniform(-6, 6)]], np.float32)
    shadow = cv2.GaussianBlur(
        cv2.warpAffine(mask, shift, (mask.shape[1], mask.shape[0])), (0, 0), rng.uniform(1, 5)
    )
    return cv2.multiply(region, cv2.merge([1 - np.float32(darkness) * shadow] * 3), dtype=cv2.CV_8U)
