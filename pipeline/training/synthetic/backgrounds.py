"""Backgrounds of scenes: crops of the user's photographs, or drawn materials if there are none."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.inputs.decoding.image import decode_image
from pipeline.training.synthetic.materials import blur, render_material

_CACHED_SIDE = 448  # longer side of a cached photograph in pixels; scenes are smaller
_VALIDATION_STRIDE = 8  # every eighth photograph is for validation


@dataclass(frozen=True)
class Backgrounds:
    """Backgrounds from photographs without codes, or from materials if `files` is empty."""

    files: tuple[str, ...]
    max_pixels: int

    def training_part(self) -> "Backgrounds":
        return Backgrounds(
            tuple(one for i, one in enumerate(self.files) if i % _VALIDATION_STRIDE),
            self.max_pixels,
        )

    def validation_part(self) -> "Backgrounds":
        return Backgrounds(self.files[::_VALIDATION_STRIDE], self.max_pixels)

    def crop(
        self, rng: np.random.Generator, size_hw: tuple[int, int], whole: bool = False
    ) -> np.ndarray:
        """Draw a background, (H, W, 3) uint8.

        Args:
            rng: The random generator.
            size_hw: Height and width of the background.
            whole: Whether to show most of a photograph, upright and often with its own colours.

        Raises:
            InputError: A photograph cannot be decoded.
            OSError: A photograph cannot be read.
        """
        if not self.files or rng.random() < 0.12:
            return render_material(rng, size_hw)
        photograph = _load_photograph(
            self.files[int(rng.integers(0, len(self.files)))], self.max_pixels
        )
        piece = _crop_randomly(rng, photograph, size_hw[1] / size_hw[0], whole)
        if rng.random() < 0.5:
            piece = piece[:, ::-1]
        if not whole:
            piece = np.rot90(piece, int(rng.choice([0, 0, 0, 1, 2, 3])))
        sharp = cv2.INTER_LINEAR if rng.random() < 0.5 else cv2.INTER_AREA
        resized = cv2.resize(
            np.ascontiguousarray(piece), (size_hw[1], size_hw[0]), interpolation=sharp
        )
        return resized if whole and rng.random() < 0.5 else _shift_colours(rng, resized)


def _crop_randomly(
    rng: np.random.Generator, photograph: np.ndarray, aspect: float, whole: bool
) -> np.ndarray:
    """Cut out a random rectangle of about the given aspect, width / height."""
    height, width = photograph.shape[:2]
    part = rng.uniform(0.85, 1) if whole else rng.uniform(0.25, 1)
    aspect *= np.exp(rng.uniform(-0.25, 0.25))
    w = min(width, height * aspect) * part
    h = min(height, w / aspect)
    x, y = int(rng.uniform(0, width - w)), int(rng.uniform(0, height - h))
    return photograph[y : y + max(2, int(h)), x : x + max(2, int(w))]


def _shift_colours(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Change colours and contrast, and sometimes blur, to vary a small set of photographs."""
    if rng.random() < 0.08:
        picture = picture[..., rng.permutation(3)]
    steps = np.linspace(0, 1, 256)[:, None]
    gamma = np.exp(rng.uniform(-0.4, 0.4) + rng.normal(0, 0.1, 3))
    curve = np.clip(steps**gamma * rng.uniform(0.7, 1.15) + rng.uniform(-0.08, 0.12), 0, 1)
    picture = cv2.LUT(np.ascontiguousarray(picture), (curve * 255).astype(np.uint8)[None])
    return blur(picture, rng.uniform(0.5, 7)) if rng.random() < 0.3 else picture


@lru_cache(maxsize=1024)
def _load_photograph(file: str, max_pixels: int) -> np.ndarray:
    pixels = decode_image(Path(file).read_bytes(), max_pixels).permute(1, 2, 0).contiguous().numpy()
    scale = _CACHED_SIDE / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    size = (max(2, round(pixels.shape[1] * scale)), max(2, round(pixels.shape[0] * scale)))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
