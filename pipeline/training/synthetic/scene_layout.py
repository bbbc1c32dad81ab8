"""Lay out a scene: which prints it has and where. The layout alone determines the boxes."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.training.synthetic.code_symbols import BARCODE, DATA_MATRIX, MARKER, QR
from pipeline.training.synthetic.curvature import apply_wrinkles, warp_onto_cylinder
from pipeline.training.synthetic.damage import apply_wear
from pipeline.training.synthetic.distractor_text import render_lettering
from pipeline.training.synthetic.fonts_and_words import Typography
from pipeline.training.synthetic.label_carriers import mount_on_carrier, render_distractor
from pipeline.training.synthetic.perspective import (
    bounding_box,
    box_of_codes,
    clip_box,
    project_points,
    random_pose,
    rectangle_corners,
    scale_and_center,
    visible_share,
)
from pipeline.training.synthetic.print_layer import PrintLayer
from pipeline.training.synthetic.printed_labels import render_label, render_sheet

_KINDS, _SHARES = (QR, BARCODE, DATA_MATRIX, MARKER), (0.25, 0.4, 0.21, 0.14)
_MIN_VISIBLE_SHARE = 0.6  # a code gets no box if less of its area is in the frame
_MIN_BOX_SIDE = 6.0  # pixels of the frame
_ASPECTS, _ASPECT_SHARES = (
    (4 / 3, 3 / 4, 1.0, 16 / 9, 9 / 16, 0.0),
    (0.36, 0.22, 0.14, 0.07, 0.06, 0.15),
)


@dataclass(frozen=True)
class PlacedPrint:
    """A print and its place in the frame."""

    thing: PrintLayer
    matrix: np.ndarray  # (3, 3) homography from the print's pixels to the frame's
    shadow: float  # darkness of its shadow, 0 to 1


@dataclass
class SceneLayout:
    """The prints in a frame with the camera's aspect.

    The scene is this frame resized to a square.
    """

    frame_wh: tuple[int, int]
    sharp: bool  # rendered at the scene's size, not resized from the frame's size
    clean: bool  # a generated file, not a photograph
    whole: bool  # the scene is only a background, mostly unchanged
    placed: list[PlacedPrint] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)  # xyxy, in the frame
    labels: list[int] = field(default_factory=list)


def lay_out_scene(rng: np.random.Generator, stock: Typography, size: int) -> SceneLayout:
    kind = rng.random()
    layout = SceneLayout(
        _random_frame(rng, size, kind < 0.05),
        bool(rng.random() < 0.5),
        kind < 0.05,
        0.8 <= kind < 0.87,
    )
    if kind < 0.05:
        _lay_out_clean_file(rng, stock, layout)
    elif kind < 0.5:
        _lay_out_close_up(rng, stock, layout)
    elif kind < 0.72:
        _lay_out_small_codes(rng, stock, layout)
    elif kind < 0.8:
        _lay_out_sheet(rng, stock, layout)
    elif kind >= 0.87:
        _lay_out_without_codes(rng, stock, layout)
    return layout


def _random_frame(rng: np.random.Generator, size: int, clean: bool) -> tuple[int, int]:
    aspect = float(rng.choice(_ASPECTS, p=_ASPECT_SHARES)) or float(
        np.exp(rng.uniform(np.log(0.6), np.log(1.7)))
    )
    if clean:
        aspect *= float(np.exp(rng.uniform(-0.5, 0.6)))
    side = size * float(rng.uniform(1.0, 1.35))
    return max(32, round(side * aspect**0.5)), max(32, round(side / aspect**0.5))


def _random_kind(rng: np.random.Generator) -> int:
    return int(rng.choice(_KINDS, p=_SHARES))


def _random_turn(rng: np.random.Generator) -> float:
    """Draw an angle in radians: mostly near a multiple of 90 degrees, sometimes any angle."""
    quarter = rng.choice([0, 0, 0, 1, 2, 3]) * np.pi / 2
    return float(
        rng.uniform(0, 2 * np.pi) if rng.random() < 0.25 else quarter + rng.normal(0, 0.12)
    )


def _random_tilt(rng: np.random.Generator) -> float:
    return float(
        rng.choice([0.0, rng.uniform(0, 0.35), rng.uniform(0.35, 1.0)], p=[0.25, 0.55, 0.2])
    )


def _apply_wear_and_bending(rng: np.random.Generator, thing: PrintLayer) -> PrintLayer:
    chance = rng.random()
    thing = apply_wear(rng, thing)
    return (
        warp_onto_cylinder(rng, thing)
        if chance < 0.12
        else apply_wrinkles(rng, thing)
        if chance < 0.22
        else thing
    )


def _lay_out_clean_file(rng: np.random.Generator, stock: Typography, layout: SceneLayout) -> None:
    """Lay out a generated file: one code and little around it."""
    thing = render_label(
        rng, stock, _random_kind(rng), int(min(layout.frame_wh) * rng.uniform(0.7, 1.2)), bare=True
    )
    height, width = thing.size_hw
    scale = np.array(layout.frame_wh) / (width, height) * rng.uniform(0.5, 1.0)
    if rng.random() < 0.5:
        scale[:] = scale.min()
    offset = (np.array(layout.frame_wh) - scale * (width, height)) * rng.uniform(0.3, 0.7, 2)
    _add_print(
        layout,
        PlacedPrint(
            thing, np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]], [0, 0, 1]]), 0.0
        ),
    )


def _lay_out_close_up(rng: np.random.Generator, stock: Typography, layout: SceneLayout) -> None:
    """Lay out a close-up of one code, or of two above one another."""
    kind, part = _random_kind(rng), rng.uniform(0.3, 1.05)
    side = int(min(layout.frame_wh) * part * _random_detail(rng, layout))
    thing = render_label(rng, stock, kind, side, bare=bool(rng.random() < 0.35))
    if rng.random() < 0.07:
        thing = render_sheet(
            rng,
            stock,
            [thing, render_label(rng, stock, kind, int(side * rng.uniform(0.7, 1)), bare=True)],
            1,
        )
    if rng.random() < 0.75:
        thing = mount_on_carrier(
            rng, stock, thing, float(np.clip(1.25 / part, 1.1, 3.2) * rng.uniform(0.8, 1.3))
        )
    thing = _apply_wear_and_bending(rng, thing)
    if rng.random() < 0.2:
        _add_distractors(rng, stock, layout, int(rng.integers(1, 3)))
    _place_randomly(rng, layout, thing, part)


def _lay_out_small_codes(rng: np.random.Generator, stock: Typography, layout: SceneLayout) -> None:
    """Lay out one to four small codes among other things."""
    _add_distractors(rng, stock, layout, int(rng.integers(0, 4)))
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1]))):
        part = float(np.exp(rng.uniform(np.log(0.06), np.log(0.5))))
        side = int(max(16, min(layout.frame_wh) * part * _random_detail(rng, layout)))
        thing = render_label(rng, stock, _random_kind(rng), side, bare=bool(rng.random() < 0.3))
        if rng.random() < 0.35:
            thing = mount_on_carrier(rng, stock, thing, float(rng.uniform(1.2, 2.5)))
        _place_randomly(rng, layout, _apply_wear_and_bending(rng, thing), part)


def _lay_out_sheet(rng: np.random.Generator, stock: Typography, layout: SceneLayout) -> None:
    """Lay out a sheet with several codes of one kind."""
    kind = int(rng.choice(_KINDS, p=(0.25, 0.25, 0.15, 0.35)))
    columns, rows = (int(one) for one in rng.choice([1, 2, 3, 4], 2, p=[0.3, 0.4, 0.2, 0.1]))
    side = int(
        max(16, min(layout.frame_wh) / max(columns, rows, 2) * 0.8 * _random_detail(rng, layout))
    )
    prints = [
        render_label(rng, stock, kind, side, bare=bool(rng.random() < 0.6))
        for _ in range(columns * rows)
    ]
    thing = render_sheet(rng, stock, prints, columns)
    if rng.random() < 0.3:
        _add_distractors(rng, stock, layout, 1)
    _place_randomly(rng, layout, _apply_wear_and_bending(rng, thing), float(rng.uniform(0.4, 1.1)))


def _lay_out_without_codes(
    rng: np.random.Generator, stock: Typography, layout: SceneLayout
) -> None:
    """Lay out distractors without a code: a large one, several small ones, or both."""
    if rng.random() < 0.55:
        side = int(min(layout.frame_wh) * rng.uniform(0.8, 1.5) * _random_detail(rng, layout))
        _place_randomly(
            rng,
            layout,
            _apply_wear_and_bending(rng, render_distractor(rng, stock, side)),
            float(rng.uniform(0.5, 2.2)),
        )
    if rng.random() < 0.55:
        _add_distractors(rng, stock, layout, int(rng.integers(1, 5)))


def _random_detail(rng: np.random.Generator, layout: SceneLayout) -> float:
    """Draw the resolution of a print, in print pixels per frame pixel."""
    return float(rng.uniform(1.1, 1.7) if layout.sharp else rng.uniform(1.0, 1.15))


def _add_distractors(
    rng: np.random.Generator, stock: Typography, layout: SceneLayout, count: int
) -> None:
    for _ in range(count):
        part = float(np.exp(rng.uniform(np.log(0.08), np.log(0.8))))
        side = int(max(16, min(layout.frame_wh) * part))
        thing = (
            render_lettering(rng, stock, side)
            if rng.random() < 0.2
            else render_distractor(rng, stock, side)
        )
        _place_randomly(
            rng, layout, _apply_wear_and_bending(rng, thing) if thing.alpha is None else thing, part
        )


def _place_randomly(
    rng: np.random.Generator, layout: SceneLayout, thing: PrintLayer, part: float
) -> None:
    """Place a print at random so that its codes, or the print itself, fill `part` of the frame.

    It must not cover an earlier code. It is left out after six failed attempts.
    """
    for _ in range(6):
        matrix = random_pose(rng, thing.size_hw, _random_turn(rng), _random_tilt(rng))
        box = box_of_codes(thing, matrix)
        size = box[2:] - box[:2]
        frame = np.array(layout.frame_wh)
        scale = part * float((frame / np.maximum(size, 1e-3)).min())
        room = np.abs(frame - scale * size) / 2
        spread = 0.5 if part > 0.5 else 1.0
        middle = frame / 2 + rng.uniform(-1, 1, 2) * (room * spread + 0.04 * frame)
        candidate = PlacedPrint(
            thing,
            scale_and_center(matrix, box, scale, (middle[0], middle[1])),
            float(rng.choice([0, rng.uniform(0.2, 0.7)])),
        )
        if _has_room(layout, candidate):
            _add_print(layout, candidate)
            return


def _has_room(layout: SceneLayout, new: PlacedPrint) -> bool:
    area = bounding_box(project_points(rectangle_corners(new.thing.size_hw), new.matrix))
    for box in layout.boxes:
        if (np.minimum(area[2:], box[2:] + 2) > np.maximum(area[:2], box[:2] - 2)).all():
            return False
    codes = [
        visible_share(project_points(points, new.matrix), layout.frame_wh)
        for _, points in new.thing.codes
    ]
    return not codes or max(codes) >= _MIN_VISIBLE_SHARE


def _add_print(layout: SceneLayout, new: PlacedPrint) -> None:
    layout.placed.append(new)
    for kind, points in new.thing.codes:
        seen = project_points(points, new.matrix)
        box = clip_box(bounding_box(seen), layout.frame_wh)
        if (
            visible_share(seen, layout.frame_wh) >= _MIN_VISIBLE_SHARE
            and (box[2:] - box[:2]).min() >= _MIN_BOX_SIDE
        ):
            layout.boxes.append(box)
            layout.labels.append(kind)
