"""Fonts and words of scenes. Some are reserved for validation."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_TRAINING_FONTS = """
    DejaVuSans.ttf DejaVuSans-Bold.ttf DejaVuSans-Oblique.ttf DejaVuSansMono.ttf
    DejaVuSansMono-Bold.ttf DejaVuSerif.ttf DejaVuSerif-Bold.ttf DejaVuSerif-Italic.ttf
    STIXGeneral.ttf STIXGeneralBol.ttf STIXGeneralItalic.ttf cmb10.ttf cmr10.ttf cmtt10.ttf
"""
_VALIDATION_FONTS = """
    DejaVuSans-BoldOblique.ttf DejaVuSerif-BoldItalic.ttf DejaVuSansMono-Oblique.ttf
    STIXGeneralBolIta.ttf cmss10.ttf
"""
_TRAINING_WORDS = """
    the sale new open daily fresh milk bread stop exit hotel news world city market express pizza
    coffee tea organic natural total price best before use by made in lot batch serial model type
    fragile handle with care this side up priority mail ship to from order date weight net kg ml
    contents store dry place warning danger keep out no parking police taxi bus school street avenue
    university library museum music live tonight welcome home love peace free WIFI scan me menu
    ticket seat row gate flight boarding passport vitamin sugar salt energy protein cereal chocolate
    butter water juice wine beer soap shampoo clean power battery charge input output voltage volume
    edition press science history of and for on at to
"""
_VALIDATION_WORDS = """
    garden winter bicycle thunder orange silver harbour castle station window doctor forest engine
    canvas mirror pepper salmon violet walnut ribbon saddle tunnel velvet wizard zebra anchor breeze
    copper dragon falcon ginger hammer island jungle kitten lemon magnet needle oyster pirate quartz
    rocket spider turtle umbrella village wagon yellow zipper almond
"""
_LETTERS = np.array(list("abcdefghijklmnoprstuvwz"))
_VOWELS = np.array(list("aeiou"))


@dataclass(frozen=True)
class Typography:
    """The fonts and words of one part of the data."""

    fonts: tuple[str, ...]
    words: tuple[str, ...]

    def random_font(self, rng: np.random.Generator) -> str:
        return str(rng.choice(self.fonts))

    def random_word(self, rng: np.random.Generator) -> str:
        if rng.random() < 0.35:
            syllables = rng.integers(1, 5)
            return "".join(rng.choice(_LETTERS) + rng.choice(_VOWELS) for _ in range(syllables))
        return str(rng.choice(self.words))

    def random_text(self, rng: np.random.Generator, words: int) -> str:
        """Draw some words in one style: lower case, Capitalised or CAPITALS, with a few numbers."""
        style = rng.integers(0, 4)
        text_words = []
        for _ in range(words):
            word = (
                self.random_word(rng)
                if rng.random() > 0.12
                else random_digits(rng, int(rng.integers(1, 6)))
            )
            text_words.append(
                word.upper() if style == 1 else word.capitalize() if style == 2 else word
            )
        return " ".join(text_words)


TRAINING = Typography(tuple(_TRAINING_FONTS.split()), tuple(_TRAINING_WORDS.split()))
VALIDATION = Typography(tuple(_VALIDATION_FONTS.split()), tuple(_VALIDATION_WORDS.split()))


def random_digits(rng: np.random.Generator, count: int) -> str:
    return "".join(map(str, rng.integers(0, 10, count)))


@lru_cache(maxsize=4096)
def _render_cached_line(stock: Typography, number: int) -> np.ndarray:
    """Render line `number`. No other state is used, so all processes have the same lines."""
    rng = np.random.default_rng([41, len(stock.words), number])
    return render_text(
        stock.random_text(rng, int(rng.integers(3, 9))),
        32,
        stock.random_font(rng),
        rng.uniform(0.6, 1.3),
    )


def pick_cached_line(rng: np.random.Generator, stock: Typography, height: int) -> np.ndarray:
    """Return a line of words as ink, (h, w) uint8, of about `height` pixels.

    For speed, the line is one of a thousand that each process renders once.
    """
    line = _render_cached_line(stock, int(rng.integers(0, 1000)))
    scale = height / 32
    if scale > 1.5:
        return render_text(
            stock.random_text(rng, 3), height, stock.random_font(rng), rng.uniform(0.6, 1.3)
        )
    size = (max(1, round(line.shape[1] * scale)), max(1, round(line.shape[0] * scale)))
    return cv2.resize(line, size, interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=2048)
def render_letter(text: str, height: int, font: str) -> np.ndarray:
    """Render text, and cache it for pictures that repeat the same few letters many times."""
    return render_text(text, height, font)


def render_text(text: str, height: int, font: str, stretch: float = 1.0) -> np.ndarray:
    """Render text as ink, cropped to the letters: (h, w) uint8, 255 where there is ink.

    Args:
        text: The text.
        height: Approximate height from ascender to descender in pixels.
        font: File name of the font.
        stretch: Factor on the width of the letters, to make the fonts more varied.
    """
    face = _load_font(font, max(6, height))
    left, top, right, bottom = (round(edge) for edge in face.getbbox(text))
    width = max(1, right - left)
    image = Image.new("L", (width, max(1, bottom - top)))
    ImageDraw.Draw(image).text((-left, -top), text, fill=255, font=face)
    if stretch != 1.0:
        image = image.resize(
            (max(1, round(width * stretch)), image.height), Image.Resampling.BILINEAR
        )
    return np.asarray(image)


@lru_cache(maxsize=256)
def _load_font(font: str, size: int) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    # The basic layout gives the same result with and without libraqm.
    return ImageFont.truetype(str(folder / font), size, layout_engine=ImageFont.Layout.BASIC)
