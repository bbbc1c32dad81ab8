"""Draw predictions on images with `torchvision.utils`.

Text and lines are legible at any image size. Each class name has one stable colour.
"""

import colorsys
import io
import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import ImageFont
from torch import Tensor
from torchvision.transforms.functional import InterpolationMode, resize
from torchvision.utils import draw_bounding_boxes, draw_keypoints, draw_segmentation_masks

Colour = tuple[int, int, int]
# Range for the long side of an overlay, in pixels. Labels are illegible below the minimum, and
# image viewers are slow above the maximum.
_MIN_LONG_SIDE, _MAX_LONG_SIDE = 256, 2560


class Canvas:
    """An image to draw on. Coordinates are pixels of the image that was passed in.

    Tiny images are enlarged by an integer factor, and huge images are reduced. Line width and text
    size depend on the size of the result.
    """

    def __init__(self, image: Tensor, long_side: int | None = None) -> None:
        """Scale the image for drawing.

        Args:
            image: (3, H, W) uint8 RGB.
            long_side: Long side of the result in pixels; None: chosen by the image's size.
        """
        height, width = image.shape[1:]
        input_side = max(height, width)
        if long_side is not None:
            self.scale = long_side / input_side
        elif input_side < _MIN_LONG_SIDE:
            self.scale = float(-(-_MIN_LONG_SIDE // input_side))
        else:
            self.scale = min(1.0, _MAX_LONG_SIDE / input_side)

        if self.scale != 1.0:
            size = [max(1, round(height * self.scale)), max(1, round(width * self.scale))]
            mode = (
                InterpolationMode.NEAREST if self.scale.is_integer() else InterpolationMode.BILINEAR
            )
            image = resize(image, size, interpolation=mode, antialias=True)
        self.image = image
        self.line = max(2, round(max(image.shape[1:]) / 400))
        self.letter = max(12, round(max(image.shape[1:]) / 50))  # points

    def draw_boxes(
        self, boxes_xyxy: np.ndarray, names: Sequence[str], labels: Sequence[str]
    ) -> None:
        """Draw boxes with labels above them, or inside where there is no room above.

        Args:
            boxes_xyxy: (N, 4), pixels of the image that was passed in.
            names: N class names, which choose the colours.
            labels: N texts.
        """
        if len(boxes_xyxy) == 0:
            return
        height, width = self.image.shape[1:]
        scaled = torch.from_numpy(boxes_xyxy * self.scale).round()
        # A model may return a box outside the image, or with x_max < x_min.
        scaled = torch.cat(
            [
                torch.minimum(scaled[:, :2], scaled[:, 2:]),
                torch.maximum(scaled[:, :2], scaled[:, 2:]),
            ],
            dim=1,
        )
        scaled = scaled.clamp(
            min=torch.zeros(4), max=torch.tensor([width, height, width, height]) - 1
        )
        colours: Any = [choose_colour(name) for name in names]
        # The box with the lowest score is drawn first, so that the best box is on top.
        self.image = draw_bounding_boxes(
            self.image, scaled.flip(0), colors=colours[::-1], width=self.line
        )
        anchors = [
            (float(left), float(top) - self._get_label_height(), float(top))
            for left, top, _, _ in scaled
        ]
        self._draw_labels(
            [(x, above if above >= 0 else inside) for x, above, inside in anchors], names, labels
        )

    def draw_masks(self, masks: Tensor, names: Sequence[str]) -> None:
        """Tint the pixels of (N, H, W) bool masks, which have the size of the image passed in."""
        if len(masks) == 0:
            return
        if self.scale != 1.0:
            masks = resize(
                masks.to(torch.uint8),
                list(self.image.shape[1:]),
                interpolation=InterpolationMode.NEAREST,
            ).bool()
        colours: Any = [choose_colour(name) for name in names]
        self.image = draw_segmentation_masks(self.image, masks, alpha=0.5, colors=colours)

    def draw_skeleton(
        self, xy: np.ndarray, shown: Sequence[bool], limbs: Sequence[tuple[int, int]], name: str
    ) -> None:
        """Draw the keypoints of one object and the limbs between them.

        Args:
            xy: (K, 2), pixels of the image that was passed in.
            shown: K flags. A point whose flag is false is not drawn, nor are its limbs.
            limbs: Pairs of point indices.
            name: The class name, which chooses the colour.
        """
        self.image = draw_keypoints(
            self.image,
            torch.from_numpy(xy * self.scale)[None],
            connectivity=list(limbs) or None,
            colors=choose_colour(name),
            radius=self.line + 1,
            width=self.line,
            visibility=torch.tensor([list(shown)]),
        )

    def draw_label_list(self, names: Sequence[str], labels: Sequence[str]) -> None:
        """Draw labels below one another in the upper left corner."""
        corners = [(0.0, i * self._get_label_height()) for i in range(len(labels))]
        self._draw_labels(corners, names, labels)

    def _get_label_height(self) -> float:
        return self.letter * 1.3 + 4

    def _draw_labels(
        self, corners: Sequence[tuple[float, float]], names: Sequence[str], labels: Sequence[str]
    ) -> None:
        if not labels:
            return
        labels = [make_printable(label) for label in labels]
        height, width = self.image.shape[1:]
        font = load_font(self.letter)
        anchors = []
        for (left, top), label in zip(corners, labels, strict=True):
            # A label that would cross the right edge is moved left.
            x = max(0.0, min(left, width - font.getlength(label) - 6))
            y = max(0.0, min(top, height - self._get_label_height()))
            anchors.append([x, y, x, y])
        background = [choose_colour(name) for name in names]
        options: Any = {
            "label_colors": [choose_text_colour(colour) for colour in background][::-1],
            "label_background_colors": background[::-1],
            "font": _open_font(),
        }
        # With width=0 torchvision draws the text without an outline. The anchor keeps it in view.
        self.image = draw_bounding_boxes(
            self.image,
            torch.tensor(anchors).flip(0),
            labels=list(labels)[::-1],
            colors=background[::-1],
            width=0,
            font_size=self.letter,
            fill_labels=True,
            **options,
        )


def make_captions(rows: pa.Table) -> tuple[list[str], list[str]]:
    """Return the class name of each row and its caption: the name and the score."""
    names, scores = rows["class_name"].to_pylist(), rows["score"].to_pylist()
    return names, [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]


@lru_cache(maxsize=4096)
def choose_colour(name: str) -> Colour:
    """Return the RGB colour of a class name. It is the same in every run and for every model."""
    number = zlib.crc32(name.encode())
    hue, light = (number & 0xFFFF) / 0xFFFF, (0.45, 0.55, 0.65)[(number >> 16) % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, light, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def choose_text_colour(background: Colour) -> Colour:
    """Return black or white, whichever is legible (relative luminance of ITU-R BT.601)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def make_printable(text: str) -> str:
    """Return the text on one line: line breaks and control characters become spaces."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Return the font that all pictures use; `size` is in points."""
    return ImageFont.truetype(_open_font(), size)


def _open_font() -> io.BytesIO:
    return io.BytesIO(_read_font_bytes())


@lru_cache(maxsize=1)
def _read_font_bytes() -> bytes:
    """Return the bytes of Pillow's own font, so that every machine draws the same letters."""
    font = ImageFont.load_default(12)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError(
            "Pillow was built without FreeType, which overlays need. "
            "Install Pillow's wheel from PyPI."
        )
    return font.font_bytes
