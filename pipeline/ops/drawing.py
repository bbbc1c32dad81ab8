"""Predictions drawn on an image with `torchvision.utils`: legible at any size, one stable colour per class name."""

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
_SMALLEST, _LARGEST = (
    256,
    2560,
)  # long side of an overlay in pixels: labels need room, viewers need no more


class Canvas:
    """An image to draw on. Coordinates are pixels of the image as it was given; tiny images are enlarged by a whole
    factor and huge ones reduced, lines and letters grow with the result."""

    def __init__(self, image: Tensor, long_side: int | None = None) -> None:
        """`image`: (3, H, W) uint8 RGB. `long_side`: pixels of the result's, whatever the image's."""
        height, width = image.shape[1:]
        given = max(height, width)
        if long_side is not None:
            self.scale = long_side / given
        else:
            self.scale = (
                float(-(-_SMALLEST // given)) if given < _SMALLEST else min(1.0, _LARGEST / given)
            )
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
        """Draw (N, 4) boxes; each label stands above its box, inside it where there is no room above."""
        if len(boxes_xyxy) == 0:
            return
        height, width = self.image.shape[1:]
        scaled = torch.from_numpy(boxes_xyxy * self.scale).round()
        # a model may give a box beyond the image or with its corners exchanged: drawn as far as there is something to draw
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
        # the worst score first: where boxes overlap, the best one's lines lie on top
        self.image = draw_bounding_boxes(
            self.image, scaled.flip(0), colors=colours[::-1], width=self.line
        )
        anchors = [
            (float(left), float(top) - self._label_height(), float(top))
            for left, top, _, _ in scaled
        ]
        self._labels(
            [(x, above if above >= 0 else inside) for x, above, inside in anchors], names, labels
        )

    def draw_masks(self, masks: Tensor, names: Sequence[str]) -> None:
        """Tint (N, H, W) bool masks of the image as it was given."""
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
        """Draw one object's (K, 2) points and the limbs between those that are `shown`."""
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
        """Labels under one another in the upper left corner."""
        self._labels([(0.0, i * self._label_height()) for i in range(len(labels))], names, labels)

    def _label_height(self) -> float:
        return self.letter * 1.3 + 4

    def _labels(
        self, corners: Sequence[tuple[float, float]], names: Sequence[str], labels: Sequence[str]
    ) -> None:
        if not labels:
            return
        labels = [make_printable(label) for label in labels]
        height, width = self.image.shape[1:]
        font = load_font(self.letter)
        anchors = []
        for (left, top), label in zip(corners, labels, strict=True):
            x = max(
                0.0, min(left, width - font.getlength(label) - 6)
            )  # pushed back in from the right edge
            y = max(0.0, min(top, height - self._label_height()))
            anchors.append([x, y, x, y])
        background = [choose_colour(name) for name in names]
        options: Any = {
            "label_colors": [choose_text_colour(colour) for colour in background][::-1],
            "label_background_colors": background[::-1],
            "font": _font(),
        }
        # width=0 draws no outline: torchvision places and paints the text alone, at an anchor that keeps it in view
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
    """(class names, what is written beside each: name and score)."""
    names, scores = rows["class_name"].to_pylist(), rows["score"].to_pylist()
    return names, [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]


@lru_cache(maxsize=4096)
def choose_colour(name: str) -> Colour:
    """The same class has the same colour in every run and every model."""
    number = zlib.crc32(name.encode())
    hue, light = (number & 0xFFFF) / 0xFFFF, (0.45, 0.55, 0.65)[(number >> 16) % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, light, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def choose_text_colour(background: Colour) -> Colour:
    """Black or white, whichever stands out (relative luminance by ITU-R BT.601)."""
    red, green, blue = background
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else (255, 255, 255)


def make_printable(text: str) -> str:
    """`text` in one line: line breaks and control characters become blanks."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """The letters of every picture; `size` in points."""
    return ImageFont.truetype(_font(), size)


def _font() -> io.BytesIO:
    return io.BytesIO(_font_bytes())


@lru_cache(maxsize=1)
def _font_bytes() -> bytes:
    """Pillow's own outline font: the same letters on every machine, no font file to find."""
    font = ImageFont.load_default(12)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError(
            "Pillow was built without FreeType, which overlays need. Install Pillow's wheel from PyPI."
        )
    return font.font_bytes
